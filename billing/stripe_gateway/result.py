"""How invoices go to Stripe, and how a push ended: values."""

from dataclasses import dataclass

from billing.stripe_gateway.amounts import from_stripe


@dataclass(frozen=True, slots=True)
class Settings:
    """How invoices go to Stripe.

    taxes: "line" (each exclusive tax as a line of its own) or "rates" (given with each line as Stripe's tax rates).
    create_customers: make a customer for a tenant that has none. send: e-mail invoices to send, charge those to charge;
    else they are finalised only. own_numbers: give Stripe our invoice numbers. lines_per_call: lines in one bulk call.
    workers: invoices pushed side by side. requests_per_s: below the limit of the account (25 sandbox, 100 live).
    """

    taxes: str = "line"
    create_customers: bool = True
    send: bool = True
    own_numbers: bool = True
    lines_per_call: int = 100
    workers: int = 1
    requests_per_s: int = 20


@dataclass(frozen=True, slots=True)
class PushResult:
    """How a push ended.

    outcome: pushed, already (nothing was left to do), skipped (nothing to bill), planned (dry run), refused (a person
    must act: see reason and detail) or failed (Stripe did not answer: run it again). status: Stripe's own.
    payment_error: why a charge was declined; the invoice is open all the same. notes: what finance should know.
    detail_csv: our lines, where Stripe shows them put together. requests: how many this push took.
    """

    tenant: str
    month: str
    revision: int
    outcome: str
    stripe_id: str = ""
    status: str = ""
    total_minor: int = 0
    currency: str = ""
    url: str = ""
    reason: str = ""
    detail: str = ""
    payment_error: str = ""
    notes: tuple[str, ...] = ()
    detail_csv: str = ""
    diff: tuple[str, ...] = ()
    requests: int = 0

    @property
    def total(self) -> str:
        """The total as people write it: "12.30"."""
        return format(from_stripe(self.total_minor, self.currency), "f")
