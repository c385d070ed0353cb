"""What Faust drops is read again: no message goes to the ledger before one that was dropped, none is left behind."""

from __future__ import annotations

from random import Random

import pytest

from streams.order import STANDSTILL, SURE, Order


def order(stands: int = 0) -> Order:
    return Order(lambda _partition: stands)


def test_messages_in_a_row_are_taken_from_where_the_ledger_stands() -> None:
    one = order(stands=30)
    assert [one.admit(0, n) for n in range(30, 35)] == [(True, None)] * 5
    assert one.expect(0) == 35


def test_what_the_ledger_has_is_taken_as_a_repeat() -> None:
    one = order(stands=30)
    assert [one.admit(0, n)[0] for n in (27, 28, 29, 30, 31)] == [True] * 5
    assert one.expect(0) == 32


def test_a_message_after_one_that_was_dropped_is_put_back_and_the_rest_behind_it() -> None:
    """Found: a worker that was told to end counted a message whose forerunners Faust had dropped from its buffers."""
    one = order(stands=30)
    assert one.admit(0, 41) == (False, 30)
    assert one.admit(0, 42) == (False, None)
    assert [one.admit(0, n) for n in range(30, 43)] == [(True, None)] * 13


def test_what_the_group_acknowledged_ahead_of_the_ledger_is_read_again() -> None:
    one = order(stands=32)  # faust#606: 41 was committed while 32 was in work
    assert one.admit(0, 41) == (False, 32)
    assert one.admit(0, 32) == (True, None)


def test_a_hole_of_the_topic_itself_is_believed_after_reading_again() -> None:
    one = order(stands=30)
    answers = [one.admit(0, 41) for _ in range(SURE + 1)]
    assert answers == [(False, 30)] * SURE + [(True, None)]
    assert one.admit(0, 42) == (True, None)
    assert one.admit(0, 50) == (False, 43)  # another hole is another question


def test_partitions_that_moved_begin_at_the_ledger_again() -> None:
    stands = {0: 10}
    one = Order(stands.__getitem__)
    one.admit(0, 10)
    stands[0] = 5
    assert one.expect(0) == 11
    one.reset()
    assert not one.knows(0)
    assert one.admit(0, 11) == (False, 5)


def test_a_partition_that_stands_still_behind_what_was_read_is_read_again() -> None:
    one = order(stands=30)
    assert one.behind({0: 30}) == {}
    assert one.behind({0: 41}) == {}  # perhaps on its way
    assert [one.behind({0: 41}) for _ in range(STANDSTILL)] == [{0: 30}] * STANDSTILL
    assert one.behind({0: 41}) == {}  # the mark of a transaction
    for n in range(30, 41):
        one.admit(0, n)
    assert one.behind({0: 41}) == {}


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_dropped_or_comes_late_each_message_is_passed_on_and_never_before_an_earlier_one(seed: int) -> None:
    """A buffer that loses what it holds, late messages from before, holes in the topic; a reader that seeks."""
    rng = Random(seed)
    one = order()
    topic = sorted(rng.sample(range(120), 80)) if seed % 2 else list(range(80))
    position, taken = 0, []
    buffer: list[int] = []
    for _ in range(20_000):
        if not buffer:
            ahead = [n for n in topic if n >= position]
            if not ahead and one.expect(0) > topic[-1]:
                break
            buffer = ahead[: rng.randrange(1, 12)]
            if not buffer:
                position = one.behind({0: position}).get(0, position)
                continue
            position = buffer[-1] + 1
        if rng.random() < 0.03:
            late = buffer[-1:] if rng.random() < 0.5 else []
            buffer = late  # dropped, but for one that was on its way
            if not buffer:
                continue
        offset = buffer.pop(0)
        take, back = one.admit(0, offset)
        if take:
            taken.append(offset)
            before = [n for n in topic if n < offset]
            assert set(before) <= set(taken)
        elif back is not None:
            position = back
            if rng.random() < 0.7:
                buffer = []
    assert sorted(set(taken)) == topic
