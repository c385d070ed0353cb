"""Usage as rating reads it: rows of integers with everything that decides a price."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from schemas.instants import QUARTER_US
from schemas.tokens import Classes

ANY_SPAN: Final = 2**63
"""Longer than any stretch of time that is summed up."""


class UsageRow(NamedTuple):
    """One event, or the sum of all events alike in every text field and `size_band` within one stretch of time.

    time_us: event time, or the stretch's start. span_us: the length of the stretch where it is a day or a month; 0 for
    an event and for a quarter of an hour. events: how many events are in it. classes: billable counts (answers
    from the proxy's own cache bring none). requests: calls with status ok or aborted, cache answers included.
    size_band: the largest threshold of the model's prices below the request's input side, 0 if none.
    pooled: whether a pooled key was used; usage on a tenant's own key is counted and never billed.
    """

    time_us: int
    tenant: str
    key: str
    provider: str
    model: str
    service_tier: str
    size_band: int
    pooled: bool
    classes: Classes
    requests: int
    events: int = 1
    span_us: int = 0


class UsageSource(Protocol):
    """Where rating gets a tenant's usage. Both give rows in order of time; [start_us, end_us) is half open.

    Where a bound lies inside a quarter of an hour, `rows` gives that quarter's events one by one, so that each row lies
    wholly inside the period; and no two rows of different stretches overlap.
    """

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> Sequence[UsageRow]:
        """Sums by stretches of at most span_max_us: by quarters of an hour, and longer ones where that allows it."""

    def events(self, tenant: str, start_us: int, end_us: int) -> Sequence[UsageRow]:
        """Single events, ordered by (time, source, id)."""
