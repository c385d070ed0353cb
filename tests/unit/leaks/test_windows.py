"""Sliding sums against a plain recount."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.leaks.windows import Windows

STEPS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 70), st.integers(0, 50), st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_sums_equal_a_recount_with_gaps_and_late_rows(steps: list[tuple[int, int, int, int]]) -> None:
    windows = Windows()
    minute = 1000
    windows.advance(minute)
    seen: list[tuple[int, tuple[int, int, int, int, int, int]]] = []
    for gap, late, requests, new in steps:
        if gap:
            minute += gap
            windows.advance(minute)
        row = (requests, requests * 10, new, new * 10, new * 2, requests % 3)
        kept = windows.add(minute - late, row)
        assert kept == (late < 60)
        if kept:
            seen.append((minute - late, row))
    for sums, length in ((windows.short, 5), (windows.long, 60)):
        inside = [row for t, row in seen if t > minute - length]
        assert sums[1:] == [sum(row[i] for row in inside) for i in range(6)]


@given(STEPS)
def test_state_gives_the_same_windows(steps: list[tuple[int, int, int, int]]) -> None:
    windows = Windows()
    minute = 0
    for gap, late, requests, new in steps:
        minute += gap
        windows.advance(minute)
        windows.add(max(minute - late, 0), (requests, requests, new, new, new, 0))
    again = Windows.from_state(windows.state())
    assert (again.short, again.long, again.state()) == (windows.short, windows.long, windows.state())
