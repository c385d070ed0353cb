"""The first page's figures, read from the ledger; money exact, rounded only where it is shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from billing.plots import DayCount, Look, usage_by_day
from billing.plots.usage import SERIES_MAX
from pipeline.ledger import Connection, Ledger, books
from pipeline.ledger.rejected import count_open
from pipeline.ledger.sums import usage_bounds
from pipeline.ledger.tables import alerts, intake
from schemas.instants import DAY_US
from schemas.invoice import InvoiceSummary
from schemas.money import Money
from schemas.periods import local_date
from schemas.tokens import TOKEN_CLASSES
from tollhouse.closing import load_summaries
from tollhouse.quotas import quota_rows
from tollhouse.usage import Total, token_counts, totals

DAYS_MAX: Final = 90
"""Days in the plot of usage: a quarter of a year can still be read."""
ROWS_MAX = 20
"""Rows of the usage table; the rest are one row, so that the sum is whole, and have a page of their own."""


@dataclass(slots=True)
class UsageLine:
    """One tenant's use of one key."""

    tenant: str
    key: str
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    cost: Decimal | None = Decimal(0)

    def add(self, requests: int, errors: int, tokens: int, cost: Decimal | None) -> None:
        """More of it; a cost that is unknown makes the sum unknown."""
        self.requests += requests
        self.errors += errors
        self.tokens += tokens
        self.cost = None if self.cost is None or cost is None else self.cost + cost


@dataclass(slots=True)
class Overview:
    """Everything on the first page. money: None where it cannot be told. months: cost of each month with usage."""

    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    alerts_open: int = 0
    whole: UsageLine = field(default_factory=lambda: UsageLine("", ""))
    lines: list[UsageLine] = field(default_factory=list)
    months: dict[str, Decimal | None] = field(default_factory=dict)
    quotas: list[dict[str, Any]] = field(default_factory=list)
    invoices: list[InvoiceSummary] = field(default_factory=list)
    invoices_count: int = 0
    month: str = ""
    revenue: list[Money] = field(default_factory=list)
    month_cost: Decimal | None = None
    margin: Money | None = None
    margin_share: int | None = None


def overview(ledger: Ledger, now_us: int, tenant: str | None = None) -> Overview:
    """The figures of all tenants, or of one."""
    view = Overview()
    kinds = ("tenant", "key") if tenant is None else ("tenant", "model")
    for (name, kind), total in totals(ledger, kinds, tenant=tenant).items():
        line = UsageLine(name, kind)
        line.add(total.requests, total.errors, tokens_of(total), total.cost)
        view.lines.append(line)
        view.whole.add(line.requests, line.errors, line.tokens, line.cost)
    view.lines = _most(view.lines)
    view.months = {month: total.cost for (month,), total in totals(ledger, ("month",), tenant=tenant).items()}
    view.quotas = sorted(quota_rows(ledger, now_us, tenant), key=_fullest)
    _money(view, ledger, tenant)
    if tenant is None:
        taken = ledger.rows(intake)
        view.counted = sum(row["counted"] for row in taken)
        view.duplicates = sum(row["duplicates"] for row in taken)
        view.rejected = ledger.read(count_open)
        view.alerts_open = len(ledger.rows(alerts, alerts.c.state == "open"))
    return view


def tokens_of(total: Total) -> int:
    """All tokens, without what is counted in requests."""
    return sum(total.classes[: len(TOKEN_CLASSES)])


def _most(lines: Iterable[UsageLine]) -> list[UsageLine]:
    ordered = sorted(lines, key=lambda line: (-line.tokens, line.tenant, line.key))
    shown, rest = ordered[:ROWS_MAX], ordered[ROWS_MAX:]
    if rest:
        others = UsageLine(f"{len(rest)} more", "")
        for line in rest:
            others.add(line.requests, line.errors, line.tokens, line.cost)
        shown.append(others)
    return shown


def share(quota: dict[str, Any], *names: str) -> int:
    """Whole per cent of the limit; an unlimited quota is at 0, a limit of 0 is full."""
    if quota["limit"] is None:
        return 0
    limit = Decimal(quota["limit"])
    return int(sum(Decimal(quota[name]) for name in names) * 100 // limit) if limit else 100


def _fullest(quota: dict[str, Any]) -> tuple[int, str, str]:
    return -share(quota, "used", "reserved"), quota["tenant"], quota["name"]


def _money(view: Overview, ledger: Ledger, tenant: str | None) -> None:
    """Revenue of the newest month with a closed invoice, else with any: subtotals, before credits and tax. Drafts of a
    month that runs hold its fees and little of its usage, so their margin would say nothing."""
    counts = ledger.read(lambda connection: books.counts(connection, tenant))
    view.invoices_count = sum(counts.values())
    live = sorted({month for month, status in counts if status != "void"}, reverse=True)
    if live:
        view.month = max((month for month, status in counts if status not in ("draft", "void")), default=live[0])
    view.invoices = ledger.read(lambda connection: _newest(connection, tenant, counts, view.month))
    if not live:
        return
    sums: dict[str, Decimal] = {}
    for invoice in view.invoices:
        if invoice.month == view.month and invoice.status != "void":
            sums[invoice.currency] = sums.get(invoice.currency, Decimal(0)) + invoice.subtotal
    view.revenue = [Money(amount, currency) for currency, amount in sorted(sums.items())]
    view.month_cost = view.months.get(view.month, Decimal(0))
    # Providers' prices are in USD; what was billed in another currency has no margin without a rate for it.
    if set(sums) == {"USD"} and view.month_cost is not None:
        view.margin = Money(sums["USD"] - view.month_cost, "USD")
        view.margin_share = int(view.margin.amount * 100 / sums["USD"]) if sums["USD"] else None


def _newest(
    connection: Connection, tenant: str | None, counts: Mapping[tuple[str, str], int], needed: str
) -> list[InvoiceSummary]:
    """A tenant's invoices; of all tenants those of the newest months, as many as are shown, and of the month needed."""
    if tenant is not None:
        return load_summaries(connection, tenant)
    months: set[str] = set()
    rows = 0
    for month in sorted({month for month, _ in counts}, reverse=True):
        if rows < ROWS_MAX or month == needed:
            months.add(month)
        rows += sum(n for (of, _), n in counts.items() if of == month)
    return [one for month in sorted(months, reverse=True) for one in load_summaries(connection, month=month)]


def day_counts(ledger: Ledger, tenant: str | None = None, key: str | None = None) -> list[DayCount]:
    """Tokens of the newest DAYS_MAX days with usage, by local day. Of one tenant by model; of all, or of a key, by
    tenant: the largest by name and the rest as one, so that the picture needs no row a tenant and day."""
    bounds = ledger.read(lambda connection: usage_bounds(connection, tenant))
    newest_us = max((own.end_us for own in bounds.values()), default=0)
    start_us = newest_us - newest_us % DAY_US - DAYS_MAX * DAY_US
    counts: dict[tuple[str, ...], int] = {}
    if tenant is not None:
        counts = token_counts(ledger, ("day", "model"), tenant=tenant, start_us=start_us, key=key)
    else:
        use = {name: n for (name,), n in token_counts(ledger, ("tenant",), start_us=start_us, key=key).items() if n}
        largest = sorted(use, key=lambda name: (-use[name], name))[: SERIES_MAX - (len(use) > SERIES_MAX)]
        for name in largest:
            own = token_counts(ledger, ("day",), tenant=name, start_us=start_us, key=key)
            counts |= {(day, name): tokens for (day,), tokens in own.items()}
        if len(use) > len(largest):
            rest = token_counts(ledger, ("day",), start_us=start_us, key=key)
            for (day, _), tokens in counts.items():
                rest[day,] -= tokens
            counts |= {(day, f"{len(use) - len(largest)} others"): tokens for (day,), tokens in rest.items()}
    # The first day of a zone may be cut by the start.
    first = local_date(start_us + DAY_US, "UTC")
    made = [DayCount(date.fromisoformat(day), label, tokens) for (day, label), tokens in sorted(counts.items())]
    return [count for count in made if count.day >= first]


def usage_plot(ledger: Ledger, tenant: str | None, look: Look) -> bytes:
    """Tokens by day, stacked by tenant (or, for one tenant, by model)."""
    by = "tenant" if tenant is None else "model"
    return usage_by_day(day_counts(ledger, tenant), f"Tokens by day and {by}, the newest {DAYS_MAX} days", look=look)
