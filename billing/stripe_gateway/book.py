"""All of a month in the right order: voids first, so that a new revision has room, then invoices, then credit notes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.month import MonthSummary, Progress, push_month
from billing.stripe_gateway.notes import NoteResult, push_credit_note, push_void
from schemas.catalog import Tenant
from schemas.invoice import CreditNote, Invoice

_BAD: Final = ("refused", "failed")


@dataclass(frozen=True, slots=True)
class BookSummary:
    """How the voids, the invoices and the credit notes ended."""

    voids: tuple[NoteResult, ...]
    month: MonthSummary
    notes: tuple[NoteResult, ...]

    @property
    def clean(self) -> bool:
        """Whether Stripe is where we are."""
        return self.month.clean and not any(result.outcome in _BAD for result in (*self.voids, *self.notes))


def push_book(
    gateway: StripeGateway,
    invoices: Sequence[tuple[Invoice, Tenant]],
    notes: Sequence[CreditNote],
    *,
    dry_run: bool = False,
    after_payment: str = "credit_amount",
    progress: Progress = lambda _done, _of, _result: None,
) -> BookSummary:
    """Bring all revisions of a month's invoices and their credit notes to Stripe; safe to run again.

    invoices: with the void ones; drafts are left out. notes: a void invoice's own note is used where Stripe's was paid,
    every other one becomes a credit note there. after_payment: where money goes that was paid already.
    """
    by_invoice: dict[tuple[str, str, int], list[CreditNote]] = {}
    for note in notes:
        by_invoice.setdefault((note.tenant, note.month, note.revision), []).append(note)
    voids: list[NoteResult] = []
    credited: list[NoteResult] = []
    for invoice, tenant in invoices:
        if invoice.status == "void" and invoice.lines and not dry_run:
            mine = by_invoice.get((invoice.tenant, invoice.month, invoice.revision), [])
            # Earlier notes stand on their own; the last one gave back what was left, by the void.
            voids.append(push_void(gateway, invoice, mine[-1] if mine else None, tenant, after_payment=after_payment))
    live = [(invoice, tenant) for invoice, tenant in invoices if invoice.status not in ("draft", "void")]
    month = push_month(gateway, live, dry_run=dry_run, progress=progress)
    for invoice, tenant in live:
        for note in by_invoice.get((invoice.tenant, invoice.month, invoice.revision), []):
            if dry_run:
                blank = NoteResult(note.tenant, note.month, note.revision, "planned")
                credited.append(replace(blank, detail=f"credit note over {note.amount} {note.currency}"))
            else:
                credited.append(push_credit_note(gateway, invoice, note, tenant, after_payment=after_payment))
    return BookSummary(tuple(voids), month, tuple(credited))
