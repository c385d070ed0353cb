"""`POST /v1/authorize` under open load: latency from the instant at which each ask was due, and what an ask costs.

The API runs in a process of its own over a database of its own; the load generator shares the machine with it. Fifty
tenants with two quotas each, whose limits are never reached: a ledger that refuses has less to do.
"""

import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.scratch import scratch_database
from schemas.catalog import Catalog
from tollhouse.bench.parts import Use, use_of
from tollhouse.errors import UserError
from tollhouse.ports import free_port
from tollhouse.settings import Settings
from tollhouse.tokens import Claims
from tollhouse.tokens.issue import issue
from tollhouse.tokens.keys import signing_key
from tollhouse_client import Gate, GateUnavailableError

TENANTS: Final = 50
SENDERS: Final = 32
WARM_S: Final = 3.0
"""Not measured: connections open, code is loaded."""
START_S: Final = 60


@dataclass
class Load:
    """taken_ms: from the instant when each ask was due, ascending. api_cpu_s, sender_cpu_s: None where not known."""

    taken_ms: list[float]
    failed: list[str]
    api_cpu_s: float | None = None
    sender_cpu_s: float | None = None


def catalog() -> Catalog:
    """Tenants whose quotas are never reached."""
    quotas = [
        {"name": "monthly", "meter": "tokens", "limit": 10**12, "window": "month"},
        {"name": "daily", "meter": "cost", "limit": "1000000.00", "window": "day"},
    ]
    found = parse_data(
        {
            "currency": "USD",
            "tenants": {f"tenant-{n}": {"plan": "p", "quotas": quotas} for n in range(TENANTS)},
            "keys": {"pool-1": {"provider": "openai", "kind": "pooled"}},
            "plans": {"p": {"charges": [{"meter": "tokens", "model": "per_unit", "price": "1.00", "per": 1000000}]}},
        }
    )
    assert isinstance(found, Catalog)  # our own catalog is valid
    return found


def percentile(ordered: list[float], part: float) -> float:
    """The smallest measured value that so large a part does not pass."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def load(url: str, proxy: str, tokens: list[str], rate: int, seconds: float, api_pid: int) -> Load:
    """Ask so many times a second, whether answers come or not, for WARM_S and then for the seconds measured."""
    due: queue.SimpleQueue[tuple[int, float] | None] = queue.SimpleQueue()
    found = Load([], [])
    started_s = time.perf_counter() + 0.5

    def send(gate: Gate) -> None:
        while (item := due.get()) is not None:
            number, at_s = item
            try:
                decision = gate.authorize(tokens[number % len(tokens)], "gpt-5-mini", {"tokens": 5000, "cost": "0.02"})
            except GateUnavailableError as error:
                found.failed.append(str(error))
                continue
            if not decision.allowed:
                found.failed.append(decision.reason)
            elif at_s - started_s >= WARM_S:
                found.taken_ms.append((time.perf_counter() - at_s) * 1000)

    with Gate(url, proxy, timeout_s=10, tries=1) as gate:
        senders = [threading.Thread(target=send, args=(gate,)) for _ in range(SENDERS)]
        for thread in senders:
            thread.start()
        before: tuple[Use | None, Use | None] = (None, None)
        for number in range(int(rate * (seconds + WARM_S))):
            at_s = started_s + number / rate
            if (wait_s := at_s - time.perf_counter()) > 0:
                time.sleep(wait_s)
            if number == int(rate * WARM_S):
                before = (use_of(api_pid), use_of(os.getpid()))
            due.put((number, at_s))
        for _ in senders:
            due.put(None)
        for thread in senders:
            thread.join()
    after = (use_of(api_pid), use_of(os.getpid()))
    found.api_cpu_s, found.sender_cpu_s = (
        b.cpu_s - a.cpu_s if a is not None and b is not None else None for a, b in zip(before, after, strict=True)
    )
    found.taken_ms.sort()
    return found


def run_gate_bench(server: str, rate: int, seconds: float) -> dict[str, Any]:
    """Start an API over a scratch database beside the one at `server` (SQLite: a file), load it, stop it; the figures.

    UserError when the API does not start or admits nothing.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tollhouse-gate-") as directory,
        scratch_database(server or f"sqlite:///{directory}/gate.db", f"gate_{secrets.token_hex(6)}") as url,
    ):
        found = _run(url, Path(directory), rate, seconds)
    if not found.taken_ms:
        raise UserError(f"no ask was admitted, {len(found.failed)} failed: {found.failed[:1]}")
    asks = len(found.taken_ms)
    figures = {f"p{part}_ms": round(percentile(found.taken_ms, part / 100), 2) for part in (50, 90, 99)}
    cpu = {"api_cpu_ms_an_ask": found.api_cpu_s, "sender_cpu_ms_an_ask": found.sender_cpu_s}
    return {
        "database": urlsplit(url).scheme.split("+")[0],
        "rate": rate,
        "seconds": seconds,
        "asks": asks,
        "failed": len(found.failed),
        **figures,
        **{name: None if used_s is None else round(1000 * used_s / asks, 2) for name, used_s in cpu.items()},
    }


def _run(url: str, directory: Path, rate: int, seconds: float) -> Load:
    now_us = time.time_ns() // 1000
    settings = Settings(dir=directory, database_url=url)
    ledger = Ledger(settings.database)
    ledger.create()
    ledger.apply(catalog(), now_us, "bench")
    key = signing_key(settings, ledger, now_us)

    def token(kind: str, subject: str) -> str:
        return issue(key, Claims(kind, subject, uuid.uuid4().hex, now_us, now_us + 3_600_000_000))

    port = free_port()
    environment = os.environ | {"TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_PORT": str(port)}
    command = [sys.executable, "-m", "tollhouse", "api", "--dir", str(directory)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        address, proxy = f"http://127.0.0.1:{port}", token("proxy", "bench")
        _wait(address, proxy, token("tenant", "tenant-0"), process)
        tenants = [token("tenant", f"tenant-{n}") for n in range(TENANTS)]
        return load(address, proxy, tenants, rate, seconds, process.pid)
    finally:
        process.terminate()
        process.wait(20)
        ledger.close()


def _wait(url: str, proxy: str, tenant: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    with Gate(url, proxy, tries=1) as gate:
        while True:
            try:
                gate.authorize(tenant, "gpt-5-mini")
                return  # noqa: TRY300 - the loop ends here
            except GateUnavailableError as error:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise UserError(f"the API did not start: {error}") from error
                time.sleep(0.2)
