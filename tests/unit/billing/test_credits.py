"""Credits: order, validity, and where what they leave goes."""

from decimal import Decimal
from typing import Any

import pytest

from billing.credits import Stage, burn, burn_order, reduce_latest, stages, whole_minor_units
from schemas.catalog import Credit
from schemas.periods import Period
from tests.unit.billing.office import Office, amounts, credit, lines
from tests.unit.rating.catalogs import per_unit, tiered

CENT = {"p": {"charges": [per_unit("input", "0.01")]}}


def paid(office: Office, month: str = "2026-07") -> dict[str, Decimal]:
    """What each credit pays of the month's invoice."""
    return {str(line.credit): -line.amount for line in lines(office.bill(month), "credit")}


def july(given: list[dict[str, Any]], *usage: tuple[str, int], plans: dict[str, Any] = CENT, **sections: Any) -> Office:
    office = Office(plans, credits=given, **sections)
    for day, units in usage:
        office.use(day, input=units)
    return office


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (credit("b", "10", priority=1), credit("a", "10", priority=2)),
        (credit("b", "10", expires="2027-01-01"), credit("a", "10", expires="2027-02-01")),
        (credit("b", "10", expires="2027-01-01"), credit("a", "10")),
        (credit("b", "10", start="2026-01-01"), credit("a", "10", start="2026-02-01")),
        (credit("b", "10"), credit("a", "10", start="2026-02-01")),
        (credit("a", "10"), credit("b", "10")),
    ],
)
def test_burn_order_is_priority_expiry_from_id(one: dict[str, Any], two: dict[str, Any]) -> None:
    for granted in ([one, two], [two, one]):
        office = july(granted, ("2026-07-02", 1500))
        assert list(paid(office).items()) == [(one["id"], 10), (two["id"], 5)]


def test_what_is_left_pays_the_next_month() -> None:
    office = july([credit("c", "10.00")], ("2026-07-02", 600), ("2026-08-02", 600))
    assert paid(office) == {"c": 6}
    assert paid(office, "2026-08") == {"c": 4}
    assert office.credits()["c"].remaining == 0
    assert office.book.invoices[1].total == 2


def test_a_credit_pays_no_usage_after_its_expiry_nor_before_its_start() -> None:
    usage = (("2026-07-05", 100), ("2026-07-10T00:00:00Z", 1000), ("2026-07-20", 10_000))
    window = credit("c", "500.00", start="2026-07-10", expires="2026-07-20")
    assert paid(july([window], *usage)) == {"c": 10}
    assert paid(july([credit("c", "500.00", expires="2026-07-20")], *usage)) == {"c": 11}
    assert paid(july([credit("c", "500.00", start="2026-07-10")], *usage)) == {"c": 110}


def test_two_credits_that_expire_together_do_not_pay_the_same_usage_twice() -> None:
    granted = [credit("a", "10.00", expires="2026-07-15"), credit("b", "10.00", expires="2026-07-15")]
    assert paid(july(granted, ("2026-07-02", 1200), ("2026-07-20", 1200))) == {"a": 10, "b": 2}


def test_an_earlier_credit_in_order_uses_up_the_early_usage_first() -> None:
    granted = [credit("paid", "22.00", priority=1), credit("promo", "10.00", expires="2026-07-15", priority=2)]
    assert paid(july(granted, ("2026-07-02", 600), ("2026-07-20", 2000))) == {"paid": 22}


def test_the_cap_is_what_the_month_would_have_cost_had_it_ended_at_the_expiry() -> None:
    package = {"p": {"charges": [{"meter": "input", "models": "*", "model": "package", "size": 1000, "price": "1.00"}]}}
    office = july([credit("c", "50.00", expires="2026-07-15")], ("2026-07-02", 1), ("2026-07-20", 1500), plans=package)
    assert paid(office) == {"c": 1}


def test_a_price_that_falls_with_volume_never_lets_a_credit_pay_more_than_is_owed() -> None:
    volume = {"p": {"charges": [tiered("volume", "input", (100, "1.00"), (None, "0.10"))]}}
    office = july([credit("c", "500.00", expires="2026-07-15")], ("2026-07-02", 100), ("2026-07-20", 1), plans=volume)
    assert paid(office) == {"c": Decimal("10.10")}
    assert office.book.invoices[0].total == 0


def test_fees_and_true_up_are_paid_by_a_credit_valid_at_any_time_of_the_month() -> None:
    plans = {"p": {"fee": {"amount": "31.00"}, "minimum": "20.00", "charges": [per_unit("input", "0.01")]}}
    granted = [
        credit("c", "100.00", expires="2026-07-02"),
        credit("old", "100.00", expires="2026-07-01"),
        credit("next", "100.00", start="2026-08-01"),
    ]
    office = july(granted, ("2026-07-10", 600), plans=plans)
    assert paid(office) == {"c": 45}
    assert office.book.invoices[0].total == 6


def test_credit_of_another_tenant_is_not_touched() -> None:
    office = july(
        [{**credit("c", "10.00"), "tenant": "beta"}],
        ("2026-07-02", 600),
        tenants={"acme": {"plan": "p"}, "beta": {"plan": "p"}},
    )
    assert paid(office) == {}


def test_expired_credit_shows_what_lapsed() -> None:
    office = july([credit("c", "10.00", expires="2026-08-15")], ("2026-07-02", 600))
    office.bill("2026-07")
    before, after = office.credits("2026-08-14T23:59:59Z")["c"], office.credits("2026-08-15")["c"]
    assert (before.used, before.remaining, before.expired) == (6, 4, 0)
    assert (after.used, after.remaining, after.expired) == (6, 0, 4)


def test_an_open_draft_holds_what_it_shows_against_later_months_only() -> None:
    office = july([credit("c", "10.00")], ("2026-07-02", 600), ("2026-08-02", 600))
    august = office.bill("2026-08", finalise=False)
    july_draft = office.bill("2026-07", finalise=False)
    assert (amounts(august, "credit"), amounts(july_draft, "credit")) == ([-6], [-6])
    assert (office.credits()["c"].used, office.credits()["c"].remaining) == (0, 10)
    assert amounts(office.bill("2026-08"), "credit") == [-4]
    assert amounts(office.bill("2026-07"), "credit") == [-6]


def test_a_fraction_of_a_cent_stays_on_the_credit() -> None:
    office = july([credit("c", "0.015")], ("2026-07-02", 600))
    assert paid(office) == {"c": Decimal("0.01")}
    assert office.credits()["c"].remaining == Decimal("0.005")


def test_a_negative_adjustment_comes_off_the_latest_usage() -> None:
    office = july([credit("c", "100.00", start="2026-08-01", expires="2026-08-15")], ("2026-07-02", 1000))
    gone = office.use("2026-07-03", input=500)
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-08-02", input=300)
    office.use("2026-08-20", input=900)
    assert paid(office, "2026-08") == {"c": 3}
    assert office.book.invoices[1].total == 4


FEE = {"p": {"fee": {"amount": "31.00"}, "charges": [per_unit("input", "0.01")]}}


def test_credits_pay_usage_and_fees_together_and_no_more() -> None:
    office = july([credit("a", "20.00"), credit("b", "10.00"), credit("c", "100.00")], ("2026-07-02", 600), plans=FEE)
    assert paid(office) == {"a": 20, "b": 10, "c": 7}
    assert office.book.invoices[0].total == 0


@pytest.mark.parametrize(
    ("start", "expires", "pays"),
    [
        ("2026-08-01", None, {}),
        ("2026-07-31T23:59:59Z", None, {"c": 31}),
        (None, "2026-07-01", {}),
        (None, "2026-07-01T00:00:01Z", {"c": 31}),
    ],
)
def test_validity_in_the_month_is_half_open(start: str | None, expires: str | None, pays: dict[str, int]) -> None:
    assert paid(july([credit("c", "100.00", start=start, expires=expires)], plans=FEE)) == pays


def test_a_credit_does_not_pay_what_an_adjustment_took_off() -> None:
    office = july([credit("c", "100.00", start="2026-08-01")])
    gone = office.use("2026-07-03", input=500)
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-08-02", input=800)
    assert paid(office, "2026-08") == {"c": 3}
    assert office.book.invoices[1].total == 0


def stage(start: int, end: int, amount: str) -> Stage:
    return Stage(start, end, Decimal(amount))


def granted(name: str, start: int | None, end: int | None, priority: int = 1) -> Credit:
    return Credit(name, "acme", Decimal(100), start, end, priority)


def test_the_month_is_cut_where_a_credit_begins_or_ends_inside_it() -> None:
    charges = {10: "5", 20: "9", 30: "9", 40: "12"}
    given = [
        granted("a", None, 20),
        granted("b", -5, 45),
        granted("c", 10, None),
        granted("d", 30, 40),
        granted("e", 0, 10),
    ]
    found = stages(given, Period(0, 40), lambda end: Decimal(charges[end]))
    assert found == [stage(0, 10, "5"), stage(10, 20, "4"), stage(20, 30, "0"), stage(30, 40, "3")]


def test_charges_that_fall_lower_the_latest_stages_before() -> None:
    charges = {10: "5", 20: "9", 30: "3", 40: "3.5"}
    given = [granted("a", 10, 20), granted("b", 30, None)]
    found = stages(given, Period(0, 40), lambda end: Decimal(charges[end]))
    assert found == [stage(0, 10, "3"), stage(10, 20, "0"), stage(20, 30, "0"), stage(30, 40, "0.5")]


def test_reduce_latest_takes_from_the_end() -> None:
    found = [stage(0, 1, "5"), stage(1, 2, "3"), stage(2, 3, "2")]
    assert reduce_latest(found, Decimal(4)) == [stage(0, 1, "5"), stage(1, 2, "1"), stage(2, 3, "0")]
    assert reduce_latest(found, Decimal(9)) == [stage(0, 1, "1"), stage(1, 2, "0"), stage(2, 3, "0")]
    assert reduce_latest(found, Decimal(0)) == found


def test_burning_by_time_and_beside_it() -> None:
    usage = [stage(0, 10, "6"), stage(10, 40, "20")]
    early, late, whole = granted("early", None, 10), granted("late", 10, None), granted("whole", 0, 40, priority=2)
    amounts_of = {"early": Decimal(50), "late": Decimal(3), "whole": Decimal(50)}
    paid_by = burn([whole, late, early], amounts_of, Period(0, 40), usage, Decimal("0.5"))
    assert [(c.id, amount) for c, amount in paid_by] == [("early", Decimal("6.5")), ("late", 3), ("whole", 17)]
    lowered = burn([whole, late, early], amounts_of, Period(0, 40), usage, Decimal(-21))
    assert [(c.id, amount) for c, amount in lowered] == [("early", 5)]
    assert burn([], {}, Period(0, 40), usage, Decimal(0)) == []


def test_burn_order_puts_open_ends_last_and_open_starts_first() -> None:
    given = [
        granted("c", None, None),
        granted("b", 0, None),
        granted("a", -1, 5),
        granted("z", None, 5),
        granted("y", 9, 9, 0),
    ]
    assert [c.id for c in burn_order(given)] == ["y", "z", "a", "c", "b"]


def test_a_month_billed_late_leaves_what_later_months_have_used() -> None:
    office = july([credit("c", "10.00")], ("2026-07-02", 600), ("2026-08-02", 700))
    assert paid(office, "2026-08") == {"c": 7}
    assert paid(office, "2026-07") == {"c": 3}
    assert office.credits()["c"].remaining == 0


def test_charges_that_fall_by_less_than_one_lower_the_stage_before() -> None:
    until = {20: Decimal("9.00"), 30: Decimal("8.50")}
    found = stages([granted("c", 20, None)], Period(10, 30), until.__getitem__)
    assert found == [stage(10, 20, "8.50"), stage(20, 30, "0")]


def test_whole_minor_units_of_any_length() -> None:
    digits = "12345678901234567890123456789012345678"
    assert str(whole_minor_units(Decimal(f"{digits}.999"), "USD")) == f"{digits}.99"
    assert str(whole_minor_units(Decimal(f"{digits}.999"), "JPY")) == digits


def test_a_closed_month_uses_a_credit_while_an_earlier_one_is_still_a_draft() -> None:
    office = july([credit("c", "10.00")], ("2026-07-02", 100), ("2026-08-02", 300))
    office.bill("2026-07", finalise=False)
    assert amounts(office.bill("2026-08"), "credit") == [-3]
    assert office.credits()["c"].used == 3


def test_what_a_credit_may_pay_until_its_expiry_is_rounded_as_the_currency_is() -> None:
    plans = {"p": {"charges": [per_unit("input", "0.0005")]}}
    given = [credit("c", "10.000", expires="2026-07-15")]
    office = july(given, ("2026-07-02", 2469), ("2026-07-20", 300), plans=plans, tenant={"currency": "KWD"})
    assert amounts(office.bill("2026-07"), "credit") == [Decimal("-1.235")]
