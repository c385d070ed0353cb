"""A billing run: draft a tenant's month, finalise it, void it. Pure: a book and usage in, a new book and the news out.

One invoice a tenant and month, whatever runs twice: a run over a closed month changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from billing.adjustments import Difference, decrease_note, differences
from billing.book import BillingBook
from billing.charges import Terms
from billing.invoicing import Draft, build_invoice
from billing.lifecycle import Refused, finalised, transition
from billing.numbers import CREDIT_NOTE, INVOICE, take_number
from schemas.instants import format_instant
from schemas.invoice import CreditNote, Invoice
from schemas.money import EXACT
from schemas.periods import month_period, previous_month
from schemas.usage import UsageSource


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The new book, and what the run made. refused: why what was asked was not done, None if it was.

    invoice: the month's invoice after the run, None where there is nothing to invoice. credit_notes: the new ones.
    changed: whether the book is another than before.
    """

    book: BillingBook
    invoice: Invoice | None = None
    credit_notes: tuple[CreditNote, ...] = ()
    refused: str | None = None
    changed: bool = False


def run_month(
    book: BillingBook,
    terms: Mapping[int, Terms],
    source: UsageSource,
    tenant_id: str,
    month: str,
    now_us: int,
    *,
    finalise: bool = False,
) -> RunOutcome:
    """Draft the month anew at the latest terms, and finalise it if asked, if its grace is over and nothing holds it.

    terms: catalog versions by number, those of closed invoices among them. The book must hold all of the tenant's
    invoices and the sequences. A refusal still leaves the fresh draft. Decreases become credit notes only by a run that
    finalises.
    """
    with localcontext(EXACT):
        current = terms[max(terms)]
        tenant = current.catalog.tenants.get(tenant_id)
        if tenant is None:
            return RunOutcome(book, refused=f"{tenant_id}: no such tenant in the catalog")
        live = book.live(tenant_id, month)
        by_note = current.catalog.invoicing.adjust == "credit_note"
        if live is not None and live.status != "draft":
            noted, notes = _note_decreases(book, terms, source, live, now_us) if finalise and by_note else (book, ())
            return RunOutcome(noted, live, notes, changed=bool(notes))
        if (tenant_id, month) in book.settled:
            return RunOutcome(book, live, refused=f"{tenant_id}, {month}: its events were dropped by the retention")
        period = month_period(month, tenant.timezone)
        if now_us < period.start_us:
            start = format_instant(period.start_us)
            return RunOutcome(book, live, refused=f"{tenant_id}, {month}: the month begins at {start}")
        found = differences(book, terms, source, tenant_id, previous_month(month), month)
        revision = live.revision if live is not None else len(book.revisions(tenant_id, month)) + 1
        drafted = build_invoice(book, current, source, tenant_id, month, Draft(revision, _for_lines(found, by_note)))
        if drafted is None:
            return RunOutcome(book)
        refused = _why_not(drafted, period.end_us + current.catalog.invoicing.grace_us, now_us) if finalise else None
        if refused is not None or not finalise:
            return RunOutcome(book.with_invoice(drafted), drafted, refused=refused, changed=drafted != live)
        return _finalise(book, terms, source, drafted, now_us, by_note=by_note)


def _for_lines(found: list[Difference], by_note: bool) -> list[Difference]:  # noqa: FBT001 - a setting of the catalog
    """The differences that go on the next invoice: all, or increases alone."""
    return [d for d in found if not by_note or d.amount > 0 or d.unrated]


def _why_not(invoice: Invoice, grace_end_us: int, now_us: int) -> str | None:
    """Why the draft cannot be finalised now."""
    name = f"{invoice.tenant}, {invoice.month}"
    if now_us < grace_end_us:
        return f"{name}: the grace period ends at {format_instant(grace_end_us)}"
    if invoice.held:
        return f"{name}: held: {'; '.join(invoice.held)}"
    return None


def _finalise(
    book: BillingBook, terms: Mapping[int, Terms], source: UsageSource, drafted: Invoice, now_us: int, *, by_note: bool
) -> RunOutcome:
    """Close the draft under the next number; first give decreases back by credit notes, where so configured.

    What a note cannot give (an adjustment on a later invoice had raised the month) goes on this invoice after all.
    """
    notes: tuple[CreditNote, ...] = ()
    if by_note:
        book, notes = _note_decreases(book, terms, source, drafted, now_us)
        left = differences(book, terms, source, drafted.tenant, previous_month(drafted.month), drafted.month)
        again = build_invoice(
            book, terms[max(terms)], source, drafted.tenant, drafted.month, Draft(drafted.revision, left)
        )
        assert again is not None  # the draft before it had lines or a plan, and still has
        drafted = again
    number, book = take_number(book, INVOICE, now_us)
    closed = finalised(drafted, number, now_us)
    return RunOutcome(book.with_invoice(closed), closed, notes, changed=True)


def _note_decreases(
    book: BillingBook, terms: Mapping[int, Terms], source: UsageSource, invoice: Invoice, now_us: int
) -> tuple[BillingBook, tuple[CreditNote, ...]]:
    """Credit notes for closed months up to the invoice's whose usage fell."""
    notes: list[CreditNote] = []
    for difference in differences(book, terms, source, invoice.tenant, invoice.month, invoice.month):
        note = decrease_note(book, difference) if difference.amount < 0 and not difference.unrated else None
        if note is not None:
            issued, book = _issue(book, note, now_us)
            notes.append(issued)
    return book, tuple(notes)


def _issue(book: BillingBook, note: CreditNote, now_us: int) -> tuple[CreditNote, BillingBook]:
    number, book = take_number(book, CREDIT_NOTE, now_us)
    issued = replace(note, number=number, issued_at_us=now_us)
    return issued, book.with_note(issued)


def void_invoice(book: BillingBook, tenant_id: str, month: str, now_us: int, reason: str = "voided") -> RunOutcome:
    """Void the month's closed invoice: a full credit note of what notes before it left, and its credits back.

    Refused, with the book unchanged: no invoice, a draft, one that is paid, one that is void already.
    """
    revisions = book.revisions(tenant_id, month)
    if not revisions:
        return RunOutcome(book, refused=f"{tenant_id}, {month}: there is no invoice to void")
    invoice = book.live(tenant_id, month) or revisions[-1]
    try:
        gone = transition(invoice, "void")
    except Refused as refusal:
        return RunOutcome(book, invoice, refused=str(refusal))
    with localcontext(EXACT):
        before = book.notes_on(invoice)
        back = {line.credit: -line.amount for line in invoice.lines if line.credit is not None}
        for note in before:
            for credit, amount in note.credits:
                back[credit] -= amount
        whole = CreditNote(
            tenant=tenant_id,
            month=month,
            revision=invoice.revision,
            amount=invoice.total - sum((note.amount for note in before), Decimal(0)),
            tax=invoice.tax - sum((note.tax for note in before), Decimal(0)),
            currency=invoice.currency,
            reason=reason,
            net=invoice.subtotal - sum((note.net for note in before), Decimal(0)),
            credits=tuple((credit, amount) for credit, amount in back.items() if amount),
        )
        issued, book = _issue(book.with_invoice(gone), whole, now_us)
    return RunOutcome(book, gone, (issued,), changed=True)
