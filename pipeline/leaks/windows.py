"""Sliding sums over the last 5 and 60 minutes of one key, with room for late rows.

Integers only, so that running sums never drift.
"""

from __future__ import annotations

from typing import Any, Final

SHORT_MIN: Final = 5
LONG_MIN: Final = 60
REQUESTS, TOKENS, NEW_REQUESTS, NEW_TOKENS, NEW_WEIGHT, ERRORS = 1, 2, 3, 4, 5, 6
"""Places in a slot; NEW_WEIGHT is new requests times the number of their attributes that are new."""
Slot = list[int]
"""[minute, requests, tokens, new requests, new tokens, new weight, errors]"""


class Windows:
    """Ring of the last 60 minutes with running sums of the last 5 and 60 (in a slot's layout, the minute unused)."""

    __slots__ = ("long", "minute", "ring", "short")

    def __init__(self) -> None:
        self.minute = -1
        self.ring: list[Slot | None] = [None] * LONG_MIN
        self.short: Slot = [0] * 7
        self.long: Slot = [0] * 7

    def advance(self, minute: int) -> None:
        """Move on to a later minute: what is 5 and 60 minutes old falls out."""
        last = self.minute
        self.minute = minute
        if last < 0:
            return
        ring = self.ring
        for t in range(last + 1, min(minute, last + LONG_MIN) + 1):
            slot = ring[(t - SHORT_MIN) % LONG_MIN]
            if slot is not None and slot[0] == t - SHORT_MIN:
                _subtract(self.short, slot)
            slot = ring[t % LONG_MIN]
            if slot is not None:
                _subtract(self.long, slot)
                ring[t % LONG_MIN] = None

    def add(self, minute: int, row: tuple[int, int, int, int, int, int]) -> bool:
        """Count a row (a slot's places 1 to 6) into its minute; False when that is older than the ring."""
        age = self.minute - minute
        if age >= LONG_MIN:
            return False
        slot = self.ring[minute % LONG_MIN]
        if slot is None:
            slot = self.ring[minute % LONG_MIN] = [minute, 0, 0, 0, 0, 0, 0]
        _add(slot, row)
        _add(self.long, row)
        if age < SHORT_MIN:
            _add(self.short, row)
        return True

    def current(self) -> Slot | None:
        """The running minute's slot, None when nothing came in it."""
        return self.ring[self.minute % LONG_MIN]

    def state(self) -> dict[str, Any]:
        """The ring's filled minutes; sums follow from them."""
        return {"minute": self.minute, "ring": [list(slot) for slot in self.ring if slot is not None]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Windows:
        """Inverse of state()."""
        windows = cls()
        windows.minute = int(state["minute"])
        for minute, a, b, c, d, e, f in state["ring"]:
            windows.add(int(minute), (int(a), int(b), int(c), int(d), int(e), int(f)))
        return windows


def _subtract(sums: Slot, slot: Slot) -> None:
    sums[1] -= slot[1]
    sums[2] -= slot[2]
    if slot[3]:
        sums[3] -= slot[3]
        sums[4] -= slot[4]
        sums[5] -= slot[5]
    if slot[6]:
        sums[6] -= slot[6]


def _add(sums: Slot, row: tuple[int, int, int, int, int, int]) -> None:
    sums[1] += row[0]
    sums[2] += row[1]
    if row[2]:
        sums[3] += row[2]
        sums[4] += row[3]
        sums[5] += row[4]
    if row[5]:
        sums[6] += row[5]
