"""Findings and incidents: one incident is one alert that grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

LEAK: Final = "leak"
RESIDUAL: Final = "residual"
RANK: Final = {"ticket": 1, "page": 2}


@dataclass(frozen=True)
class Finding:
    """Something to tell about a subject. Repeats of one incident share `incident` and carry the whole so far.

    at_us: start of the minute that decided it. subject: the key's or pool's id. kind: leak or residual. severity: page
    or ticket. score: over 1, how far beyond the rule's threshold. facts: rule, since_us, expected and observed levels
    (requests and tokens an hour), factor, excess_tokens so far, new networks, models and agents.
    """

    at_us: int
    subject: str
    kind: str
    severity: str
    score: float
    explanation: str
    incident: str
    repeat: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


class Incident:
    """The open incident of a subject: when it began, how bad it got, when it was last told."""

    __slots__ = ("excess_tokens", "fired", "opened", "peak", "rule", "severity", "since", "times", "told")

    def __init__(self, minute: int, since: int) -> None:
        self.opened = minute
        self.since = since
        self.fired = minute
        self.told = -1
        self.times = 0
        self.severity = ""
        self.rule = ""
        self.peak = 0.0
        self.excess_tokens = 0.0

    def fire(self, minute: int, severity: str, rule: str, score: float, repeat_min: int) -> bool:
        """Take a verdict in; True when it is to be told: the first, a worse severity, or a repeat after a while.

        A ticket inside a paged incident says nothing new, and does not keep it open.
        """
        rank = RANK[severity]
        before = RANK.get(self.severity, 0)
        if rank < before:
            return False
        self.fired = minute
        self.peak = max(self.peak, score)
        if rank == before and minute - self.told < repeat_min:
            return False
        self.severity = severity
        self.rule = rule
        self.told = minute
        self.times += 1
        return True

    def state(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Incident:
        """Inverse of state()."""
        incident = cls(0, 0)
        for name in cls.__slots__:
            setattr(incident, name, state[name])
        return incident
