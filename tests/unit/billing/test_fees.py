"""Fees and minimums by local calendar days."""

from decimal import Decimal
from typing import Any

import pytest

from billing.periods import plan_days
from tests.unit.billing.office import Office, amounts, lines
from tests.unit.rating.catalogs import per_unit


def fee(amount: str, proration: str = "daily") -> dict[str, Any]:
    return {"fee": {"amount": amount, "proration": proration}, "charges": [per_unit("input", "1")]}


def on(*entries: tuple[str, str], timezone: str = "UTC") -> dict[str, Any]:
    return {"plan": [{"plan": plan, "from": start} for plan, start in entries], "timezone": timezone}


@pytest.mark.parametrize(
    ("start", "amount"),
    [("2026-07-01", "99.00"), ("2026-07-02", "95.81"), ("2026-07-31", "3.19"), ("2026-06-30", "99.00")],
)
def test_the_first_day_counts(start: str, amount: str) -> None:
    office = Office({"p": fee("99.00")}, tenant=on(("p", start)))
    assert amounts(office.bill("2026-07"), "fee") == [Decimal(amount)]


@pytest.mark.parametrize(("month", "amount"), [("2026-02", "1.00"), ("2028-02", "0.97"), ("2026-04", "0.93")])
def test_days_are_shares_of_the_true_month(month: str, amount: str) -> None:
    office = Office(
        {"p": fee("28.00")},
        tenant=on(("p", f"{month}-{'28' if month == '2026-02' else '29' if month == '2028-02' else '30'}")),
    )
    assert amounts(office.bill(month, "2029-01-01"), "fee") == [Decimal(amount)]


def test_a_change_gives_its_day_to_the_new_plan_even_at_noon() -> None:
    tenant = on(("a", "2026-01-01"), ("b", "2026-07-11T12:00:00Z"))
    office = Office({"a": fee("31.00"), "b": fee("62.00")}, tenant=tenant)
    assert {line.plan: line.amount for line in lines(office.bill("2026-07"), "fee")} == {"a": 10, "b": 42}


def test_of_two_changes_in_one_day_the_last_has_the_day() -> None:
    tenant = on(("a", "2026-01-01"), ("b", "2026-07-11T06:00:00Z"), ("c", "2026-07-11T12:00:00Z"))
    office = Office({"a": fee("31.00"), "b": fee("3100.00"), "c": fee("62.00")}, tenant=tenant)
    assert {line.plan: line.amount for line in lines(office.bill("2026-07"), "fee")} == {"a": 10, "c": 42}


def test_a_plan_that_comes_back_has_one_fee_line() -> None:
    tenant = on(("a", "2026-01-01"), ("b", "2026-07-11"), ("a", "2026-07-21"))
    office = Office({"a": fee("31.00"), "b": fee("62.00")}, tenant=tenant)
    assert {line.plan: line.amount for line in lines(office.bill("2026-07"), "fee")} == {"a": 21, "b": 20}


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Pacific/Kiritimati", "Asia/Kathmandu"])
def test_a_new_version_s_fee_holds_from_its_date_in_every_zone(zone: str) -> None:
    versions = [{"from": "2026-01-01", **fee("31.00")}, {"from": "2026-08-01", **fee("62.00")}]
    office = Office({"p": versions}, tenant=on(("p", "2026-01-01"), timezone=zone))
    assert amounts(office.bill("2026-07"), "fee") == [31]
    assert amounts(office.bill("2026-08"), "fee") == [62]


def test_versions_share_the_fee_by_days_and_are_rounded_once() -> None:
    versions = [{"from": "2026-01-01", **fee("0.31")}, {"from": "2026-07-17", **fee("0.62")}]
    line = lines(Office({"p": versions}).bill("2026-07"), "fee")[0]
    assert line.amount == Decimal("0.46")
    assert [(part.quantity, part.unit_price) for part in line.parts] == [(16, Decimal("0.31")), (15, Decimal("0.62"))]


def test_without_proration_the_plan_at_the_end_takes_its_whole_fee() -> None:
    plans = {"a": fee("10.00", "none"), "b": fee("20.00", "none"), "c": fee("31.00")}
    changed = Office(plans, tenant=on(("a", "2026-01-01"), ("b", "2026-07-31")))
    assert {line.plan: line.amount for line in lines(changed.bill("2026-07"), "fee")} == {"b": 20}
    mixed = Office(plans, tenant=on(("a", "2026-01-01"), ("c", "2026-07-31")))
    assert {line.plan: line.amount for line in lines(mixed.bill("2026-07"), "fee")} == {"c": 1}
    onto = Office(plans, tenant=on(("c", "2026-01-01"), ("a", "2026-07-31")))
    assert {line.plan: line.amount for line in lines(onto.bill("2026-07"), "fee")} == {"c": 30, "a": 10}


def test_a_fee_of_nothing_has_no_line() -> None:
    assert Office({"p": fee("0.00")}).bill("2026-07").lines == ()


def test_days_are_local() -> None:
    office = Office({"p": fee("31.00")}, tenant=on(("p", "2026-07-31T23:00:00Z"), timezone="Asia/Tokyo"))
    assert office.run("2026-07").invoice is None
    assert amounts(office.bill("2026-08"), "fee") == [31]


def minimum(amount: str, price: str = "0.01") -> dict[str, Any]:
    return {"minimum": amount, "charges": [per_unit("input", price)]}


@pytest.mark.parametrize(
    ("units", "true_up"),
    [(0, ["100.00"]), (9_999, ["0.01"]), (10_000, []), (10_001, []), (5_000, ["50.00"])],
)
def test_true_up_fills_to_the_minimum_and_no_further(units: int, true_up: list[str]) -> None:
    office = Office({"p": minimum("100.00")})
    office.use("2026-07-02", input=units)
    invoice = office.bill("2026-07")
    assert amounts(invoice, "true_up") == [Decimal(amount) for amount in true_up]
    assert invoice.total == max(Decimal(100), Decimal(units) / 100)


def test_the_minimum_is_prorated_and_rounded_before_it_is_compared() -> None:
    office = Office({"p": minimum("100.00", "0.001")}, tenant=on(("p", "2026-07-11")))
    office.use("2026-07-12", input=37_255)
    invoice = office.bill("2026-07")
    assert (amounts(invoice, "usage"), amounts(invoice, "true_up")) == ([Decimal("37.26")], [Decimal("30.48")])


def test_the_minimum_is_compared_part_by_part() -> None:
    tenant = on(("a", "2026-01-01"), ("b", "2026-07-11"))
    office = Office({"a": minimum("31.00"), "b": minimum("62.00")}, tenant=tenant)
    office.use("2026-07-02", input=90_000)
    invoice = office.bill("2026-07")
    assert {line.plan: line.amount for line in lines(invoice, "true_up")} == {"b": 42}
    assert invoice.total == 942


def test_the_minimum_leaves_fees_out_and_byok_usage_does_not_fill_it() -> None:
    office = Office({"p": {**minimum("100.00"), "fee": {"amount": "49.00"}}}, tenant={"tier": "byok"})
    office.use("2026-07-02", input=90_000, pooled=False, key="own")
    invoice = office.bill("2026-07")
    assert [(line.type, line.amount) for line in invoice.lines] == [("true_up", 100), ("fee", 49)]


def test_days_before_the_first_version_of_a_plan_have_no_fee() -> None:
    office = Office({"p": [{"from": "2026-07-11", **fee("31.00")}]}, tenant=on(("p", "2026-01-01")))
    assert amounts(office.bill("2026-07"), "fee") == [21]
    (catalog,) = (terms.catalog for terms in office.terms.values())
    (found,) = plan_days(catalog.tenants["acme"], catalog.plans, "2026-07")
    assert (found.plan, found.days(), found.at_end) == ("p", 21, True)
    assert plan_days(catalog.tenants["acme"], catalog.plans, "2026-06") == ()
