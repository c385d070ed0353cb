"""Questions that may hang: one thread each, an answer in time, what was away found again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from tollhouse.api.readiness import KEEP_S, Late, Timely, word_of


@dataclass
class Asked:
    """Somebody who answers, raises, or is held up."""

    now_s: float = 100.0
    asked: int = 0
    takes_s: float = 0.0
    fails: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self) -> str:
        self.asked += 1
        assert self.gate.wait(60)
        self.now_s += self.takes_s
        if self.fails is not None:
            raise self.fails
        return f"answer {self.asked}"

    def timely(self, keep_s: float = KEEP_S) -> Timely[str]:
        return Timely("database", self, keep_s, lambda: self.now_s)


def test_an_answer_is_kept_for_a_moment() -> None:
    asked = Asked()
    timely = asked.timely(keep_s=5.0)
    assert [timely.get(60), timely.get(60)] == ["answer 1", "answer 1"]
    asked.now_s += 5.0
    assert timely.get(60) == "answer 2"


def test_what_takes_long_is_kept_longer() -> None:
    asked = Asked(takes_s=2.0)
    timely = asked.timely(keep_s=10.0)
    timely.get(60)
    asked.now_s += 39.0
    assert timely.get(60) == "answer 1"
    asked.now_s += 1.0
    assert timely.get(60) == "answer 2"


def test_what_took_a_minute_passes_for_new_only_for_seconds() -> None:
    """A process that was frozen in the middle of a question said for twenty minutes that the database answers."""
    asked = Asked(takes_s=60.0)
    timely = asked.timely()
    timely.get(60)
    asked.now_s += 10 * KEEP_S
    assert timely.get(60) == "answer 2"


def test_whoever_hangs_is_asked_once_by_however_many_and_answers_when_it_can() -> None:
    asked = Asked()
    asked.gate.clear()
    timely = asked.timely()
    for late_s in (0, 7, 20):
        asked.now_s = 100.0 + late_s
        with pytest.raises(Late, match=f"the database has not answered for {late_s} s"):
            timely.get(0.001)
    assert word_of(Timely("database", lambda: timely.get(0.001))) == "the database has not answered for 20 s"
    assert asked.asked == 1
    asked.gate.set()
    assert timely.get(60) == "answer 1"


def test_a_failure_is_told_and_not_kept() -> None:
    asked = Asked(fails=OSError("refused"), takes_s=30.0)
    timely = asked.timely(keep_s=500.0)
    with pytest.raises(OSError, match="refused"):
        timely.get(60)
    assert word_of(timely) == "refused"
    asked.fails = None
    asked.now_s += KEEP_S
    assert timely.get(60) == "answer 2"
    assert word_of(Timely("x", Asked(fails=ValueError()))) == "ValueError"
