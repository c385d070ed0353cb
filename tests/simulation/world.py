"""A world to break: a broker, a database, worker processes, and the traffic that went in."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaProducer

from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from streams.offsets import end_offsets
from streams.topics import topic_specs
from streams.topics_admin import ensure_topics
from tests.services import ROOT
from tests.simulation.auditor import Books, audit, audit_evidence, audit_states, audit_told
from tests.simulation.driver import CATALOG, Sent
from tollhouse_client import UsagePublisher

SETTLE_S = 60.0


@dataclass
class World:
    """Broker and database are the caller's; everything else is here. prefix: of topics and group."""

    broker: str
    database_url: str
    directory: Path
    prefix: str
    partitions: int = 3
    embedded: bool = True
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    poison: int = 0

    def __post_init__(self) -> None:
        asyncio.run(ensure_topics(self.broker, topic_specs(self.partitions, self.prefix)))
        ledger = Ledger(self.database_url)
        ledger.create()
        catalog = parse_yaml(CATALOG)
        # Applied at the beginning of time: a quota window then has no usage from before it.
        ledger.apply(catalog, 0, "test")
        ledger.close()

    @property
    def app_id(self) -> str:
        """Faust's name for the group."""
        return f"{self.prefix}app"

    @property
    def topic(self) -> str:
        """Where events go."""
        return f"{self.prefix}usage.events"

    # --- workers ---

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """One more worker process; its log is in the directory."""
        number = len(self.workers)
        home = self.directory / f"worker-{number}"
        home.mkdir()
        values = {
            "TOLLHOUSE_BROKER": self.broker,
            "TOLLHOUSE_DATABASE_URL": self.database_url,
            "TOLLHOUSE_DIR": str(home),
            "TOLLHOUSE_APP_ID": self.app_id,
            "TOLLHOUSE_TOPIC_PREFIX": self.prefix,
            "TOLLHOUSE_PARTITIONS": str(self.partitions),
            "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "sdk")),
        }
        with (self.directory / f"worker-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tollhouse", "worker"],
                env=os.environ | values | environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    def wait_member(self, process: subprocess.Popen[bytes]) -> None:
        """Until the worker is in the group: from then on it ends politely when it is told to."""
        log = self.directory / f"worker-{self.workers.index(process)}.log"
        self.wait_for(lambda: b"worker.assigned" in log.read_bytes(), f"membership of {log.name}")

    def logs(self) -> str:
        """The end of every worker's log, for a failure's message."""
        found = sorted(self.directory.glob("worker-*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in found)

    def close(self) -> None:
        """End what still runs."""
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    # --- traffic ---

    def publish(self, events: Iterable[Sent], *, batch_events: int = 20) -> None:
        """By the client, as a proxy would; returns when the broker has all of it."""
        events = list(events)
        spool = self.directory / "spool"
        with UsagePublisher(
            self.broker,
            source="proxy/test",
            spool_dir=spool,
            topic=self.topic,
            batch_events=batch_events,
            linger_s=0.01,
        ) as publisher:
            for sent in events:
                publisher.publish(sent.body)
            self.sent += events
            assert publisher.flush(60), publisher.stats()

    def publish_raw(self, values: Sequence[bytes | None], *, poison: bool = True, partition: int | None = None) -> None:
        """Bytes as they are, past the client."""
        producer = KafkaProducer(bootstrap_servers=self.broker, acks="all", max_request_size=1_000_000)
        for value in values:
            key = b"tombstone" if value is None else None
            producer.send(self.topic, value, key=key, partition=partition).get(timeout=30)
        producer.close(timeout=10)
        self.poison += len(values) if poison else 0

    # --- watching ---

    def end_offsets(self) -> dict[int, int]:
        """End of the topic by partition, without empty ones."""
        return {p: end for p, end in asyncio.run(end_offsets(self.broker, self.topic)).items() if end}

    def committed(self) -> dict[int, int]:
        """What the group acknowledged."""
        return asyncio.run(_committed(self.broker, self.topic, self.partitions, self.app_id))

    def taken(self) -> dict[int, int]:
        """What the ledger has, by partition; empty while the database is away."""
        try:
            return {p: n for p, n in Books(self.database_url).taken().items() if n}
        except Exception:  # noqa: BLE001 - the database is meant to be away
            return {}

    def wait_for(
        self, condition: Callable[[], bool], what: str, timeout_s: float = SETTLE_S, seen: Callable[[], str] = str
    ) -> None:
        """Until the condition holds; AssertionError with the logs when the time is over."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            late = time.monotonic() > deadline
            assert not late, f"{what} did not happen in {timeout_s:.0f} s; {seen()}\n{self.logs()}"
            time.sleep(0.02)

    def wait_taken(self, events: int, timeout_s: float = SETTLE_S) -> None:
        """Until the ledger has taken in this many messages."""
        self.wait_for(lambda: sum(self.taken().values()) >= events, f"{events} messages taken", timeout_s)

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Until the ledger has the whole topic and the group has acknowledged it: lag 0."""
        end = self.end_offsets()
        self.wait_for(
            lambda: self.taken() == end, f"the ledger at {end}", timeout_s, lambda: f"it is at {self.taken()}"
        )
        deadline = time.monotonic() + timeout_s
        while (done := self.committed()) != end:
            assert time.monotonic() < deadline, f"acknowledged {done}, the topic ends at {end}\n{self.logs()}"
            time.sleep(0.2)

    def check(self) -> None:
        """Settled, nothing acknowledged beyond the ledger, and the ledger exact."""
        self.settle()
        audit(self.database_url, self.sent, poison=self.poison)

    def read(self, topic: str, partitions: int) -> list[bytes]:
        """All messages of one of our topics."""
        return list(self.places(topic, partitions).values())

    def places(self, topic: str, partitions: int) -> dict[tuple[int, int], bytes]:
        """All messages of one of our topics, by (partition, offset)."""
        return asyncio.run(_read(self.broker, f"{self.prefix}{topic}", partitions))

    def check_told(self) -> None:
        """The topics have all that the ledger says to tell."""
        books = Books(self.database_url)
        self.wait_for(lambda: books.query("SELECT count(*) FROM outbox") == [(0,)], "an empty outbox")
        audit_told(self.database_url, self.read("usage.rejected", self.partitions), self.read("alerts", 1))

    def check_states(self) -> None:
        """The topic has the quota windows of now; they are told within seconds of what changed them."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                told = self.read("quota.states", self.partitions)
                audit_states(self.database_url, told, time.time_ns() // 1000)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def check_evidence(self) -> None:
        """Each event's place leads to its bytes."""
        places = self.places("usage.events", self.partitions)
        assert audit_evidence(self.database_url, places, self.sent, self.topic) > 0


async def _committed(broker: str, topic: str, partitions: int, group: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, n) for n in range(partitions)]
        consumer.assign(parts)
        found = {part: await consumer.committed(part) or 0 for part in parts}
        return {part.partition: offset for part, offset in found.items() if offset}
    finally:
        await consumer.stop()


async def _read(broker: str, topic: str, partitions: int) -> dict[tuple[int, int], bytes]:
    """Every message up to the end that the topic has now."""
    ends = {p: end for p, end in (await end_offsets(broker, topic)).items() if end}
    if not ends:
        return {}
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, n) for n in range(partitions)])
        found: dict[tuple[int, int], bytes] = {}
        async with asyncio.timeout(SETTLE_S):
            while any((p, end - 1) not in found for p, end in ends.items()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found |= {(m.partition, m.offset): m.value for m in batch}
        return found
    finally:
        await consumer.stop()
