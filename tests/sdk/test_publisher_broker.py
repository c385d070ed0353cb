"""The publisher against real brokers: both kinds, restarted, and with the client killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.embedded_broker import EmbeddedBroker
from tests.sdk.fakes import event, make_topic, read_topic
from tollhouse_client import UsagePublisher

CHILD = Path(__file__).with_name("publishing_child.py")


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of this test's own, to stop and start."""
    with EmbeddedBroker(log_path=tmp_path / "broker.log") as broker:
        yield broker


def with_path() -> dict[str, str]:
    """The environment in which a child finds what this process imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def ids_on(bootstrap: str, topic: str) -> list[str]:
    return [found["id"] for _, events in read_topic(bootstrap, topic) for found in events]


def test_every_event_arrives_once_keyed_by_its_tenant(broker: str, topic_prefix: str, tmp_path: Path) -> None:
    topic = make_topic(broker, topic_prefix + "events")
    with UsagePublisher(broker, source="proxy/test", spool_dir=tmp_path / "spool", topic=topic) as publisher:
        for number in range(2_000):
            publisher.publish(event(number, f"t{number % 5}"))
        assert publisher.flush(30)
        stats = publisher.stats()
    assert (stats.acked, stats.pending, stats.resent) == (2_000, 0, 0)
    messages = read_topic(broker, topic)
    assert max(len(events) for _, events in messages) == 50
    for key, events in messages:
        assert {found["subject"].encode() for found in events} == {key}
    for tenant in range(5):
        own = [found["id"] for key, events in messages if key == b"t%d" % tenant for found in events]
        assert own == [f"t{tenant}-{number}" for number in range(tenant, 2_000, 5)]


def test_a_large_event_and_a_large_batch_pass_a_broker_with_default_limits(
    broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    topic = make_topic(broker, topic_prefix + "events")
    noise = os.urandom(200_000).hex()  # 400 kB that do not compress to nothing
    with UsagePublisher(broker, source="proxy/test", spool_dir=tmp_path / "spool", topic=topic) as publisher:
        for number in range(6):
            publisher.publish(event(number, note=noise))
        publisher.publish(event(6, note=noise + noise))
        assert publisher.flush(30)
        assert publisher.stats().undeliverable == 0
    assert ids_on(broker, topic) == [f"acme-{number}" for number in range(7)]


def test_a_broker_that_comes_after_the_events(tmp_path: Path) -> None:
    broker = EmbeddedBroker(log_path=tmp_path / "broker.log")
    with broker:
        bootstrap = broker.bootstrap
    with UsagePublisher(bootstrap, source="proxy/test", spool_dir=tmp_path / "spool") as publisher:
        for number in range(300):
            publisher.publish(event(number))
        time.sleep(0.5)
        assert publisher.stats().pending == 300
        with broker:
            assert publisher.flush(30)
            assert ids_on(bootstrap, "usage.events") == [f"acme-{number}" for number in range(300)]


def test_a_broker_that_is_killed_in_the_middle_and_comes_back(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """The embedded broker forgets at its end, so what counts as delivered is what either life of it acknowledged."""
    bootstrap = own_broker.bootstrap
    threads_before = set(threading.enumerate())
    with UsagePublisher(bootstrap, source="proxy/test", spool_dir=tmp_path / "spool") as publisher:
        for number in range(500):
            publisher.publish(event(number))
        assert publisher.flush(30)
        before = ids_on(bootstrap, "usage.events")
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGKILL)
        for number in range(500, 1_000):
            publisher.publish(event(number))
        time.sleep(0.3)
        own_broker.start()
        for number in range(1_000, 1_200):
            publisher.publish(event(number))
        assert publisher.flush(30)
        after = ids_on(bootstrap, "usage.events")
        assert publisher.stats().reconnects >= 1
    assert before == [f"acme-{number}" for number in range(500)]
    assert list(dict.fromkeys(after)) == [f"acme-{number}" for number in range(500, 1_200)]
    deadline_s = time.monotonic() + 5
    while (left := set(threading.enumerate()) - threads_before) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert left == set(), "a session that was given up leaves no thread"


@pytest.mark.parametrize("rate", [0, 4_000])
def test_what_was_accepted_is_delivered_after_kill_9(broker: str, topic_prefix: str, tmp_path: Path, rate: int) -> None:
    topic, spool = make_topic(broker, topic_prefix + "events"), tmp_path / "spool"
    accepted: list[str] = []
    for life in range(3):
        command = [
            sys.executable,
            str(CHILD),
            broker,
            topic,
            str(spool),
            str(life * 1_000_000),
            "1000000",
            str(rate),
            "2026-10-03",
        ]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        accepted += [child.stdout.readline().decode().strip() for _ in range(1_500 + 700 * life)]
        child.send_signal(signal.SIGKILL)
        accepted += child.stdout.read().decode().splitlines()
        child.stdout.close()
        child.wait()
    with UsagePublisher(broker, source="proxy/test", spool_dir=spool, topic=topic) as publisher:
        assert publisher.flush(60)
        assert publisher.close() == 0
    delivered = set(ids_on(broker, topic))
    assert len(accepted) == len(set(accepted)) > 4_000
    assert set(accepted) - delivered == set()
