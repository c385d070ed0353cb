"""Small numerics of the leak detector: how surprising a count is, and memory that fades.

Plain floats, no tables, no special functions: a score costs two logarithms.
"""

from __future__ import annotations

from math import log
from typing import Final

NATS_PER_DECADE: Final = log(10.0)


def surprise(count: float, expected: float, shape: float) -> float:
    """How surprising it is to see `count` or more where `expected` was due, in nats (0 when nothing is in excess).

    The Chernoff bound of the upper tail of a negative binomial with mean `expected` and shape `shape`
    (variance expected + expected**2 / shape): P(N >= count) <= exp(-surprise). For shape -> infinity it is Poisson's
    count * ln(count / expected) - (count - expected). `expected` and `shape` must be positive.
    """
    if count <= expected:
        return 0.0
    return count * log(count / expected) - (count + shape) * log((count + shape) / (expected + shape))


class FadingMax:
    """The largest block maximum so far, fading by a factor a block: "how far has this key gone before?".

    Blocks are numbered by the caller. What happens in the running block counts only once the block is over, so that an
    incident does not raise the bar for itself at once.
    """

    __slots__ = ("block", "past", "running")

    def __init__(self) -> None:
        self.past = 0.0
        self.running = 0.0
        self.block = -1

    def roll(self, block: int, fade: float) -> None:
        """Move on to a later block: the running maximum joins the past, which fades once a block."""
        if self.block < 0:
            self.block = block
        elif block > self.block:
            steps = block - self.block
            self.past *= fade**steps
            self.past = max(self.past, self.running * fade ** (steps - 1))
            self.running = 0.0
            self.block = block

    def state(self) -> list[float]:
        """[past, running, block]."""
        return [self.past, self.running, float(self.block)]

    def load(self, state: list[float]) -> None:
        """Inverse of state()."""
        self.past, self.running, self.block = float(state[0]), float(state[1]), int(state[2])
