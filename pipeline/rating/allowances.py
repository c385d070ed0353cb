"""Allowances: units that cost nothing, used up in order of event time, within an event in class order.

Where several allowances cover a unit, the first in the plan's list that has room takes it. Units taken do not count
towards tiers. The amount is that of the version in force; what was used under earlier versions stays used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.catalog import matches
from schemas.catalog import Allowance
from schemas.instants import quarter_of
from schemas.tokens import CLASSES, TOKEN_CLASSES, ZERO, Classes, index_of, total_tokens
from schemas.usage import UsageRow

Taken = tuple[Classes, int]
"""Free units of a row: by class, and requests."""

NOTHING: Taken = (ZERO, 0)


class Covering(NamedTuple):
    """Positions of the allowances that cover a model's usage, in list order. named: the classes that any covers."""

    classes: tuple[tuple[int, ...], ...]
    requests: tuple[int, ...]
    named: tuple[tuple[str, tuple[int, ...]], ...]


class UsageMismatch(Exception):
    """Sums and what they are made of do not agree: read both in one snapshot, or rebuild the sums."""


class Allowances:
    """The allowances of one plan version; `used` is shared by the versions of the plan, by slot.

    known: what covers which model, kept by the caller where it makes many of these from the same terms.
    """

    def __init__(
        self,
        terms: Sequence[Allowance],
        slots: Sequence[int],
        used: list[int],
        known: dict[str, Covering] | None = None,
    ) -> None:
        self._terms = terms
        self._slots = slots
        self._used = used
        self._by_model: dict[str, Covering] = {} if known is None else known

    def live(self) -> bool:
        """Whether any allowance has room left."""
        return any(self._room(i) > 0 for i in range(len(self._terms)))

    def _room(self, i: int) -> int:
        return self._terms[i].amount - self._used[self._slots[i]]

    def _covering(self, model: str) -> Covering:
        """What covers the model."""
        found = self._by_model.get(model)
        if found is None:
            own = [(i, term.meter) for i, term in enumerate(self._terms) if matches(term.models, model)]
            classes = tuple(
                tuple(i for i, meter in own if meter == name or (meter == "tokens" and name in TOKEN_CLASSES))
                for name in CLASSES
            )
            requests = tuple(i for i, meter in own if meter == "requests")
            named = tuple((name, covering) for name, covering in zip(CLASSES, classes, strict=True) if covering)
            found = Covering(classes, requests, named)
            self._by_model[model] = found
        return found

    def order_matters(self, rows: Iterable[UsageRow]) -> bool:
        """Whether an allowance may run out within the rows, so that which of them comes first decides who pays."""
        wanted = [0] * len(self._terms)
        for row in rows:
            for i, term in enumerate(self._terms):
                if matches(term.models, row.model):
                    wanted[i] += _units(term.meter, row)
        return any(0 < self._room(i) < wanted[i] for i in range(len(self._terms)))

    def take(self, model: str, classes: Classes, requests: int) -> Taken:
        """Free units of the next usage in order of time; they are used from now on."""
        known = self._covering(model)
        free = tuple(self._draw(covering, units) for covering, units in zip(known.classes, classes, strict=True))
        return free, self._draw(known.requests, requests)

    def take_named(self, model: str, tokens: Mapping[str, int], requests: int) -> tuple[dict[str, int], int]:
        """As take, for a few classes by name: free units of those that an allowance covers."""
        known = self._covering(model)
        free = {name: self._draw(covering, tokens[name]) for name, covering in known.named if name in tokens}
        return free, self._draw(known.requests, requests)

    def _draw(self, covering: tuple[int, ...], units: int) -> int:
        taken = 0
        for i in covering:
            part = min(units - taken, max(self._room(i), 0))
            self._used[self._slots[i]] += part
            taken += part
        return taken


def _units(meter: str, row: UsageRow) -> int:
    if meter == "requests":
        return row.requests
    return total_tokens(row.classes) if meter == "tokens" else row.classes[index_of(meter)]


def in_order(
    rows: Sequence[UsageRow],
    allowances: Allowances,
    firm: Callable[[UsageRow], bool],
    expand: Callable[[Sequence[UsageRow]], Sequence[UsageRow]],
) -> Iterable[UsageRow]:
    """The rows, each group of them (of one month, day or quarter of an hour) in finer ones where its sums cannot tell.

    firm: whether a row of a day or month can be priced as a whole. expand: a group in finer rows; of a quarter, its
    single events. Lazy on purpose: whether an allowance runs out in a group is known once the groups before it have
    been taken.
    """
    start = 0
    while start < len(rows):
        live = allowances.live()
        if not live and not rows[start].span_us:
            yield rows[start]
            start += 1
            continue
        mark = _stretch(rows[start])
        end = start + 1
        while end < len(rows) and _stretch(rows[end]) == mark:
            end += 1
        group = rows[start:end]
        start = end
        single = len(group) == 1 and group[0].events == 1
        ordered = single or not live or not allowances.order_matters(group)
        if not mark[1]:
            yield from group if ordered else _same_usage(group, expand(group))
        elif ordered and all(map(firm, group)):
            yield from group
        else:
            yield from in_order(_same_usage(group, expand(group)), allowances, firm, expand)


def _stretch(row: UsageRow) -> tuple[int, int]:
    """Start and span of the month or day that the row sums up; start of the quarter of an hour, and 0."""
    return (row.time_us, row.span_us) if row.span_us else (quarter_of(row.time_us), 0)


def _same_usage(group: Sequence[UsageRow], events: Sequence[UsageRow]) -> Sequence[UsageRow]:
    """The events (or finer sums), after a look that they are what was summed: a bill must not depend on which it is."""
    if _sum(group) != _sum(events):
        raise UsageMismatch(f"sums and what they are made of differ at {group[0].time_us} for {group[0].tenant}")
    return events


def _sum(rows: Sequence[UsageRow]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*((*row.classes, row.requests) for row in rows), strict=True)))
