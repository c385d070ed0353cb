"""The watch over all keys: new usage in, alerts out. Pure; where detector states are kept is the caller's business.

A subject is one tenant's use of one key ("acme/openai-pool-1"): a token that leaks shows there, even on a shared key.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

from pipeline.alerting import Alert
from pipeline.leaks.findings import LEAK, Finding
from pipeline.leaks.key import KeyDetector
from pipeline.ledger.record import MinuteSum
from schemas.instants import HOUR_US

RECORD: Final = 1000
"""A surprise as large as the largest that the key has shown, in thousandths."""
SCORE_MAX: Final = 2**53
"""A detector's figures are floats: beyond this they are no whole numbers."""


class KeyHour(NamedTuple):
    """One tenant's use of a key in the hour that begins at hour_us."""

    key: str
    hour_us: int
    tenant: str


Loader = Callable[[str], Mapping[str, Any] | None]


def subject_of(tenant: str, key: str) -> str:
    """The detector's name for a tenant's use of a key."""
    return f"{tenant}/{key}"


def leak_alert(finding: Finding) -> Alert:
    """The finding as an alert; all findings of one incident are one alert."""
    return Alert(
        id=f"{finding.kind}:{finding.incident}",
        at_us=finding.at_us,
        kind=finding.kind,
        severity=finding.severity,
        subject=finding.subject,
        detail=finding.explanation,
        facts={"score": str(round(finding.score, 2)), **finding.facts},
    )


class LeakWatch:
    """Detectors by subject. load: a subject's stored state, or None for a new one."""

    def __init__(self, load: Loader = lambda _subject: None) -> None:
        self._load = load
        self._detectors: dict[str, KeyDetector] = {}
        self._peaks: dict[KeyHour, int] = {}

    def detector(self, subject: str) -> KeyDetector:
        """The subject's detector, from its stored state if there is one."""
        found = self._detectors.get(subject)
        if found is None:
            state = self._load(subject)
            found = KeyDetector(subject) if state is None else KeyDetector.from_state(dict(state))
            self._detectors[subject] = found
        return found

    def forget(self) -> None:
        """Drop every detector: another worker has the tenants now."""
        self._detectors.clear()
        self._peaks.clear()

    def accept(self, alert_id: str, subject: str, facts: Mapping[str, Any]) -> None:
        """A person called this leak alert expected: its new networks, models and agents are learnt, its incident ends.

        An incident that began later stays open: nobody has said anything about it.
        """
        detector = self.detector(subject)
        values = [name for names in facts.get("new", {}).values() for name in names]
        incident = detector.incident
        if incident is None or alert_id == f"{LEAK}:{subject}/{incident.opened}":
            detector.accept(values)
        else:
            detector.sources.accept(values)

    def take_peaks(self, subjects: Collection[str]) -> dict[KeyHour, int]:
        """Hours to the highest surprise since they were last taken, in thousandths: those of the subjects, and of any
        subject what has passed its own record."""
        taken = {
            hour: score
            for hour, score in self._peaks.items()
            if score >= RECORD or subject_of(hour.tenant, hour.key) in subjects
        }
        for hour in taken:
            del self._peaks[hour]
        return taken

    def put_back(self, peaks: Mapping[KeyHour, int]) -> None:
        """Taken, and could not be kept."""
        for hour, score in peaks.items():
            self._peaks[hour] = max(score, self._peaks.get(hour, 0))

    def add(self, minutes: Iterable[MinuteSum]) -> list[Alert]:
        """Take new usage in and judge it. What a correction took away again is not shown to a detector."""
        alerts: list[Alert] = []
        ordered = sorted(minutes, key=lambda m: (m.minute_us, m.tenant, m.key))
        for (minute_us, tenant, key), rows in groupby(ordered, key=lambda m: (m.minute_us, m.tenant, m.key)):
            parts = [
                (m.network, m.model, m.agent, max(0, m.requests), max(0, m.tokens), max(0, m.errors)) for m in rows
            ]
            detector = self.detector(subject_of(tenant, key))
            findings = detector.observe(minute_us, parts)
            if score := min(SCORE_MAX, int(detector.surprise * RECORD)):
                hour = KeyHour(key, minute_us - minute_us % HOUR_US, tenant)
                self._peaks[hour] = max(self._peaks.get(hour, 0), score)
            alerts += [leak_alert(finding) for finding in findings]
        return alerts
