"""A rolling upgrade: two workers under load, one after the other ended and started again. Exact, and nobody waits."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.simulation.driver import Driver
from tests.simulation.world import World

END_S = 20.0
"""Ten times what a worker takes to end; an orchestrator gives it 10 s at least."""
PROGRESS_S = 90.0
"""Several rebalances, each as long as a session (6 s), on a machine that is busy with other tests."""
AHEAD = 300
"""Messages that the load may be ahead of the workers: a backlog at every moment, and never one that takes minutes."""


@contextmanager
def _load(world: World) -> Iterator[None]:
    """Traffic for as long as the block takes, however fast the workers are. AssertionError if it could not be sent."""
    ended, sent_all = threading.Event(), threading.Event()

    def publish() -> None:
        for seed in itertools.count(200):
            world.publish(Driver(seed, datetime.now(UTC)).traffic(100), batch_events=5)
            while sum(world.end_offsets().values()) - sum(world.taken().values()) > AHEAD and not ended.wait(0.05):
                pass
            if ended.is_set():
                sent_all.set()
                return

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PROGRESS_S)
    assert sent_all.is_set(), "the load ended by itself"


@pytest.mark.timeout(600)
def test_two_workers_restarted_one_after_the_other_under_load(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    world = World(kafka, postgresql_url, tmp_path, topic_prefix, partitions=4, embedded=False)
    try:
        old = [world.start_worker(), world.start_worker()]
        with _load(world):
            # Tenants decide the partition: these two have nearly all of the traffic, and each worker gets one.
            world.wait_for(lambda: {0, 2} <= world.taken().keys(), "a beginning", PROGRESS_S)
            for worker in old:
                world.wait_member(worker)
                worker.terminate()
                assert worker.wait(END_S) == 0, world.logs()
                world.wait_member(world.start_worker())
                _wait_progress(world)
        world.check()
        world.check_told()
        assert [worker.poll() for worker in world.workers] == [0, 0, None, None]
    finally:
        world.close()


def _wait_progress(world: World) -> None:
    """Until every partition with traffic went on from where it is now: none stands still after the rebalance."""
    before = world.end_offsets()
    world.wait_for(
        lambda: all(world.taken().get(p, 0) > before[p] for p in (0, 2)),
        f"progress beyond {before}",
        PROGRESS_S,
        lambda: f"the ledger is at {world.taken()}, the topic ends at {world.end_offsets()}",
    )
