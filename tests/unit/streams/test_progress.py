"""Readiness by progress: what a worker's /readyz and /healthz say in every kind of trouble, on a clock of our own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from pipeline.ledger import LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from streams import progress as module
from streams.progress import ANSWER_S, JOIN_S, LOOK_S, OK, RESTART_S, STALL_S, Progress


@dataclass
class Parts:
    """A broker, a ledger, an event loop and a group, as far as a watcher can see them."""

    now_s: float = 1000.0
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    taken: dict[int, int] = field(default_factory=dict)
    mine: list[int] | None = field(default_factory=lambda: [0, 1])
    committed: dict[int, int] = field(default_factory=dict)
    trouble: str = ""
    fails: dict[str, Exception] = field(default_factory=dict)
    turns: bool = True

    def __post_init__(self) -> None:
        self.progress = Progress(
            ends=lambda: self._answer("broker", self.ends),
            taken=lambda: self._answer("database", self.taken),
            catalog=lambda: self._answer("catalog", {}),
            assigned=lambda: self.mine,
            committed=lambda: self.committed,
            call_soon=self._call_soon,
            trouble=lambda: self.trouble,
            clock=lambda: self.now_s,
        )
        self.progress.look()

    def _answer(self, whom: str, what: Mapping[int, int]) -> Mapping[int, int]:
        if whom in self.fails:
            raise self.fails[whom]
        return dict(what)

    def _call_soon(self, work: Callable[[], None]) -> None:
        if self.turns:
            work()

    def wait(self, seconds: float) -> None:
        """Time passes, with a look every LOOK_S."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s = min(self.now_s + LOOK_S, until_s)
            self.progress.look()

    def wrong(self) -> dict[str, str]:
        """The checks that are not ok."""
        return {name: word for name, word in self.progress.checks().items() if word != OK}


def test_a_worker_without_anything_to_do_is_ready() -> None:
    parts = Parts()
    parts.wait(600)
    assert parts.wrong() == {}
    assert parts.progress.ready()


def test_a_question_that_is_cancelled_is_an_answer_and_not_the_end_of_looking() -> None:
    """Found: a broker that was killed while it was asked ended the thread that looks, and nothing was seen any more."""
    parts = Parts()

    def cancelled() -> dict[int, int]:
        raise asyncio.CancelledError

    asks, parts.progress.ends = parts.progress.ends, cancelled
    parts.progress.look()
    assert parts.wrong() == {"broker": "CancelledError"}
    parts.progress.ends = asks
    parts.progress.look()
    assert parts.wrong() == {}


def test_a_worker_that_gets_on_is_ready_however_far_it_is_behind() -> None:
    parts = Parts(ends={0: 10_000_000, 1: 0})
    for taken in range(100, 3_000, 100):
        parts.taken = {0: taken}
        parts.wait(STALL_S - 2 * LOOK_S)
    assert parts.wrong() == {}
    assert parts.progress.places[0].lag == 10_000_000 - 2_900


def test_alive_and_member_but_nothing_comes_into_the_ledger() -> None:
    parts = Parts(taken={0: 5, 1: 7}, ends={0: 5, 1: 7})
    parts.wait(60)
    parts.ends = {0: 5, 1: 9}
    parts.wait(STALL_S)
    assert parts.wrong() == {}
    parts.wait(2 * LOOK_S)
    assert parts.wrong() == {"progress": "2 messages wait, and none came into the ledger for 35 s"}
    parts.taken = {0: 5, 1: 9}
    parts.wait(LOOK_S)
    assert parts.wrong() == {}


def test_one_partition_that_stands_is_not_hidden_by_one_that_moves() -> None:
    parts = Parts(ends={0: 1_000, 1: 50})
    for taken in range(0, 500, 50):
        parts.taken = {0: taken}
        parts.wait(LOOK_S)
    assert "progress" in parts.wrong()


def test_partitions_of_other_workers_are_theirs() -> None:
    parts = Parts(ends={0: 0, 1: 0, 2: 99}, mine=[0, 1])
    parts.wait(600)
    assert parts.wrong() == {}


def test_more_workers_than_partitions_leave_some_idle_and_ready() -> None:
    parts = Parts(ends={0: 99}, mine=[])
    parts.wait(600)
    assert parts.wrong() == {}


def test_acknowledged_and_never_committed_to_the_broker() -> None:
    parts = Parts(ends={0: 10}, taken={0: 10}, mine=[0])
    parts.progress.acked({0: 10})
    parts.wait(STALL_S + 2 * LOOK_S)
    assert parts.wrong() == {"offsets": "1 partitions are acknowledged and not committed for 35 s"}
    parts.committed = {0: 10}
    parts.wait(LOOK_S)
    assert parts.wrong() == {}


@pytest.mark.parametrize(
    ("whom", "error", "says"),
    [
        ("database", LedgerUnavailable("connection refused"), "the database does not answer: connection refused"),
        ("broker", OSError("connection refused"), "the broker does not answer: connection refused"),
        ("broker", TimeoutError(), "the broker does not answer: TimeoutError"),
        ("catalog", NoCatalog(), str(NoCatalog())),
    ],
)
def test_what_is_away_is_named_and_comes_back(whom: str, error: Exception, says: str) -> None:
    parts = Parts()
    parts.fails[whom] = error
    parts.wait(LOOK_S)
    assert parts.wrong() == {whom: says}
    parts.fails.clear()
    parts.wait(LOOK_S)
    assert parts.wrong() == {}


def test_a_database_that_takes_the_question_and_never_answers() -> None:
    parts, hold = Parts(), threading.Event()

    def hang() -> dict[int, int]:
        hold.wait(30)
        return {}

    parts.progress.taken = hang
    looking = threading.Thread(target=parts.progress.look)
    looking.start()
    while parts.progress._asking is None:  # the thread is on its way
        looking.join(0.001)
    parts.now_s += ANSWER_S + 1
    assert parts.wrong() == {"database": "the database has not answered for 16 s"}
    hold.set()
    looking.join()


def test_an_event_loop_that_does_not_turn() -> None:
    parts = Parts()
    parts.turns = False
    parts.wait(LOOK_S + ANSWER_S + 5)
    assert parts.wrong() == {"event loop": "it has not turned for 25 s"}
    assert parts.progress.dead() == ""
    parts.wait(RESTART_S)
    assert parts.progress.dead() == "event loop: it has not turned for 325 s"


def test_a_member_that_leaves_for_a_rebalance_stays_ready_and_one_that_never_came_is_not() -> None:
    parts = Parts()
    parts.mine = None
    parts.wait(JOIN_S)
    assert parts.wrong() == {}
    parts.wait(2 * LOOK_S)
    assert parts.wrong() == {"group": "not a member of its group for 65 s"}
    assert Parts(mine=None).wrong() == {"group": "not a member of its group for 0 s"}


def test_the_batch_in_hand_says_why_it_waits() -> None:
    assert Parts(trouble="disk full").wrong() == {"ledger": "disk full"}


def test_a_new_process_is_asked_for_only_when_it_helps() -> None:
    parts = Parts(ends={0: 5})
    parts.wait(RESTART_S + 2 * LOOK_S)
    assert parts.progress.dead().startswith("progress: 5 messages wait")
    parts.fails["database"] = LedgerUnavailable("away")
    parts.wait(LOOK_S)
    assert parts.progress.dead() == ""


def test_it_looks_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    parts = Parts()
    looks = threading.Event()
    parts.progress.call_soon = lambda _work: looks.set()
    thread = threading.Thread(target=parts.progress.run)
    thread.start()
    assert looks.wait(10)
    parts.progress.stop()
    thread.join(10)
    assert not thread.is_alive()
