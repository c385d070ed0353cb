"""Report minus metered, a line for each key, model and class; what the sums of a key mean."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from pipeline.prices.names import model_names
from pipeline.reconcile.rows import MeteredRow, ReportRow, by_name, merged
from schemas.tokens import CLASSES, COUNTERS

TOLERANCE: Final = Decimal("0.005")
"""Share of a key's metered tokens that two ways of counting, and the two ends of the period, may differ by."""
LEAST_TOKENS: Final = 1000
"""Under this a difference is one call at a bound of the period."""
NO_KEY: Final = "(no key)"
"""Use that the provider reports without a key: its own console, or keyless."""
VERDICTS: Final = ("agrees", "unmetered", "unreported", "no_report", "unknown_key")


@dataclass(frozen=True, slots=True)
class Line:
    """One key, model and class. difference: reported minus metered; meter `requests` where the report has them."""

    key: str
    model: str
    meter: str
    reported: int
    metered: int

    @property
    def difference(self) -> int:
        """Reported minus metered."""
        return self.reported - self.metered


@dataclass(frozen=True, slots=True)
class KeyTotal:
    """A key's tokens, and what they mean: agrees; unmetered (used past us, or lost usage); unreported (counted twice,
    or the report is late); no_report; unknown_key (not in the catalog)."""

    key: str
    reported: int
    metered: int
    verdict: str

    @property
    def difference(self) -> int:
        """Reported minus metered."""
        return self.reported - self.metered


@dataclass(frozen=True, slots=True)
class Outcome:
    """lines and totals in order of key, model and class."""

    lines: tuple[Line, ...]
    totals: tuple[KeyTotal, ...]

    @property
    def verdict(self) -> str:
        """agrees, or differs if one key does."""
        return "agrees" if all(total.verdict == "agrees" for total in self.totals) else "differs"


def compare(
    report: Iterable[ReportRow],
    metered: Iterable[MeteredRow],
    *,
    has: Collection[str],
    keys: Mapping[str, str],
) -> Outcome:
    """Report minus metered. has: classes that this provider's report tells apart. keys: the provider's id of a key to
    the catalog's; a key that it does not have keeps the provider's id and is unknown_key."""
    sums: dict[tuple[str, str], dict[str, list[int]]] = {}
    reported_keys: set[str] = set()
    for row in report:
        key = NO_KEY if row.key is None else keys.get(row.key, row.key)
        reported_keys.add(key)
        counts = merged(row.counts, has)
        if row.requests is not None:
            counts["requests"] = row.requests
        _add(sums, key, row.model, counts, 0)
    with_requests = any("requests" in meters for meters in sums.values())
    for one in metered:
        counts = merged(by_name(one.classes), has)
        if with_requests:
            counts["requests"] = one.requests
        _add(sums, one.key, one.model, counts, 1)
    lines = [
        Line(key, model, meter, *pair)
        for (key, model), meters in sorted(sums.items())
        for meter, pair in sorted(meters.items(), key=lambda item: _order(item[0]))
        if any(pair)
    ]
    return Outcome(tuple(lines), _totals(lines, reported_keys, set(keys.values())))


def _add(
    sums: dict[tuple[str, str], dict[str, list[int]]], key: str, model: str | None, counts: Mapping[str, int], side: int
) -> None:
    meters = sums.setdefault((key, model_names(model)[-1] if model else "(no model)"), {})
    for meter, count in counts.items():
        meters.setdefault(meter, [0, 0])[side] += count


def _order(meter: str) -> int:
    return CLASSES.index(meter) if meter in CLASSES else len(CLASSES)


def _totals(lines: Iterable[Line], reported_keys: Collection[str], known: Collection[str]) -> tuple[KeyTotal, ...]:
    sums: dict[str, list[int]] = {}
    for line in lines:
        total = sums.setdefault(line.key, [0, 0])
        if line.meter not in COUNTERS and line.meter != "requests":
            total[0] += line.reported
            total[1] += line.metered
    plain = [KeyTotal(key, total[0], total[1], "") for key, total in sorted(sums.items())]
    return tuple(replace(total, verdict=_verdict(total, reported_keys, known)) for total in plain)


def _verdict(total: KeyTotal, reported_keys: Collection[str], known: Collection[str]) -> str:
    if total.key not in known and total.key != NO_KEY:
        return "unknown_key"
    if total.key not in reported_keys:
        return "no_report"
    if abs(total.difference) <= max(Decimal(LEAST_TOKENS), TOLERANCE * total.metered):
        return "agrees"
    return "unmetered" if total.difference > 0 else "unreported"
