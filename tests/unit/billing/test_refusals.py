"""What a run that is refused leaves behind: the book as it was, the invoice as it is, and the reason in words."""

from decimal import Decimal

import pytest

from billing.lifecycle import Refused, transition
from billing.runs import run_month
from tests.unit.billing.office import LATER, Office, at
from tests.unit.rating.catalogs import per_unit

PLAN = {"p": {"charges": [per_unit("input", "0.01")]}}


def test_an_unknown_tenant() -> None:
    made = Office(PLAN)
    made.use("2026-07-02", input=100)
    made.bill("2026-07")
    outcome = run_month(made.book, made.terms, made.usage, "nobody", "2026-07", at(LATER))
    assert outcome.book is made.book
    assert (outcome.invoice, outcome.changed, outcome.credit_notes) == (None, False, ())
    assert outcome.refused == "nobody: no such tenant in the catalog"


def test_a_month_that_has_not_begun() -> None:
    made = Office(PLAN)
    made.use("2026-07-02", input=100)
    draft = made.bill("2026-07", "2026-07-10", finalise=False)
    before = made.book
    outcome = made.run("2026-07", "2026-06-30T23:59:59Z")
    assert outcome.refused == "acme, 2026-07: the month begins at 2026-07-01T00:00:00Z"
    assert outcome.invoice == draft
    assert outcome.book is before
    assert made.run("2026-07", "2026-07-01", finalise=False).refused is None


def test_a_second_void() -> None:
    made = Office(PLAN)
    made.use("2026-07-02", input=100)
    number = made.bill("2026-07").number
    gone = made.void("2026-07").invoice
    before = made.book
    again = made.void("2026-07")
    assert again.refused == f"invoice {number} is void: it can become nothing, not void"
    assert (again.invoice, again.credit_notes, again.changed) == (gone, (), False)
    assert again.book is before


def test_the_month_after_a_decrease_keeps_its_revision() -> None:
    made = Office(PLAN, invoicing={"grace": "48h", "adjust": "credit_note"})
    row = made.use("2026-07-02", input=100)
    made.use("2026-08-02", input=300)
    made.bill("2026-07")
    made.bill("2026-08", "2026-08-20", finalise=False)
    made.usage.remove(row)
    outcome = made.run("2026-08")
    assert [(note.month, note.net) for note in outcome.credit_notes] == [("2026-07", Decimal(1))]
    assert outcome.invoice is not None
    assert (outcome.invoice.revision, outcome.invoice.subtotal, outcome.invoice.status) == (1, 3, "finalised")


def test_a_refused_step_says_which_steps_there_are() -> None:
    made = Office(PLAN)
    made.use("2026-07-02", input=100)
    made.bill("2026-07", finalise=False)
    assert made.void("2026-07").refused == "invoice draft of acme, 2026-07 is draft: it can become finalised, not void"
    invoice = made.bill("2026-07")
    with pytest.raises(Refused) as refused:
        transition(invoice, "paid")
    assert str(refused.value) == f"invoice {invoice.number} is finalised: it can become pushed, void, not paid"
