"""`tollhouse publish`: what is sent arrives, a broker that is away loses nothing, a bad line stops nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.embedded_broker import EmbeddedBroker
from streams.topics_admin import ensure_topics
from tests.integration.cli.installation import event
from tests.unit.cli.command import tollhouse
from tollhouse.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
AWAY = "127.0.0.1:9"


def _file(path: Path, count: int, *, start: int = 0) -> Path:
    lines = [
        event(f"e{n}", "2026-10-02T10:00:00Z", "acme" if n % 3 else "bolt", input=n + 1) for n in range(start, count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _received(bootstrap: str, count: int) -> list[str]:
    """The ids of all events in the topic."""

    async def read() -> list[str]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition("usage.events", n) for n in range(4)])
            await consumer.seek_to_beginning()
            found: list[str] = []
            for _ in range(40):
                batches = await consumer.getmany(timeout_ms=250)
                for messages in batches.values():
                    for message in messages:
                        value: Any = json.loads(message.value)
                        found += [e["id"] for e in (value if isinstance(value, list) else [value])]
                if len(found) >= count:
                    break
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


@pytest.fixture
def fresh_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], EmbeddedBroker]:
    """Makes a broker of this test's own, with the topics, and points the commands at it."""

    def make(port: int | None = None) -> EmbeddedBroker:
        broker = EmbeddedBroker(port, log_path=tmp_path / "broker.log")
        broker.start()
        asyncio.run(ensure_topics(broker.bootstrap, {"usage.events": (4, {})}))
        monkeypatch.setenv("TOLLHOUSE_BROKER", broker.bootstrap)
        return broker

    return make


def test_what_was_published_is_in_the_topic(fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path) -> None:
    with fresh_broker() as broker:
        result = tollhouse("publish", _file(tmp_path / "events.ndjson", 120), "--json")
        assert result.code == 0, result
        assert result.json() == {"published": 120, "waiting": 0, "refused": []}
        assert sorted(_received(broker.bootstrap, 120)) == sorted(f"e{n}" for n in range(120))


def test_lines_that_are_no_events_are_named_and_the_rest_goes_on(
    fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path
) -> None:
    good = _file(tmp_path / "good", 2).read_bytes().splitlines()
    blank = json.dumps(event("", "2026-10-02T10:00:00Z", input=1)).encode()
    data = b"\xef\xbb\xbf" + b"\r\n".join([good[0], b"{", b"[1]", b"\xff", b"", blank, good[1]])
    with fresh_broker() as broker:
        result = tollhouse("publish", "-", "--json", stdin=data)
        assert result.code == 1
        document = result.json()
        assert document["published"] == 2
        assert [r["line"] for r in document["refused"]] == [2, 3, 4, 6]
        assert [line.split(": ")[1] for line in result.said] == ["-:2", "-:3", "-:4", "-:6"]
        assert sorted(_received(broker.bootstrap, 2)) == ["e0", "e1"]


def test_an_empty_file_publishes_nothing(fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with fresh_broker():
        assert tollhouse("publish", tmp_path / "empty", "--json").json()["published"] == 0


def test_a_rate_is_kept(fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path) -> None:
    with fresh_broker():
        started_s = time.monotonic()
        assert tollhouse("publish", _file(tmp_path / "events.ndjson", 50), "--rate", 50).code == 0
        assert 0.8 < time.monotonic() - started_s < 10


def test_a_broker_that_is_away_loses_nothing(
    fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, tells once, keeps the spool, says with which command to go on; that command then sends everything."""
    port = free_port()
    monkeypatch.setenv("TOLLHOUSE_BROKER", f"127.0.0.1:{port}")
    path, spool = _file(tmp_path / "events.ndjson", 40), tmp_path / "spool"
    result = tollhouse("publish", path, "--wait", 3, "--spool", spool, "--json")
    assert result.code == 1
    assert result.json() == {"published": 0, "waiting": 40, "refused": []}
    assert len([line for line in result.said if line.startswith("waiting for the broker")]) == 1
    last = result.said[-1]
    assert f"40 events wait in {spool}" in last
    command = last.split("`")[1].split()
    assert command == ["tollhouse", "publish", "/dev/null", "--spool", str(spool)]

    with fresh_broker(port) as broker:
        after = tollhouse(*command[1:], "--json")
        assert (after.code, after.json()) == (0, {"published": 40, "waiting": 0, "refused": []})
        assert sorted(_received(broker.bootstrap, 40)) == sorted(f"e{n}" for n in range(40))


def test_a_temporary_spool_stays_while_something_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", AWAY)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    result = tollhouse("publish", _file(tmp_path / "events.ndjson", 3), "--wait", 1)
    assert result.code == 1
    (kept,) = tmp_path.glob("tollhouse-spool-*")
    assert str(kept) in result.said[-1]
    assert list(kept.glob("segment-*")), "the events that wait were removed"


def test_a_temporary_spool_is_removed_when_all_is_sent(
    fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    with fresh_broker():
        assert tollhouse("publish", _file(tmp_path / "events.ndjson", 3)).code == 0
    assert list(tmp_path.glob("tollhouse-spool-*")) == []


def test_an_installation_keeps_its_spool_and_counts_what_it_sent_from_it(
    fresh_broker: Callable[..., EmbeddedBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("TOLLHOUSE_BROKER", AWAY)
    arguments = ("--dir", tmp_path / "data", "--wait", 1, "--json")
    assert tollhouse("publish", _file(tmp_path / "1", 3), *arguments).json()["waiting"] == 3
    again = tollhouse("publish", _file(tmp_path / "2", 5, start=3), *arguments)
    assert again.json() == {"published": 0, "waiting": 5, "refused": []}
    with fresh_broker() as broker:
        last = tollhouse("publish", _file(tmp_path / "3", 6, start=5), "--dir", tmp_path / "data", "--json")
        assert last.json()["published"] == 6
        assert sorted(_received(broker.bootstrap, 6)) == [f"e{n}" for n in range(6)]


def test_a_spool_where_a_file_stands_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", AWAY)
    (tmp_path / "file").touch()
    result = tollhouse("publish", _file(tmp_path / "events.ndjson", 1), "--spool", tmp_path / "file" / "spool")
    assert result.code == 1
    assert "Not a directory" in result.said[-1]


def test_a_rate_of_nothing_is_wrong_use(tmp_path: Path) -> None:
    result = tollhouse("publish", _file(tmp_path / "events.ndjson", 1), "--rate", 0)
    assert result.code == 2
    assert "--rate" in result.said[-1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_that_is_interrupted_keeps_what_it_read(how: signal.Signals, tmp_path: Path) -> None:
    """`tail -F log | tollhouse publish -` ends with a signal: what was read is sent, or its place is told."""
    (tmp_path / "data").mkdir()
    environment = os.environ | {"TOLLHOUSE_BROKER": AWAY}
    program = [sys.executable, "-m", "tollhouse", "publish", "-", "--dir", str(tmp_path / "data")]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        process.stdin.write(_file(tmp_path / "events", 3).read_bytes())
        process.stdin.flush()
        spool = tmp_path / "data" / "spool-publish"
        for _ in range(200):
            if list(spool.glob("segment-*")):
                break
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(how)
        said = process.communicate(timeout=30)[1].decode()
        assert process.returncode == 1
    assert "Traceback" not in said
    assert f"3 events wait in {spool}" in said
