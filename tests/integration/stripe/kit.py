"""Parts of the Stripe tests: invoices, a transport into the double, and a switch that kills a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import stripe

from billing.stripe_gateway import MemoryStore, Pace, PushStore, Settings, StripeGateway, make_client
from schemas.catalog import Tenant, TenantBilling
from schemas.instants import parse_instant
from schemas.invoice import Invoice, InvoiceLine, LinePart, TaxSum
from schemas.money import round_half_up
from tollhouse.stripe_double import ConnectionDropped, StripeDouble

START_US = parse_instant("2026-10-01T00:00:00Z")
END_US = parse_instant("2026-11-01T00:00:00Z")
NOW_S = parse_instant("2026-11-04T00:00:00Z") // 1_000_000


def make_tenant(name: str = "acme", **billing: Any) -> Tenant:
    return Tenant(name, name.title(), "standard", (), billing=TenantBilling(email=f"{name}@ap.example", **billing))


def make_invoice(
    tenant: str = "acme", lines: int = 3, currency: str = "EUR", revision: int = 1, rate: str = "0.19", **fields: Any
) -> Invoice:
    """An invoice whose sums are right: lines of 1.10, 2.20, ... and exclusive tax on top."""
    made = []
    for number in range(1, lines + 1):
        amount = Decimal("1.10") * number
        part = LinePart(Decimal(1000 * number), Decimal("1.10"), 1000, amount)
        made.append(
            InvoiceLine(
                id=f"usage:{number}", type="usage", description=f"Input tokens {number}", amount=amount, meter="input",
                period_start_us=START_US, period_end_us=END_US, models=f"model-{number % 5}",
                quantity=Decimal(1000 * number), parts=(part,),
            )
        )  # fmt: skip
    subtotal = sum((line.amount for line in made), Decimal(0))
    tax = round_half_up(subtotal * Decimal(rate), currency)
    taxes = (TaxSum("VAT", Decimal(rate), False, subtotal, tax),) if tax else ()
    values: dict[str, Any] = {
        "tenant": tenant, "month": "2026-10", "revision": revision, "status": "finalised", "currency": currency,
        "period_start_us": START_US, "period_end_us": END_US, "lines": tuple(made), "subtotal": subtotal, "tax": tax,
        "total": subtotal + tax, "number": f"{tenant}-2026-10-{revision}", "taxes": taxes, "days_until_due": 14,
    }  # fmt: skip
    return Invoice(**{**values, **fields})


class Killed(BaseException):
    """The process is gone: nothing that catches errors may catch it."""


@dataclass
class Switch:
    """Counts boundaries and kills at number `at`. Names of what was passed are kept for the report."""

    at: int | None = None
    passed: list[str] = field(default_factory=list)

    def boundary(self, name: str) -> None:
        self.passed.append(name)
        if self.at == len(self.passed):
            raise Killed(name)


class Direct(stripe.HTTPClient):
    """The SDK's transport straight into the double: all of the SDK's encoding, no socket."""

    name = "direct"

    def __init__(self, double: StripeDouble, switch: Switch | None = None) -> None:
        super().__init__()
        self.double = double
        self.switch = switch or Switch()

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[str, int, Mapping[str, str]]:
        parts = urlsplit(url)
        name = f"{method} {parts.path}"
        self.switch.boundary(f"before {name}")
        lower = {key.lower(): value for key, value in (headers or {}).items()}
        try:
            answer = self.double.handle(method.upper(), parts.path, parts.query, post_data or "", lower)
        except ConnectionDropped:
            raise stripe.APIConnectionError("connection dropped") from None
        self.switch.boundary(f"after {name}")
        return answer.body.decode(), answer.status, answer.headers

    def close(self) -> None:
        return None


class SwitchedStore:
    """A store whose writes are boundaries too: the process may go before and after each."""

    def __init__(self, inner: PushStore, switch: Switch) -> None:
        self.inner = inner
        self.switch = switch

    def get(self, key: str) -> Mapping[str, str] | None:
        return self.inner.get(key)

    def put(self, key: str, record: Mapping[str, str]) -> None:
        self.switch.boundary(f"before put {key}")
        self.inner.put(key, record)
        self.switch.boundary(f"after put {key}")

    def keys(self, prefix: str) -> Iterator[str]:
        return self.inner.keys(prefix)


def no_wait_pace() -> Pace:
    return Pace(per_s=1_000_000, sleep=lambda _seconds: None, random=lambda: 0.5)


def gateway_on(
    double: StripeDouble, store: PushStore | None = None, switch: Switch | None = None, **settings: Any
) -> StripeGateway:
    """A gateway into the double without sockets; with a switch, its store is switched too."""
    inner = store or MemoryStore()
    client = make_client("sk_test_double", api_base="https://api.stripe.example", http_client=Direct(double, switch))
    kept = SwitchedStore(inner, switch) if switch else inner
    return StripeGateway(client, kept, Settings(**settings), no_wait_pace())


def assert_month(double: StripeDouble, invoices: list[Invoice]) -> None:
    """Exactly one correct Stripe invoice a tenant: open or paid, of our total, each of our lines once."""
    held = double.invoices()
    refs = sorted(row["metadata"]["inv"] for row in held)
    assert refs == sorted(f"{invoice.tenant}:{invoice.month}:r{invoice.revision}" for invoice in invoices)
    by_ref = {row["metadata"]["inv"]: row for row in held}
    for invoice in invoices:
        row = by_ref[f"{invoice.tenant}:{invoice.month}:r{invoice.revision}"]
        assert row["status"] in ("open", "paid")
        assert row["total"] == int(invoice.total * 100)
        keys = [line["metadata"]["k"] for line in double.lines(row["id"])]
        expected = [line.id for line in invoice.lines if line.type != "tax"]
        assert len(keys) == len(set(keys))
        assert set(expected) <= set(keys)
        assert len(keys) == len(expected) + (1 if invoice.tax else 0)
