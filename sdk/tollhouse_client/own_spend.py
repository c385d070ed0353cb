"""What a gate has admitted and the ledger does not show yet: running calls, and ended ones until there is news.

Ended calls are summed by quarters of a second: single ones, kept for seconds, would be work for the garbage collector.
"""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from tollhouse_client.quota_window import Quota

LENGTHS_KEPT: Final = 1000
"""Ended calls of which the longest counts for the bound."""
BUCKET_US: Final = 250_000


NEWS: Final = 64
"""Quotas at a time that news take ended calls off: more would keep a caller who wants a decision waiting."""

Held = tuple[Quota, int, int]
"""What a call holds of one quota: the quota, the turn of its window in which the call was admitted, units."""
_Call = tuple[list[Held], int]
"""What a running call holds, and when it began."""


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
        self._look_us = 0
        """No call is over its time before this."""
        self._lengths_us: deque[int] = deque(maxlen=LENGTHS_KEPT)

    def begin(self, quotas: Sequence[Quota], units: Mapping[str, int], now_us: int) -> int:
        """A call was admitted that counts in these quotas, with so many units by meter; its ticket."""
        held = []
        for quota in quotas:
            number = units.get(quota.meter, 0)
            quota.own += number
            held.append((quota, quota.turn, number))
        ticket = next(self._tickets)
        self._running[ticket] = (held, now_us)
        if now_us >= self._look_us:
            self._end_the_oldest(now_us)
        return ticket

    def _end_the_oldest(self, now_us: int) -> None:
        """End calls that were never ended, one for each that begins; the next look is when the oldest is due."""
        oldest = next(iter(self._running))
        if self._running[oldest][1] + self._call_us <= now_us:
            self.end(oldest, {}, now_us)
        else:
            self._look_us = self._running[oldest][1] + self._call_us

    def end(self, ticket: int, used: Mapping[str, int], now_us: int) -> None:
        """A call has ended. used: units by meter; a meter left out counts as it was held."""
        call = self._running.pop(ticket, None)
        if call is None:
            return
        held, began_us = call
        self._lengths_us.append(max(0, now_us - began_us))
        bucket = now_us // BUCKET_US
        quotas = self._ended.get(bucket)
        if quotas is None:
            quotas = self._ended[bucket] = set()
        for quota, turn, units in held:
            if quota.turn == turn:
                actual = used.get(quota.meter, units)
                quota.own += actual - units
                quota.ended[bucket] = quota.ended.get(bucket, 0) + actual
                quotas.add(quota)

    def release(self, ticket: int) -> None:
        """A call was not made."""
        call = self._running.pop(ticket, None)
        for quota, turn, units in call[0] if call is not None else ():
            if quota.turn == turn:
                quota.own -= units

    def news(self, known_us: int) -> bool:
        """Everything that was committed before this instant is known: calls that ended long enough before it too.

        It takes off a piece of them; True: call it again, there is more.
        """
        over_us = known_us - self.settle_us - BUCKET_US
        due = next((bucket for bucket in self._ended if bucket * BUCKET_US <= over_us), None)
        if due is None:
            return False
        quotas = self._ended[due]
        for _ in range(min(NEWS, len(quotas))):
            quota = quotas.pop()
            quota.own -= quota.ended.pop(due, 0)
        if not quotas:
            del self._ended[due]
        return True

    @property
    def running(self) -> int:
        """Calls that have not ended."""
        return len(self._running)

    @property
    def longest_us(self) -> int:
        """The longest of the last calls."""
        return max(self._lengths_us, default=0)
