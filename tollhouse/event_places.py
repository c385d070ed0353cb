"""Where an event's bytes are: from its identity to its place in the topic, and from there to what was sent."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError

from pipeline.ledger import Ledger
from pipeline.ledger.generations import newest, split_name
from pipeline.ledger.tables import events, rejected
from pipeline.redact import redact, redact_bytes
from schemas.instants import format_instant
from schemas.usage_event import content_digest, decode_document, split_message
from streams.evidence import Gone, read_message
from streams.generation import NoTopicId, topic_id
from tollhouse.brokers import security_of
from tollhouse.errors import UserError
from tollhouse.settings import Settings

HTTP: Final = "http"
"""Evidence of what the API refused at once: it never came to a topic, and the rejected list has its bytes."""


def explain_event(
    settings: Settings, ledger: Ledger, event_id: str, *, tenant: str | None = None, source: str | None = None
) -> list[dict[str, Any]]:
    """Every event of this id that was counted, held or rejected, with its place and its bytes (secrets cut out).

    bytes: "found", or why they are not there. UserError if there is no such event.
    """
    found = [_counted(row) for row in ledger.rows(events, *_wanted(events, event_id, tenant, source))]
    found += [
        _refused(row)
        for row in ledger.rows(rejected, *_wanted(rejected, event_id, tenant, source), order=[rejected.c.n])
    ]
    if not found:
        raise UserError(f"there is no event {event_id}, neither counted nor rejected: check --tenant and --source")
    return [_with_bytes(settings, ledger, record) for record in found]


def _wanted(table: Any, event_id: str, tenant: str | None, source: str | None) -> list[Any]:
    wanted = [table.c.id == event_id]
    wanted += [table.c.tenant == tenant] if tenant is not None else []
    return wanted + ([table.c.source == source] if source is not None else [])


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    by = None if row["by_id"] is None else {"source": row["by_source"], "id": row["by_id"]}
    return {**_named(row), "state": row["state"], "reason": row["reason"], "by": by, "digest": row["digest"].hex()}


def _refused(row: dict[str, Any]) -> dict[str, Any]:
    said = {"state": "rejected", "reason": f"{row['reason']}: {row['detail']}", "by": None, "digest": None}
    return {**_named(row), **said, "number": row["n"]}


def _named(row: dict[str, Any]) -> dict[str, Any]:
    topic, generation = split_name(row["topic"])
    return {
        "tenant": row["tenant"],
        "source": row["source"],
        "id": row["id"],
        "arrival": format_instant(row["arrival_us"]),
        "evidence": f"{row['topic']}/{row['partition']}@{row['offset']}#{row['item']}",
        "topic": topic,
        "generation": generation,
        "partition": row["partition"],
        "offset": row["offset"],
        "item": row["item"],
    }


def _with_bytes(settings: Settings, ledger: Ledger, record: dict[str, Any]) -> dict[str, Any]:
    try:
        value = _message(settings, ledger, record)
        parts = split_message(value)
        if record["item"] >= len(parts):
            raise Gone(f"the message holds {len(parts)} events")
    except Gone as error:
        return {**record, "bytes": f"gone: {error}", "event": None}
    except (KafkaError, OSError, NoTopicId) as error:
        return {**record, "bytes": f"not read: {error}", "event": None}
    safe, digest = _safe(parts[record["item"]])
    if record["digest"] not in (None, digest):
        raise UserError(f"{record['evidence']} does not hold event {record['id']}: its content has another digest")
    return {**record, "bytes": "found", "event": safe.decode("utf-8", "replace")}


def _message(settings: Settings, ledger: Ledger, record: dict[str, Any]) -> bytes:
    topic, client = record["topic"], security_of(settings).client()
    if topic == HTTP:
        raise Gone(f"the API refused it, it went to no topic (`tollhouse rejected show {record['number']}`)")
    known = ledger.read(lambda c: newest(c, topic))
    if known.number != record["generation"] or (
        known.topic_id and topic_id(settings.broker, topic, client) != known.topic_id
    ):
        raise Gone("the topic was made anew since")
    return asyncio.run(read_message(settings.broker, topic, record["partition"], record["offset"], client=client))


def _safe(raw: bytes) -> tuple[bytes, str]:
    """The bytes without secrets, and the digest of their content as the ledger has it; "" for what is no event."""
    try:
        document, cut = redact(decode_document(raw))
    except (ValueError, RecursionError):
        return redact_bytes(raw)[0], ""
    safe = msgspec.json.encode(document) if cut else raw
    return safe, content_digest(document, safe).hex()


def lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """For people."""
    said = []
    for record in records:
        reason = f" ({record['reason']})" if record["reason"] else ""
        said.append(f"{record['tenant']} {record['source']} {record['id']}: {record['state']}{reason}")
        said.append(f"    {record['evidence']}, arrived {record['arrival']}; bytes {record['bytes']}")
        if record["event"] is not None:
            said.append(f"    {record['event']}")
    return said
