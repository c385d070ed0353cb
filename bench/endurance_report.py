"""What an endurance run saw, written down after every fault, and judged at its end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.endurance_faults import FAULTS
from bench.endurance_house import House, Memory
from bench.endurance_traffic import TENANTS, Caller, Traffic
from bench.endurance_watch import Prometheus
from tests.simulation.auditor import Books

AUDIT_MOST_S: Final = 3_600.0
LIFE_LEAST: Final = 0.5
"""Of the run, after the warm-up: what a life must cover for its memory to be judged."""
RATE_LEAST: Final = 0.98
"""Of the events that were to be sent: a slower run would prove less than it says."""


@dataclass
class Broken:
    """A fault that was, and the alerts that it was to set off. Instants in seconds of the wall clock."""

    name: str
    began_s: float
    wanted: tuple[str, ...]
    mended_s: float = 0.0


class Report:
    """values: what is known so far; result.json of the directory has the same, from the first moment on."""

    house: House
    traffic: Traffic
    caller: Caller
    prometheus: Prometheus
    memory: Memory

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / "result.json"
        self.told: list[Broken] = []
        self.began_s = self.ended_s = 0.0
        self.values: dict[str, Any] = {"held": None, "state": "starting", "lines": []}
        self.write()

    def begin(self, house: House, traffic: Traffic, caller: Caller, prometheus: Prometheus, memory: Memory) -> None:
        """The traffic flows from now on."""
        self.house, self.traffic, self.caller = house, traffic, caller
        self.prometheus, self.memory = prometheus, memory
        self.began_s = time.time()
        self.write(state="running", began_s=self.began_s)

    def write(self, **values: Any) -> None:
        """Add to what is known; the file is replaced whole."""
        self.values |= values
        self.ended_s = values.get("ended_s", self.ended_s)
        fresh = self._path.with_suffix(".part")
        fresh.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def tell(self, turn: str, one: Broken, free: int) -> None:
        """A line about a fault that is over, and the file."""
        fired = ", ".join(sorted(self.prometheus.fired(one.began_s, time.time()))) or "nothing"
        sizes = ", ".join(f"{name} {mib}" for name, mib in sorted(self.memory.newest().items()))
        taken = _taken(self.house)
        line = (
            f"{turn}, {one.name}: fired {fired}; {self.traffic.sent:,} sent, {taken} in the ledger; "
            f"MiB: {sizes}; {free >> 30} GiB free"
        )
        print(line, file=sys.stderr, flush=True)
        self.write(
            lines=[*self.values["lines"], line],
            events=self.traffic.sent,
            faults=self.alerts(time.time()),
            memory={name: life.as_json() for name, life in self.memory.judged().items()},
            api_answers=dict(sorted(self.caller.answers.items())),
        )

    def alerts(self, end_s: float) -> list[dict[str, Any]]:
        """By fault: alerts that were to fire between its beginning and the end of the next one, and which did."""
        ends, found = [*(one.began_s for one in self.told[2:]), end_s, end_s], []
        for one, until_s in zip(self.told, ends, strict=False):
            fired = self.prometheus.fired(one.began_s, until_s)
            missing = sorted(set(one.wanted) - fired)
            found.append(
                {"fault": one.name, "at_s": round(one.began_s - self.began_s), "lasted_s": _lasted(one),
                 "wanted": list(one.wanted), "fired": sorted(fired), "missing": missing}
            )  # fmt: skip
        return found

    def finish(self, *, flat_matters: bool, rate: int) -> None:
        """Judge the whole run, whose ledger has settled. rate: events a second that were to be sent; 0: any."""
        self.memory.end()
        seconds = self.ended_s - self.began_s
        sums = _sums(self.house, self.traffic)
        audit = _audit(self.house)
        faults = self.alerts(time.time())
        memory = self.memory.judged()
        # A life that a fault ended, or began, soon says little: it is shown and not judged.
        long = {name: life for name, life in memory.items() if life.minutes * 60 >= seconds * LIFE_LEAST}
        missing = [f"{one['fault']}: {alert}" for one in faults for alert in one["missing"]]
        never = _unseen(long, seconds) if flat_matters else []
        failures = [
            *([] if sums["exact"] else ["the ledger is not exact"]),
            *([] if audit["code"] == 0 else [f"tollhouse audit: {audit['said']}"]),
            *(f"did not fire: {one}" for one in missing),
            *(f"memory is not flat: {name}" for name, life in long.items() if flat_matters and not life.flat),
            *(f"memory was not judged: {name}" for name in never),
            *([self.traffic.trouble] if self.traffic.trouble else []),
            *([f"{len(self.traffic.by_http)} events were not taken by the API"] if self.traffic.by_http else []),
            *([] if self.traffic.sent >= RATE_LEAST * rate * seconds else ["the rate was not held"]),
            *self.house.promises,
        ]
        self.write(
            held=not failures, state="done", failures=failures, **sums, minutes=round(seconds / 60, 1),
            events=self.traffic.sent, events_per_s=round(self.traffic.sent / seconds), faults=faults,
            alerts_missing=missing, alerts_fired=sorted(self.prometheus.fired(self.began_s, time.time())),
            alerts_of_faults=sorted({alert for _, wanted in FAULTS.values() for alert in wanted}),
            restarts=self.house.restarts, duplicates_sent=self.traffic.duplicates, audit=audit,
            memory={name: life.as_json() for name, life in memory.items()},
            api_answers=dict(sorted(self.caller.answers.items())),
        )  # fmt: skip


def _lasted(one: Broken) -> float | None:
    return round(one.mended_s - one.began_s, 1) if one.mended_s else None


def _unseen(memory: dict[str, Any], seconds: float) -> list[str]:
    """Of API, publisher and worker: which is without a judged life, in a run that was long enough for one."""
    if seconds < 600:
        return []
    return [kind for kind in ("api", "publisher", "worker") if not any(name.startswith(kind) for name in memory)]


def _sums(house: House, traffic: Traffic) -> dict[str, Any]:
    """What the ledger has against what was sent."""
    books = Books(house.world.database_url)
    found = books.query("SELECT tenant, sum(input + output), sum(requests) FROM rollups GROUP BY 1")
    sums = {tenant: (int(tokens), int(requests)) for tenant, tokens, requests in found}
    true = {tenant: (traffic.tokens[tenant], traffic.requests[tenant]) for tenant in TENANTS}
    ((counted, duplicates, rejected, held),) = books.query(
        "SELECT sum(counted), sum(duplicates), sum(rejected), sum(held) FROM intake"
    )
    wanted = (sum(traffic.requests.values()), traffic.rejected, 0)
    exact = sums == true and (int(counted), int(rejected), int(held)) == wanted
    return {
        "exact": exact, "counted": int(counted), "duplicates": int(duplicates), "rejected": int(rejected),
        "held_corrections": int(held), "sums": None if exact else {"ledger": sums, "true": true},
    }  # fmt: skip


def _taken(house: House) -> str:
    """Distinct events in the ledger; `?` while the database is away."""
    try:
        ((counted,),) = Books(house.world.database_url).query("SELECT sum(counted) FROM intake")
    except psycopg.OperationalError:
        return "?"
    return f"{int(counted or 0):,}"


def _audit(house: House) -> dict[str, Any]:
    """`tollhouse audit`, broker and all."""
    began_s = time.monotonic()
    try:
        done = house.command("audit", timeout_s=AUDIT_MOST_S)
    except subprocess.TimeoutExpired:
        return {"code": None, "said": f"no end within {AUDIT_MOST_S:.0f} s", "seconds": AUDIT_MOST_S}
    said: Sequence[str] = (done.stdout + done.stderr).strip().splitlines()[-5:]
    return {"code": done.returncode, "said": " | ".join(said), "seconds": round(time.monotonic() - began_s, 1)}
