"""One run of the bench: fill a topic, let the worker take it, compare, and throw everything away."""

import asyncio
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.scratch import BARE, PLAIN, Reference, scratch_database, size_bytes
from pipeline.ledger.tables import intake, rollups
from schemas.tokens import TOKEN_CLASSES
from schemas.usage_event import UsageEvent
from streams.embedded_broker import EmbeddedBroker
from streams.reference import read_bare
from streams.topics import USAGE_EVENTS, topic_specs
from streams.topics_admin import ensure_topics
from tollhouse.bench import parts
from tollhouse.bench.load import Sent, fill, steady
from tollhouse.bench.traffic import catalog
from tollhouse.errors import UserError
from tollhouse.processes import Child, stop_all

STALLED_S: Final = 90.0
SINGLE_SHARE: Final = 20
"""The run with one event a message takes this share of the events: its cost is per message, in Faust."""
PLAIN_EVENTS: Final = 6_000
STEP: Final = 1_000_000
"""After so many events is looked whether rate and memory stay as they are."""


@dataclass
class Bench:
    """What a run is told. broker and database: None for the embedded ones. say: a line for people."""

    events: int
    broker: str | None
    database: str | None
    workers: int
    per_message: int
    rate: int
    seconds: int
    say: Callable[[str], None]
    directory: Path = field(default_factory=Path)
    stack: ExitStack = field(default_factory=ExitStack)
    broker_pid: int | None = None

    def clock_us(self) -> int:
        """The real time."""
        return time.time_ns() // 1000


def run_bench(bench: Bench) -> dict[str, Any]:
    """All figures. UserError when a part does not answer or the worker stalls."""
    with bench.stack as stack:
        bench.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
        broker = bench.broker
        if broker is None:
            embedded = stack.enter_context(EmbeddedBroker(log_path=bench.directory / "broker.log"))
            broker, bench.broker_pid = embedded.bootstrap, embedded.pid
        elif (port := urlsplit(f"//{broker.split(',')[0]}").port) is not None:
            bench.broker_pid = parts.listening_pid(port)
        main = _worker_run(bench, broker, bench.events, bench.per_message, latency=True)
        single = _worker_run(bench, broker, max(1000, bench.events // SINGLE_SHARE), 1, latency=False)
        return {
            **main,
            "events_per_s_single": single["events_per_s"],
            "exact": main["exact"] and single["exact"],
            "broker": "embedded" if bench.broker is None else "kafka",
            "database": "sqlite" if bench.database is None else urlsplit(bench.database).scheme.split("+")[0],
            "workers": bench.workers,
            "events_a_message": bench.per_message,
        }


def _worker_run(bench: Bench, broker: str, events: int, per_message: int, *, latency: bool) -> dict[str, Any]:
    """The worker over a full topic; with latency also at a steady rate, and the two references on the same topic."""
    prefix = f"bench{secrets.token_hex(4)}."
    topic = prefix + USAGE_EVENTS
    asyncio.run(ensure_topics(broker, topic_specs(bench.workers, prefix)))
    say = bench.say
    say(f"publishing {events:,} events, {per_message} a message")
    sent = fill(broker, topic, events, per_message, bench.clock_us(), tick=lambda _n: None)
    base = bench.database or f"sqlite:///{bench.directory / 'ledger.db'}"
    with scratch_database(base, _name()) as url:
        ledger = Ledger(url)
        ledger.create()
        parsed = parse_data(catalog())
        assert not isinstance(parsed, list)  # our own catalog is valid
        ledger.apply(parsed, 0, "bench")
        before_bytes = size_bytes(ledger.engine)
        database_pid = parts.listening_pid(port) if (port := urlsplit(url).port) else None
        children = [_worker(bench, broker, url, prefix, n) for n in range(bench.workers)]
        watched = {"broker": bench.broker_pid, "database": database_pid}
        used_before = {name: parts.use_of(pid, family=True) for name, pid in watched.items() if pid}
        try:
            for child in children:
                child.start()
            say("the worker takes them")
            figures: dict[str, Any] = _throughput(ledger, events, children, watched)
            totals = sent
            if latency:
                say(f"{bench.rate:,} events a second for {bench.seconds} s")
                figures["latency_ms"], more = _latency(bench, broker, topic, ledger, children, first=events)
                totals = Sent(sent.events + more.events, sent.tokens + more.tokens)
            worker_use = _uses(children)
            used_after = {name: parts.use_of(pid, family=True) for name, pid in watched.items() if pid}
        finally:
            stop_all(children)
        figures["exact"] = _exact(ledger, totals)
        if latency:
            figures["bytes_per_event"] = round((size_bytes(ledger.engine) - before_bytes) / totals.events)
            figures["peak_mib"] = _peak_mib(worker_use)
            figures["parts"] = _parts(worker_use, used_before, used_after)
            _references(bench, broker, topic, base, events, figures)
        ledger.close()
    return figures


def _name() -> str:
    return f"tollhouse_bench_{secrets.token_hex(4)}"


def _worker(bench: Bench, broker: str, url: str, prefix: str, number: int) -> Child:
    home = bench.directory / f"{prefix}{number}"
    home.mkdir()
    environment = {
        "TOLLHOUSE_BROKER": broker,
        "TOLLHOUSE_DATABASE_URL": url,
        "TOLLHOUSE_DIR": str(home),
        "TOLLHOUSE_APP_ID": f"{prefix}app",
        "TOLLHOUSE_TOPIC_PREFIX": prefix,
        "TOLLHOUSE_PARTITIONS": str(bench.workers),
    }
    return Child(f"worker {number}", ["worker"], home / "worker.log", environment)


def _counts(ledger: Ledger) -> tuple[int, dict[int, int]]:
    """Events received, and the next offset by partition."""
    rows = ledger.rows(intake)
    return sum(row["received"] for row in rows), {row["partition"]: row["next_offset"] for row in rows}


def _throughput(
    ledger: Ledger, events: int, children: Sequence[Child], watched: Mapping[str, int | None]
) -> dict[str, Any]:
    """Events a second from the first commit to the last; and what they cost each part meanwhile, which other work on
    the machine changes little."""
    first: tuple[int, float, dict[str, float]] | None = None
    last, moved_s = 0, time.perf_counter()
    steps: list[dict[str, int]] = []
    mark = (0, 0.0)
    while True:
        received, _ = _counts(ledger)
        now_s = time.perf_counter()
        if received != last:
            if first is None:
                first, mark = (received, now_s, _cpu_s(children, watched)), (received, now_s)
            last, moved_s = received, now_s
            if received - mark[0] >= STEP:
                rate = round((received - mark[0]) / (now_s - mark[1]))
                steps.append({"events": received, "events_per_s": rate, "peak_mib": _peak_mib(_uses(children))})
                mark = (received, now_s)
        if received >= events:
            assert first is not None  # there was a change before the end
            taken = received - first[0]
            if not taken:
                return {"events_per_s": received, "cpu_us_per_event": {}, "by_million": steps}
            spent = {name: cpu_s - first[2][name] for name, cpu_s in _cpu_s(children, watched).items()}
            return {
                "events_per_s": round(taken / (now_s - first[1])),
                "cpu_us_per_event": {name: round(cpu_s / taken * 1e6, 1) for name, cpu_s in spent.items()},
                "by_million": steps,
            }
        if now_s - moved_s > STALLED_S:
            raise UserError(f"the worker stands at {received:,} of {events:,} events: see {children[0].log}")
        for child in children:
            child.check()
        time.sleep(0.02)


def _uses(children: Sequence[Child]) -> list[parts.Use]:
    """What each worker used so far, where that is known."""
    pids = [child.process.pid for child in children if child.process is not None]
    return [use for pid in pids if (use := parts.use_of(pid)) is not None]


def _peak_mib(workers: Sequence[parts.Use]) -> int:
    """The largest that a worker has been so far."""
    return round(max((use.peak_mib for use in workers), default=0))


def _cpu_s(children: Sequence[Child], watched: Mapping[str, int | None]) -> dict[str, float]:
    """CPU seconds of the workers and of the parts that are known, so far."""
    found = {"worker": sum(use.cpu_s for use in _uses(children))}
    for name, pid in watched.items():
        if pid and (use := parts.use_of(pid, family=True)) is not None:
            found[name] = use.cpu_s
    return found


def _latency(
    bench: Bench, broker: str, topic: str, ledger: Ledger, children: Sequence[Child], *, first: int
) -> tuple[dict[str, float], Sent]:
    """From the call of the producer to the commit in the ledger, as a reader of the ledger sees it."""
    seen: list[tuple[float, dict[int, int]]] = []
    start, _ = _counts(ledger)

    def poll() -> None:
        offsets = _counts(ledger)[1]
        if not seen or offsets != seen[-1][1]:
            seen.append((time.perf_counter(), offsets))

    sent = steady(
        broker, topic, bench.rate, bench.seconds, bench.per_message, first=first, clock_us=bench.clock_us, poll=poll
    )
    deadline_s = time.perf_counter() + STALLED_S
    while _counts(ledger)[0] < start + sent.events:
        if time.perf_counter() > deadline_s:
            raise UserError(f"the worker does not keep up with {bench.rate:,} events a second: see {children[0].log}")
        poll()
        time.sleep(0.003)
    poll()
    taken_ms = []
    position = dict.fromkeys(seen[-1][1], 0)
    for (partition, offset), at_s in sorted(sent.at_s.items()):
        at = position[partition]
        while seen[at][1].get(partition, 0) <= offset:
            at += 1
        position[partition] = at
        taken_ms.append((seen[at][0] - at_s) * 1000)
    taken_ms.sort()
    return {f"p{q}": round(taken_ms[min(len(taken_ms) - 1, len(taken_ms) * q // 100)], 1) for q in (50, 99)}, sent


def _exact(ledger: Ledger, sent: Sent) -> bool:
    """Every event once and every token: rollups, events and intake agree with what was sent."""
    rows = ledger.rows(rollups)
    flow = ledger.rows(intake)
    tokens = sum(row[name] for row in rows for name in TOKEN_CLASSES)
    return (
        tokens == sent.tokens
        and sum(row["events"] for row in rows) == sent.events == sum(row["counted"] for row in flow)
        and all(r["received"] == r["counted"] + r["duplicates"] + r["rejected"] + r["held"] for r in flow)
    )


def _parts(
    workers: Sequence[parts.Use], before: dict[str, parts.Use | None], after: dict[str, parts.Use | None]
) -> dict[str, dict[str, float]]:
    """CPU seconds during the run and peak memory of each part that can be looked at."""
    found = {
        "worker": {
            "cpu_s": round(sum(use.cpu_s for use in workers), 1),
            "peak_mib": _peak_mib(workers),
        }
    }
    for name, use in after.items():
        start = before.get(name)
        if use is not None and start is not None:
            found[name] = {"cpu_s": round(use.cpu_s - start.cpu_s, 1), "peak_mib": round(use.peak_mib)}
    return found


def _references(bench: Bench, broker: str, topic: str, base: str, events: int, figures: dict[str, Any]) -> None:
    """The ceiling (decode and append, checking nothing) and the plain way (an agent, an insert an event)."""
    decoder = msgspec.json.Decoder(list[UsageEvent])

    def decode(value: bytes) -> list[tuple[Any, ...]]:
        return [
            (
                e.id,
                e.source,
                e.subject,
                e.time,
                e.data.key,
                e.data.provider,
                e.data.model,
                msgspec.json.encode(e.data.usage),
            )
            for e in decoder.decode(value if value[:1] == b"[" else b"[" + value + b"]")
        ]

    bench.say("the ceiling: a bare consumer that checks nothing")
    with scratch_database(base, _name()) as url:
        bare = Reference(url)
        seconds = read_bare(broker, topic, bench.workers, events, decode, bare.append_bare)
        assert bare.count(BARE) >= events  # the ceiling is one only if it stored them
        bare.close()
    figures["ceiling_events_per_s"] = round(events / seconds)
    bench.say("the plain way: a Faust agent, event by event, one insert each")
    with scratch_database(base, _name()) as url:
        figures["plain_events_per_s"] = round(_plain(bench, broker, url))


def _plain(bench: Bench, broker: str, url: str) -> float:
    prefix = f"plain{secrets.token_hex(4)}."
    topic, app_id = prefix + USAGE_EVENTS, f"{prefix}app"
    specs = {**topic_specs(bench.workers, prefix), f"{app_id}-__assignor-__leader": (1, {})}
    asyncio.run(ensure_topics(broker, specs))
    fill(broker, topic, PLAIN_EVENTS, 1, bench.clock_us(), tick=lambda _n: None)
    reference = Reference(url)
    command = [sys.executable, "-m", "tollhouse.bench.plain", broker, topic, app_id, str(bench.directory / app_id), url]
    with (bench.directory / "plain.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        first: tuple[int, float] | None = None
        deadline_s = time.perf_counter() + 2 * STALLED_S
        while (count := reference.count(PLAIN)) < PLAIN_EVENTS:
            if count and first is None:
                first = (count, time.perf_counter())
            if time.perf_counter() > deadline_s or process.poll() is not None:
                raise UserError(f"the plain way stands at {count:,} of {PLAIN_EVENTS:,} events")
            time.sleep(0.02)
        assert first is not None  # inserts come one by one
        return (PLAIN_EVENTS - first[0]) / (time.perf_counter() - first[1])
    finally:
        process.kill()
        process.wait()
        reference.close()
