"""What Stripe says about our invoices: fetched as it is now, never taken from an event's own words.

Events come twice, late and out of order. So an event only says which invoice to look at; its state at Stripe is then
read, and the update carries that state whole. Applying an update twice changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import stripe

from billing.stripe_gateway.calls import Caller, Gone, metadata_of
from billing.stripe_gateway.gateway import StripeGateway

OURS: Final = {"draft": "pushed", "open": "pushed", "paid": "paid", "uncollectible": "uncollectible", "void": "void"}
"""Stripe's status in our words."""

EVENT_TYPES: Final = (
    "invoice.deleted",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.payment_succeeded",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "charge.dispute.created",
    "charge.dispute.closed",
    "charge.dispute.updated",
    "credit_note.created",
    "credit_note.voided",
)
"""What the webhook endpoint should listen to (Stripe's list takes at most 20 types)."""


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """The state of one of our invoices at Stripe now. status: ours. failed: a charge was tried and nothing came.

    cash_minor: money that came in; less than the total where a balance or a credit note took part. disputed: the
    status of a dispute, where one was what made us look; else empty.
    """

    tenant: str
    month: str
    revision: int
    status: str
    stripe_id: str
    stripe_status: str
    total_minor: int
    cash_minor: int
    remaining_minor: int
    currency: str
    failed: bool = False
    disputed: str = ""
    paid_at_s: int | None = None


Apply = Callable[[StatusUpdate], None]


def update_of(remote: stripe.Invoice, disputed: str = "") -> StatusUpdate | None:
    """The state of an invoice at Stripe; None if it is not one of ours."""
    metadata = metadata_of(remote)
    if not {"inv", "tenant", "month", "revision"} <= metadata.keys():
        return None
    status = str(remote.status)
    return StatusUpdate(
        tenant=metadata["tenant"],
        month=metadata["month"],
        revision=int(metadata["revision"]),
        status=OURS[status],
        stripe_id=remote.id,
        stripe_status=status,
        total_minor=remote.total,
        cash_minor=remote.amount_paid,
        remaining_minor=remote.amount_remaining,
        currency=remote.currency.upper(),
        failed=status == "open" and remote.attempted,
        disputed=disputed,
        paid_at_s=remote.status_transitions.paid_at,
    )


def touched(gateway: StripeGateway, caller: Caller, event: dict[str, Any]) -> tuple[str, str] | None:
    """(invoice id, status of its dispute now) that an event is about; None if it is about no invoice."""
    subject = event["data"]["object"]
    kind = str(event["type"])
    if kind.startswith("invoice."):
        return str(subject["id"]), ""
    if kind.startswith("credit_note."):
        return str(subject["invoice"]), ""
    if kind.startswith("charge.dispute.") and subject.get("payment_intent"):
        payment: Any = {"payment": {"type": "payment_intent", "payment_intent": subject["payment_intent"]}}
        service = gateway.client.v1.invoice_payments
        for found in caller.pages(lambda paging, options: service.list(paging | payment, options)):
            if isinstance(found, stripe.InvoicePayment):
                return str(found.invoice), _dispute(gateway, caller, str(subject["id"]))
    return None


def _dispute(gateway: StripeGateway, caller: Caller, dispute_id: str) -> str:
    service = gateway.client.v1.disputes
    return str(caller.read(lambda options: service.retrieve(dispute_id, None, options)).status)


def fetch(gateway: StripeGateway, caller: Caller, stripe_id: str, disputed: str = "") -> StatusUpdate | None:
    """The invoice's state at Stripe now; None if it is gone (a deleted draft) or not ours."""
    service = gateway.client.v1.invoices
    try:
        remote = caller.read(lambda options: service.retrieve(stripe_id, None, options))
    except Gone:
        return None
    return update_of(remote, disputed)


def apply_events(
    gateway: StripeGateway, caller: Caller, events: Iterable[dict[str, Any]], apply: Apply
) -> list[StatusUpdate]:
    """Look at each invoice that the events touch, once, and apply what is found."""
    invoices: dict[str, str] = {}
    for event in events:
        found = touched(gateway, caller, event)
        if found is not None:
            stripe_id, disputed = found
            invoices[stripe_id] = disputed or invoices.get(stripe_id, "")
    updates = []
    for stripe_id, disputed in invoices.items():
        update = fetch(gateway, caller, stripe_id, disputed)
        if update is not None:
            apply(update)
            updates.append(update)
    return updates
