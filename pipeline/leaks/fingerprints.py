"""Where a key's calls come from: which networks, models and agents are new to it.

A value is new for a fixed time after its first sight. What a key shows while it is still learning is its own. A new
model or a new agent by itself is an upgrade; a source is new when its network is, or two of the three at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

ATTRIBUTES: Final = ("network", "model", "agent")
NETWORK, MODEL, AGENT = 1, 2, 4
WEIGHT: Final = (0, 1, 0, 2, 0, 2, 2, 3)
"""Attributes that are new, by bits, where these make a new source; else 0."""
_PARTS_MAX: Final = 256
_LOOK_MIN: Final = 1440
_ALWAYS_KNOWN: Final = -(10**9)


class Fingerprints:
    """First minute and last day of each value, and a cache by whole part so that a row costs one look-up."""

    __slots__ = ("cache", "new_for_min", "seen", "values_max")

    def __init__(self, new_for_min: int, values_max: int) -> None:
        self.new_for_min = new_for_min
        self.values_max = values_max
        self.seen: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        self.cache: dict[tuple[str, str, str], list[int]] = {}

    def bits(self, part: tuple[str, str, str], minute: int, *, learning: bool) -> int:
        """Which attributes of the part are new (NETWORK | MODEL | AGENT) at the minute; notes the sight."""
        entry = self.cache.get(part)
        if entry is None or minute // _LOOK_MIN != entry[4]:
            entry = self._look(part, minute, learning=learning)
        if minute >= entry[3]:
            return 0
        return (
            (NETWORK if minute < entry[0] else 0)
            | (MODEL if minute < entry[1] else 0)
            | (AGENT if minute < entry[2] else 0)
        )

    def _look(self, part: tuple[str, str, str], minute: int, *, learning: bool) -> list[int]:
        """Note the sight of each value; [network, model and agent new until, the latest of these, day of the look]."""
        day = minute // _LOOK_MIN
        entry = []
        for i in range(3):
            known = self.seen[i].get(part[i])
            if known is None:
                known = self.seen[i][part[i]] = [_ALWAYS_KNOWN if learning else minute, day]
                if len(self.seen[i]) > self.values_max:
                    self._prune(i)
            elif day > known[1]:
                known[1] = day
            entry.append(known[0] + self.new_for_min)
        entry.append(max(entry))
        entry.append(day)
        if len(self.cache) >= _PARTS_MAX:
            self.cache.clear()
        self.cache[part] = entry
        return entry

    def _prune(self, i: int) -> None:
        """Forget the half not seen for longest: a roaming key must not grow without bound."""
        kept = sorted(self.seen[i].items(), key=lambda item: item[1][1], reverse=True)[: self.values_max // 2]
        self.seen[i].clear()
        self.seen[i].update(kept)
        self.cache.clear()

    def accept(self, values: Iterable[str]) -> None:
        """Take values as the key's own from now on (an operator said: expected)."""
        for value in values:
            for seen in self.seen:
                if value in seen:
                    seen[value][0] = _ALWAYS_KNOWN
        self.cache.clear()

    def new_values(self, minute: int, since: int) -> dict[str, list[str]]:
        """Values first seen at `since` or later and still new, by attribute, in the order of their first sight."""
        out: dict[str, list[str]] = {}
        for i in range(3):
            names = [v for v, e in self.seen[i].items() if e[0] >= since and minute < e[0] + self.new_for_min]
            if names:
                out[ATTRIBUTES[i]] = names
        return out

    def models_first_seen(self, since: int) -> int:
        """How many models were first seen at `since` or later."""
        return sum(1 for first, _ in self.seen[1].values() if first >= since)

    def state(self) -> dict[str, dict[str, list[int]]]:
        """First minute and last day by attribute and value."""
        return {ATTRIBUTES[i]: {v: list(e) for v, e in self.seen[i].items()} for i in range(3)}

    def load(self, state: dict[str, Any]) -> None:
        """Inverse of state()."""
        self.cache.clear()
        for i in range(3):
            self.seen[i].clear()
            self.seen[i].update({v: [int(e[0]), int(e[1])] for v, e in state[ATTRIBUTES[i]].items()})
