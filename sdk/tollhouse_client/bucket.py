"""A token bucket of a tenant or a key (`rate_limits`), as far as this gate's own calls empty it.

Counted as the service counts: in nanoseconds of the time that the bucket takes to fill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tollhouse_client.state_reading import RateLimit

MICROSECOND_NS: Final = 1_000
SECOND_NS: Final = 10**9
MINUTE_NS: Final = 60 * SECOND_NS


@dataclass(slots=True, eq=False)
class Bucket:
    """It holds `burst` units of the meter and fills at `per_minute`. full_ns: the instant at which it is full."""

    meter: str
    per_minute: int
    burst: int
    full_ns: int = 0

    @property
    def name(self) -> str:
        """As the service names it."""
        return f"rate-{self.meter}"

    def _draws_ns(self, units: Mapping[str, int]) -> int:
        """A call larger than the bucket takes all of it: it waits for a full one, and not for ever."""
        return min(-(-units.get(self.meter, 0) * MINUTE_NS // self.per_minute), self.whole_ns)

    @property
    def whole_ns(self) -> int:
        """What it takes to fill."""
        return -(-self.burst * MINUTE_NS // self.per_minute)

    def wait_ns(self, units: Mapping[str, int], now_us: int) -> int:
        """Until it holds so much; 0 or less: it does now."""
        now_ns = now_us * MICROSECOND_NS
        return max(self.full_ns, now_ns) - now_ns + self._draws_ns(units) - self.whole_ns

    def draw(self, units: Mapping[str, int], now_us: int) -> None:
        """Take it out."""
        self.full_ns = max(self.full_ns, now_us * MICROSECOND_NS) + self._draws_ns(units)


def buckets_of(limits: Sequence[RateLimit], known: Sequence[Bucket], proxies: int) -> tuple[Bucket, ...]:
    """Buckets of these limits, this gate's part of each; what was drawn stays drawn."""
    full_ns = {bucket.meter: bucket.full_ns for bucket in known}
    return tuple(
        Bucket(meter, max(1, per_minute // proxies), max(1, burst // proxies), full_ns.get(meter, 0))
        for meter, per_minute, burst in limits
    )


def first_empty(buckets: Sequence[Bucket], units: Mapping[str, int], now_us: int) -> Bucket | None:
    """The first that does not hold so much, or None."""
    for bucket in buckets:
        if bucket.wait_ns(units, now_us) > 0:
            return bucket
    return None
