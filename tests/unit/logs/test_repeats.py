"""A library that says the same thing hundreds of times a second does not fill the disk."""

import logging

import pytest

from tollhouse.logs import KEPT, REPEAT_S, Repeats


class Clock:
    """Stands until it is set."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock in the test's hands."""
    return Clock()


def told(repeats: Repeats, text: str, *values: object, name: str = "aiokafka") -> str | None:
    """What a record becomes; None if it is left out."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, values, None)
    return record.getMessage() if repeats.filter(record) else None


def test_a_line_is_told_once_and_later_with_how_many_were_left_out(clock: Clock) -> None:
    repeats = Repeats(clock)
    assert told(repeats, "no node %d", 1) == "no node 1"
    assert [told(repeats, "no node %d", 1) for _ in range(200)] == [None] * 200
    clock.now_s += REPEAT_S
    assert told(repeats, "no node %d", 1) == "no node 1 (200 more like this since the last)"
    clock.now_s += REPEAT_S
    assert told(repeats, "no node %d", 1) == "no node 1"


def test_other_lines_and_other_libraries_are_told(clock: Clock) -> None:
    repeats = Repeats(clock)
    assert told(repeats, "no node %d", 1)
    assert told(repeats, "no node %d", 2) == "no node 2"
    assert told(repeats, "no node %d", 1, name="faust") == "no node 1"


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    repeats = Repeats(clock)
    for number in range(2 * KEPT + 1):
        assert told(repeats, "line %d", number)
        assert len(repeats._told) <= KEPT
    assert told(repeats, "line %d", 2 * KEPT) is None
