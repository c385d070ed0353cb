"""Ours against Stripe's: a report that must be empty."""

from collections.abc import Sequence
from dataclasses import dataclass

import stripe

from billing.stripe_gateway.calls import metadata_of
from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.lines import NoPlan, plan, reference
from billing.stripe_gateway.statuses import OURS
from schemas.invoice import Invoice


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. kind: missing, duplicate, total, currency, status, lines or unknown (there and not here)."""

    kind: str
    tenant: str
    month: str
    revision: int
    ours: str
    theirs: str
    stripe_id: str = ""


def drift(gateway: StripeGateway, invoices: Sequence[Invoice], *, lines: bool = False) -> list[Drift]:
    """All differences between our invoices and those at Stripe that carry our metadata.

    invoices: all of ours (drafts are left out), or all of some months: what Stripe has of other months is not looked
    at. lines: compare line by line too (a request or more for each invoice). Refused and Unreachable pass.
    """
    caller = gateway.caller()
    months = {invoice.month for invoice in invoices}
    theirs: dict[str, list[stripe.Invoice]] = {}
    for remote in caller.pages(gateway.client.v1.invoices.list):
        metadata = metadata_of(remote)
        if "inv" in metadata and metadata.get("month") in months:
            theirs.setdefault(metadata["inv"], []).append(remote)
    found: list[Drift] = []
    for invoice in invoices:
        remotes = theirs.pop(reference(invoice), [])
        if invoice.status != "draft" and invoice.lines:
            found += _compare(gateway, invoice, remotes, lines=lines)
    for ref, remotes in theirs.items():
        for remote in remotes:
            metadata = metadata_of(remote)
            revision = int(metadata.get("revision", "0"))
            who = (metadata.get("tenant", ""), metadata["month"], revision)
            found.append(Drift("unknown", *who, "none", f"{ref} {remote.status}", remote.id))
    return found


def _compare(gateway: StripeGateway, invoice: Invoice, remotes: list[stripe.Invoice], *, lines: bool) -> list[Drift]:
    who = (invoice.tenant, invoice.month, invoice.revision)
    if not remotes:
        # Voided before it was pushed, or a draft there that was deleted: nothing is what there should be.
        return [] if invoice.status == "void" else [Drift("missing", *who, invoice.status, "none")]
    if len(remotes) > 1:
        return [Drift("duplicate", *who, "1", str(len(remotes)), ",".join(remote.id for remote in remotes))]
    remote = remotes[0]
    found = []
    try:
        rows = plan(invoice, gateway.settings.taxes)
    except NoPlan as error:
        return [Drift("total", *who, str(error), str(remote.total), remote.id)]
    if remote.total != rows.total_minor:
        found.append(Drift("total", *who, str(rows.total_minor), str(remote.total), remote.id))
    if remote.currency != invoice.currency.lower():
        found.append(Drift("currency", *who, invoice.currency, remote.currency.upper(), remote.id))
    if not _same_status(invoice, remote):
        found.append(Drift("status", *who, invoice.status, str(remote.status), remote.id))
    if lines and remote.status != "void":
        service = gateway.client.v1.invoices.line_items
        read = gateway.caller().pages(lambda paging, options: service.list(remote.id, paging, options))
        have = sorted((metadata_of(line).get("k", ""), line.amount) for line in read)
        want = sorted((row.key, row.amount_minor) for row in rows.rows)
        if have != want:
            found.append(Drift("lines", *who, str(len(want)), str(len(have)), remote.id))
    return found


def _same_status(invoice: Invoice, remote: stripe.Invoice) -> bool:
    credited = remote.pre_payment_credit_notes_amount + remote.post_payment_credit_notes_amount
    if invoice.status == "void" and credited == remote.total:
        return True  # paid there before the void here: given back whole by credit notes
    # Ours stays "finalised" until the push is recorded.
    return OURS.get(str(remote.status)) == ("pushed" if invoice.status == "finalised" else invoice.status)
