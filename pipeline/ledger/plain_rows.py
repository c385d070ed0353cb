"""Plain events into the table of events: the same rows as `rows.row_of` gives, without an object for each value.

On PostgreSQL they go as the text of COPY. Nothing in them needs escaping: a plain event's bytes hold no backslash, so
none of its texts can hold one, nor a control character (JSON has no other way to write them); the names of keys and
topics, which are ours, are looked at.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from pipeline.ledger.engine import driver, is_sqlite
from pipeline.ledger.rows import EVENT_COLUMNS, driver_errors, insert_rows
from pipeline.ledger.tables import events
from pipeline.plain import Plain, Use
from schemas.tokens import CLASSES

ORDER: Final = (
    "tenant",
    "source",
    "id",
    "digest",
    "kind",
    "state",
    "time_us",
    "sent_us",
    "arrival_us",
    "topic",
    "partition",
    "offset",
    "item",
    "key",
    "provider",
    "api",
    "model",
    "service_tier",
    "status",
    "cache_hit",
    "estimated",
    "pooled",
    "size_band",
    *CLASSES,
    "requests",
    "upstream_id",
    "reservation",
    "user",
    "network",
    "agent",
    "labels",
    "target_source",
    "target_id",
    "reason",
    "by_source",
    "by_id",
    "replaced_source",
    "replaced_id",
    "redelivered",
    "raw",
)
assert ORDER == EVENT_COLUMNS  # a column that is added has to be given here too

_COUNTS: Final = "\t".join(["%d"] * len(CLASSES))
_NULL: Final = "\\N"
_REST: Final = "\\N\t\\N\t\t\\N\t\\N\t\\N\t\\N\t0\t\\N\n"
_REST_ROW: Final = (None, None, "", None, None, None, None, 0, None)


def insert_plain(connection: Connection, plain: Sequence[Plain]) -> None:
    """Insert new events; IntegrityError if one of them is there already (the transaction is then tried again)."""
    if not plain:
        return
    if is_sqlite(connection):
        # In order of the key, by which the table itself is kept: neighbours go onto one page.
        insert_rows(connection, events, sorted(map(_row, plain)))
        return
    names = ", ".join(f'"{name}"' for name in ORDER)
    with driver_errors(connection), driver(connection).cursor() as cursor:  # noqa: SIM117 - the copy needs the cursor
        with cursor.copy(f'COPY "{events.name}" ({names}) FROM STDIN') as copy:
            copy.write("".join(_lines(plain)))


def _row(event: Plain) -> tuple[Any, ...]:
    message = event.message
    use = event.use
    return (
        *event.identity,
        event.digest,
        "usage",
        "counted",
        event.time_us,
        event.time_us,
        message.arrival_us,
        message.topic,
        message.partition,
        message.offset,
        event.item,
        use.key,
        use.provider,
        use.api,
        use.model,
        use.service_tier,
        use.status,
        int(use.cache_hit),
        int(use.estimated),
        int(use.pooled),
        event.size_band,
        *event.classes,
        use.requests,
        event.upstream[2] if event.upstream else None,
        event.reservation,
        event.user,
        event.network,
        event.agent,
        event.labels,
        *_REST_ROW,
    )


def _lines(plain: Sequence[Plain]) -> Iterator[str]:
    uses: dict[Use, str] = {}
    message, place = None, ""
    for event in plain:
        (tenant, source, name), digest, time_us, use, band, classes, upstream, hold, user, network, agent, labels = (
            event[:12]
        )
        if event.message is not message:
            message = event.message
            place = f"{message.arrival_us}\t{_safe(message.topic)}\t{message.partition}\t{message.offset}"
        shared = uses.get(use)
        if shared is None:
            shared = uses[use] = _shared(use)
        yield (
            f"{tenant}\t{source}\t{name}\t\\\\x{digest.hex()}\tusage\tcounted\t{time_us}\t{time_us}\t{place}\t{event.item}\t"
            f"{shared}\t{band}\t{_COUNTS % classes}\t{use.requests}\t{upstream[2] if upstream else _NULL}\t"
            f"{hold or _NULL}\t{user}\t{network}\t{agent}\t{labels}\t{_REST}"
        )


def _shared(use: Use) -> str:
    texts = (_safe(use.key), _safe(use.provider), use.api, use.model, use.service_tier, use.status)
    return "\t".join((*texts, str(int(use.cache_hit)), str(int(use.estimated)), str(int(use.pooled))))


def _safe(text: str) -> str:
    """For texts of our own making, which no event's bytes vouch for."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
