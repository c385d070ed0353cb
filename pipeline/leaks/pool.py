"""The detector of a pooled provider key: the provider's own usage report minus what the proxy metered.

Pooled keys live only in the proxy. What the provider reports beyond what was metered is either lost usage or the key in
other hands; what was metered beyond the report is lost reporting or double counting. The difference of each minute is
small noise (clocks differ, so a part of a minute is reported in the next; counting differs a little; a retry is not
seen), so differences are accumulated until their sum stands out of the noise that the pool itself shows (CUSUM).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

from pipeline.leaks.findings import RESIDUAL, Finding, Incident
from schemas.instants import MINUTE_US, format_instant

_KEEP_MIN: Final = 3 * 1440
"""Metered minutes kept while their report is awaited: providers settle within two days."""
_BLOCK: Final = 60
_GROWING_MIN: Final = 1e-5
"""Least independent relative noise of a minute: 0.3 %, about what two ways of counting differ by."""
STATE_VERSION: Final = 1


@dataclass(frozen=True)
class PoolSettings:
    """All numbers of the pool detector; tuned on seeds 1 to 8 of the benchmark."""

    learn_min: int = 1440
    """A pool younger than a day learns its skew and noise and tells nothing."""
    memory_min: float = 3 * 1440.0
    """Memory of skew, bias, noise and mean level."""
    allowance: float = 0.005
    """Share of the mean level that is let pass each minute: under it a difference is counting, not use."""
    bias_max: float = 0.01
    """Largest steady relative difference that is learnt as a way of counting."""
    outlier: float = 4.0
    """Standard deviations beyond which a minute teaches nothing more."""
    threshold: float = 5.0
    """Standard deviations of the accumulated difference that page."""
    least: float = 0.25
    """... and least accumulated difference, in mean minutes of the pool."""
    repeat_min: int = 60
    close_min: int = 360


_SIMPLE: Final = (
    "bias_metered",
    "bias_reported",
    "block_noise",
    "block_of",
    "first",
    "last",
    "mean",
    "noise",
    "noise_of",
    "skew_xx",
    "skew_xy",
    "weight",
)
DEFAULT_POOL: Final = PoolSettings()


class _Sum:
    """One side of the CUSUM: what has accumulated, its variance, since when.

    What one minute shifts into the next evens out but at the two ends: of that noise the sum carries the largest
    minute's (`edge`) only; independent noise (`variance`) grows with every minute.
    """

    __slots__ = ("edge", "since", "total", "variance")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.variance = 0.0
        self.edge = 0.0
        self.since = -1

    def state(self) -> list[float]:
        """[since, total, variance, edge]."""
        return [self.since, self.total, self.variance, self.edge]

    def load(self, state: list[float]) -> None:
        """Inverse of state()."""
        self.since, self.total, self.variance, self.edge = int(state[0]), state[1], state[2], state[3]

    def deviation(self) -> float:
        """Standard deviation of the accumulated noise, in tokens."""
        return sqrt(self.variance + self.edge)

    def add(self, minute: int, difference: float, variance: float, edge: float) -> None:
        if self.total <= 0:
            self.reset()
        if self.since < 0:
            self.since = minute
        self.total += difference
        self.variance += variance
        self.edge = max(self.edge, edge)
        if self.total <= 0:
            self.reset()


class PoolDetector:
    """Residual of one pooled key, accumulated in both directions."""

    __slots__ = (*_SIMPLE, "block", "incident", "metered", "over", "settings", "subject", "under")

    def __init__(self, subject: str, settings: PoolSettings = DEFAULT_POOL) -> None:
        self.subject = subject
        self.settings = settings
        self.metered: dict[int, int] = {}
        self.first = -1
        self.last = -1
        self.mean = 0.0
        self.weight = 0.0
        self.noise = 0.0
        self.noise_of = 0.0
        self.block: list[float] = [0.0, 0.0, 0]
        self.block_noise = 0.0
        self.block_of = 0.0
        self.skew_xy = 0.0
        self.skew_xx = 0.0
        self.bias_reported = 0.0
        self.bias_metered = 0.0
        self.over = _Sum()
        self.under = _Sum()
        self.incident: Incident | None = None

    def meter(self, minute_us: int, tokens: int) -> None:
        """Count metered tokens of a minute. Tokens of a minute already compared come off the accumulated difference."""
        minute = minute_us // MINUTE_US
        if minute <= self.last:
            self.over.add(minute, -float(tokens), 0.0, 0.0)
            self.under.add(minute, float(tokens), 0.0, 0.0)
        self.metered[minute] = self.metered.get(minute, 0) + tokens

    def report(self, minute_us: int, tokens: int, at_us: int, minutes: int = 1) -> list[Finding]:
        """Take in the provider's tokens of the bucket of `minutes` from `minute_us`, known at `at_us`; in order."""
        minute = minute_us // MINUTE_US
        end = minute + minutes
        if minute <= self.last:
            return []
        if self.first < 0:
            self.first = minute
        metered = sum(self.metered.get(t, 0) for t in range(minute, end))
        before, last = self.metered.get(minute - 1, 0), self.metered.get(end - 1, 0)
        for old in range(self.last - _KEEP_MIN, end - 1 - _KEEP_MIN if self.last >= 0 else 0):
            self.metered.pop(old, None)
        if self.last >= 0:
            for t in range(self.last - 1, minute - 1):
                self.metered.pop(t, None)
        self.last = end - 1
        return self._compare(minute, minutes, tokens, metered, before, last, at_us)

    def _compare(
        self, minute: int, minutes: int, tokens: int, metered: int, before: int, last: int, at_us: int
    ) -> list[Finding]:
        s = self.settings
        shift = float(before - last)
        skew = min(max(self.skew_xy / self.skew_xx, 0.0), 1.0) if self.skew_xx > 0 else 0.0
        bias = self.bias_reported / self.bias_metered - 1 if self.bias_metered > 0 else 0.0
        bias = min(max(bias, -s.bias_max), s.bias_max)
        size = (float(metered) ** 2 + float(before) ** 2) / 2 + (0.1 * self.mean * minutes) ** 2
        whole = self.noise / self.noise_of if self.noise_of > 0 else 0.0
        grows = self._growing(whole)
        variance = size * whole
        raw = tokens - metered
        difference = raw - skew * shift - bias * metered
        grown = minute - self.first >= s.learn_min
        self._learn(raw, difference, shift, skew, float(metered), size, variance, minutes)
        if not grown:
            return []
        allowance = s.allowance * self.mean * minutes
        self.over.add(minute, difference - allowance, size * grows, size * (whole - grows))
        self.under.add(minute, -difference - allowance, size * grows, size * (whole - grows))
        return self._tell(minute + minutes - 1, at_us)

    def _learn(
        self,
        raw: float,
        difference: float,
        shift: float,
        skew: float,
        metered: float,
        size: float,
        variance: float,
        minutes: int,
    ) -> None:
        """Fading sums of skew, bias, noise and level; a minute that stands out teaches only up to the outlier bound."""
        s = self.settings
        keep = 1 - minutes / s.memory_min
        limit = s.outlier * sqrt(variance)
        young = self.weight < 60 / s.memory_min
        cut = difference if young else min(max(difference, -limit), limit)
        learnt = raw - (difference - cut)
        held = self.incident is not None and self.weight > s.learn_min / s.memory_min
        self.weight = self.weight * keep + minutes / s.memory_min
        level = metered / minutes
        self.mean += (level - self.mean) * max(minutes / s.memory_min, minutes / s.memory_min / max(self.weight, 1e-9))
        if held:
            return
        self.skew_xy = self.skew_xy * keep + shift * learnt
        self.skew_xx = self.skew_xx * keep + shift * shift
        self.bias_reported = self.bias_reported * keep + metered + learnt - skew * shift
        self.bias_metered = self.bias_metered * keep + metered
        self.noise = self.noise * keep + cut * cut
        self.noise_of = self.noise_of * keep + size
        block = self.block
        block[0] += cut
        block[1] += size
        block[2] += 1
        if block[2] >= _BLOCK:
            keep = keep**_BLOCK
            self.block_noise = self.block_noise * keep + block[0] * block[0]
            self.block_of = self.block_of * keep + block[1]
            self.block = [0.0, 0.0, 0]

    def _growing(self, whole: float) -> float:
        """Relative variance of a minute that adds up over time, by comparing sums over an hour with single minutes."""
        if self.block_of <= 0:
            return whole
        share = (_BLOCK * self.block_noise / self.block_of - whole) / (_BLOCK - 1)
        return min(max(share, _GROWING_MIN), whole)

    def _tell(self, minute: int, at_us: int) -> list[Finding]:
        s = self.settings
        incident = self.incident
        if incident is not None and minute - incident.fired >= s.close_min:
            self.incident = incident = None
        for side, severity in ((self.over, "page"), (self.under, "ticket")):
            if side.total < s.least * self.mean or side.total < s.threshold * side.deviation():
                continue
            score = side.total / max(s.threshold * side.deviation(), s.least * self.mean, 1.0)
            if incident is None:
                self.incident = incident = Incident(minute, side.since)
            incident.excess_tokens += side.total if severity == "page" else -side.total
            since = side.since
            side.reset()
            if incident.fire(minute, severity, "residual", score, s.repeat_min):
                return [self._finding(incident, severity, score, since, at_us)]
        return []

    def state(self) -> dict[str, Any]:
        """Everything but the settings, JSON-able."""
        simple = {name: getattr(self, name) for name in _SIMPLE}
        return {
            "version": STATE_VERSION,
            "subject": self.subject,
            **simple,
            "block": list(self.block),
            "metered": [[t, n] for t, n in self.metered.items()],
            "over": self.over.state(),
            "under": self.under.state(),
            "incident": None if self.incident is None else self.incident.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], settings: PoolSettings = DEFAULT_POOL) -> PoolDetector:
        """Inverse of state(); ValueError for a state of another version."""
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"pool state of version {state.get('version')!r}, not {STATE_VERSION}: rebuild it")
        pool = cls(str(state["subject"]), settings)
        for name in _SIMPLE:
            setattr(pool, name, state[name])
        pool.block = list(state["block"])
        pool.metered = {int(t): int(n) for t, n in state["metered"]}
        pool.over.load(state["over"])
        pool.under.load(state["under"])
        pool.incident = None if state["incident"] is None else Incident.from_state(state["incident"])
        return pool

    def _finding(self, incident: Incident, severity: str, score: float, since: int, at_us: int) -> Finding:
        tokens = incident.excess_tokens
        hours = (self.last + 1 - incident.since) / 60
        begun = format_instant(incident.since * MINUTE_US)
        if severity == "page":
            text = (
                f"{self.subject}: since {begun} the provider reports {tokens:,.0f} tokens more than were metered "
                f"({tokens / max(hours, 1 / 60):,.0f} an hour; the pool's usual level is {self.mean * 60:,.0f}). "
                f"Pooled keys live only in the proxy: the key is in use elsewhere, or usage is being lost."
            )
        else:
            text = (
                f"{self.subject}: since {begun} {-tokens:,.0f} tokens were metered that the provider does not "
                f"report. Its report is incomplete, or usage is counted twice."
            )
        facts = {
            "rule": "residual",
            "since_us": incident.since * MINUTE_US,
            "accumulated_since_us": since * MINUTE_US,
            "residual_tokens": round(tokens),
            "usual_tokens_60": round(self.mean * 60),
        }
        return Finding(
            at_us=at_us,
            subject=self.subject,
            kind=RESIDUAL,
            severity=severity,
            score=round(score, 3),
            explanation=text,
            incident=f"{self.subject}/{incident.opened}",
            repeat=incident.times - 1,
            facts=facts,
        )
