"""The gateway to one Stripe account: its client, its memory, its pace."""

from dataclasses import dataclass, field, replace

import stripe

from billing.stripe_gateway.calls import Caller, Pace, Refused, Unreachable
from billing.stripe_gateway.customers import Customers
from billing.stripe_gateway.lines import NoPlan, short
from billing.stripe_gateway.push import Push
from billing.stripe_gateway.result import PushResult, Settings
from billing.stripe_gateway.store import PushStore
from schemas.catalog import Tenant
from schemas.invoice import Invoice


@dataclass(slots=True)
class StripeGateway:
    """Pushes to one Stripe account. client from `make_client`; store outlives the process; two runs at once over one
    invoice are the caller's to prevent (a lock on the month)."""

    client: stripe.StripeClient
    store: PushStore
    settings: Settings = field(default_factory=Settings)
    pace: Pace | None = None
    customers: Customers = field(init=False)

    def __post_init__(self) -> None:
        self.pace = self.pace or Pace(self.settings.requests_per_s)
        self.customers = Customers(self.client, self.store, create=self.settings.create_customers)

    def caller(self) -> Caller:
        """A fresh request counter at the shared pace."""
        assert self.pace is not None  # set when the gateway was made
        return Caller(self.store, self.pace)

    def find_invoice(self, caller: Caller, invoice: Invoice, tenant: Tenant) -> stripe.Invoice | None:
        """The invoice at Stripe, or None. Refused and Unreachable pass."""
        blank = PushResult(invoice.tenant, invoice.month, invoice.revision, "refused", currency=invoice.currency)
        customer = self.customers.find(caller, tenant, make=False)
        push = Push(self.client, self.customers, self.settings, caller, invoice, tenant, blank)
        return push.find(customer) if customer else None

    def remember_status(self, stripe_id: str, tenant: str, month: str, revision: int, status: str) -> None:
        """Keep what Stripe said last, so that a whole sync need not read what is settled."""
        key = f"invoice/{short(f'{tenant}:{month}:r{revision}')}"
        record = self.store.get(key)
        if record is not None and record.get("stripe_id") == stripe_id and record.get("status") != status:
            self.store.put(key, {**record, "status": status})

    def push_invoice(self, invoice: Invoice, tenant: Tenant, *, dry_run: bool = False) -> PushResult:
        """Bring one finalised invoice to Stripe, or say why not. Never raises for what Stripe answers."""
        caller = self.caller()
        blank = PushResult(invoice.tenant, invoice.month, invoice.revision, "refused", currency=invoice.currency)
        try:
            push = Push(self.client, self.customers, self.settings, caller, invoice, tenant, blank)
            result = push.run(dry_run=dry_run)
        except NoPlan as error:
            result = replace(blank, reason=error.reason, detail=str(error))
        except Refused as error:
            result = replace(blank, reason=error.reason, detail=str(error))
        except Unreachable as error:
            result = replace(blank, outcome="failed", reason="unreachable", detail=str(error))
        return replace(result, requests=caller.requests)
