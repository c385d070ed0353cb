"""Endurance: Kafka and PostgreSQL at a steady rate with a fault every minute, ends exact, memory flat, alerts told.

python -m bench.endurance                        an hour at 2,000 events/s
python -m bench.endurance --minutes 5            five minutes of the same
python -m bench.endurance --short                what the tests run: four faults, 300 events/s, about a minute

Two workers and an API over a Kafka and a PostgreSQL of its own; a real Prometheus with the shipped rules, their times
divided by --scale, so that a fault of seconds counts as one of minutes. The traffic is arithmetic, so that the true
totals are known without keeping it. Result: one JSON object; exit 1 unless everything held.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.endurance_watch import Prometheus
from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from tests.services import ROOT
from tests.simulation.auditor import Books
from tests.simulation.own_parts import OwnKafka, OwnPostgres, own_kafka, own_postgres
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
TENANTS: Final = ("alpha", "beta", "gamma", "delta", "epsilon")
TICK_S: Final = 0.05
DUPLICATE_EVERY, UNKNOWN_EVERY = 50, 1_000
SHORT_MOST_S: Final = 60.0
GROWTH_MAX: Final = 1.25
"""Of the largest resident memory, last third of the run against its second third; the first warms up."""


@dataclass
class Traffic:
    """Events by number, and what they are worth. In a thread of its own, at rate events a second."""

    publisher: UsagePublisher
    rate: int
    tokens: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    rejected: int = 0
    sent: int = 0

    def event(self, number: int, tenant: str, **data: Any) -> dict[str, Any]:
        """The event of a number; the time is the only thing that is not arithmetic."""
        return {
            "specversion": "1.0", "id": f"e{number}", "source": "proxy/endurance", "type": "com.tollhouse.usage.v1",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), "subject": tenant,
            "data": {"key": "openai-pool", "provider": "openai", "api": "responses", "model": "gpt-5-mini",
                     "tokens": {"input": 1 + number % 97, "output": number % 13}, **data},
        }  # fmt: skip

    def send(self, **data: Any) -> None:
        """The next event, and its shadow where it has one."""
        self.sent += 1
        number = self.sent
        if number % UNKNOWN_EVERY == 0:
            self.reject(1)
            return
        tenant = TENANTS[number % len(TENANTS)]
        event = self.event(number, tenant, **data)
        self.publisher.publish(event)
        self.tokens[tenant] += 1 + number % 97 + number % 13
        self.requests[tenant] += 1
        if number % DUPLICATE_EVERY == 0:
            self.publisher.publish(event)
            self.duplicates += 1

    def reject(self, events: int) -> None:
        """Events of nobody."""
        for _ in range(events):
            self.rejected += 1
            self.publisher.publish(self.event(-self.rejected, "nobody"))

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; what a slow moment missed is made up for."""
        began_s, before = time.monotonic(), self.sent
        while not stop.wait(TICK_S):
            due = int((time.monotonic() - began_s) * self.rate) - (self.sent - before)
            for _ in range(min(due, self.rate)):
                self.send()


@dataclass
class House:
    """Everything that runs."""

    world: World
    kafka: OwnKafka
    postgres: OwnPostgres
    ports: list[int]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    restarts: int = 0

    def start_worker(self, place: int) -> None:
        """The worker of one of the two places; from now on one that ends by itself is started again."""
        made = self.world.start_worker(TOLLHOUSE_WORKER_PORT=str(self.ports[place]), TOLLHOUSE_ALLOW_LOCAL_SINKS="1")
        self.workers[place : place + 1] = [made]
        self.down.discard(place)

    def supervise(self, stop: threading.Event) -> None:
        """What an orchestrator does: a worker that finds no database at its start says so and ends."""
        while not stop.wait(1.0):
            for place, worker in enumerate(self.workers):
                if place not in self.down and worker.poll() is not None:
                    self.restarts += 1
                    self.start_worker(place)

    def take_down(self, place: int) -> subprocess.Popen[bytes]:
        """The worker of the place, which is to stay away for now."""
        self.down.add(place)
        return self.workers[place]

    @contextmanager
    def api(self, port: int) -> Iterator[None]:
        """The API on a port."""
        home = self.world.directory / "api"
        home.mkdir()
        values = {
            "TOLLHOUSE_BROKER": self.world.broker, "TOLLHOUSE_DATABASE_URL": self.world.database_url,
            "TOLLHOUSE_DIR": str(home), "TOLLHOUSE_TOPIC_PREFIX": self.world.prefix, "TOLLHOUSE_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "sdk")),
        }  # fmt: skip
        with (self.world.directory / "api.log").open("wb") as log:
            command = [sys.executable, "-m", "tollhouse", "api"]
            process = subprocess.Popen(command, env=os.environ | values, cwd=home, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


# --- faults: each is in force until what it returns is run; with the alerts that must fire meanwhile or soon after ---

Fault = Callable[[House, Traffic], Callable[[], None]]


def _workers_killed(house: House, _: Traffic) -> Callable[[], None]:
    for place in (0, 1):
        worker = house.take_down(place)
        worker.kill()
        worker.wait()
    return lambda: [house.start_worker(place) for place in (0, 1)] and None


def _one_killed(house: House, _: Traffic) -> Callable[[], None]:
    worker = house.take_down(0)
    worker.kill()
    worker.wait()
    return lambda: house.start_worker(0)


def _one_upgraded(house: House, _: Traffic) -> Callable[[], None]:
    worker = house.take_down(1)
    worker.terminate()
    began_s = time.monotonic()
    code = worker.wait(10)
    # -15: it was still importing, and had nothing in hand.
    assert code in (0, -signal.SIGTERM), f"a worker ended with {code} after SIGTERM: {house.world.logs()}"
    print(f"a worker was gone {time.monotonic() - began_s:.1f} s after SIGTERM", file=sys.stderr, flush=True)
    house.start_worker(1)
    return lambda: None


def _one_frozen(house: House, _: Traffic) -> Callable[[], None]:
    house.workers[0].send_signal(signal.SIGSTOP)
    return lambda: house.workers[0].send_signal(signal.SIGCONT)


def _database_stopped(house: House, _: Traffic) -> Callable[[], None]:
    house.postgres.stop()
    return house.postgres.start


def _database_frozen(house: House, _: Traffic) -> Callable[[], None]:
    house.postgres.freeze()
    return lambda: house.postgres.freeze(thaw=True)


def _broker_killed(house: House, _: Traffic) -> Callable[[], None]:
    house.kafka.kill()
    return house.kafka.start


def _rejected(_: House, traffic: Traffic) -> Callable[[], None]:
    traffic.reject(4 * traffic.rate)
    return lambda: None


def _secret(_: House, traffic: Traffic) -> Callable[[], None]:
    traffic.send(agent="Bearer " + "a1B2c3D4" * 6)
    return lambda: None


FAULTS: Final[dict[str, tuple[Fault, tuple[str, ...]]]] = {
    "workers killed": (_workers_killed, ("TollhouseWorkerDown",)),
    "database stopped": (
        _database_stopped,
        ("TollhouseDatabaseAway", "TollhouseWorkerNotReady", "TollhouseApiNotReady"),
    ),
    "broker killed": (_broker_killed, ("TollhouseBrokerAway", "TollhouseWorkerNotReady")),
    "a secret in an event": (_secret, ("TollhouseLeak", "TollhouseAlertsNotDelivered")),
    "one worker killed": (_one_killed, ("TollhouseWorkerDown",)),
    "database frozen": (_database_frozen, ("TollhouseDatabaseAway",)),
    "many rejected": (_rejected, ("TollhouseRejected",)),
    "one worker upgraded": (_one_upgraded, ()),
    "one worker frozen": (_one_frozen, ("TollhouseWorkerDown",)),
}
SHORT: Final = ("workers killed", "a secret in an event", "database stopped", "one worker upgraded")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between the beginnings of two faults")
    parser.add_argument("--fault", type=float, default=20.0, help="seconds that a fault lasts")
    parser.add_argument("--scale", type=float, default=15.0, help="the rules' times are divided by it")
    parser.add_argument("--short", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.short:
        chosen.rate, chosen.fault, chosen.scale = 300, 2.0, 40.0
    with tempfile.TemporaryDirectory(prefix="tollhouse-endurance-") as place:
        result = _run(chosen, Path(place))
    print(json.dumps(result, indent=1))
    return 0 if result["held"] else 1


def _run(chosen: argparse.Namespace, directory: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        kafka = stack.enter_context(own_kafka(directory / "kafka"))
        postgres = stack.enter_context(own_postgres(settings={"max_wal_size": "1GB"}))
        world = World(kafka.bootstrap, postgres.url, directory, "e.", partitions=4, embedded=False)
        stack.callback(world.close)
        ledger = Ledger(postgres.url)
        ledger.apply(parse_yaml(CATALOG), 1, "endurance")
        ledger.close()
        house = House(world, kafka, postgres, [free_port(), free_port()])
        api_port = free_port()
        stack.enter_context(house.api(api_port))
        for each in (0, 1):
            house.start_worker(each)
        targets = {"tollhouse-api": [api_port], "tollhouse-worker": house.ports}
        prometheus = Prometheus(directory / "prometheus", targets, chosen.scale)
        stack.callback(prometheus.close)
        until(lambda: _up(prometheus) == 3 and not prometheus.fired(time.time() - 2, time.time()))
        publisher = stack.enter_context(
            UsagePublisher(world.broker, source="proxy/endurance", spool_dir=directory / "spool", topic=world.topic)
        )
        traffic, stop = Traffic(publisher, chosen.rate), threading.Event()
        thread = threading.Thread(target=traffic.run, args=(stop,), daemon=True)
        thread.start()
        threading.Thread(target=house.supervise, args=(stop,), daemon=True).start()
        began_s = time.time()
        told = _break_things(chosen, house, traffic, prometheus)
        ended_s = time.time()
        stop.set()
        thread.join(60)
        assert publisher.flush(300), publisher.stats()
        world.settle(600)
        return _result(house, traffic, prometheus, told, (began_s, ended_s), flat_matters=not chosen.short)


@dataclass
class Broken:
    """A fault that was, when it began, and the alerts that it was to set off."""

    name: str
    began_s: float
    wanted: tuple[str, ...]


def _break_things(chosen: argparse.Namespace, house: House, traffic: Traffic, prometheus: Prometheus) -> list[Broken]:
    """One fault after the other."""
    names, done = SHORT if chosen.short else tuple(FAULTS), []
    for turn in range(len(SHORT) if chosen.short else max(1, round(chosen.minutes * 60 / chosen.every))):
        name, began_s = names[turn % len(names)], time.time()
        fault, wanted = FAULTS[name]
        done.append(Broken(name, began_s, wanted))
        mend = fault(house, traffic)
        time.sleep(chosen.fault)
        if chosen.short:  # as long as it takes to be told, and then until all is well again: no test of timing
            _wait(lambda: set(wanted) <= prometheus.fired(began_s, time.time()), SHORT_MOST_S)  # noqa: B023 - used here
        mend()
        if chosen.short:
            _wait(lambda: _up(prometheus) == 3, SHORT_MOST_S)
        else:
            time.sleep(max(0.0, began_s + chosen.every - time.time()))
        fired = ", ".join(sorted(prometheus.fired(began_s, time.time()))) or "nothing"
        print(f"{name}: fired {fired}; {traffic.sent:,} events sent", file=sys.stderr, flush=True)
    return done


def _wait(what: Callable[[], bool], most_s: float) -> bool:
    """Whether it came within the time."""
    deadline_s = time.monotonic() + most_s
    while not what():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.3)
    return True


def _missing(prometheus: Prometheus, told: list[Broken], end_s: float) -> list[str]:
    """What should have fired between a fault's beginning and the end of the next one, and did not."""
    ends = [*(one.began_s for one in told[2:]), end_s, end_s]
    return [
        f"{one.name}: {alert}"
        for one, until_s in zip(told, ends, strict=False)
        for alert in sorted(set(one.wanted) - prometheus.fired(one.began_s, until_s))
    ]


def _result(
    house: House, traffic: Traffic, prometheus: Prometheus, told: list[Broken], when_s: tuple[float, float],
    *, flat_matters: bool,
) -> dict[str, Any]:  # fmt: skip
    books, (began_s, ended_s) = Books(house.world.database_url), when_s
    found = books.query("SELECT tenant, sum(input + output), sum(requests) FROM rollups GROUP BY 1")
    sums = {tenant: (int(tokens), int(requests)) for tenant, tokens, requests in found}
    true = {tenant: (traffic.tokens[tenant], traffic.requests[tenant]) for tenant in TENANTS}
    ((counted, rejected, held),) = books.query("SELECT sum(counted), sum(rejected), sum(held) FROM intake")
    wanted = (sum(traffic.requests.values()), traffic.rejected, 0)
    exact = sums == true and (int(counted), int(rejected), int(held)) == wanted
    third = (ended_s - began_s) / 3
    before = prometheus.memory(began_s + third, ended_s - third)
    after = prometheus.memory(ended_s - third, ended_s)
    growth = {job: round(after[job] / size, 3) for job, size in before.items() if job in after}
    flat = bool(growth) and all(ratio <= GROWTH_MAX for ratio in growth.values())
    missing = _missing(prometheus, told, time.time())
    return {
        "held": exact and not missing and (flat or not flat_matters),
        "exact": exact,
        "minutes": round((ended_s - began_s) / 60, 1),
        "events": traffic.sent,
        "events_per_s": round(traffic.sent / (ended_s - began_s)),
        "faults": [one.name for one in told],
        "restarts": house.restarts,
        "counted": int(counted),
        "duplicates_sent": traffic.duplicates,
        "rejected": int(rejected),
        "alerts_missing": missing,
        "alerts_fired": sorted(prometheus.fired(began_s, time.time())),
        "memory_growth": growth,
        "memory_mib": {job: round(size / 2**20) for job, size in after.items()},
        "sums": None if exact else {"ledger": sums, "true": true},
    }


def _up(prometheus: Prometheus) -> float:
    """Processes that say they are ready."""
    return sum(float(one["value"][1]) for one in prometheus.ask("tollhouse_worker_ready or tollhouse_ready"))


def until(what: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait for it; AssertionError if it does not come."""
    assert _wait(what, within_s), "what the run needs did not start"


if __name__ == "__main__":
    sys.exit(main())
