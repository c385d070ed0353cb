"""Usage in memory for tests: single events, and their sums by quarter of an hour as the ledger keeps them."""

from bisect import bisect_left, insort
from collections.abc import Sequence

from schemas.instants import QUARTER_US, quarter_of
from schemas.tokens import CLASSES, Classes
from schemas.usage import UsageRow


def classes_of(**counts: int) -> Classes:
    """Counts by name, the others zero."""
    assert set(counts) <= set(CLASSES)
    return tuple(counts.get(name, 0) for name in CLASSES)


def event(
    time_us: int,
    *,
    tenant: str = "acme",
    model: str = "m-small",
    provider: str = "openai",
    key: str = "k1",
    tier: str = "standard",
    band: int = 0,
    pooled: bool = True,
    requests: int = 1,
    **counts: int,
) -> UsageRow:
    """One event."""
    return UsageRow(time_us, tenant, key, provider, model, tier, band, pooled, classes_of(**counts), requests)


class MemoryUsage:
    """A UsageSource. Events are kept in order of time; those of one instant in order of arrival here."""

    def __init__(self, events: Sequence[UsageRow] = ()) -> None:
        self._events: list[UsageRow] = []
        for row in events:
            self.add(row)

    def add(self, row: UsageRow) -> None:
        insort(self._events, row, key=lambda r: r.time_us)

    def remove(self, row: UsageRow) -> None:
        self._events.remove(row)

    def events(self, tenant: str, start_us: int, end_us: int) -> list[UsageRow]:
        times = [row.time_us for row in self._events]
        inside = self._events[bisect_left(times, start_us) : bisect_left(times, end_us)]
        return [row for row in inside if row.tenant == tenant]

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> list[UsageRow]:
        sums: dict[tuple[object, ...], UsageRow] = {}
        for n, row in enumerate(self.events(tenant, start_us, end_us)):
            quarter = quarter_of(row.time_us)
            if quarter < start_us or quarter + QUARTER_US > end_us:
                sums[row.time_us, n] = row
                continue
            kind = (quarter, row.key, row.provider, row.model, row.service_tier, row.size_band, row.pooled)
            whole = sums.get(kind)
            if whole is None:
                sums[kind] = row._replace(time_us=quarter)
            else:
                sums[kind] = whole._replace(
                    classes=tuple(a + b for a, b in zip(whole.classes, row.classes, strict=True)),
                    requests=whole.requests + row.requests,
                    events=whole.events + row.events,
                )
        return sorted(sums.values(), key=lambda row: (row.time_us, row.model, row.key))
