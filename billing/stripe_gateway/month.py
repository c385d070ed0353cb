"""A month's invoices, one after the other or a few side by side, with progress and a summary."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.result import PushResult
from schemas.catalog import Tenant
from schemas.invoice import Invoice

Progress = Callable[[int, int, PushResult], None]
"""Called after each invoice: (done, of, result)."""


@dataclass(frozen=True, slots=True)
class MonthSummary:
    """results in the order of the invoices. outcomes: how many ended how. totals: pushed minor units by currency."""

    results: tuple[PushResult, ...]
    outcomes: dict[str, int]
    totals_minor: dict[str, int]
    requests: int

    @property
    def clean(self) -> bool:
        """Whether every invoice is at Stripe, or had nothing to bill, and no charge was declined."""
        bad = ("refused", "failed")
        return not any(result.outcome in bad or result.payment_error for result in self.results)


def push_month(
    gateway: StripeGateway,
    invoices: Sequence[tuple[Invoice, Tenant]],
    *,
    dry_run: bool = False,
    progress: Progress = lambda _done, _of, _result: None,
) -> MonthSummary:
    """Push all; one that fails does not stop the others, but refused credentials stop the rest."""
    results: list[PushResult] = []
    locked = ""

    def push(pair: tuple[Invoice, Tenant]) -> PushResult:
        invoice, tenant = pair
        if locked:
            blank = PushResult(invoice.tenant, invoice.month, invoice.revision, "failed", currency=invoice.currency)
            return replace(blank, reason="not_tried", detail=locked)
        return gateway.push_invoice(invoice, tenant, dry_run=dry_run)

    def each() -> Generator[PushResult, None, None]:
        if gateway.settings.workers <= 1:
            yield from map(push, invoices)
            return
        with ThreadPoolExecutor(gateway.settings.workers, thread_name_prefix="stripe-push") as pool:
            yield from pool.map(push, invoices)

    # Closed on an interruption too: what was not begun is then taken back, what runs comes to its end.
    with closing(each()) as stream:
        for result in stream:
            if result.reason == "credentials":
                locked = result.detail
            results.append(result)
            progress(len(results), len(invoices), result)
    return summary(results)


def summary(results: Iterable[PushResult]) -> MonthSummary:
    """The results counted."""
    kept = tuple(results)
    totals: Counter[str] = Counter()
    for result in kept:
        if result.outcome in ("pushed", "already"):
            totals[result.currency] += result.total_minor
    return MonthSummary(
        results=kept,
        outcomes=dict(sorted(Counter(result.outcome for result in kept).items())),
        totals_minor=dict(sorted(totals.items())),
        requests=sum(result.requests for result in kept),
    )
