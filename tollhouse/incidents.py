"""What people do with an alert, one way for the command line, the API and the pages: change, release and log at once.

All of it is one transaction: an alert that is called expected and a tenant that stays suspended do not go together.
"""

from dataclasses import dataclass
from typing import Any, Final

from pipeline.ledger import Connection, Ledger
from pipeline.ledger.alerts import EXPECTED, change_alert, find_alert
from pipeline.ledger.catalogs import audit
from pipeline.ledger.responses import release

LEAK: Final = "leak"
FEEDBACK: Final = (LEAK, EXPECTED)
"""What the detector understands; other words are kept with the alert for people."""


@dataclass(frozen=True, slots=True)
class Changed:
    """alert: its row afterwards, with facts, times in UTC microseconds. freed: subjects that are active again."""

    alert: dict[str, Any]
    freed: tuple[str, ...] = ()


def ack(ledger: Ledger, who: str, alert_id: str, now_us: int, feedback: str = "") -> Changed | None:
    """Somebody has seen it. Called expected, it lets go of what it set off; None if there is no such alert."""
    return _close(ledger, who, alert_id, now_us, "ack", "acked", feedback, frees=feedback == EXPECTED)


def resolve(ledger: Ledger, who: str, alert_id: str, now_us: int, feedback: str = "") -> Changed | None:
    """It is over, and so is what it set off; it opens again if it goes on. None if there is no such alert."""
    return _close(ledger, who, alert_id, now_us, "resolve", "resolved", feedback, frees=True)


def mute(ledger: Ledger, who: str, alert_id: str, now_us: int, until_us: int | None) -> Changed | None:
    """It goes to no sink until then; until_us None ends a mute. None if there is no such alert."""
    note = "" if until_us is None else f"{max(0, until_us - now_us) // 1_000_000} s"

    def work(connection: Connection) -> Changed | None:
        return _changed(connection, who, alert_id, now_us, "mute", note, {"muted_until_us": until_us})

    return ledger.write(work)


def _close(
    ledger: Ledger, who: str, alert_id: str, now_us: int, action: str, state: str, feedback: str, *, frees: bool
) -> Changed | None:
    values = {"state": state} | ({"feedback": feedback} if feedback else {})

    def work(connection: Connection) -> Changed | None:
        done = _changed(connection, who, alert_id, now_us, action, feedback, values)
        if done is None or not frees:
            return done
        return Changed(done.alert, tuple(release(connection, alert_id, now_us, who)))

    return ledger.write(work)


def _changed(
    connection: Connection, who: str, alert_id: str, now_us: int, action: str, note: str, values: dict[str, Any]
) -> Changed | None:
    if not change_alert(connection, alert_id, **values):
        return None
    audit(connection, now_us, who, f"alert.{action}", alert_id, note)
    row = find_alert(connection, alert_id)
    return None if row is None else Changed(row)
