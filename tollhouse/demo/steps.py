"""What the demo does once its traffic is counted: asks the gate, closes the month, pushes to Stripe."""

from collections.abc import Callable
from typing import Any

from pipeline.ledger import Ledger
from schemas.invoice import Invoice
from tollhouse.closing import run_tenant
from tollhouse.demo.gate import authorize_over_http
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.stripe_push import gateway_of, push

BLOCKED_TENANT = "kathmandu-labs"
ASK_TOKENS = 800_000
"""Three asks of this size do not fit into the tenant's 2,000,000 tokens a day."""


def ask_the_gate(settings: Settings, ledger: Ledger, now_us: int, check: Callable[[], None]) -> list[dict[str, Any]]:
    """A proxy asks for calls of two tenants; the small daily quota of one runs out."""
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("acme", "gpt-5", {"tokens": 5000, "cost": "0.05"}),
        *[(BLOCKED_TENANT, "gpt-5-mini", {"tokens": ASK_TOKENS, "cost": "0.40"})] * 3,
        (BLOCKED_TENANT, "gpt-5", {"tokens": 100}),
    ]
    return authorize_over_http(settings, ledger, now_us, asks, check)


def close_month(ledger: Ledger, month: str, now_us: int) -> list[Invoice]:
    """Draft and finalise every tenant's invoice; UserError if one is held."""
    invoices = []
    for tenant in ledger.context().catalog.tenants:
        outcome = run_tenant(ledger, tenant, month, now_us, finalise=True)
        if outcome.refused:
            raise UserError(outcome.refused)
        if outcome.invoice is not None:
            invoices.append(outcome.invoice)
    return invoices


def push_to_stripe(settings: Settings, ledger: Ledger, month: str, now_us: int, double: Any) -> list[dict[str, Any]]:
    """Push the month, then read the totals back from Stripe itself."""
    gateway = gateway_of(settings, ledger)
    summary = push(gateway, ledger, month, now_us)
    if not summary.clean:
        bad = next(r for r in summary.month.results if r.outcome in ("refused", "failed") or r.payment_error)
        raise UserError(f"Stripe: {bad.tenant}: {bad.reason or bad.payment_error}: {bad.detail}")
    rows = []
    for result in summary.month.results:
        remote = gateway.client.v1.invoices.retrieve(result.stripe_id) if result.stripe_id else None
        rows.append(
            {
                "tenant": result.tenant,
                "month": result.month,
                "stripe_id": result.stripe_id,
                "status": remote.status if remote else result.outcome,
                "currency": result.currency,
                "total_minor": remote.total if remote else 0,
                "url": double.url,
            }
        )
    return rows
