"""Faults that a test or a demonstration can order: refused, lost and late answers, once or by seeded chance."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

KINDS = ("drop_before", "drop_after", "status", "status_after")


@dataclass(slots=True)
class Fault:
    """One fault. match picks requests by (method, path); times says how often (None: always).

    drop_before: the connection ends and nothing was done. drop_after: it was done, the answer is lost (what a client
    sees as a timeout). status: refused with `status`, nothing done. status_after: done, answered with `status`.
    stored: the answer is kept under the idempotency key and replayed, as Stripe does with a 500.
    """

    kind: str
    match: Callable[[str, str], bool] = field(default=lambda _method, _path: True)
    status: int = 500
    stored: bool = True
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not a fault: use {', '.join(KINDS)}")


class Faults:
    """What goes wrong next. Ordered faults come first; then, if seeded, chance at `rate` a request."""

    def __init__(self) -> None:
        self.ordered: list[Fault] = []
        self._random: Random | None = None
        self._rate_percent = 0

    def add(self, fault: Fault) -> None:
        """Order a fault."""
        self.ordered.append(fault)

    def seed(self, seed: int, rate_percent: int) -> None:
        """From now on, by chance: in rate_percent of the requests one of the kinds happens."""
        self._random = Random(seed)  # noqa: S311 - a reproducible fault plan, not a secret
        self._rate_percent = rate_percent

    def clear(self) -> None:
        """No faults any more."""
        self.ordered.clear()
        self._random = None

    def draw(self, method: str, path: str) -> Fault | None:
        """The fault of this request, if any."""
        for fault in self.ordered:
            if fault.times != 0 and fault.match(method, path):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        if self._random is None or self._random.randrange(100) >= self._rate_percent:
            return None
        kind = self._random.choice(KINDS)
        status = self._random.choice((429, 500, 503)) if kind == "status" else 500
        return Fault(kind, status=status, stored=self._random.random() < 0.5 and status != 503)
