"""What a month's invoices would be under another catalog: a row a tenant, the same usage, the same code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from billing.charges import MonthCharges, Terms, month_charges
from pipeline.ledger import Connection, Ledger
from pipeline.ledger.readers import BoundUsage
from pipeline.prices import ProviderPrices
from schemas.catalog import Catalog
from schemas.instants import QUARTER_US
from schemas.money import EXACT, Money
from schemas.periods import parse_month
from schemas.tokens import input_side
from schemas.usage import UsageRow, UsageSource
from tollhouse.closing import load_book, terms_for


@dataclass(frozen=True, slots=True)
class Comparison:
    """A tenant's charges (usage, true-up, fees; before adjustments, credits and tax) at the terms that hold and at the
    others. None: the tenant is not in that catalog. unrated: (model, meter) that the other catalog has no price for.
    """

    tenant: str
    now: Decimal | None
    now_currency: str | None
    then: Decimal | None
    then_currency: str | None
    unrated: tuple[tuple[str, str], ...]

    @property
    def difference(self) -> Decimal | None:
        """then − now; None where the two cannot be subtracted: a side is missing, or the currencies differ."""
        if self.now is None or self.then is None or self.now_currency != self.then_currency:
            return None
        return self.then - self.now


class _OtherSizes:
    """The ledger's usage with the sizes of requests told apart as another catalog's prices do.

    A rollup keeps the band of its requests' sizes by the thresholds in force; where the other catalog has others, the
    single events are read instead.
    """

    def __init__(self, source: UsageSource, prices: ProviderPrices, now: ProviderPrices) -> None:
        self._source, self._prices, self._now = source, prices, now
        self._differs: dict[tuple[str, str], bool] = {}

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> Sequence[UsageRow]:
        """See UsageSource.rows."""
        rows = self._source.rows(tenant, start_us, end_us, span_max_us)
        return self.events(tenant, start_us, end_us) if any(self._moved(row) for row in rows) else rows

    def events(self, tenant: str, start_us: int, end_us: int) -> Sequence[UsageRow]:
        """See UsageSource.events."""
        return [
            row._replace(size_band=self._prices.size_band(row.provider, row.model, input_side(row.classes)))
            for row in self._source.events(tenant, start_us, end_us)
        ]

    def _moved(self, row: UsageRow) -> bool:
        name = (row.provider, row.model)
        if name not in self._differs:
            self._differs[name] = self._prices.thresholds(*name) != self._now.thresholds(*name)
        return self._differs[name]


def compare(ledger: Ledger, other: Catalog, month: str, tenant: str | None = None) -> list[Comparison]:
    """A row for each tenant of either catalog (or the one), in order of names, in one consistent view of the ledger.

    The terms that hold are those of the month's closed invoice, and the newest where there is none.
    """
    parse_month(month)
    prices = ProviderPrices(other.provider_prices)
    then = Terms(0, other, prices)

    def work(connection: Connection) -> list[Comparison]:
        terms = terms_for(connection, load_book(connection, tenant, month))
        newest = terms[max(terms)]
        source = BoundUsage(connection)
        elsewhere = _OtherSizes(source, prices, ProviderPrices(newest.catalog.provider_prices))
        names = [tenant] if tenant is not None else sorted({*newest.catalog.tenants, *other.tenants})
        closed = _closed(connection, tenant, month)
        return [
            _row(
                name,
                _charges(terms.get(closed.get(name, -1), newest), name, month, source),
                _charges(then, name, month, elsewhere),
            )
            for name in names
        ]

    with localcontext(EXACT):
        return ledger.read(work)


def _closed(connection: Connection, tenant: str | None, month: str) -> dict[str, int]:
    """The catalog version of each tenant's closed invoice of the month."""
    book = load_book(connection, tenant, month)
    return {i.tenant: i.catalog_version for i in book.invoices if i.status not in ("draft", "void")}


def _charges(terms: Terms, tenant: str, month: str, source: UsageSource) -> MonthCharges | None:
    return month_charges(terms, tenant, month, source) if tenant in terms.catalog.tenants else None


def _row(tenant: str, now: MonthCharges | None, then: MonthCharges | None) -> Comparison:
    return Comparison(
        tenant,
        None if now is None else now.subtotal(),
        None if now is None else now.currency,
        None if then is None else then.subtotal(),
        None if then is None else then.currency,
        () if then is None else tuple((model, meter) for model, meter in then.unrated),
    )


def comparison_json(row: Comparison) -> dict[str, Any]:
    """A row as plain JSON data."""
    return {
        "tenant": row.tenant,
        "currency": row.then_currency or row.now_currency,
        "now": _text(row.now, row.now_currency),
        "then": _text(row.then, row.then_currency),
        "difference": _text(row.difference, row.now_currency),
        "now_currency": row.now_currency,
        "unrated": [{"model": model, "meter": meter} for model, meter in row.unrated],
    }


def sums(rows: Sequence[Comparison]) -> list[Mapping[str, str]]:
    """now, then and difference by currency, over the rows that can be subtracted."""
    found: dict[str, list[Decimal]] = {}
    for row in rows:
        if row.difference is None or row.now is None or row.then is None or row.now_currency is None:
            continue
        total = found.setdefault(row.now_currency, [Decimal(0), Decimal(0)])
        total[0] += row.now
        total[1] += row.then
    return [
        {
            "currency": currency,
            "now": _text(now, currency) or "",
            "then": _text(then, currency) or "",
            "difference": _text(then - now, currency) or "",
        }
        for currency, (now, then) in sorted(found.items())
    ]


def _text(amount: Decimal | None, currency: str | None) -> str | None:
    return None if amount is None or currency is None else Money(amount, currency).text()
