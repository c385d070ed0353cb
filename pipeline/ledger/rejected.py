"""The rejected list: every refused delivery, whole, with its reason, until it was replayed."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from pipeline.ledger import outbox
from pipeline.ledger.rows import insert_new
from pipeline.ledger.tables import rejected
from pipeline.screen import Refused
from schemas.usage_event import Evidence

_r = rejected.c


def insert_rejected(connection: Connection, refused: Sequence[Refused]) -> list[Refused]:
    """Keep the refused deliveries, and queue them for their topic; those that are new come back (a message that is read
    again is not refused twice)."""
    placed: dict[tuple[object, ...], Refused] = {}
    for item in refused:
        placed.setdefault((*item.evidence, item.reason, _digest(item)), item)
    done = insert_new(connection, rejected, [_values(item) for item in placed.values()], ("n", *PLACE))
    kept = {(*row[1:6], bytes(row[6])): int(row[0]) for row in done}
    outbox.queue(connection, outbox.REJECTED, ((str(n), 0) for n in sorted(kept.values())))
    return [item for place, item in placed.items() if place in kept]


PLACE: Final = ("topic", "partition", "offset", "item", "reason", "digest")


def _digest(item: Refused) -> bytes:
    return blake2b(item.raw, digest_size=16).digest()


def _values(item: Refused) -> dict[str, object]:
    topic, partition, offset, index = item.evidence
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "item": index,
        "tenant": item.tenant,
        "source": item.source,
        "id": item.id,
        "reason": item.reason,
        "detail": item.detail,
        "arrival_us": item.arrival_us,
        "raw": item.raw,
        "digest": _digest(item),
        "state": "open",
    }


def list_rejected(
    connection: Connection, *, reason: str | None = None, state: str | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Rejected deliveries in order of their arrival here, with number n, bytes and reason."""
    query = select(rejected).order_by(_r.n)
    if reason is not None:
        query = query.where(_r.reason == reason)
    if state is not None:
        query = query.where(_r.state == state)
    if limit is not None:
        query = query.limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def refused_by_number(connection: Connection, numbers: Sequence[int]) -> dict[int, Refused]:
    """Rejected deliveries by their number; one that was removed is missing."""
    rows = connection.execute(select(rejected).where(_r.n.in_(numbers)))
    return {
        row.n: Refused(
            bytes(row.raw),
            row.reason,
            row.detail,
            row.tenant,
            row.source,
            row.id,
            row.arrival_us,
            Evidence(row.topic, row.partition, row.offset, row.item),
        )
        for row in rows
    }


def count_open(connection: Connection) -> int:
    """How many wait to be replayed."""
    return int(connection.execute(select(func.count()).select_from(rejected).where(_r.state == "open")).scalar_one())


def mark_replayed(connection: Connection, numbers: Sequence[int]) -> int:
    """Note that these were sent again; how many changed."""
    changed = connection.execute(update(rejected).where(_r.n.in_(numbers), _r.state == "open").values(state="replayed"))
    return changed.rowcount
