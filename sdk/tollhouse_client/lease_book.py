"""The books of leased blocks: what each holds, which calls were admitted on it, and what they can use together.

No input or output, no clock, no lock: `leased_gate` has those. Units are whole numbers by meter (see decisions).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

Units = Mapping[str, int]

LOW: Final = 2
"""Less than one in LOW left of any meter: time to lease the next block, before a caller has to wait for it."""


@dataclass(slots=True, eq=False)
class Lease:
    """One block. granted: by meter; what no quota counts is not in it. until_s, expires_s: on the wall clock.

    spent: what ended calls used and running ones may use. calls: running ones by ticket.
    """

    id: str
    tenant: str
    key: str | None
    model: str
    granted: dict[str, int]
    until_s: float
    expires_s: float
    expires_at: str
    spent: dict[str, int] = field(default_factory=dict)
    calls: dict[int, "Call"] = field(default_factory=dict)
    used_s: float = 0.0

    def fits(self, estimate: Units) -> bool:
        """Whether a call of this estimate may use what is left."""
        spent = self.spent
        return all(spent.get(meter, 0) + estimate.get(meter, 0) <= most for meter, most in self.granted.items())

    def charge(self, units: Units, sign: int = 1) -> None:
        """Add to what is spent, or take off it."""
        for meter, number in units.items():
            self.spent[meter] = max(0, self.spent.get(meter, 0) + sign * number)

    @property
    def low(self) -> bool:
        """Whether less than half of some meter is left."""
        return any(LOW * self.spent.get(meter, 0) > most for meter, most in self.granted.items())

    @property
    def left(self) -> dict[str, int]:
        """Units by meter that no call has been given."""
        return {meter: max(0, most - self.spent.get(meter, 0)) for meter, most in self.granted.items()}


@dataclass(slots=True)
class Call:
    """An admitted call that has not ended. over_s: when it counts as ended, with all of its estimate."""

    lease: Lease
    estimate: Units
    over_s: float


class LeaseBook:
    """All blocks of one gate, by (tenant, model), and the calls on them."""

    def __init__(self) -> None:
        self.pools: dict[tuple[str, str], list[Lease]] = {}
        self.calls: dict[int, Call] = {}
        self._tickets = 0

    def add(self, lease: Lease) -> None:
        """A new block."""
        self.pools.setdefault((lease.tenant, lease.model), []).append(lease)

    def remove(self, lease: Lease) -> None:
        """Forget a block; its calls can still be ended."""
        pool = self.pools.get((lease.tenant, lease.model), [])
        if lease in pool:
            pool.remove(lease)
        if not pool:
            self.pools.pop((lease.tenant, lease.model), None)

    def take(self, tenant: str, model: str, estimate: Units, now_s: float, call_s: float) -> tuple[int, Lease] | None:
        """Admit a call on the first block that has room for it; its ticket and the block. None: no block has."""
        for lease in self.pools.get((tenant, model), ()):
            if now_s < lease.until_s and lease.fits(estimate):
                lease.charge(estimate)
                lease.used_s = now_s
                self._tickets += 1
                call = Call(lease, estimate, now_s + call_s)
                self.calls[self._tickets] = lease.calls[self._tickets] = call
                return self._tickets, lease
        return None

    def end(self, ticket: int, used: Units | None) -> Lease | None:
        """End a call; the block has back what of its estimate it did not use. None: it had ended already.

        used: units by meter; a meter that is not in it counts with its whole estimate. None: the call used nothing.
        """
        call = self.calls.pop(ticket, None)
        if call is None:
            return None
        call.lease.calls.pop(ticket, None)
        call.lease.charge(call.estimate, -1)
        if used is not None:
            call.lease.charge({**call.estimate, **used})
        return call.lease

    def overdue(self, now_s: float) -> list[int]:
        """Tickets of calls that are over and were never ended."""
        return [ticket for ticket, call in self.calls.items() if call.over_s <= now_s]

    def leases(self) -> Iterator[Lease]:
        """Every block."""
        for pool in list(self.pools.values()):
            yield from list(pool)
