"""Voids and credit notes at Stripe, following ours.

A void of ours becomes a void there while nothing was paid, the deletion of a draft, or a full credit note once it was
paid. A credit note first lowers what remains to be paid; what was paid already goes where `after_payment` says.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import stripe

from billing.stripe_gateway.amounts import NotExact, to_stripe
from billing.stripe_gateway.calls import Caller, Gone, Refused, Unreachable, metadata_of
from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.lines import cut, reference, short
from schemas.catalog import Tenant
from schemas.invoice import CreditNote, Invoice

AFTER_PAYMENT: Final = ("credit_amount", "refund_amount", "out_of_band_amount")
"""To the customer's balance, back by the way it was paid, or outside of Stripe."""


@dataclass(frozen=True, slots=True)
class NoteResult:
    """outcome: voided, deleted, credited, already, skipped (nothing at Stripe), refused or failed."""

    tenant: str
    month: str
    revision: int
    outcome: str
    stripe_id: str = ""
    reason: str = ""
    detail: str = ""
    requests: int = 0


def note_reference(note: CreditNote) -> str:
    """The credit note's name at Stripe: its number, else what makes it."""
    own = note.number or f"{note.amount}:{note.issued_at_us}"
    return short(f"{note.tenant}:{note.month}:r{note.revision}:cn:{own}")


def push_credit_note(
    gateway: StripeGateway, invoice: Invoice, note: CreditNote, tenant: Tenant, *, after_payment: str = "credit_amount"
) -> NoteResult:
    """Bring a credit note to Stripe once. Skipped where Stripe has no such invoice or a voided one."""
    return _guarded(gateway, invoice, lambda caller: _credit(gateway, caller, invoice, note, tenant, after_payment))


def push_void(
    gateway: StripeGateway,
    invoice: Invoice,
    note: CreditNote | None,
    tenant: Tenant,
    *,
    after_payment: str = "credit_amount",
) -> NoteResult:
    """Follow a void of ours. note: the full credit note that it made; needed where the invoice was paid."""
    return _guarded(gateway, invoice, lambda caller: _void(gateway, caller, invoice, note, tenant, after_payment))


def _guarded(gateway: StripeGateway, invoice: Invoice, work: Any) -> NoteResult:
    caller = gateway.caller()
    blank = NoteResult(invoice.tenant, invoice.month, invoice.revision, "refused")
    try:
        result: NoteResult = work(caller)
    except Refused as error:
        result = replace(blank, reason=error.reason, detail=str(error))
    except NotExact as error:
        result = replace(blank, reason="not_exact", detail=str(error))
    except Unreachable as error:
        result = replace(blank, outcome="failed", reason="unreachable", detail=str(error))
    return replace(result, requests=caller.requests)


def _credit(
    gateway: StripeGateway, caller: Caller, invoice: Invoice, note: CreditNote, tenant: Tenant, after_payment: str
) -> NoteResult:
    if after_payment not in AFTER_PAYMENT:
        raise ValueError(f"{after_payment!r} is none of {', '.join(AFTER_PAYMENT)}")
    blank = NoteResult(invoice.tenant, invoice.month, invoice.revision, "credited")
    ref = note_reference(note)
    remote = gateway.find_invoice(caller, invoice, tenant)
    if remote is None or remote.status in ("draft", "void"):
        return replace(blank, outcome="skipped", reason="not_at_stripe" if remote is None else f"is_{remote.status}")
    if note.amount <= 0:
        return replace(blank, outcome="skipped", reason="nothing_to_give_back")
    service = gateway.client.v1.credit_notes
    invoice_id = remote.id

    def find() -> stripe.CreditNote | None:
        mine: Any = {"invoice": invoice_id}
        for found in caller.pages(lambda paging, options: service.list(paging | mine, options)):
            if isinstance(found, stripe.CreditNote) and metadata_of(found).get("cn") == ref:
                return found
        return None

    existing = find()
    if existing is not None:
        return replace(blank, outcome="already", stripe_id=existing.id)
    amount = to_stripe(note.amount, note.currency)
    params: dict[str, Any] = {
        "invoice": remote.id,
        "amount": amount,
        "email_type": "credit_note" if gateway.settings.send else "none",
        "memo": cut(note.reason),
        "metadata": {"cn": ref, "number": note.number or ""},
    }
    paid_part = amount - min(amount, remote.amount_remaining)
    if paid_part:
        params[after_payment] = paid_part
    made: Any = {**params, "metadata": {key: value for key, value in params["metadata"].items() if value}}
    created = caller.once(f"{ref}:create", find, lambda options: service.create(made, options))
    return replace(blank, stripe_id=created.id)


def _void(
    gateway: StripeGateway,
    caller: Caller,
    invoice: Invoice,
    note: CreditNote | None,
    tenant: Tenant,
    after_payment: str,
) -> NoteResult:
    blank = NoteResult(invoice.tenant, invoice.month, invoice.revision, "voided")
    remote = gateway.find_invoice(caller, invoice, tenant)
    if remote is None:
        return replace(blank, outcome="skipped", reason="not_at_stripe")
    blank = replace(blank, stripe_id=remote.id)
    service = gateway.client.v1.invoices
    stripe_id, ref = remote.id, reference(invoice)
    if remote.status == "void":
        return replace(blank, outcome="already")
    if remote.status == "paid":
        if remote.total <= 0:
            return replace(blank, outcome="skipped", reason="nothing_to_give_back")
        if note is None:
            raise Refused("paid", f"{remote.id} is paid: its void needs the credit note")
        return _credit(gateway, caller, invoice, note, tenant, after_payment)

    def read() -> stripe.Invoice | None:
        try:
            return caller.read(lambda options: service.retrieve(stripe_id, None, options))
        except Gone:
            return None

    if remote.status == "draft":
        try:
            caller.read(lambda options: service.delete(stripe_id, None, options))
        except Gone:
            return replace(blank, outcome="deleted")  # done by a try whose answer was lost
        return replace(blank, outcome="deleted")

    def voided() -> stripe.Invoice | None:
        now = read()
        return now if now is not None and now.status == "void" else None

    caller.once(f"{ref}:void", voided, lambda options: service.void_invoice(stripe_id, None, options))
    return blank
