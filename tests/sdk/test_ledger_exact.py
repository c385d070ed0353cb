"""From the client to the ledger through three kills: the broker, the client, the broker again; the totals are exact.

The broker keeps its log in memory, so whatever it had acknowledged and nobody had read is gone each time. The spool,
which asks the ledger what it has, sends that again; the ledger counts it once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError
from sqlalchemy import func, select

from pipeline.catalog.parse import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.tables import events as events_table
from pipeline.ledger.tables import rejected as rejected_table
from schemas.catalog import Catalog
from schemas.usage_event import Delivery, Evidence, split_message
from streams.embedded_broker import EmbeddedBroker
from tests.sdk.fakes import make_topic
from tests.sdk.publishing_child import SOURCE, TENANTS, LedgerConfirm
from tollhouse_client import UsagePublisher

EVENTS = 100_000
PARTITIONS = 4
"""As many as the embedded broker gives a topic that it makes by itself."""
TOPIC = "usage.events"
CHILD = Path(__file__).with_name("publishing_child.py")


class Worker(threading.Thread):
    """Topic to ledger, in the plainest way: read, count, from the start again when the broker was replaced."""

    def __init__(self, bootstrap: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self._servers = bootstrap
        self._ledger = ledger
        self._ended = False
        self._anew = False
        self.counted = 0
        self.duplicates = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        while not self._ended:
            self._anew = False
            try:
                self._read()
            except (KafkaError, OSError):
                time.sleep(0.1)
            except BaseException as error:
                self.failure = error
                raise

    def start_anew(self) -> None:
        self._anew = True

    def stop(self) -> None:
        self._ended = True
        self.join(30)

    def _read(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._servers, auto_offset_reset="earliest", bootstrap_timeout_ms=2_000
        )
        try:
            partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            while not self._ended and not self._anew:
                for messages in consumer.poll(timeout_ms=200, max_records=100).values():
                    self._count(messages)
        finally:
            consumer.close()

    def _count(self, messages: list) -> None:  # type: ignore[type-arg]
        now_us = time.time_ns() // 1_000
        deliveries = [
            Delivery(raw, now_us, Evidence(TOPIC, message.partition, message.offset, index))
            for message in messages
            for index, raw in enumerate(split_message(message.value))
        ]
        recorded = self._ledger.take(deliveries, now_us)
        self.counted += recorded.counted
        self.duplicates += recorded.duplicates


def with_path() -> dict[str, str]:
    """The environment in which a child finds what this process imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def catalog() -> Catalog:
    tenants = "".join(f"  t{number}: {{name: T{number}, tier: standard, plan: p}}\n" for number in range(TENANTS))
    parsed = parse_yaml(
        "currency: USD\n"
        "seller: {name: Example, address: Street 1, country: IE, tax_id: IE1, email: billing@seller.example}\n"
        f"tenants:\n{tenants}"
        "keys:\n  pool-1: {provider: openai, kind: pooled}\n"
        'plans:\n  p:\n    charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]\n'
    )
    assert isinstance(parsed, Catalog), parsed
    return parsed


def wait_until(true: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_three_kills_in_a_hundred_thousand_events(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    ledger.create()
    ledger.apply(catalog(), time.time_ns() // 1_000 - 40 * 86_400_000_000, "test")
    day = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
    spool = tmp_path / "spool"
    with EmbeddedBroker(log_path=tmp_path / "broker.log") as broker:
        make_topic(broker.bootstrap, TOPIC, PARTITIONS)
        worker = Worker(broker.bootstrap, ledger)
        worker.start()

        def kill_broker() -> None:
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            time.sleep(0.5)
            broker.start()
            with contextlib.suppress(TopicAlreadyExistsError):  # by the publisher
                make_topic(broker.bootstrap, TOPIC, PARTITIONS)
            worker.start_anew()

        def publish(first: int) -> subprocess.Popen[bytes]:
            command = [sys.executable, str(CHILD), broker.bootstrap, TOPIC, str(spool), str(first), str(EVENTS - first)]
            return subprocess.Popen([*command, "12000", day, url], env=with_path(), stdout=subprocess.PIPE)

        child = publish(0)
        assert child.stdout is not None
        accepted = [child.stdout.readline() for _ in range(25_000)]
        kill_broker()
        accepted += [child.stdout.readline() for _ in range(25_000)]
        child.send_signal(signal.SIGKILL)
        accepted += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        assert accepted[-1] == b"c-%07d\n" % (len(accepted) - 1)

        child = publish(len(accepted))
        assert child.stdout is not None
        accepted += [child.stdout.readline() for _ in range(20_000)]
        kill_broker()
        accepted += child.stdout.readlines()
        child.stdout.close()
        child.wait(60)
        assert len(accepted) == EVENTS

        with UsagePublisher(
            broker.bootstrap, source=SOURCE, spool_dir=spool, confirm=LedgerConfirm(url), confirm_after_s=3.0
        ):
            wait_until(lambda: worker.counted >= EVENTS or worker.failure is not None, 200)
        worker.stop()

    assert worker.failure is None
    assert ledger.rows(rejected_table) == []
    query = select(func.count(), func.sum(events_table.c.requests), func.sum(events_table.c.input))
    totals = tuple(ledger.read(lambda connection: connection.execute(query).one()))
    assert totals == (EVENTS, EVENTS, EVENTS * (EVENTS - 1) // 2)
    print(f"counted {worker.counted}, redelivered and dropped {worker.duplicates}")
    ledger.close()
