"""Which charge takes which class."""

import pytest

from pipeline.rating.routes import NONE, route
from schemas.catalog import Charge
from schemas.tokens import CLASSES, index_of


def charge(meter: str, models: str = "*") -> Charge:
    return Charge(meter, models, "per_unit")


def taken(charges: list[Charge], name: str, model: str = "m") -> int:
    return route(charges, model).classes[index_of(name)]


def test_own_meter_before_tokens_before_cost() -> None:
    charges = [charge("cost"), charge("tokens"), charge("input")]
    assert taken(charges, "input") == 2
    assert taken(charges, "output") == 1
    assert taken(charges[:1], "input") == 0


def test_first_match_in_the_list_wins() -> None:
    charges = [charge("input", "a-*"), charge("input", "*"), charge("input", "b")]
    assert (taken(charges, "input", "a-1"), taken(charges, "input", "b")) == (0, 1)


@pytest.mark.parametrize(
    ("name", "fallback"),
    [
        ("reasoning", "output"),
        ("cache_write", "cache_write_long"),
        ("cache_write_long", "cache_write"),
        ("input_audio", "input"),
        ("input_image", "input"),
        ("output_audio", "output"),
        ("output_image", "output"),
    ],
)
def test_a_class_without_a_charge_is_charged_as_its_fallback(name: str, fallback: str) -> None:
    assert taken([charge(fallback)], name) == 0
    assert taken([charge(fallback), charge(name)], name) == 1
    assert taken([charge(fallback), charge("tokens")], name) == 1
    assert taken([charge(fallback), charge("cost")], name) == 1


@pytest.mark.parametrize("name", ["input", "cache_read", "output", "web_searches"])
def test_others_have_no_fallback(name: str) -> None:
    others = [charge(other) for other in CLASSES if other != name]
    assert taken(others, name) == NONE


def test_searches_are_no_tokens_but_part_of_cost() -> None:
    assert taken([charge("tokens")], "web_searches") == NONE
    assert taken([charge("tokens"), charge("cost")], "web_searches") == 1


def test_fallbacks_do_not_chain() -> None:
    assert taken([charge("output", "other"), charge("input")], "reasoning") == NONE


def test_requests_by_their_own_meter_only() -> None:
    assert route([charge("tokens"), charge("cost")], "m").requests == NONE
    assert route([charge("requests", "x"), charge("requests")], "m").requests == 1


def test_cost_is_named_only_where_it_is_used() -> None:
    whole = [charge(name) for name in CLASSES]
    assert route([charge("cost"), *whole], "m").cost == NONE
    assert route([charge("cost"), charge("tokens")], "m").cost == 0
    assert route([charge("tokens")], "m").cost == NONE
