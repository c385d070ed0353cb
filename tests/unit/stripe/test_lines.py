"""Invoices as rows for Stripe, and amounts in Stripe's integers: pure, so tested without any Stripe."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.stripe_gateway.amounts import NotExact, from_stripe, places, to_stripe
from billing.stripe_gateway.lines import LINES_MAX, NoPlan, cut, digest, plan, reference, short
from schemas.invoice import InvoiceLine, TaxSum
from tests.integration.stripe.kit import END_US, START_US, make_invoice


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.30", "USD", 1230), ("-0.01", "USD", -1), ("0", "USD", 0), ("1235", "JPY", 1235), ("1.230", "KWD", 1230),
        ("5", "ISK", 500), ("5", "UGX", 500), ("5", "MGA", 5), ("10.50", "HUF", 1050), ("1E+2", "USD", 10000),
    ],
)  # fmt: skip
def test_amounts_as_stripe_writes_them(amount: str, currency: str, minor: int) -> None:
    assert to_stripe(Decimal(amount), currency) == minor
    assert from_stripe(minor, currency) == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency"), [("0.001", "USD"), ("0.5", "JPY"), ("1.235", "KWD"), ("0.5", "ISK"), ("1.2", "MGA")]
)
def test_what_has_no_exact_form_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(NotExact, match=currency):
        to_stripe(Decimal(amount), currency)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["USD", "JPY", "BHD"]))
def test_there_and_back_is_the_same(minor: int, currency: str) -> None:
    exact = minor * (10 if places(currency) == 3 else 1)
    assert to_stripe(from_stripe(exact, currency), currency) == exact


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=600), st.sampled_from(["line", "rates"]))
def test_rows_always_add_up_to_the_total_or_there_is_no_plan(cents: list[int], taxes: str) -> None:
    lines = tuple(
        InvoiceLine(
            f"usage:{n}", "usage", "Tokens", Decimal(amount).scaleb(-2), START_US, END_US, models=f"m{n % 7}",
            tax=Decimal(n % 3).scaleb(-2),
        )
        for n, amount in enumerate(cents)
    )  # fmt: skip
    subtotal = sum((line.amount for line in lines), Decimal(0))
    tax = sum((line.tax for line in lines), Decimal(0))
    sums = (TaxSum("VAT", Decimal("0.2"), False, subtotal, tax),)
    base = make_invoice(lines=1)
    invoice = replace(base, lines=lines, subtotal=subtotal, tax=tax, total=subtotal + tax, taxes=sums)
    rows = plan(invoice, taxes)
    assert sum(row.total_minor() for row in rows.rows) == rows.total_minor == int((subtotal + tax) * 100)
    assert len(rows.rows) <= LINES_MAX
    assert len({row.key for row in rows.rows}) == len(rows.rows)
    assert bool(rows.detail) == (len(cents) + (1 if taxes == "line" and tax else 0) > LINES_MAX)


def test_a_plan_is_the_same_in_each_run() -> None:
    assert plan(make_invoice(lines=9), "line") == plan(make_invoice(lines=9), "line")


def test_reasons_for_no_plan() -> None:
    base = make_invoice(lines=2)
    fees = tuple(replace(base.lines[0], id=f"fee:{n}", type="fee") for n in range(251))
    cases = {
        "totals_differ": replace(base, total=base.total + 1),
        "duplicate_line": replace(base, lines=(base.lines[0], replace(base.lines[1], id=base.lines[0].id))),
        "not_exact": replace(base, lines=(replace(base.lines[0], amount=Decimal("1.101")), base.lines[1])),
        "too_many_lines": replace(base, lines=fees),
    }
    for reason, invoice in cases.items():
        with pytest.raises(NoPlan) as none:
            plan(invoice, "line")
        assert none.value.reason == reason
    two = replace(base, taxes=(*base.taxes, *base.taxes), lines=(replace(base.lines[0], tax=Decimal(1)), base.lines[1]))
    with pytest.raises(NoPlan) as none:
        plan(two, "rates")
    assert none.value.reason == "several_rates"


def test_a_tax_line_of_ours_is_not_counted_twice() -> None:
    base = make_invoice(lines=2)
    line = InvoiceLine("tax:VAT", "tax", "VAT 19 %", base.tax, START_US, END_US)
    rows = plan(replace(base, lines=(*base.lines, line)), "line")
    assert [row.type for row in rows.rows] == ["usage", "usage", "tax"]
    alone = plan(replace(base, lines=(*base.lines, line), taxes=()), "line")
    assert [row.key for row in alone.rows][-1] == "tax:VAT"


def test_names_fit_headers_and_metadata_and_stay_apart() -> None:
    long, longer = "t" * 300, "t" * 301
    names = {short(text) for text in (long, longer, "täglich", "täglich ", "new\nline", "plain")}
    assert len(names) == 6
    assert all(len(name) <= 200 and name.isascii() and name.isprintable() for name in names)
    assert short("plain") == "plain"
    assert reference(make_invoice("acme", revision=3)) == "acme:2026-10:r3"
    assert digest(["a", "bc"]) != digest(["ab", "c"])
    assert len(cut("x" * 600)) == 500
