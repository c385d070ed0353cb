"""Endurance: Kafka and PostgreSQL at a steady rate with a fault every minute, ends exact, memory flat, alerts told.

python -m bench.endurance                        an hour at 2,000 events/s
python -m bench.endurance --minutes 5            five minutes of the same
python -m bench.endurance --short                what the tests run: four faults, 300 events/s, about two minutes

Two workers and an API over a Kafka and a PostgreSQL of its own; a real Prometheus with the shipped rules, their times
divided by --scale, so that a fault of seconds counts as one of minutes. The traffic is arithmetic, so that the true
totals are known without keeping it; one event in 33 goes through the API, which also admits calls. A line a minute on
standard error. Result: one JSON object; exit 1 unless everything held. The same object is written after every fault to
result.json of --out, so that a run which was broken off tells what it saw; one that did not hold leaves its logs there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bench.endurance_faults import FAULTS, SHORT, order
from bench.endurance_house import House, Memory
from bench.endurance_report import Broken, Report
from bench.endurance_traffic import Caller, Traffic
from bench.endurance_watch import Prometheus
from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from tests.services import ROOT
from tests.simulation.own_parts import own_kafka, own_postgres
from tests.simulation.world import World
from tollhouse.ports import free_port
from tollhouse_client import UsagePublisher

CATALOG: Final = """
currency: USD
seller: {name: Example Cloud Ltd, address: "1 Example Street", country: IE, email: billing@seller.example}
tenants: {alpha: {plan: team}, beta: {plan: team}, gamma: {plan: team}, delta: {plan: team}, epsilon: {plan: team}}
keys: {openai-pool: {provider: openai, kind: pooled, provider_key_id: key_o}}
plans:
  team:
    charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]
    quotas: [{name: monthly, meter: tokens, limit: 900000000000, window: month, action: block}]
alerts: {sinks: [{url: "json://127.0.0.1:1/alerts"}]}
"""
SHORT_MOST_S: Final = 60.0
SETTLE_S: Final = 900.0
EVENT_BYTES: Final = 2_000
"""On disk, in PostgreSQL with its indexes (900 bytes) and in Kafka (650), with room."""
BASE_BYTES: Final = 3 << 30
LEAST_BYTES: Final = 1 << 30


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between the beginnings of two faults")
    parser.add_argument("--fault", type=float, default=20.0, help="seconds that a fault lasts")
    parser.add_argument("--scale", type=float, default=15.0, help="the rules' times are divided by it")
    parser.add_argument("--faults", help="some of them, with commas between; default all, in turn")
    parser.add_argument("--out", type=Path, default=ROOT / ".endurance", help="where result.json and logs go")
    parser.add_argument("--short", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.short:
        chosen.rate, chosen.fault, chosen.scale, chosen.faults = 300, 2.0, 20.0, ",".join(SHORT)
    names = tuple(chosen.faults.split(",")) if chosen.faults else tuple(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"--faults {unknown[0]}: use {', '.join(FAULTS)}")
    turns = len(names) if chosen.short else max(1, round(chosen.minutes * 60 / chosen.every))
    if trouble := _no_room(turns * chosen.every * chosen.rate):
        parser.error(trouble)
    report = Report(chosen.out)
    with tempfile.TemporaryDirectory(prefix="tollhouse-endurance-") as place:
        try:
            _run(chosen, order(turns, names), Path(place), report)
        except BaseException as error:
            report.write(state="broken off", held=False, reason=f"{type(error).__name__}: {str(error)[:2000]}")
            raise
        finally:
            if not report.values["held"]:
                _keep_logs(Path(place), chosen.out)
    print(json.dumps(report.values, indent=1))
    return 0 if report.values["held"] else 1


def _told_to_end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def _no_room(events: float) -> str:
    """Why it cannot be begun; empty if it can."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    need = BASE_BYTES + int(events * EVENT_BYTES)
    if free >= need:
        return ""
    return f"{tempfile.gettempdir()} has {free >> 30} GiB free, {need >> 30} are needed: set TMPDIR, or run less"


def _keep_logs(place: Path, out: Path) -> None:
    for path in [*place.glob("*.log"), *place.glob("*/log"), *place.glob("*/kafka.log")]:
        name = path.name if path.suffix and path.parent == place else f"{path.parent.name}.log"
        shutil.copy(path, out / name)


def _run(chosen: argparse.Namespace, names: list[str], directory: Path, report: Report) -> None:
    with ExitStack() as stack:
        # After a kill a broker reads what it had not flushed, and it flushes a segment when it begins the next one.
        segments = {"log.segment.bytes": str(128 << 20)}
        kafka = stack.enter_context(own_kafka(directory / "kafka", segments))
        postgres = stack.enter_context(own_postgres(settings={"max_wal_size": "1GB"}))
        world = World(kafka.bootstrap, postgres.url, directory, "e.", partitions=4, embedded=False)
        stack.callback(world.close)
        ledger = Ledger(postgres.url)
        ledger.apply(parse_yaml(CATALOG), 1, "endurance")
        ledger.close()
        house = House(world, kafka, postgres, [free_port(), free_port()], free_port())
        (directory / "api").mkdir()
        tokens = house.token("--proxy", "endurance"), house.token("--tenant", "alpha", "--ttl", "24h")
        stack.enter_context(house.serve())
        for each in (0, 1):
            house.start_worker(each)
        targets = {"tollhouse-api": [house.api_port], "tollhouse-worker": house.ports}
        prometheus = Prometheus(directory / "prometheus", targets, chosen.scale)
        stack.callback(prometheus.close)
        until(lambda: _up(prometheus) == 3 and not prometheus.fired(time.time() - 2, time.time()))
        publisher = stack.enter_context(
            UsagePublisher(world.broker, source="proxy/endurance", spool_dir=directory / "spool", topic=world.topic)
        )
        traffic, memory = Traffic(publisher, chosen.rate), Memory(house)
        stop, over = threading.Event(), threading.Event()
        stack.callback(over.set)
        stack.callback(memory.end)
        caller = Caller(traffic, house.api_port, *tokens)
        threads = [threading.Thread(target=one.run, args=(stop,), daemon=True) for one in (traffic, caller)]
        for thread in (*threads, memory, threading.Thread(target=house.supervise, args=(over,), daemon=True)):
            thread.start()
        report.begin(house, traffic, caller, prometheus, memory)
        _break_things(chosen, names, report)
        report.write(state="settling", ended_s=time.time())
        stop.set()
        for thread in threads:
            thread.join(180)
        assert publisher.flush(300), publisher.stats()
        world.settle(SETTLE_S)
        report.finish(flat_matters=not chosen.short, rate=0 if chosen.short else chosen.rate)


def _break_things(chosen: argparse.Namespace, names: list[str], report: Report) -> None:
    """One fault after the other."""
    prometheus, house, traffic = report.prometheus, report.house, report.traffic
    for turn, name in enumerate(names, 1):
        fault, wanted = FAULTS[name]
        one = Broken(name, time.time(), wanted)
        report.told.append(one)
        mend = fault(house, traffic)
        time.sleep(chosen.fault)
        if chosen.short:  # as long as it takes to be told, and then until all is well again: no test of timing
            _wait(lambda: set(wanted) <= prometheus.fired(one.began_s, time.time()), SHORT_MOST_S)  # noqa: B023 - used here
        mend()
        one.mended_s = time.time()
        if chosen.short:
            _wait(lambda: _up(prometheus) == 3, SHORT_MOST_S)
        else:
            time.sleep(max(0.0, one.began_s + chosen.every - time.time()))
        free = shutil.disk_usage(tempfile.gettempdir()).free
        report.tell(f"{turn} of {len(names)}", one, free)
        assert free > LEAST_BYTES, f"the disk has {free >> 20} MiB left: broken off before it is full"
        assert not traffic.trouble, traffic.trouble


def _wait(what: Callable[[], bool], most_s: float) -> bool:
    """Whether it came within the time."""
    deadline_s = time.monotonic() + most_s
    while not what():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.3)
    return True


def _up(prometheus: Prometheus) -> float:
    """Processes that say they are ready."""
    found: list[dict[str, Any]] = prometheus.ask("tollhouse_worker_ready or tollhouse_ready")
    return sum(float(one["value"][1]) for one in found)


def until(what: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait for it; AssertionError if it does not come."""
    assert _wait(what, within_s), "what the run needs did not start"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _told_to_end)  # so that what was started ends too
    sys.exit(main())
