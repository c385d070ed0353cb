"""Tax once a rate, spread over the lines to the cent."""

from decimal import Decimal
from typing import Any

import pytest

from billing.taxes import REVERSE_CHARGE_NOTE, spread
from tests.unit.billing.office import Office, amounts, credit, lines, tax
from tests.unit.rating.catalogs import per_unit

DE = {"billing": {"email": "ap@tenant.example", "address": "1 Test Street", "country": "DE"}}


def office(*taxes: dict[str, Any], units: int = 1000, tenant: dict[str, Any] = DE, **sections: Any) -> Office:
    made = Office({"p": {"charges": [per_unit("input", "0.01")]}}, tenant=tenant, taxes=list(taxes), **sections)
    made.use("2026-07-02", input=units)
    return made


def test_exclusive_is_on_top_and_inclusive_within() -> None:
    top = office(tax("0.19")).bill("2026-07")
    assert (top.subtotal, top.tax, top.total, amounts(top, "tax")) == (
        10,
        Decimal("1.90"),
        Decimal("11.90"),
        [Decimal("1.90")],
    )
    within = office(tax("0.19", inclusive=True)).bill("2026-07")
    assert (within.subtotal, within.tax, within.total, amounts(within, "tax")) == (10, Decimal("1.60"), 10, [])


@pytest.mark.parametrize(("units", "amount"), [(50, "0.01"), (49, "0.00"), (250, "0.03"), (249, "0.02")])
def test_half_up(units: int, amount: str) -> None:
    assert office(tax("0.01"), units=units).bill("2026-07").tax == Decimal(amount)


def test_each_rate_has_its_line_and_its_sum() -> None:
    invoice = office(tax("0.05", "GST"), tax("0.07", "PST")).bill("2026-07")
    assert [(line.description, line.amount) for line in lines(invoice, "tax")] == [
        ("GST 5 % on 10.00", Decimal("0.50")),
        ("PST 7 % on 10.00", Decimal("0.70")),
    ]
    assert [(t.name, t.base, t.amount) for t in invoice.taxes] == [
        ("GST", 10, Decimal("0.50")),
        ("PST", 10, Decimal("0.70")),
    ]
    assert (invoice.tax, invoice.total) == (Decimal("1.20"), Decimal("11.20"))


def test_two_rates_within_the_price_share_what_is_in_it() -> None:
    invoice = office(tax("0.10", "A", inclusive=True), tax("0.15", "B", inclusive=True), units=1250).bill("2026-07")
    assert [t.amount for t in invoice.taxes] == [1, Decimal("1.50")]


def test_tax_is_on_what_credits_leave() -> None:
    invoice = office(tax("0.19"), credits=[credit("c", "4.00")]).bill("2026-07")
    assert (invoice.tax, invoice.total) == (Decimal("1.14"), Decimal("7.14"))
    assert [(line.type, line.tax) for line in invoice.lines] == [
        ("usage", Decimal("1.90")),
        ("credit", Decimal("-0.76")),
        ("tax", 0),
    ]


def test_fully_paid_by_credit_there_is_no_tax() -> None:
    invoice = office(tax("0.19"), credits=[credit("c", "40.00")]).bill("2026-07")
    assert (invoice.tax, invoice.total, amounts(invoice, "tax")) == (0, 0, [])


def test_no_tax_without_a_matching_country_and_none_with_reverse_charge() -> None:
    assert office(tax("0.23", country="IE")).bill("2026-07").tax == 0
    assert office(tax("0.23"), tenant={}).bill("2026-07").tax == 0
    reverse = office(tax("0.19"), tenant={"billing": {**DE["billing"], "reverse_charge": True}}).bill("2026-07")
    assert (reverse.tax, reverse.total, reverse.note) == (0, 10, REVERSE_CHARGE_NOTE)
    assert office(tax("0.19")).bill("2026-07").note == ""


def test_spread_by_largest_remainder_first_lines_first_on_ties() -> None:
    third = [Decimal("10.00")] * 3
    assert spread(Decimal("1.00"), third, "USD") == [Decimal("0.34"), Decimal("0.33"), Decimal("0.33")]
    assert spread(Decimal("0.02"), third, "USD") == [Decimal("0.01"), Decimal("0.01"), Decimal("0.00")]
    assert spread(Decimal("1.00"), [Decimal(1), Decimal(2), Decimal(3)], "USD") == [
        Decimal("0.17"),
        Decimal("0.33"),
        Decimal("0.50"),
    ]
    assert spread(Decimal(10), [Decimal(1), Decimal(2)], "JPY") == [3, 7]
    assert spread(Decimal(0), [Decimal(0)], "USD") == [0]


def test_spread_over_negative_lines_still_adds_up() -> None:
    parts = spread(Decimal("0.95"), [Decimal("10.03"), Decimal("-5.01")], "USD")
    assert sum(parts) == Decimal("0.95")
    assert parts == [Decimal("1.90"), Decimal("-0.95")]


def test_the_lines_carry_the_whole_tax() -> None:
    plans = {"p": {"fee": {"amount": "0.07"}, "charges": [per_unit("input", "0.01"), per_unit("output", "0.01")]}}
    made = Office(plans, tenant=DE, taxes=[tax("0.19")])
    made.use("2026-07-02", input=33, output=33)
    invoice = made.bill("2026-07")
    assert invoice.tax == Decimal("0.14")
    assert [line.tax for line in invoice.lines] == [Decimal("0.06"), Decimal("0.06"), Decimal("0.02"), 0]
