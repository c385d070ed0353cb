"""Numerics of the leak detector against exact tails."""

from math import exp, lgamma, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.leaks.numerics import FadingMax, surprise


def negative_binomial_tail(count: int, mean: float, shape: float) -> float:
    """P(N >= count), summed term by term."""
    below = 0.0
    for n in range(count):
        ways = lgamma(n + shape) - lgamma(shape) - lgamma(n + 1)
        below += exp(ways + shape * log(shape / (shape + mean)) + n * log(mean / (shape + mean)))
    return max(0.0, 1 - below)


@given(st.integers(1, 200), st.floats(0.1, 60), st.floats(0.5, 50))
def test_the_surprise_bounds_the_exact_tail(count: int, mean: float, shape: float) -> None:
    bound = exp(-surprise(count, mean, shape))
    assert negative_binomial_tail(count, mean, shape) <= bound + 1e-9


def test_the_surprise_is_not_far_from_the_exact_tail() -> None:
    exact = -log(negative_binomial_tail(60, 20.0, 12.0))
    assert exact - 3 < surprise(60, 20.0, 12.0) <= exact


@given(st.floats(0, 100), st.floats(0.1, 100))
def test_nothing_in_excess_is_no_surprise(count: float, expected: float) -> None:
    assert surprise(min(count, expected), expected, 8.0) == 0.0


@given(st.floats(1, 100), st.floats(0.5, 50), st.floats(1.1, 3))
def test_more_is_more_surprising(expected: float, shape: float, factor: float) -> None:
    assert surprise(expected * factor * 2, expected, shape) > surprise(expected * factor, expected, shape) >= 0


def test_the_running_block_is_no_record_yet() -> None:
    record = FadingMax()
    record.roll(1, 0.5)
    record.running = 8.0
    assert record.past == 0.0
    record.roll(2, 0.5)
    assert record.past == 8.0
    record.roll(4, 0.5)
    assert record.past == 2.0


def test_blocks_skipped_at_once_fade_as_one_by_one() -> None:
    at_once, one_by_one = FadingMax(), FadingMax()
    for record in (at_once, one_by_one):
        record.roll(1, 0.9)
        record.running = 5.0
    at_once.roll(6, 0.9)
    for block in range(2, 7):
        one_by_one.roll(block, 0.9)
    assert at_once.past == pytest.approx(one_by_one.past)
