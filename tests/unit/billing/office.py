"""A billing office in memory for tests: catalog versions, usage, a book, and a clock in the test's hand."""

from decimal import Decimal
from typing import Any

from billing.book import BillingBook
from billing.charges import Terms
from billing.credits import CreditBalance, balances
from billing.runs import RunOutcome, run_month, void_invoice
from pipeline.prices import ProviderPrices
from schemas.catalog import Catalog
from schemas.instants import parse_instant
from schemas.invoice import Invoice, InvoiceLine
from schemas.usage import UsageRow
from tests.unit.rating.catalogs import catalog_of
from tests.unit.rating.usage_memory import MemoryUsage, event

LATER = "2027-06-01"


def at(text: str) -> int:
    """An instant, or a day's UTC midnight."""
    return parse_instant(text if "T" in text else f"{text}T00:00:00Z")


class Office:
    """Bills one tenant, acme."""

    def __init__(self, plans: dict[str, Any], **sections: Any) -> None:
        self.terms: dict[int, Terms] = {}
        self.usage = MemoryUsage()
        self.book = BillingBook()
        self.apply(catalog_of(plans, **sections))

    def apply(self, catalog: Catalog) -> None:
        """A new catalog version."""
        version = len(self.terms) + 1
        self.terms[version] = Terms(version, catalog, ProviderPrices(catalog.provider_prices, seed=None))

    def use(self, day: str, **counts: Any) -> UsageRow:
        """One event."""
        row = event(at(day), **counts)
        self.usage.add(row)
        return row

    def run(self, month: str, now: str = LATER, *, finalise: bool = True) -> RunOutcome:
        """A billing run; the book is kept."""
        outcome = run_month(self.book, self.terms, self.usage, "acme", month, at(now), finalise=finalise)
        self.book = outcome.book
        return outcome

    def bill(self, month: str, now: str = LATER, *, finalise: bool = True) -> Invoice:
        """The month's invoice after a run that must not be refused."""
        outcome = self.run(month, now, finalise=finalise)
        assert outcome.refused is None
        assert outcome.invoice is not None
        return outcome.invoice

    def void(self, month: str, now: str = LATER) -> RunOutcome:
        """Void the month's invoice."""
        outcome = void_invoice(self.book, "acme", month, at(now))
        self.book = outcome.book
        return outcome

    def credits(self, now: str = LATER) -> dict[str, CreditBalance]:
        """Credits by id."""
        catalog = self.terms[max(self.terms)].catalog
        return {balance.id: balance for balance in balances(catalog.credits, self.book, at(now))}


def lines(invoice: Invoice, kind: str) -> list[InvoiceLine]:
    """The lines of a type."""
    return [line for line in invoice.lines if line.type == kind]


def amounts(invoice: Invoice, kind: str) -> list[Decimal]:
    """Their amounts."""
    return [line.amount for line in lines(invoice, kind)]


def credit(
    name: str, amount: str, start: str | None = None, expires: str | None = None, priority: int = 1
) -> dict[str, Any]:
    """A credit of the tenant."""
    given = {"id": name, "tenant": "acme", "amount": amount, "from": start, "expires": expires, "priority": priority}
    return {key: value for key, value in given.items() if value is not None}


def tax(rate: str, name: str = "VAT", country: str = "DE", *, inclusive: bool = False) -> dict[str, Any]:
    """A tax."""
    return {"country": country, "rate": rate, "name": name, "inclusive": inclusive}
