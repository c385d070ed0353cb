"""Usage events as CloudEvents 1.0: built, checked for what the wire needs, and encoded. Nothing is normalised here.

The provider's own usage object goes out verbatim. What the classes mean is decided by the service, so that a new
provider field needs no new client.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from tollhouse_client.errors import InvalidEventError

USAGE_TYPE: Final = "com.tollhouse.usage.v1"
VOID_TYPE: Final = "com.tollhouse.usage.void.v1"
STATUSES: Final = frozenset({"ok", "error", "aborted"})
NAME_LENGTH_MAX: Final = 256
"""Longest `id` and `source` that the service takes, in characters."""

Event: TypeAlias = dict[str, Any]
"""A CloudEvent, as a JSON object."""
Usage: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A provider's usage object, or for a stream the usage-bearing objects in their order."""

_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)


def _make_encode() -> Callable[[Any], str]:
    """`_encoder.encode`, without building the C encoder anew for each event: that is a quarter of a call's time."""
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined] # there, though the stubs leave it out
    if make is None:
        return _encoder.encode
    sort_keys = skipkeys = allow_nan = False
    chunks = make(
        None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", sort_keys, skipkeys, allow_nan
    )
    return lambda value: "".join(chunks(value, 0))


_encode: Final = _make_encode()
_id_lock = threading.Lock()
_id_last = [0]
_second = (0, "")
# Seeded by the system; not its own source, because a call of the kernel gives the interpreter lock away, and getting
# it back from a busy thread can take milliseconds. These ids need to be distinct, not secret.
_random = random.Random()  # noqa: S311  see above
os.register_at_fork(after_in_child=_random.seed)


def new_id(now_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562): time-ordered, and strictly growing within this process.

    48 bits of milliseconds, 12 bits of their fraction, 62 random bits. Ordered ids keep the ledger's index warm.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    stamp = (milliseconds << 12) | (rest_ns * 4096 // 1_000_000)
    with _id_lock:
        stamp = max(stamp, _id_last[0] + 1)
        _id_last[0] = stamp
    text = f"{(stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 1 << 63 | _random.getrandbits(62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _now_text() -> str:
    """This millisecond; the text of its second is made once."""
    global _second  # noqa: PLW0603  one tuple, replaced as a whole
    second, milliseconds = divmod(time.time_ns() // 1_000_000, 1_000)
    known, text = _second
    if known != second:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _second = (second, text)
    return f"{text}.{milliseconds:03d}Z"


def format_time(moment: datetime | None = None) -> str:
    """RFC 3339, UTC, milliseconds. InvalidEventError for a datetime without a zone."""
    if moment is None:
        return _now_text()
    if moment.tzinfo is None:
        raise InvalidEventError(f"the time {moment} has no zone; use datetime.now(UTC)")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def usage_event(
    *,
    source: str,
    tenant: str,
    key: str,
    provider: str,
    model: str,
    api: str | None = None,
    usage: Usage | None = None,
    tokens: Mapping[str, int] | None = None,
    status: str = "ok",
    id: str | None = None,  # noqa: A002  the CloudEvents name
    time: datetime | str | None = None,
    upstream_id: str | None = None,
    request_id: str | None = None,
    reservation: str | None = None,
    service_tier: str | None = None,
    cache_hit: bool = False,
    estimated: bool = False,
    replaces: Mapping[str, str] | None = None,
    user: str | None = None,
    network: str | None = None,
    agent: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Event:
    """One call as an event. Fields that are None are left out.

    `usage` is the provider's object verbatim, or for a stream the list of its usage-bearing objects; `tokens` are
    classes counted elsewhere; not both. `key` is the name of the provider key in the catalog, never the secret.
    """
    if status not in STATUSES:
        raise InvalidEventError(f"status {status!r} is not one of {', '.join(sorted(STATUSES))}")
    if usage is not None and tokens is not None:
        raise InvalidEventError("an event has usage or tokens, not both")
    data: dict[str, Any] = {"key": key, "provider": provider}
    if api is not None:
        data["api"] = api
    data["model"] = model
    if usage is not None:
        data["usage"] = usage
    elif tokens is not None:
        data["tokens"] = tokens
    data["status"] = status
    if upstream_id is not None:
        data["upstream_id"] = upstream_id
    if request_id is not None:
        data["request_id"] = request_id
    if reservation is not None:
        data["reservation"] = reservation
    if service_tier is not None:
        data["service_tier"] = service_tier
    if cache_hit:
        data["cache_hit"] = True
    if estimated:
        data["estimated"] = True
    more = (("replaces", replaces), ("user", user), ("network", network), ("agent", agent), ("labels", labels))
    data.update([(name, value) for name, value in more if value is not None])
    return {
        "specversion": "1.0",
        "id": new_id() if id is None else id,
        "source": source,
        "type": USAGE_TYPE,
        "time": time if isinstance(time, str) else format_time(time),
        "subject": tenant,
        "data": data,
    }


def void_event(
    *,
    source: str,
    tenant: str,
    voids: Mapping[str, str],
    reason: str,
    id: str | None = None,  # noqa: A002  the CloudEvents name
    time: datetime | str | None = None,
) -> Event:
    """Takes the event `voids` ({"source", "id"}) back; both stay in the ledger, with the reason."""
    return {
        "specversion": "1.0",
        "id": new_id() if id is None else id,
        "source": source,
        "type": VOID_TYPE,
        "time": time if isinstance(time, str) else format_time(time),
        "subject": tenant,
        "data": {"voids": dict(voids), "reason": reason},
    }


def encode_event(event: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(Kafka key, JSON) of an event; InvalidEventError where the broker or the ledger could not take it.

    Only what makes an event addressable is checked: subject, id, source. The rest is the service's to judge, and
    what it refuses it keeps.
    """
    for name in ("subject", "id", "source"):
        value = event.get(name)
        if not isinstance(value, str) or not value.strip():
            raise InvalidEventError(f"the event's {name} is {value!r}; it must be a text that is not blank")
        if len(value) > NAME_LENGTH_MAX or not value.isprintable():
            raise InvalidEventError(f"the event's {name} must be 1 to {NAME_LENGTH_MAX} printable characters")
    try:
        body = _encode(event).encode()
    except (TypeError, ValueError, RecursionError) as error:  # an unpaired surrogate is a ValueError too
        raise InvalidEventError(f"event {event['id']!r} is not JSON: {error}") from None
    return event["subject"].encode(), body
