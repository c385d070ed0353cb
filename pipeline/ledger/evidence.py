"""The proof behind an invoice line: its events as they stood when the invoice was closed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, and_, or_, select
from sqlalchemy.orm import aliased

from pipeline.ledger.tables import events
from schemas.tokens import CLASSES, ZERO
from schemas.usage import UsageRow

_e = events.c


@dataclass(frozen=True, slots=True)
class EventEvidence:
    """One event: the row that rating reads, its identity and where its bytes are."""

    row: UsageRow
    source: str
    id: str
    digest: bytes
    topic: str
    partition: int
    offset: int
    item: int


@dataclass(frozen=True, slots=True)
class Proof:
    """Evidence of a set of events. digest: SHA-256 over identities and contents, in order of (time, source, id)."""

    count: int
    first: tuple[str, int, int] | None
    last: tuple[str, int, int] | None
    digest: str


def events_as_of(connection: Connection, tenant: str, start_us: int, end_us: int, at_us: int) -> list[EventEvidence]:
    """Events of [start_us, end_us) that had arrived by at_us and were not replaced or voided by then."""
    by = aliased(events)
    query = (
        select(events)
        .outerjoin(by, and_(by.c.tenant == _e.tenant, by.c.source == _e.by_source, by.c.id == _e.by_id))
        .where(_e.tenant == tenant, _e.time_us >= start_us, _e.time_us < end_us, _e.kind == "usage")
        .where(_e.arrival_us <= at_us)
        .where(or_(_e.state == "counted", and_(_e.state.in_(("replaced", "voided")), by.c.arrival_us > at_us)))
        .order_by(_e.time_us, _e.source, _e.id)
    )
    return [_evidence(row) for row in connection.execute(query).mappings()]


def _evidence(row: Any) -> EventEvidence:
    unbilled = row["status"] == "error" or row["cache_hit"]
    usage = UsageRow(
        row["time_us"],
        row["tenant"],
        row["key"],
        row["provider"],
        row["model"],
        row["service_tier"],
        row["size_band"],
        bool(row["pooled"]),
        ZERO if unbilled else tuple(row[name] for name in CLASSES),
        row["requests"],
        1,
    )
    place = (row["topic"], row["partition"], row["offset"], row["item"])
    return EventEvidence(usage, row["source"], row["id"], bytes(row["digest"]), *place)


class AsOfUsage:
    """Rating's UsageSource over events as of an instant; everything event by event."""

    def __init__(self, connection: Connection, at_us: int) -> None:
        self._connection, self._at_us = connection, at_us
        self._read: dict[tuple[str, int, int], list[UsageRow]] = {}

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = 0) -> Sequence[UsageRow]:  # noqa: ARG002
        """Single events: nothing that was summed before is trusted here. Each stretch is read once."""
        key = (tenant, start_us, end_us)
        if key not in self._read:
            found = events_as_of(self._connection, tenant, start_us, end_us, self._at_us)
            self._read[key] = [evidence.row for evidence in found]
        return self._read[key]

    def events(self, tenant: str, start_us: int, end_us: int) -> Sequence[UsageRow]:
        """See UsageSource.events."""
        return self.rows(tenant, start_us, end_us)


def proof_of(found: Iterable[EventEvidence], holds: Callable[[EventEvidence], bool]) -> Proof:
    """Count, first and last place in the topic, and digest of the events that belong."""
    digest, count = sha256(), 0
    places: list[tuple[str, int, int]] = []
    for event in found:
        if not holds(event):
            continue
        count += 1
        digest.update(repr((event.row.tenant, event.source, event.id)).encode() + event.digest)
        places.append((event.topic, event.partition, event.offset))
    return Proof(count, min(places, default=None), max(places, default=None), digest.hexdigest())
