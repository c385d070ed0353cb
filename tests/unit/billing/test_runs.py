"""Runs: once a month and tenant, after the grace, with nothing unrated; and what comes after."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from billing.charges import unrated_in
from billing.lifecycle import NEXT, Refused, transition
from billing.runs import run_month, void_invoice
from schemas.invoice import STATUSES
from tests.unit.billing.office import Office, amounts, at, credit, lines, tax
from tests.unit.rating.catalogs import catalog_of, markup, per_unit, price, tiered

CENT: dict[str, Any] = {"p": {"charges": [per_unit("input", "0.01")]}}
EUROPE: dict[str, Any] = {"billing": {"country": "DE"}, "timezone": "Europe/Berlin"}


def test_finalising_waits_for_the_end_of_the_grace_to_the_microsecond() -> None:
    office = Office(CENT, tenant={"timezone": "Europe/Berlin"}, invoicing={"grace": "48h"})
    early = office.run("2026-07", "2026-08-02T21:59:59.999999Z")
    assert early.refused is not None
    assert "grace" in early.refused
    assert "2026-08-02T22:00:00Z" in early.refused
    assert early.invoice is not None
    assert (early.invoice.status, early.invoice.number) == ("draft", None)
    assert office.bill("2026-07", "2026-08-02T22:00:00Z").status == "finalised"


def test_a_draft_follows_its_usage_and_a_closed_invoice_does_not() -> None:
    office = Office(CENT)
    office.use("2026-07-02", input=100)
    assert office.bill("2026-07", "2026-07-10", finalise=False).total == 1
    office.use("2026-07-03", input=100)
    closed = office.bill("2026-07")
    assert closed.total == 2
    office.use("2026-07-04", input=100)
    again = office.run("2026-07")
    assert (again.invoice, again.changed, again.refused) == (closed, False, None)
    assert len(office.book.invoices) == 1


def test_a_run_drafts_unless_asked_to_finalise() -> None:
    office = Office(CENT)
    outcome = run_month(office.book, office.terms, office.usage, "acme", "2026-07", at("2027-01-01"))
    assert outcome.invoice is not None
    assert outcome.invoice.status == "draft"


def test_a_credit_note_says_why() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    given = void_invoice(office.book, "acme", "2026-07", at("2027-01-01"), "wrong address")
    assert [note.reason for note in given.credit_notes] == ["wrong address"]
    assert [note.reason for note in office.void("2026-07").credit_notes] == ["voided"]


def test_a_month_that_has_not_begun_has_no_invoice() -> None:
    office = Office(CENT)
    outcome = office.run("2026-07", "2026-06-30T23:59:59Z", finalise=False)
    assert outcome.refused is not None
    assert outcome.invoice is None
    assert office.run("2026-07", "2026-07-01", finalise=False).invoice is not None


def test_an_unknown_tenant_is_refused() -> None:
    office = Office(CENT, tenants={"beta": {"plan": "p"}}, keys={})
    assert office.run("2026-07").refused == "acme: no such tenant in the catalog"


def test_every_month_on_a_plan_has_an_invoice_and_none_before_it() -> None:
    office = Office(CENT, tenant={"plan": [{"plan": "p", "from": "2026-07-31"}]})
    assert office.run("2026-06").invoice is None
    assert office.book.invoices == ()
    assert office.bill("2026-07").total == 0
    assert office.bill("2026-08").total == 0


def test_unrated_usage_holds_and_says_which() -> None:
    office = Office({"p": {"charges": [markup("0.50")]}}, provider_prices=[price("m-small", input="1")])
    office.use("2026-07-02", model="m-new", input=2, output=1)
    held = office.run("2026-07")
    assert held.invoice is not None
    assert held.invoice.status == "draft"
    assert held.invoice.held == ("unrated: model m-new, meter input", "unrated: model m-new, meter output")
    assert held.refused == f"acme, 2026-07: held: {'; '.join(held.invoice.held)}"
    prices = [price("m-small", input="1"), price("m-new", input="2", output="4")]
    office.apply(catalog_of({"p": {"charges": [markup("0.50")]}}, provider_prices=prices))
    closed = office.bill("2026-07")
    assert (closed.total, closed.catalog_version, closed.held) == (12, 2, ())


def test_usage_before_the_first_plan_holds_too() -> None:
    office = Office(CENT, tenant={"plan": [{"plan": "p", "from": "2026-08-01"}]})
    office.use("2026-07-02", input=2)
    outcome = office.run("2026-07")
    assert outcome.invoice is not None
    assert (outcome.invoice.status, outcome.invoice.held) == ("draft", ("unrated: model m-small, meter input",))


def test_numbers_run_on_without_gaps_by_year_and_kind() -> None:
    office = Office(CENT)
    assert office.bill("2026-10", "2026-11-05").number == "INV-2026-000001"
    assert office.bill("2026-11", "2026-12-05").number == "INV-2026-000002"
    assert office.void("2026-11", "2026-12-06").credit_notes[0].number == "CN-2026-000001"
    assert office.bill("2026-11", "2026-12-07").number == "INV-2026-000003"
    assert office.bill("2026-12", "2027-01-05").number == "INV-2027-000001"


def test_void_makes_a_full_credit_note_gives_credits_back_and_is_refused_twice() -> None:
    office = Office(CENT, tenant=EUROPE, taxes=[tax("0.19")], credits=[credit("c", "4.00")])
    office.use("2026-07-02", input=1000)
    assert office.bill("2026-07").total == Decimal("7.14")
    outcome = office.void("2026-07")
    (note,) = outcome.credit_notes
    assert (note.month, note.revision, note.amount, note.tax, note.net) == (
        "2026-07",
        1,
        Decimal("7.14"),
        Decimal("1.14"),
        10,
    )
    assert note.credits == (("c", 4),)
    assert outcome.invoice is not None
    assert outcome.invoice.status == "void"
    assert office.credits()["c"].remaining == 4
    second = office.void("2026-07")
    assert second.refused is not None
    assert "is void" in second.refused
    assert (second.credit_notes, second.changed) == ((), False)
    assert len(office.book.credit_notes) == 1


def test_a_voided_month_is_invoiced_anew_as_the_next_revision_at_current_prices() -> None:
    office = Office(CENT, credits=[credit("c", "4.00")])
    office.use("2026-07-02", input=1000)
    first = office.bill("2026-07")
    office.void("2026-07")
    office.apply(catalog_of({"p": {"charges": [per_unit("input", "0.02")]}}, credits=[credit("c", "4.00")]))
    second = office.bill("2026-07")
    assert (first.revision, second.revision, second.total) == (1, 2, 16)
    assert second.number != first.number
    assert [invoice.status for invoice in office.book.revisions("acme", "2026-07")] == ["void", "finalised"]
    assert office.credits()["c"].remaining == 0
    assert office.void("2026-07").credit_notes[0].revision == 2


def test_nothing_and_drafts_cannot_be_voided() -> None:
    office = Office(CENT)
    assert office.void("2026-07").refused == "acme, 2026-07: there is no invoice to void"
    office.bill("2026-07", finalise=False)
    refused = office.void("2026-07").refused
    assert refused is not None
    assert "is draft" in refused


@pytest.mark.parametrize("status", STATUSES)
def test_only_the_steps_of_its_life_are_taken(status: str) -> None:
    office = Office(CENT)
    invoice = replace(office.bill("2026-07"), status=status)
    for target in STATUSES:
        if target in NEXT[status]:
            assert transition(invoice, target) == replace(invoice, status=target)
        else:
            with pytest.raises(Refused, match=f"is {status}"):
                transition(invoice, target)


def test_life_is_as_documented() -> None:
    assert {status: NEXT[status] for status in STATUSES} == {
        "draft": ("finalised",),
        "finalised": ("pushed", "void"),
        "pushed": ("paid", "uncollectible", "void"),
        "paid": (),
        "uncollectible": ("paid", "void"),
        "void": (),
    }


def test_late_usage_goes_on_the_next_invoice_where_it_stands_in_its_own_month() -> None:
    office = Office({"p": {"charges": [tiered("graduated", "input", (500, "0.20"), (None, "0.10"))]}})
    office.use("2026-07-02", input=450)
    office.bill("2026-07")
    office.use("2026-07-31", input=100)
    office.use("2026-08-02", input=500)
    august = office.bill("2026-08")
    (line,) = lines(august, "adjustment")
    assert (line.amount, line.for_month, line.id) == (15, "2026-07", "adjustment:2026-07")
    assert [(part.note, part.amount) for part in line.parts] == [("2026-07 rated again", 105), ("invoiced before", -90)]
    assert (amounts(august, "usage"), august.subtotal, august.total) == ([100], 115, 115)
    assert amounts(office.bill("2026-09"), "adjustment") == []


def test_each_month_has_its_own_adjustment_line_oldest_first() -> None:
    office = Office(CENT)
    office.bill("2026-06")
    office.bill("2026-07")
    office.use("2026-07-02", input=200)
    office.use("2026-06-02", input=100)
    assert [(line.for_month, line.amount) for line in lines(office.bill("2026-08"), "adjustment")] == [
        ("2026-06", 1),
        ("2026-07", 2),
    ]


def test_later_usage_of_the_same_month_adjusts_by_the_rest_only() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    office.use("2026-07-02", input=100)
    office.bill("2026-08")
    office.use("2026-07-03", input=50)
    assert amounts(office.bill("2026-09"), "adjustment") == [Decimal("0.50")]


def test_an_adjustment_keeps_the_prices_of_its_invoice() -> None:
    office = Office(CENT)
    office.use("2026-07-02", input=100)
    office.bill("2026-07")
    office.apply(catalog_of({"p": {"charges": [per_unit("input", "9.00")]}}))
    office.use("2026-07-03", input=100)
    assert amounts(office.bill("2026-08"), "adjustment") == [1]


def test_late_usage_below_the_minimum_changes_nothing() -> None:
    office = Office({"p": {"minimum": "10.00", "charges": [per_unit("input", "0.01")]}})
    office.use("2026-07-02", input=100)
    office.bill("2026-07")
    office.use("2026-07-03", input=500)
    assert amounts(office.bill("2026-08"), "adjustment") == []
    office.use("2026-07-04", input=500)
    assert amounts(office.bill("2026-09"), "adjustment") == [1]


def test_a_decrease_beyond_the_next_invoice_is_carried_on_until_it_is_used_up() -> None:
    office = Office(CENT)
    gone = office.use("2026-07-02", input=1000)
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-08-02", input=300)
    august = office.bill("2026-08")
    assert (amounts(august, "adjustment"), august.total, august.carried) == ([-3], 0, -7)
    assert [(part.note, part.amount) for part in lines(august, "adjustment")[0].parts] == [
        ("invoiced before", -10),
        ("carried on", 7),
    ]
    empty = office.bill("2026-09")
    assert (empty.lines, empty.total, empty.carried) == ((), 0, -7)
    office.use("2026-10-02", input=900)
    october = office.bill("2026-10")
    assert (amounts(october, "adjustment"), october.total, october.carried) == ([-7], 2, 0)
    assert amounts(office.bill("2026-11"), "adjustment") == []


def test_an_increase_of_one_month_makes_room_for_a_decrease_of_another() -> None:
    office = Office(CENT)
    gone = office.use("2026-06-02", input=1000)
    office.bill("2026-06")
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-07-02", input=400)
    august = office.bill("2026-08")
    assert (amounts(august, "adjustment"), august.total, august.carried) == ([-4, 4], 0, -6)


def test_an_increase_of_less_than_one_makes_room_once() -> None:
    office = Office(CENT)
    gone = office.use("2026-07-02", input=100)
    office.bill("2026-06")
    office.bill("2026-07")
    office.use("2026-06-02", input=50)
    office.usage.remove(gone)
    august = office.bill("2026-08")
    assert (amounts(august, "adjustment"), august.total, august.carried) == (
        [Decimal("0.50"), Decimal("-0.50")],
        0,
        Decimal("-0.50"),
    )


def test_two_decreases_share_the_room_oldest_first() -> None:
    office = Office(CENT)
    gone = [office.use("2026-06-02", input=600), office.use("2026-07-02", input=700)]
    office.bill("2026-06")
    office.bill("2026-07")
    for row in gone:
        office.usage.remove(row)
    office.use("2026-08-02", input=1000)
    august = office.bill("2026-08")
    assert (amounts(august, "adjustment"), august.total, august.carried) == ([-6, -4], 0, -3)


def test_a_month_takes_adjustments_of_closed_months_before_it_only() -> None:
    office = Office(CENT)
    office.use("2026-05-02", output=1)
    assert office.run("2026-05").refused is not None
    office.bill("2026-06")
    office.bill("2026-08")
    office.use("2026-06-02", input=100)
    office.use("2026-08-02", input=400)
    office.use("2026-05-03", input=50)
    assert [(line.for_month, line.amount) for line in lines(office.bill("2026-07"), "adjustment")] == [("2026-06", 1)]
    assert [(line.for_month, line.amount) for line in lines(office.bill("2026-09"), "adjustment")] == [("2026-08", 4)]


def test_an_adjustment_follows_a_voided_invoice_to_its_next_revision() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    office.use("2026-07-02", input=100)
    assert office.bill("2026-08").total == 1
    office.void("2026-08")
    assert office.bill("2026-08").total == 1
    office.void("2026-07")
    assert office.bill("2026-07").total == 1
    assert amounts(office.bill("2026-09"), "adjustment") == []
    office.use("2026-09-05", input=500)
    office.void("2026-09")
    assert (office.bill("2026-09").total, amounts(office.bill("2026-09"), "adjustment")) == (4, [-1])


def test_drafts_of_two_months_do_not_both_take_an_adjustment() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    office.use("2026-07-02", input=100)
    assert amounts(office.bill("2026-08", finalise=False), "adjustment") == [1]
    assert amounts(office.bill("2026-09", finalise=False), "adjustment") == []
    assert amounts(office.bill("2026-08"), "adjustment") == [1]


def test_late_usage_without_a_price_holds_the_next_invoice() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    office.use("2026-07-02", output=1)
    outcome = office.run("2026-08")
    assert outcome.invoice is not None
    assert outcome.invoice.held == ("unrated in 2026-07: model m-small, meter output",)


def test_a_price_entered_later_rates_late_usage_that_had_none_and_nothing_else() -> None:
    plan = {"p": {"charges": [markup("0")]}}
    office = Office(plan, provider_prices=[price("m-small", input="1")])
    office.use("2026-07-02", input=5)
    office.bill("2026-07")
    office.use("2026-07-03", model="m-new", input=2)
    office.use("2026-07-03", input=1, output=3)
    office.use("2026-07-03", model="m-odd", input=1)
    prices = [price("m-small", input="100", output="10"), price("m-new", input="7")]
    office.apply(catalog_of(plan, provider_prices=prices))
    outcome = office.run("2026-08")
    assert outcome.invoice is not None
    assert outcome.invoice.held == ("unrated in 2026-07: model m-odd, meter input",)
    assert amounts(outcome.invoice, "adjustment") == [2 * 7 + 1 + 3 * 10]


def test_a_later_price_in_another_currency_does_not_mix() -> None:
    plan = {"p": {"charges": [markup("0")]}}
    rates = [{"from": "EUR", "to": "USD", "rate": "2", "date": "2026-01-01"}]
    office = Office(plan, provider_prices=[price("m-small", input="1")], exchange_rates=rates)
    office.bill("2026-07")
    office.use("2026-07-03", input=1, output=3)
    office.use("2026-07-04", model="m-new", output=3)
    prices = [price("m-small", input="9", output="10", currency="EUR"), price("m-new", output="10", currency="EUR")]
    office.apply(catalog_of(plan, provider_prices=prices, exchange_rates=rates))
    outcome = office.run("2026-08")
    assert outcome.invoice is not None
    assert outcome.invoice.held == ("unrated in 2026-07: model m-small, meter output",)
    assert amounts(outcome.invoice, "adjustment") == [61]


def test_unrated_usage_can_be_asked_for_without_an_invoice() -> None:
    office = Office(CENT)
    office.use("2026-07-02", output=1)
    office.use("2026-08-02", model="m-x", cache_read=1, input=1)
    office.use("2026-09-02", model="m-y", cache_read=1)
    months = ("2026-07", "2026-08")
    assert unrated_in(office.terms[1], "acme", months, office.usage) == (("m-small", "output"), ("m-x", "cache_read"))


def test_a_month_that_only_lacks_a_price_does_not_hide_the_next_one() -> None:
    office = Office(CENT)
    office.bill("2026-06")
    office.bill("2026-07")
    office.use("2026-06-02", output=1)
    office.use("2026-07-02", input=100)
    outcome = office.run("2026-08")
    assert outcome.invoice is not None
    assert [(line.for_month, line.amount) for line in lines(outcome.invoice, "adjustment")] == [("2026-07", 1)]
    assert outcome.invoice.held == ("unrated in 2026-06: model m-small, meter output",)


def test_an_adjustment_in_another_currency_holds() -> None:
    office = Office(CENT)
    office.bill("2026-07")
    office.use("2026-07-02", input=100)
    office.apply(catalog_of(CENT, tenant={"currency": "EUR"}))
    outcome = office.run("2026-08")
    assert outcome.invoice is not None
    assert outcome.invoice.held == ("adjustment for 2026-07 is in USD, not EUR",)
    assert outcome.invoice.total == 0


NOTES: dict[str, Any] = {"invoicing": {"grace": "48h", "adjust": "credit_note"}}


def test_a_decrease_becomes_a_credit_note_with_its_tax_where_so_configured() -> None:
    office = Office(CENT, tenant=EUROPE, taxes=[tax("0.19")], **NOTES)
    office.use("2026-07-02", input=1000)
    gone = office.use("2026-07-03", input=333)
    assert office.bill("2026-07").total == Decimal("15.86")
    office.usage.remove(gone)
    office.use("2026-08-02", input=100)
    draft = office.run("2026-08", "2026-08-10", finalise=False)
    assert (draft.credit_notes, draft.invoice and draft.invoice.total) == ((), Decimal("1.19"))
    outcome = office.run("2026-08")
    (note,) = outcome.credit_notes
    assert (note.month, note.amount, note.tax, note.net) == (
        "2026-07",
        Decimal("3.96"),
        Decimal("0.63"),
        Decimal("3.33"),
    )
    assert outcome.invoice is not None
    assert (outcome.invoice.total, amounts(outcome.invoice, "adjustment")) == (Decimal("1.19"), [])
    assert office.run("2026-09").credit_notes == ()


def test_credit_notes_for_everything_give_back_the_invoice_to_the_cent() -> None:
    office = Office(CENT, tenant=EUROPE, taxes=[tax("0.19")], **NOTES)
    rows = [office.use(f"2026-07-0{day}", input=units) for day, units in ((1, 333), (2, 333), (3, 334))]
    invoice = office.bill("2026-07")
    for month, row in zip(("2026-08", "2026-09", "2026-10"), rows, strict=True):
        office.usage.remove(row)
        assert len(office.run(month).credit_notes) == 1
    assert sum(note.amount for note in office.book.credit_notes) == invoice.total
    assert sum(note.tax for note in office.book.credit_notes) == invoice.tax
    full = office.void("2026-07").credit_notes[0]
    assert (full.amount, full.tax, full.net) == (0, 0, 0)


def test_tax_within_the_price_is_not_added_to_a_credit_note() -> None:
    office = Office(CENT, tenant=EUROPE, taxes=[tax("0.19", inclusive=True)], **NOTES)
    gone = office.use("2026-07-02", input=1000)
    office.bill("2026-07")
    office.usage.remove(gone)
    (note,) = office.run("2026-08").credit_notes
    assert (note.amount, note.tax) == (10, Decimal("1.60"))


def test_tax_on_a_part_is_the_difference_that_the_part_makes() -> None:
    taxes = [tax("0.19", "A", inclusive=True), tax("0.10", "B")]
    office = Office(CENT, tenant=EUROPE, taxes=taxes, **NOTES)
    office.use("2026-07-02", input=500)
    gone = office.use("2026-07-03", input=500)
    invoice = office.bill("2026-07")
    assert (invoice.tax, invoice.total) == (Decimal("2.60"), 11)
    office.usage.remove(gone)
    (note,) = office.run("2026-08").credit_notes
    assert (note.net, note.amount, note.tax) == (5, Decimal("5.50"), Decimal("1.30"))


def test_a_small_part_of_a_credit_goes_back_to_it() -> None:
    office = Office(CENT, credits=[credit("a", "4.00")], **NOTES)
    office.use("2026-07-02", input=200)
    gone = office.use("2026-07-03", input=50)
    office.bill("2026-07")
    office.usage.remove(gone)
    (note,) = office.run("2026-08").credit_notes
    assert (note.amount, note.net, note.credits) == (0, Decimal("0.50"), (("a", Decimal("0.50")),))


def test_a_credit_note_is_issued_by_a_run_of_the_month_itself_too() -> None:
    office = Office(CENT, **NOTES)
    gone = office.use("2026-07-02", input=100)
    office.bill("2026-07")
    office.usage.remove(gone)
    assert office.run("2026-07", finalise=False).credit_notes == ()
    outcome = office.run("2026-07")
    assert [note.amount for note in outcome.credit_notes] == [1]
    assert outcome.changed
    assert office.run("2026-07").credit_notes == ()


def test_what_credits_had_paid_goes_back_to_them_the_last_first() -> None:
    granted = [credit("a", "4.00", priority=1), credit("b", "5.00", priority=2)]
    office = Office(CENT, credits=granted, **NOTES)
    rows = [
        office.use("2026-07-02", input=200),
        office.use("2026-07-03", input=400),
        office.use("2026-07-04", input=500),
    ]
    assert office.bill("2026-07").total == 2
    office.usage.remove(rows[1])
    (first,) = office.run("2026-08").credit_notes
    assert (first.amount, first.net, first.credits) == (2, 4, (("b", 2),))
    office.usage.remove(rows[2])
    (second,) = office.run("2026-09").credit_notes
    assert (second.amount, second.net, second.credits) == (0, 5, (("b", 3), ("a", 2)))
    assert {name: balance.remaining for name, balance in office.credits().items()} == {"a": 2, "b": 5}


def test_an_increase_goes_on_the_next_invoice_whatever_is_configured() -> None:
    office = Office(CENT, **NOTES)
    office.bill("2026-07")
    office.use("2026-07-02", input=100)
    outcome = office.run("2026-08")
    assert outcome.credit_notes == ()
    assert outcome.invoice is not None
    assert amounts(outcome.invoice, "adjustment") == [1]


def test_a_decrease_that_its_own_invoice_cannot_give_goes_on_the_next_one() -> None:
    office = Office(CENT, **NOTES)
    office.bill("2026-07")
    late = office.use("2026-07-02", input=100)
    office.bill("2026-08")
    office.usage.remove(late)
    office.use("2026-09-02", input=300)
    outcome = office.run("2026-09")
    assert outcome.credit_notes == ()
    assert outcome.invoice is not None
    assert (amounts(outcome.invoice, "adjustment"), outcome.invoice.total) == ([-1], 2)


def test_the_buyer_seller_and_terms_are_on_the_invoice() -> None:
    billing = {
        "email": "ap@tenant.example",
        "address": "Road 1",
        "country": "DE",
        "tax_id": "DE1",
        "days_until_due": 14,
    }
    invoice = Office(CENT, tenant={"billing": billing}).bill("2026-07")
    assert (
        invoice.buyer.name,
        invoice.buyer.country,
        invoice.buyer.tax_id,
        invoice.buyer.email,
        invoice.buyer.address,
    ) == (
        "Acme",
        "DE",
        "DE1",
        "ap@tenant.example",
        "Road 1",
    )
    assert (invoice.seller.name, invoice.days_until_due) == ("Seller Ltd", 14)


def test_a_run_says_whether_it_changed_the_book() -> None:
    office = Office(CENT)
    office.use("2026-07-02", input=100)
    assert office.run("2026-07", finalise=False).changed
    assert not office.run("2026-07", finalise=False).changed
    office.use("2026-07-03", input=100)
    assert office.run("2026-07", finalise=False).changed
    assert office.run("2026-07").changed
    assert not office.run("2026-07").changed
    assert office.void("2026-07").changed
    assert not office.void("2026-07").changed


def test_a_void_gives_back_only_what_notes_before_it_left() -> None:
    office = Office(CENT, credits=[credit("a", "4.00"), credit("b", "3.00", priority=2)], **NOTES)
    office.use("2026-07-02", input=200)
    gone = office.use("2026-07-03", input=600)
    assert office.bill("2026-07").total == 1
    office.usage.remove(gone)
    (first,) = office.run("2026-08").credit_notes
    assert (first.amount, first.credits) == (1, (("b", 3), ("a", 2)))
    (second,) = office.void("2026-07").credit_notes
    assert (second.amount, second.net, second.credits) == (0, 2, (("a", 2),))
    assert {name: balance.remaining for name, balance in office.credits().items()} == {"a": 4, "b": 3}


def test_the_month_is_billed_at_the_latest_prices_beside_a_credit_note() -> None:
    office = Office(CENT, **NOTES)
    gone = office.use("2026-07-02", input=100)
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-08-02", input=100)
    office.apply(catalog_of({"p": {"charges": [per_unit("input", "0.05")]}}, **NOTES))
    outcome = office.run("2026-08")
    assert [note.amount for note in outcome.credit_notes] == [1]
    assert outcome.invoice is not None
    assert (outcome.invoice.total, outcome.invoice.catalog_version) == (5, 2)


def test_no_credit_note_while_a_month_has_usage_without_a_price() -> None:
    office = Office(CENT, **NOTES)
    gone = office.use("2026-07-02", input=100)
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-07-03", output=1)
    assert office.run("2026-07").credit_notes == ()
    held = office.run("2026-08")
    assert held.credit_notes == ()
    assert held.invoice is not None
    assert held.invoice.held == ("unrated in 2026-07: model m-small, meter output",)


def test_small_differences_count_in_either_way() -> None:
    office = Office(CENT, **NOTES)
    gone = office.use("2026-06-02", input=60)
    office.bill("2026-06")
    office.bill("2026-07")
    office.usage.remove(gone)
    office.use("2026-07-02", input=50)
    assert amounts(office.bill("2026-08", finalise=False), "adjustment") == [Decimal("0.50")]
    outcome = office.run("2026-08")
    assert [note.amount for note in outcome.credit_notes] == [Decimal("0.60")]
    assert outcome.invoice is not None
    assert amounts(outcome.invoice, "adjustment") == [Decimal("0.50")]
