"""How usage lines are worded, and when they show."""

from decimal import Decimal

from billing.lines import METER_NAMES, fee_lines, usage_lines
from billing.periods import PlanDays
from pipeline.rating import RatedCharge
from schemas.periods import Period, month_period
from schemas.tokens import METERS
from tests.unit.rating.catalogs import catalog_of


def charge(quantity: str, amount: str, models: str = "*", meter: str = "input") -> RatedCharge:
    return RatedCharge("p", meter, models, "per_unit", Decimal(quantity), Decimal(amount), ())


def test_every_meter_has_a_name() -> None:
    assert set(METER_NAMES) == set(METERS)
    assert len(set(METER_NAMES.values())) == len(METERS)


def test_a_line_shows_for_a_quantity_or_an_amount() -> None:
    shown = usage_lines(
        [charge("0", "0"), charge("1", "0.001"), charge("0", "0.004"), charge("0", "5")], Period(3, 9), "USD"
    )
    assert [(line.quantity, line.amount, line.unrounded) for line in shown] == [
        (1, 0, Decimal("0.001")),
        (0, 5, 5),
    ]
    assert {(line.period_start_us, line.period_end_us, line.type) for line in shown} == {(3, 9, "usage")}


def test_a_line_says_which_models_and_has_an_id_of_its_meaning() -> None:
    shown = usage_lines([charge("1", "1"), charge("1", "1", "gpt-5*", "cost")], Period(0, 1), "USD")
    assert [(line.id, line.description) for line in shown] == [
        ("usage:p:input:*", "Input tokens, all models"),
        ("usage:p:cost:gpt-5*", "Provider cost, gpt-5*"),
    ]


def test_a_share_of_a_month_is_exact_to_sixty_digits() -> None:
    version = catalog_of({"p": {"fee": {"amount": "1.00"}, "charges": []}}).plans["p"].versions[0]
    days = [PlanDays("p", ((version, 1),), at_end=True)]
    (line,) = fee_lines(days, 31, month_period("2026-07", "UTC"), "USD")
    assert str(line.unrounded) == "0.0322580645161290322580645161290322580645161290322580645161290"
    assert line.parts[0].amount == line.unrounded
