"""A worker's /readyz in trouble that its being alive hides, and its end: in time, with everything acknowledged."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.services import ROOT
from tests.simulation.driver import Driver
from tests.simulation.own_parts import own_postgres
from tests.simulation.world import World
from tests.unit.cli.command import tollhouse
from tollhouse.ports import free_port, listen

STOP_S = 10.0
"""What is promised of SIGTERM; see docs/operate.md."""

HASTE = """
from streams import progress
progress.LOOK_S, progress.HURRY_S, progress.STALL_S, progress.ANSWER_S = 0.5, 0.3, 3.0, 2.0
"""
"""A worker whose watcher is in a hurry: the same checks, in seconds."""

DEAF = """
import asyncio
from streams.meter import Meter
async def put(self, message): await asyncio.Event().wait()
Meter.put = put
"""
"""What Faust does at its worst: a member of its group, assigned, fetching, and nothing comes out."""

UNCOMMITTED = """
from faust.transport.consumer import Consumer
async def commit(self, *a, **k): return False
Consumer.commit = commit
"""


class Watched:
    """A worker with its port, started in a world with a patch that Python runs at its start."""

    def __init__(self, world: World, directory: Path, patch: str = HASTE) -> None:
        folder = directory / "patch"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(patch)
        path = os.pathsep.join(str(place) for place in (folder, ROOT, ROOT / "sdk"))
        self.world, self.port = world, free_port()
        self.process = world.start_worker(PYTHONPATH=path, TOLLHOUSE_WORKER_PORT=str(self.port))

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body; (0, {}) before it listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, {}

    def wrong(self) -> dict[str, str]:
        """The checks that are not ok; {"port": …} before it listens."""
        status, body = self.get("/readyz")
        found = {name: word for name, word in body.get("checks", {"port": "closed"}).items() if word != "ok"}
        assert (status == 200) == (not found), (status, body)
        return found

    def wait(self, condition: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """Until what is wrong fits; what is wrong then."""
        seen: dict[str, str] = {}

        def look() -> bool:
            seen.clear()
            seen.update(self.wrong())
            assert self.process.poll() is None, self.world.logs()
            return condition(seen)

        self.world.wait_for(look, what, 60, lambda: str(seen))
        return dict(seen)


@contextmanager
def a_world(broker: str, url: str, directory: Path, prefix: str, *, embedded: bool) -> Iterator[World]:
    world = World(broker, url, directory, prefix, embedded=embedded)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def world(kafka: str, postgresql_url: str, tmp_path: Path, topic_prefix: str) -> Iterator[World]:
    with a_world(kafka, postgresql_url, tmp_path, topic_prefix, embedded=False) as made:
        yield made


def driver(seed: int) -> Driver:
    return Driver(seed, datetime.now(UTC))


def test_ready_to_faust_but_nothing_comes_into_the_ledger(world: World, tmp_path: Path) -> None:
    watched = Watched(world, tmp_path, HASTE + DEAF)
    watched.wait(lambda wrong: not wrong, "ready with nothing to do")
    world.publish(driver(71).traffic(40))
    wrong = watched.wait(lambda wrong: "progress" in wrong, "a stall that is noticed")
    assert set(wrong) == {"progress"}
    assert "none came into the ledger" in wrong["progress"]
    assert watched.get("/healthz")[0] == 200
    assert world.taken() == {}


def test_counted_but_never_committed_to_the_broker(world: World, tmp_path: Path) -> None:
    watched = Watched(world, tmp_path, HASTE + UNCOMMITTED)
    world.publish(driver(72).traffic(40))
    wrong = watched.wait(lambda wrong: "offsets" in wrong, "commits that are missed")
    assert "acknowledged and not committed" in wrong["offsets"]


@pytest.mark.timeout(400)
def test_the_database_away_and_back_then_frozen_and_an_end_in_time_all_the_same(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    with own_postgres() as server, a_world(kafka, server.url, tmp_path, topic_prefix, embedded=False) as world:
        watched = Watched(world, tmp_path)
        world.publish(driver(73).traffic(40))
        watched.wait(lambda wrong: not wrong, "a worker that is ready")
        server.stop()
        wrong = watched.wait(lambda wrong: "database" in wrong, "a database that is away")
        assert wrong["database"].startswith("the database does not answer: ")
        server.start()
        watched.wait(lambda wrong: not wrong, "ready again by itself")
        server.freeze()
        wrong = watched.wait(lambda wrong: "database" in wrong, "a database that says nothing")
        assert wrong["database"].startswith("the database has not answered for ")
        world.publish(driver(75).traffic(40))  # a transaction that cannot end must not keep the worker either
        watched.process.terminate()
        assert watched.process.wait(STOP_S) == 0, world.logs()
        server.freeze(thaw=True)
        world.start_worker()
        world.settle(150)
        world.check()


@pytest.mark.parametrize("parts", ["embedded", "real"])
def test_sigterm_under_load_ends_it_in_time_with_nothing_left_in_hand(
    parts: str, request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str
) -> None:
    names = {"embedded": ("embedded_broker", "sqlite_url"), "real": ("kafka", "postgresql_url")}[parts]
    broker, url = (str(request.getfixturevalue(name)) for name in names)
    with a_world(broker, url, tmp_path, topic_prefix, embedded=parts == "embedded") as world:
        watched = Watched(world, tmp_path)
        world.publish(driver(74).traffic(1500), batch_events=2)
        world.wait_taken(1)
        watched.process.terminate()
        began_s = time.monotonic()
        assert watched.process.wait(60) == 0, world.logs()
        assert time.monotonic() - began_s < STOP_S, world.logs()
        # Drained and committed: the next worker begins where this one ended.
        assert world.committed() == world.taken()
        # One JSON object a line, whoever wrote it, and what was rejected is named.
        entries = [json.loads(line) for line in (tmp_path / "worker-0.log").read_text().splitlines()]
        named = [entry for entry in entries if entry["event"] == "event.rejected"]
        assert named, entries
        assert {"tenant", "source", "id", "reason", "partition", "offset"} <= set(named[0])
        # Left the group: the next one is a member at once, not after a session's timeout.
        after = Watched(world, tmp_path)
        after.wait(lambda wrong: not wrong, "the next worker ready")
        world.check()


def test_a_port_that_is_taken_is_said_in_a_line(sqlite_url: str, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        result = tollhouse("worker", "--dir", tmp_path, "--port", str(port))
    assert (result.code, result.said) == (1, [f"tollhouse: port {port} is in use: choose another with --port"])
