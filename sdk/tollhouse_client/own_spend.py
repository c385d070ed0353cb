"""What a gate has admitted and the ledger does not show yet: running calls, and ended ones until there is news.

Ended calls are summed by quarters of a second: single ones, kept for seconds, would be work for the garbage collector.
"""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tollhouse_client.state_book import Quota

LENGTHS_KEPT: Final = 1000
"""Ended calls of which the longest counts for the bound."""
BUCKET_US: Final = 250_000


class Held(NamedTuple):
    """What a call holds of one quota, in the turn of its window in which it was admitted."""

    quota: Quota
    turn: int
    units: int


class _Call(NamedTuple):
    held: Sequence[Held]
    began_us: int
    over_us: int


class OwnSpend:
    """Adds to `own` of the quotas and takes off it.

    settle_us: from a call's end until its usage is in the ledger. call_us: a call not ended by then counts as ended.
    """

    def __init__(self, settle_us: int, call_us: int) -> None:
        self.settle_us, self._call_us = settle_us, call_us
        self._tickets = itertools.count(1)
        self._running: dict[int, _Call] = {}
        self._ended: dict[int, set[Quota]] = {}
        """Quotas with ended calls by the number of the quarter second, in order."""
        self._lengths_us: deque[int] = deque(maxlen=LENGTHS_KEPT)

    def begin(self, held: Sequence[Held], now_us: int) -> int:
        """A call was admitted; its ticket."""
        ticket = next(self._tickets)
        for quota, _, units in held:
            quota.own += units
        self._running[ticket] = _Call(held, now_us, now_us + self._call_us)
        oldest = next(iter(self._running))
        if self._running[oldest].over_us <= now_us:
            self.end(oldest, {}, now_us)
        return ticket

    def end(self, ticket: int, used: Mapping[str, int], now_us: int) -> None:
        """A call has ended. used: units by meter; a meter left out counts as it was held."""
        call = self._running.pop(ticket, None)
        if call is None:
            return
        self._lengths_us.append(max(0, now_us - call.began_us))
        bucket = now_us // BUCKET_US
        quotas = self._ended.get(bucket)
        if quotas is None:
            quotas = self._ended[bucket] = set()
        for quota, turn, units in call.held:
            if quota.turn == turn:
                actual = used.get(quota.meter, units)
                quota.own += actual - units
                quota.ended[bucket] = quota.ended.get(bucket, 0) + actual
                quotas.add(quota)

    def release(self, ticket: int) -> None:
        """A call was not made."""
        call = self._running.pop(ticket, None)
        for quota, turn, units in call.held if call is not None else ():
            if quota.turn == turn:
                quota.own -= units

    def news(self, known_us: int) -> None:
        """Everything that was committed before this instant is known: calls that ended long enough before it too."""
        due = [bucket for bucket in self._ended if (bucket + 1) * BUCKET_US + self.settle_us <= known_us]
        for bucket in due:
            for quota in self._ended.pop(bucket):
                quota.own -= quota.ended.pop(bucket, 0)

    @property
    def running(self) -> int:
        """Calls that have not ended."""
        return len(self._running)

    @property
    def longest_us(self) -> int:
        """The longest of the last calls."""
        return max(self._lengths_us, default=0)
