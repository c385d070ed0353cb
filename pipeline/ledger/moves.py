"""What a batch adds to the sums: one move an entry that counts or ceases to, or one for many plain events alike.

Rollups, quotas, alerts and leak minutes are all linear in the counts, so they are made from moves, and moves of plain
events are summed first: by use, minute, network and agent, in columns (numpy, 64 bits; a plain event counts below 2^40
of each class, so that a batch cannot come near their end).
"""

from collections.abc import Sequence
from itertools import chain
from operator import neg
from typing import Final, NamedTuple

import numpy as np

from pipeline.fold import Entry
from pipeline.plain import Plain
from schemas.instants import MINUTE_US
from schemas.tokens import CLASSES, ZERO, Classes

WIDTH: Final = len(CLASSES)


class Move(NamedTuple):
    """What is added to the sums, with its sign. time_us decides window and price; of many events it is the first's, and
    all lie in its minute. billable: counts that are billed and costed. arrival_us: the latest. events: how many."""

    tenant: str
    key: str
    provider: str
    model: str
    service_tier: str
    size_band: int
    pooled: bool
    network: str
    agent: str
    time_us: int
    billable: Classes
    requests: int
    errors: int
    events: int
    arrival_us: int


def move_of(entry: Entry, sign: int) -> Move:
    """An entry that begins (+1) or ceases (-1) to count."""
    e = entry.event
    billable, error = e.billable, int(e.status == "error")
    return Move(
        e.identity.tenant,
        e.key,
        e.provider,
        e.model,
        e.service_tier,
        e.size_band,
        e.pooled,
        e.network,
        e.agent,
        entry.time_us,
        billable if sign > 0 else tuple(map(neg, billable)),
        sign * e.requests,
        sign * error,
        sign,
        e.arrival_us,
    )


def moves_of(events: Sequence[Plain]) -> list[Move]:
    """Plain events as moves: one for those alike, one each where a cost is rounded event by event."""
    groups: dict[tuple[object, ...], int] = {}
    firsts: list[Plain] = []
    of = []
    for event in events:
        use = event.use
        at = event.at if use.apart else 0
        key = (use, event.size_band, event.time_us // MINUTE_US, event.network, event.agent, at)
        number = groups.get(key)
        if number is None:
            number = groups[key] = len(firsts)
            firsts.append(event)
        of.append(number)
    if not firsts:
        return []
    sums, counts, arrivals = _sums(events, of, len(firsts))
    return [
        _move(first, tuple(sum_), count, arrival)
        for first, sum_, count, arrival in zip(firsts, sums, counts, arrivals, strict=True)
    ]


def _sums(events: Sequence[Plain], of: Sequence[int], groups: int) -> tuple[list[list[int]], list[int], list[int]]:
    """Classes, numbers of events and latest arrivals by group."""
    where = np.array(of)
    flat = np.fromiter(
        chain.from_iterable(event.classes for event in events), dtype=np.int64, count=len(events) * WIDTH
    )
    order = np.argsort(where, kind="stable")
    starts = np.searchsorted(where[order], np.arange(groups))
    sums = np.add.reduceat(flat.reshape(-1, WIDTH)[order], starts, axis=0)
    arrivals = np.fromiter((event.message.arrival_us for event in events), dtype=np.int64, count=len(events))
    latest = np.maximum.reduceat(arrivals[order], starts)
    return sums.tolist(), np.bincount(where, minlength=groups).tolist(), latest.tolist()


def _move(first: Plain, classes: Classes, count: int, arrival_us: int) -> Move:
    use = first.use
    return Move(
        use.tenant,
        use.key,
        use.provider,
        use.model,
        use.service_tier,
        first.size_band,
        use.pooled,
        first.network,
        first.agent,
        first.time_us,
        classes if use.billed else ZERO,
        count * use.requests,
        count * use.error,
        count,
        arrival_us,
    )
