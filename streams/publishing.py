"""What leaves after a commit: absolute states and copies, each as its own message, each harmless when repeated."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

import msgspec

from pipeline.alerting import Alert, alert_json
from pipeline.context import WindowKey, limit_units, shown
from pipeline.ledger.record import MinuteSum, QuotaState
from pipeline.response import throttled_key
from pipeline.screen import Refused
from schemas.instants import format_instant
from schemas.money import plain

Outgoing = tuple[str, bytes, bytes]
"""topic, key, value"""


VALUE_MAX: Final = 900_000
"""Bytes of a message; brokers take a million with everything around it."""


def rejected_message(refused: Refused, number: int) -> tuple[bytes, bytes]:
    """A rejected event whole, with its reason; bytes that are not UTF-8 in base64, too many left out and told.

    number: its own in the rejected list, the same however often it is told.
    """
    body: dict[str, Any] = {
        "number": number,
        "reason": refused.reason,
        "detail": refused.detail,
        "tenant": refused.tenant,
        "source": refused.source,
        "id": refused.id,
        "arrival": format_instant(refused.arrival_us),
        "evidence": dict(refused.evidence._asdict()),
    }
    key = (refused.tenant or "").encode()
    try:
        value = msgspec.json.encode({**body, "event": refused.raw.decode()})
    except UnicodeDecodeError:
        value = msgspec.json.encode({**body, "event_base64": base64.b64encode(refused.raw).decode()})
    if len(value) > VALUE_MAX:
        value = msgspec.json.encode({**body, "event_bytes": len(refused.raw)})
    return key, value


CLOCK: Final = b"clock"
"""Key of the message after which a reader of the states knows all that was committed before an instant."""


def clock_message(at_us: int, full_us: int, catalog: int) -> tuple[bytes, bytes]:
    """All that was committed before `at` has been told; what is still there was told at or after `full`."""
    body = {"clock": format_instant(at_us), "full": format_instant(full_us), "catalog": catalog}
    return CLOCK, msgspec.json.encode(body)


def quota_state_key(window: WindowKey) -> bytes:
    """What the states of a quota's windows are told under, one after the other."""
    return f"{window.scope}/{window.name}".encode()


def quota_state_message(state: QuotaState, at_us: int) -> tuple[bytes, bytes]:
    """A quota window as it is now: used, reserved and limit in the meter's own units, with a growing version.

    at_us: when it is told.
    """
    window, quota = state.window, state.quota
    limit = limit_units(quota)
    body = {
        "scope": window.scope,
        "name": window.name,
        "meter": quota.meter,
        "models": quota.models,
        "window": quota.window,
        "window_start": format_instant(window.start_us),
        "window_end": format_instant(window.end_us),
        "used": plain(shown(quota.meter, state.used)),
        "reserved": plain(shown(quota.meter, state.reserved)),
        "limit": None if limit is None else plain(shown(quota.meter, limit)),
        "action": quota.action,
        "key": throttled_key(quota),
        "version": state.version,
        "at": format_instant(at_us),
    }
    return quota_state_key(window), msgspec.json.encode(body)


LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "rate_limits")


def key_state_message(row: Mapping[str, Any], at_us: int) -> tuple[bytes, bytes]:
    """A key's state, a tenant's (`tenant:NAME`) or a revoked token (`jti:ID`), as it is now, with a growing version;
    and what the catalog says of a key or tenant. at_us: when it is told."""
    body = {
        "key": row["key"],
        "state": row["state"],
        "reason": row["reason"],
        "changed_at": format_instant(row["changed_us"]),
        "changed_by": row["changed_by"],
        "version": row["version"],
        "catalog": row["catalog"],
        **{name: row[name] for name in ("provider", "kind", "tenant", "tier", "models") if name in row},
        "at": format_instant(at_us),
    }
    body |= {name: row[name] for name in LIMITS if row.get(name) not in (None, [])}
    if row.get("tokens_before_us") is not None:
        body["tokens_before"] = format_instant(row["tokens_before_us"])
    return str(row["key"]).encode(), msgspec.json.encode(body)


def alert_message(alert: Alert, version: int) -> tuple[bytes, bytes]:
    """An alert as it now is, keyed by its incident. version: 1 when it began, one more each time it got worse or came
    back; the same however often that is told."""
    return alert.id.encode(), msgspec.json.encode({**alert_json(alert), "version": version})


MINUTE_BUCKETS = 16
"""Tenants share this many keys of the topic: so many messages a batch at most, and messages are what Faust costs."""


def invoice_message(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """An invoice's state as it is now, keyed by tenant, month and revision; amounts are decimal strings."""
    document = json.loads(row["document"])
    body = {
        "tenant": row["tenant"],
        "month": row["month"],
        "revision": row["revision"],
        "status": row["status"],
        "number": row["number"],
        "currency": document["currency"],
        "subtotal": document["subtotal"],
        "tax": document["tax"],
        "total": document["total"],
        "changed": format_instant(row["changed_us"]),
    }
    return f"{row['tenant']}/{row['month']}/r{row['revision']}".encode(), msgspec.json.encode(body)


def minutes_messages(minutes: list[MinuteSum]) -> list[tuple[bytes, bytes]]:
    """New usage in few messages; a tenant's is always under the same key, so that one detector sees all of it."""
    buckets: dict[int, list[tuple[Any, ...]]] = {}
    for minute in minutes:
        buckets.setdefault(crc32(minute.tenant.encode()) % MINUTE_BUCKETS, []).append(tuple(minute))
    return [(b"%d" % bucket, msgspec.json.encode(rows)) for bucket, rows in sorted(buckets.items())]


_minutes = msgspec.json.Decoder(list[tuple[str, str, int, str, str, str, int, int, int]])


def decode_minutes(value: bytes) -> list[MinuteSum]:
    """The sums of a minutes message."""
    return [MinuteSum(*row) for row in _minutes.decode(value)]
