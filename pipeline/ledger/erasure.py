"""Personal data of a tenant's people taken out of the ledger; sums, digests and proofs stay as they are.

Personal is what an event says about who called from where: `user`, `network`, `agent`, `labels`, and the words of a
void. Nothing is counted by them, so no total changes; the event's digest stays, so that a repeat is still known for one
and a proof still holds, but nobody can read the data out of it. Bytes that are kept (of rejected and of waiting
events) lose the same members, or all of them where they cannot be read. What detectors learned about the tenant's keys
goes whole: it is learned anew.
"""

import json
import re
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, or_, select, true, update

from pipeline.ledger import chain
from pipeline.ledger.tables import alerts, detector_states, events, rejected

_e, _x, _a, _d = events.c, rejected.c, alerts.c, detector_states.c

ACTION: Final = "erase"
ERASED: Final = "erased"
"""State of a rejected delivery whose bytes are no longer those that its digest is of."""
MEMBERS: Final = ("user", "network", "agent", "labels")
NEW: Final = "new"
"""The member of a leak alert's facts that names where calls came from."""
TAKEN_OUT: Final = "(taken out on request)"


class Erased(NamedTuple):
    """How many of each lost something."""

    events: int
    rejected: int
    alerts: int
    detectors: int

    def line(self) -> str:
        """As the audit log has it; the audit counts the rejected ones by it."""
        return f"events {self.events}, rejected {self.rejected}, alerts {self.alerts}, detectors {self.detectors}"


def rejected_in(line: str) -> int:
    """How many rejected deliveries were erased by a line of the audit log; 0 for one that `line` did not make."""
    found = re.search(r"\brejected (\d+)\b", line)
    return int(found[1]) if found else 0


def erase(connection: Connection, tenant: str, user: str | None, now_us: int, who: str) -> Erased:
    """Erase of the whole tenant, or of one of its end users. Done again, it finds nothing more.

    One user's calls are found by `user`; what detectors know is of a key, not of a user, and goes for both.
    """
    own = (_e.tenant == tenant, true() if user is None else _e.user == user)
    says = or_(_e.user != "", _e.network != "", _e.agent != "", _e.labels != "", _e.reason != "")
    blank: dict[str, Any] = {"user": "", "network": "", "agent": "", "labels": "", "reason": ""}
    changed = connection.execute(update(events).where(*own, says).values(blank)).rowcount
    changed += _waiting(connection, tenant, user)
    refused = _rejected(connection, tenant, user)
    told = _alerts(connection, tenant, user)
    detectors = connection.execute(delete(detector_states).where(_of_tenant(_d.subject, tenant))).rowcount
    done = Erased(changed, refused, told, detectors)
    chain.append(connection, now_us, who, ACTION, tenant, done.line())
    return done


def stripped(raw: bytes) -> bytes:
    """An event without its personal members; empty if it cannot be read."""
    try:
        document = json.loads(raw)
        data = document.get("data")
    except (ValueError, AttributeError, RecursionError):
        return b""
    if not isinstance(data, dict):
        return b""
    known = {name: value for name, value in data.items() if name not in (*MEMBERS, "reason")}
    return json.dumps({**document, "data": known}, separators=(",", ":")).encode()


def _waiting(connection: Connection, tenant: str, user: str | None) -> int:
    """Bytes of events that wait; how many are of voids, whose row itself says nothing personal."""
    done = 0
    held = select(_e.source, _e.id, _e.kind, _e.raw).where(_e.tenant == tenant, _e.raw.is_not(None))
    for row in connection.execute(held).all():
        raw = bytes(row.raw)
        left = stripped(raw)
        if left == raw or (user is not None and not _names(raw, user)):
            continue
        at = (_e.tenant == tenant, _e.source == row.source, _e.id == row.id)
        connection.execute(update(events).where(*at).values(raw=left))
        done += row.kind == "void"
    return done


def _rejected(connection: Connection, tenant: str, user: str | None) -> int:
    """Rejected deliveries of the tenant, and those of nobody that name it."""
    done = 0
    query = select(_x.n, _x.tenant, _x.raw).where(or_(_x.tenant == tenant, _x.tenant.is_(None)), _x.state != ERASED)
    for row in connection.execute(query).all():
        raw = bytes(row.raw)
        if (row.tenant is None and not _names(raw, tenant)) or (user is not None and not _names(raw, user)):
            continue
        # What was wrong may be told by quoting it; the reason stays.
        values = {"raw": stripped(raw), "state": ERASED, "detail": TAKEN_OUT}
        connection.execute(update(rejected).where(_x.n == row.n).values(values))
        done += 1
    return done


def _names(raw: bytes, word: str) -> bool:
    """Whether the bytes hold the word as a JSON text, escaped or not."""
    return any(json.dumps(word, ensure_ascii=escaped).encode() in raw for escaped in (True, False))


def _alerts(connection: Connection, tenant: str, user: str | None) -> int:
    """Leak alerts of the tenant's keys lose where calls came from; of one user, alerts that quote it."""
    done = 0
    for row in connection.execute(select(_a.id, _a.subject, _a.detail, _a.facts).where(_a.kind == "leak")).all():
        facts = json.loads(row.facts)
        if row.subject.partition("/")[0] != tenant or row.detail == TAKEN_OUT:
            continue
        if user is not None and user not in f"{row.detail} {row.facts}":
            continue
        facts.pop(NEW, None)
        values = {"detail": TAKEN_OUT, "facts": json.dumps(facts, sort_keys=True)}
        connection.execute(update(alerts).where(_a.id == row.id).values(values))
        done += 1
    return done


def _of_tenant(subject: ColumnElement[str], tenant: str) -> ColumnElement[bool]:
    return subject.startswith(f"{tenant}/", autoescape=True)
