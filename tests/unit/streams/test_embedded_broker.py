"""The embedded broker: it starts, answers, carries messages, refuses clearly, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaProducer

from streams import embedded_broker
from streams.embedded_broker import EmbeddedBroker, EmbeddedBrokerError, PortInUseError
from streams.topics_admin import ensure_topics


def _gone(pid: int) -> bool:
    """True once the process has ended; a zombie that waits for its parent counts as ended."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.exists() and Path("/proc/self").exists():
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


def _produce(bootstrap: str, topic: str, values: list[bytes]) -> list[int]:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    try:
        return [producer.send(topic, value).get(timeout=20).offset for value in values]
    finally:
        producer.close(timeout=5)


def test_messages_of_an_idempotent_producer_are_read_back_in_order(tmp_path: Path) -> None:
    values = [f"event {number}".encode() for number in range(20)]
    with EmbeddedBroker(log_path=tmp_path / "logs" / "broker.log") as broker:
        assert asyncio.run(ensure_topics(broker.bootstrap, {"events": (1, {})})) == ["events"]
        assert _produce(broker.bootstrap, "events", values) == list(range(20))
        assert asyncio.run(_read(broker.bootstrap, "events", 20)) == values
    assert "ready" in (tmp_path / "logs" / "broker.log").read_text()


def test_stop_ends_the_process_and_a_restart_keeps_the_port() -> None:
    broker = EmbeddedBroker()
    with pytest.raises(EmbeddedBrokerError, match="start it first"):
        _ = broker.port
    broker.start()
    first_pid, port = broker.pid, broker.port
    assert first_pid is not None
    assert broker.start().pid == first_pid, "a second start of a running broker changes nothing"
    broker.stop()
    broker.stop()
    assert not broker.running
    assert _gone(first_pid)
    assert broker.log_path is None, "the temporary log goes with the broker"

    with broker:
        assert broker.port == port
        assert broker.pid not in (None, first_pid)
        asyncio.run(ensure_topics(broker.bootstrap, {"after": (1, {})}))
        _produce(broker.bootstrap, "after", [b"again"])
        assert asyncio.run(_read(broker.bootstrap, "after", 1)) == [b"again"]


def test_a_killed_broker_is_seen_and_started_again_on_its_port() -> None:
    with EmbeddedBroker() as broker:
        port, pid = broker.port, broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert _eventually(lambda: not broker.running)
        broker.start()
        assert broker.running
        assert broker.port == port


def test_it_starts_inside_a_running_event_loop() -> None:
    async def main() -> list[str]:
        with EmbeddedBroker() as broker:
            return await ensure_topics(broker.bootstrap, {"inner": (2, {})})

    assert asyncio.run(main()) == ["inner"]


def test_a_port_in_use_is_one_clear_line_and_leaves_no_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = EmbeddedBroker(port)
        with pytest.raises(PortInUseError) as caught:
            broker.start()
    assert str(caught.value) == f"port {port} on 127.0.0.1 is in use: stop what listens there or choose another port"
    assert not broker.running


def test_a_port_taken_between_look_and_bind_is_not_mistaken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "_refuse_taken", lambda _port: None)
    with EmbeddedBroker() as owner:
        intruder = EmbeddedBroker(owner.port)
        with pytest.raises(PortInUseError):
            intruder.start()
        assert not intruder.running
        assert owner.running


def test_a_lost_race_for_a_free_port_takes_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real_free_port = embedded_broker._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1]])
        monkeypatch.setattr(embedded_broker, "_free_port", lambda: next(offers, None) or real_free_port())
        with EmbeddedBroker() as broker:
            assert broker.port != taken.getsockname()[1]
            assert broker.running


def test_a_missing_binary_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "absent"))
    with pytest.raises(
        EmbeddedBrokerError, match=r"^no embedded broker for this platform .*TOLLHOUSE_BROKER"
    ) as caught:
        EmbeddedBroker().start()
    assert "\n" not in str(caught.value)


def test_a_binary_that_ends_at_once_shows_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho starting\necho 'disk on fire'\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(script))
    broker = EmbeddedBroker(log_path=tmp_path / "broker.log")
    with pytest.raises(EmbeddedBrokerError, match=r"status 3\): disk on fire$"):
        broker.start()
    assert not broker.running


def test_a_silent_binary_is_given_up_and_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "silent"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path / 'pid'}\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(script))
    with pytest.raises(EmbeddedBrokerError, match=r"did not answer on port \d+ within 0\.5 s: no output"):
        EmbeddedBroker(start_timeout_s=0.5).start()
    assert _gone(int((tmp_path / "pid").read_text()))


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedBrokerError, match="cannot write the broker's log"):
        EmbeddedBroker(log_path=tmp_path / "file" / "broker.log").start()


def test_a_broker_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = EmbeddedBroker().start()
    pid = broker.pid
    assert pid is not None
    assert broker._process is not None
    monkeypatch.setattr(broker._process, "terminate", lambda: None)
    broker.stop(timeout_s=0.2)
    assert _gone(pid)


def test_kill_9_of_the_parent_leaves_no_broker() -> None:
    program = textwrap.dedent("""
        import time
        from streams.embedded_broker import EmbeddedBroker
        broker = EmbeddedBroker().start()
        print(broker.pid, flush=True)
        time.sleep(120)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not _gone(pid)
        parent.kill()
        parent.wait()
        assert _eventually(lambda: _gone(pid))
    finally:
        parent.kill()
        parent.communicate()


def test_the_watching_shell_kills_where_the_kernel_would_not() -> None:
    program = textwrap.dedent("""
        import subprocess, time
        from streams.embedded_broker import watch_parent
        child = subprocess.Popen(["sleep", "120"], start_new_session=True)
        watcher = watch_parent(child.pid)
        print(child.pid, watcher.pid, flush=True)
        time.sleep(120)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child_pid, watcher_pid = map(int, parent.stdout.readline().split())
        assert not _gone(child_pid)
        parent.kill()
        parent.wait()
        assert _eventually(lambda: _gone(child_pid) and _gone(watcher_pid))
    finally:
        parent.kill()
        parent.communicate()
