"""Which charge of a new version goes on where one of the version before stood."""

from pipeline.rating.slots import link
from schemas.catalog import Allowance


def item(meter: str, models: str = "*") -> Allowance:
    return Allowance(meter, models, 1)


def test_same_meter_and_models_is_the_same_in_any_place() -> None:
    assert link([[item("input"), item("output")], [item("output"), item("input")]]) == ([[0, 1], [1, 0]], 2)


def test_namesakes_are_told_apart_by_their_order() -> None:
    assert link([[item("input"), item("input")], [item("input"), item("input")]]) == ([[0, 1], [0, 1]], 2)


def test_three_namesakes_are_three() -> None:
    three = [item("input")] * 3
    assert link([three, three]) == ([[0, 1, 2], [0, 1, 2]], 3)


def test_a_lone_successor_with_new_models_goes_on() -> None:
    assert link([[item("input", "a"), item("output")], [item("input", "b"), item("output")]]) == ([[0, 1], [0, 1]], 2)


def test_two_candidates_start_anew() -> None:
    assert link([[item("input", "a"), item("input", "b")], [item("input", "c")]]) == ([[0, 1], [2]], 3)
    assert link([[item("input", "a")], [item("input", "b"), item("input", "c")]]) == ([[0], [1, 2]], 3)


def test_another_meter_is_another_charge() -> None:
    assert link([[item("input", "a")], [item("output", "a")]]) == ([[0], [1]], 2)


def test_one_that_was_away_comes_back_as_itself() -> None:
    assert link([[item("input", "a")], [], [item("input", "a")]]) == ([[0], [], [0]], 1)


def test_nothing_gives_nothing() -> None:
    assert link([]) == ([], 0)
