"""The billing book: every invoice and credit note so far, and the last numbers given. A value, never edited."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from schemas.invoice import CreditNote, Invoice


@dataclass(frozen=True, slots=True)
class BillingBook:
    """sequences: the last number used in each series ("INV-2026": 17). A book may hold one tenant or all of them.

    settled: (tenant, month) whose single events are gone: what was invoiced for them stands. rated: by (tenant, month,
    revision), what a closed month comes to now, before credits and tax, where that was worked out and nothing changed.
    """

    invoices: tuple[Invoice, ...] = ()
    credit_notes: tuple[CreditNote, ...] = ()
    sequences: Mapping[str, int] = field(default_factory=dict)
    settled: frozenset[tuple[str, str]] = frozenset()
    rated: Mapping[tuple[str, str, int], Decimal] = field(default_factory=dict)

    def revisions(self, tenant: str, month: str) -> list[Invoice]:
        """All invoices of the tenant's month, void ones included, by revision."""
        own = [i for i in self.invoices if i.tenant == tenant and i.month == month]
        return sorted(own, key=lambda invoice: invoice.revision)

    def live(self, tenant: str, month: str) -> Invoice | None:
        """The one invoice of the month that is not void, if there is one."""
        return next((i for i in reversed(self.revisions(tenant, month)) if i.status != "void"), None)

    def of_tenant(self, tenant: str) -> list[Invoice]:
        """The tenant's invoices that are not void, by month."""
        return sorted((i for i in self.invoices if i.tenant == tenant and i.status != "void"), key=lambda i: i.month)

    def notes_on(self, invoice: Invoice) -> list[CreditNote]:
        """Credit notes on this revision."""
        key = (invoice.tenant, invoice.month, invoice.revision)
        return [note for note in self.credit_notes if (note.tenant, note.month, note.revision) == key]

    def with_invoice(self, invoice: Invoice) -> "BillingBook":
        """The book with this revision added, or in the place of its former state."""
        key = (invoice.tenant, invoice.month, invoice.revision)
        rest = tuple(i for i in self.invoices if (i.tenant, i.month, i.revision) != key)
        return replace(self, invoices=(*rest, invoice))

    def with_note(self, note: CreditNote) -> "BillingBook":
        """The book with one more credit note."""
        return replace(self, credit_notes=(*self.credit_notes, note))

    def numbered(self, series: str) -> tuple[int, "BillingBook"]:
        """The next number of the series, and the book in which it is taken."""
        number = self.sequences.get(series, 0) + 1
        return number, replace(self, sequences={**self.sequences, series: number})

    def counts_for(self, invoice: Invoice, month: str) -> bool:
        """Whether the invoice is settled before a draft of the month is made: finalised, or a draft of earlier time."""
        return invoice.month != month and (invoice.status != "draft" or invoice.month < month)

    def credit_used(self, credit: str, tenant: str, month: str | None = None) -> Decimal:
        """What closed invoices took from the credit and did not give back.

        For a month: as its draft must see it, so what drafts of earlier months show is taken too, and its own is not.
        """
        used = Decimal(0)
        for invoice in self.of_tenant(tenant):
            if invoice.status == "draft" if month is None else not self.counts_for(invoice, month):
                continue
            used -= sum((line.amount for line in invoice.lines if line.credit == credit), Decimal(0))
            for note in self.notes_on(invoice):
                used -= sum((amount for name, amount in note.credits if name == credit), Decimal(0))
        return used
