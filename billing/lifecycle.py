"""The life of an invoice: draft, finalised, pushed, then paid, uncollectible or void. Nothing else, and no way back.

A draft is recomputed and cannot be void. A paid invoice is corrected by adjustments and credit notes, not voided.
"""

from dataclasses import replace
from typing import Final

from schemas.invoice import Invoice

NEXT: Final = {
    "draft": ("finalised",),
    "finalised": ("pushed", "void"),
    "pushed": ("paid", "uncollectible", "void"),
    "uncollectible": ("paid", "void"),
    "paid": (),
    "void": (),
}


class Refused(Exception):
    """A step that the life of an invoice does not allow; the message is for a person."""


def check(invoice: Invoice, status: str) -> None:
    """Refuse the step if it is not one of NEXT."""
    if status not in NEXT[invoice.status]:
        name = invoice.number or f"draft of {invoice.tenant}, {invoice.month}"
        allowed = ", ".join(NEXT[invoice.status]) or "nothing"
        raise Refused(f"invoice {name} is {invoice.status}: it can become {allowed}, not {status}")


def transition(invoice: Invoice, status: str) -> Invoice:
    """The invoice in its next state; Refused if there is no such step. Amounts and lines never change here."""
    check(invoice, status)
    return replace(invoice, status=status)


def finalised(invoice: Invoice, number: str, now_us: int) -> Invoice:
    """The draft, closed under its number."""
    check(invoice, "finalised")
    assert not invoice.held  # the run refuses a held draft first
    return replace(invoice, status="finalised", number=number, finalised_at_us=now_us)
