"""The worker killed with -9 at every kind of moment, on both sets of parts: the totals stay exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from tests.simulation.driver import Driver, poison
from tests.simulation.world import World

MakeWorld = Callable[..., World]


@pytest.fixture(params=["embedded", "real"])
def make_world(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """Worlds on the embedded parts (embedded broker, SQLite) and on the real ones (Kafka, PostgreSQL)."""
    names = {"embedded": ("embedded_broker", "sqlite_url"), "real": ("kafka", "postgresql_url")}[request.param]
    broker, url = (str(request.getfixturevalue(name)) for name in names)
    worlds: list[World] = []

    def make(**more: int) -> World:
        worlds.append(World(broker, url, tmp_path, topic_prefix, embedded=request.param == "embedded", **more))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def driver(seed: int) -> Driver:
    return Driver(seed, datetime.now(UTC))


def test_killed_in_mid_replay_and_started_again(make_world: MakeWorld) -> None:
    world = make_world()
    world.publish(driver(1).traffic(3000))
    world.start_worker()
    # The commit in the database is seen before the acknowledgement, which goes out twice a second: killed between them.
    world.wait_taken(1)
    world.workers[0].kill()
    assert world.committed() != world.end_offsets()
    world.start_worker()
    world.publish(driver(2).traffic(500))
    world.check()
    world.check_states()
    world.check_told()
    world.check_evidence()


def test_killed_again_and_again(make_world: MakeWorld) -> None:
    world, rng = make_world(), Random(3)
    events = driver(3).traffic(1500)
    world.publish(events[:500])
    for step in range(3):
        process = world.start_worker()
        taken = sum(world.taken().values())
        if step != 1:  # the second one dies while it starts
            world.wait_for(lambda before=taken: sum(world.taken().values()) > before, "progress", 60)
        time.sleep(rng.random())
        process.kill()
        world.publish(events[500 + 300 * step : 800 + 300 * step])
    world.publish(events[1400:])
    world.start_worker()
    world.check()
    world.check_told()


def test_stopped_politely_it_has_acknowledged_what_it_counted(make_world: MakeWorld) -> None:
    world = make_world()
    world.publish(driver(4).traffic(4000), batch_events=2)
    process = world.start_worker()
    world.wait_taken(1)
    process.terminate()  # in the middle of a backlog
    assert process.wait(20) == 0, world.logs()
    done, taken = world.committed(), world.taken()
    assert all(offset <= taken[partition] for partition, offset in done.items())
    # On a machine that is so busy that a batch takes seconds, it says that it did not wait for the end of one.
    assert done == taken or "reading.not_drained" in world.logs()
    process = world.start_worker()
    world.wait_member(process)
    world.publish(driver(7).traffic(50))
    world.settle()
    process.terminate()
    assert process.wait(20) == 0, world.logs()
    world.check()


def test_poison_of_every_kind_is_refused_and_stops_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    world.publish(driver(5).traffic(100))
    world.publish_raw([value for _, value in poison()])
    world.publish(driver(6).traffic(100))
    world.start_worker()
    world.check()
    world.check_told()
