"""What a key usually does: an expected level for each minute, learnt as time passes.

The expectation is an upper envelope: the largest of what the key did in this hour of the week, in this hour of the day
(one hour to either side allowed: a clock change, an early start) and in the last hour or so. A busy Monday is then
expected from last Monday, growth from yesterday, a long job from its own last hour; an excess is what none explains.

Levels are in usual requests a minute: the larger of requests and tokens / usual tokens a request, so that few huge
requests weigh as much as many small ones. What new sources add on top of the expectation is not learnt while they are
new: a leak must not become its own baseline.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.leaks.settings import DetectorSettings

HOURS_OF_WEEK: Final = 168
_UNSEEN: Final = -1.0
_GAP_HOURS_MAX: Final = 400
_SIZE_WEIGHT: Final = 0.01
"""Weight of an hour in the usual size of a request: memory of about four days."""

Totals = list[int]
"""[requests, tokens, new requests, new tokens, errors]"""


class Baseline:
    """Levels by hour of the week, hour of the day and lately; the usual size of a request; the usual errors."""

    __slots__ = (
        "by_day",
        "by_week",
        "envelope",
        "errors",
        "five",
        "hour",
        "per_token",
        "recent",
        "requests",
        "slot",
        "sums",
        "tokens",
    )

    def __init__(self, minute: int) -> None:
        self.by_week = [_UNSEEN] * HOURS_OF_WEEK
        self.by_day = [_UNSEEN] * 24
        self.hour = minute // 60
        self.slot = minute // 5
        self.sums: Totals = [0] * 5
        self.five: Totals = [0] * 5
        self.recent = 0.0
        self.envelope = 0.0
        self.requests = 0.0
        self.tokens = 0.0
        self.per_token = 0.0
        self.errors = 0.0

    def units(self, requests: int, tokens: int) -> float:
        """Usual requests: the larger of requests and tokens in units of a usual request's tokens."""
        by_tokens = tokens * self.per_token
        return by_tokens if by_tokens > requests else float(requests)

    def add(self, row: tuple[int, int, int, int, int, int]) -> None:
        """Count a row of the running minute."""
        for totals in (self.sums, self.five):
            totals[0] += row[0]
            totals[1] += row[1]
            if row[2]:
                totals[2] += row[2]
                totals[3] += row[3]
        self.sums[4] += row[5]

    def advance(self, minute: int, floor: float, settings: DetectorSettings, *, held: bool) -> bool:
        """Close the five minutes and hours that are over; True when an hour was closed.

        While `held` (an incident is open) no more than the expected level is learnt.
        """
        slot = minute // 5
        if slot > self.slot:
            expected = max(self.envelope, self.recent, floor)
            level = min(self._ordinary(self.five, 5, expected), expected if held else 2 * expected + 0.2)
            kept = 1 - settings.recent_weight
            self.recent = (self.recent * kept + settings.recent_weight * level) * kept ** min(slot - self.slot - 1, 400)
            self.five = [0] * 5
            self.slot = slot
        hour = minute // 60
        if hour == self.hour:
            return False
        self._close_hour(floor, settings, held=held)
        while self.hour < hour:  # hours without any call: the first was closed above
            self.hour = max(self.hour, hour - _GAP_HOURS_MAX)
            self._learn(0.0, settings)
        self._expect()
        return True

    def _close_hour(self, floor: float, settings: DetectorSettings, *, held: bool) -> None:
        sums = self.sums
        if sums[0] and not held:
            self.requests = self.requests * (1 - _SIZE_WEIGHT) + (sums[0] - sums[2])
            self.tokens = self.tokens * (1 - _SIZE_WEIGHT) + (sums[1] - sums[3])
            if self.tokens > 0:
                self.per_token = self.requests / self.tokens
            self.errors += settings.day_weight / 8 * (sums[4] - self.errors)
        level = self._ordinary(sums, 60, max(self.envelope, self.recent, floor))
        self._learn(min(level, self.envelope) if held else level, settings)
        self.sums = [0] * 5

    def _ordinary(self, totals: Totals, minutes: int, expected: float) -> float:
        """Level of a stretch without what new sources added on top of the expectation."""
        units = self.units(totals[0], totals[1])
        excess = units - expected * minutes
        if excess > 0 and totals[2]:
            units -= min(excess, self.units(totals[2], totals[3]))
        return units / minutes

    def _learn(self, level: float, settings: DetectorSettings) -> None:
        week, day = self.hour % HOURS_OF_WEEK, self.hour % 24
        old = self.by_week[week]
        self.by_week[week] = level if old < 0 else old + settings.week_weight * (level - old)
        old = self.by_day[day]
        self.by_day[day] = level if old < 0 else old + settings.day_weight * (level - old)
        self.hour += 1

    def _expect(self) -> None:
        hour, week, day = self.hour, self.by_week, self.by_day
        self.envelope = max(
            0.0,
            week[(hour - 1) % HOURS_OF_WEEK],
            week[hour % HOURS_OF_WEEK],
            week[(hour + 1) % HOURS_OF_WEEK],
            day[(hour - 1) % 24],
            day[hour % 24],
            day[(hour + 1) % 24],
        )

    def state(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        return {name: list(v) if isinstance(v := getattr(self, name), list) else v for name in self.__slots__}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Baseline:
        """Inverse of state()."""
        baseline = cls(0)
        for name in cls.__slots__:
            value = state[name]
            setattr(baseline, name, list(value) if isinstance(value, list) else value)
        return baseline
