"""A quota in its window, as a gate that decides by itself knows it.

Units are whole numbers, instants microseconds of UTC.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tollhouse_client.state_reading import QuotaSaid

SAMPLES_MAX: Final = 120
"""Looks at a quota's use that its rate is worked out from: a minute, at two in a second."""
SECOND_US: Final = 1_000_000
NEVER_US: Final = 2**62
NOTHING: Final = -(2**62)
"""Below anything that can be used: the bound of a quota whose limit is 0."""


@dataclass(slots=True, eq=False)
class Quota:
    """A quota in its window, and what this gate has admitted in it that the ledger did not show yet (`own`).

    bound: what used, reserved, own and the estimate may come to; None: anything. told: used + reserved as told last.
    key: of a throttle, the key that it is for. turn: grows when the window does.
    """

    scope: str
    name: str
    partition: int
    meter: str = ""
    models: str = "*"
    window: str = ""
    bound: int | None = None
    key: str | None = None
    start_us: int = 0
    end_us: int = 0
    told: int = 0
    version: int = -1
    told_us: int = 0
    own: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    """The part of `own` that is of ended calls, by when they ended."""
    turn: int = 0
    samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))

    def take(self, said: QuotaSaid) -> None:
        """A message about it; what is older than what is known changes nothing."""
        if (said.start_us, said.version) < (self.start_us, self.version):
            return
        self.meter, self.models, self.window, self.key = said.meter, said.models, said.window, said.key
        self.bound = (NOTHING if said.limit == 0 else said.limit) if said.blocks else None
        if said.start_us > self.start_us:
            self._turn(said.start_us)
        self.end_us, self.version = said.end_us, said.version
        self.told = said.used + said.reserved
        self.told_us = said.told_us
        self.samples.append((said.told_us, said.used))

    def turn_over(self) -> None:
        """The window is over and the next was not told yet: it begins where this one ends, with nothing used."""
        self._turn(self.end_us)
        self.end_us = NEVER_US  # until it is told
        self.told = 0
        self.version = -1

    def _turn(self, start_us: int) -> None:
        self.start_us = start_us
        self.own = 0
        self.ended.clear()
        self.turn += 1
        self.samples.clear()

    def growth(self, over_us: int) -> int:
        """Units that this much time brings at the fastest growth of `used` that was told in this window, measured over
        a second at least."""
        most, first = 0, None
        for told_us, used in self.samples:
            if first is None:
                first = (told_us, used)
            elif told_us - first[0] >= SECOND_US:
                most = max(most, -(-(used - first[1]) * over_us // (told_us - first[0])))
                first = (told_us, used)
        return most


def first_full(quotas: Sequence[Quota], units: Mapping[str, int], now_us: int) -> Quota | None:
    """The first of the quotas that has no room for so much more, or None. A window that is over turns."""
    for quota in quotas:
        if now_us >= quota.end_us:
            quota.turn_over()
        bound = quota.bound
        if bound is not None and quota.told + quota.own + units.get(quota.meter, 0) > bound:
            return quota
    return None
