"""The usage event: CloudEvents 1.0 in JSON, one call of a provider (contract, section 1).

Decoding is typed and compiled (msgspec). What does not decode is a value, never an exception that stops a batch: the
caller gets the bytes back with the reason.
"""

import re
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

USAGE_TYPE: Final = "com.tollhouse.usage.v1"
VOID_TYPE: Final = "com.tollhouse.usage.void.v1"

REASONS: Final = (
    "malformed",
    "unknown_tenant",
    "unknown_key",
    "foreign_key",
    "no_usage",
    "inconsistent_usage",
    "negative_usage",
    "conflict",
    "duplicate_upstream",
    "from_future",
    "too_old",
    "unknown_event",
)
"""Why an event is rejected."""

SERVICE_TIERS: Final = ("standard", "batch", "flex", "priority")


class Reference(msgspec.Struct, frozen=True):
    """Another event of the same tenant, by identity."""

    source: str
    id: str


class EventData(msgspec.Struct, frozen=True):
    """Payload of a usage event, or of a void (then only `voids` and `reason` matter). Unknown fields are ignored."""

    key: str | None = None
    provider: str | None = None
    api: str | None = None
    model: str | None = None
    usage: Any = None
    tokens: Any = None
    status: Literal["ok", "error", "aborted"] | None = None
    estimated: bool | None = None
    replaces: Reference | None = None
    voids: Reference | None = None
    reason: str | None = None
    upstream_id: str | None = None
    service_tier: Literal["standard", "batch", "flex", "priority"] | None = None
    cache_hit: bool | None = None
    request_id: str | None = None
    reservation: str | None = None
    user: str | None = None
    network: str | None = None
    agent: str | None = None
    labels: dict[str, Any] | None = None


class UsageEvent(msgspec.Struct, frozen=True):
    """The envelope. time is RFC 3339 text here; screening makes it an instant."""

    id: str
    source: str
    type: str
    time: str
    subject: str
    data: EventData
    specversion: str = "1.0"


class Evidence(NamedTuple):
    """Where an event's bytes are: topic, partition, offset of the message, position within its array."""

    topic: str
    partition: int
    offset: int
    item: int


class Delivery(NamedTuple):
    """One event as it arrived: its bytes, when (UTC microseconds) and where."""

    raw: bytes
    arrival_us: int
    evidence: Evidence


class Message(NamedTuple):
    """A message of the topic: its bytes, when it arrived (UTC microseconds) and where. whole: it is one event, even if
    it looks like an array."""

    value: bytes
    arrival_us: int
    topic: str
    partition: int
    offset: int
    whole: bool = False

    def delivery(self, item: int, raw: bytes) -> Delivery:
        """One of its events, by its position, as it arrived."""
        return Delivery(raw, self.arrival_us, Evidence(self.topic, self.partition, self.offset, item))


_split = msgspec.json.Decoder(list[msgspec.Raw])
_generic = msgspec.json.Decoder()


EVENTS_MAX: Final = 10_000
"""Events in one message: three times what fits into Kafka's default of 1 MB; an array of more is no list of events."""


def split_message(value: bytes) -> list[bytes]:
    """The events of one message: one, or each of a JSON array. A broken array comes back whole, to be refused whole."""
    if value.lstrip()[:1] != b"[":
        return [value]
    try:
        found = _split.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        return [value]
    return [bytes(raw) for raw in found] if len(found) <= EVENTS_MAX else [value]


def decode_document(raw: bytes) -> dict[str, Any]:
    """The event as plain data; ValueError says why it is none."""
    try:
        document = _generic.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"an event is a JSON object, not {type(document).__name__}")
    return document


def typed(document: dict[str, Any]) -> UsageEvent:
    """The typed event; ValueError names the first field that is missing or of a wrong type."""
    try:
        return msgspec.convert(document, UsageEvent)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


# A number with a fraction or an exponent: 5.0, 5e3. JSON knows one number there, Python two. From what stands before a
# number to what stands after it, so that the seconds of a time are none; without alternatives at its head, a look costs
# one microsecond and not ten.
_FLOATING: Final = re.compile(rb"[:,\[]\s*-?[0-9]+(?:\.[0-9]|[eE])[0-9eE.+\-]*\s*[,\]}]")


def content_digest(document: dict[str, Any], raw: bytes) -> bytes:
    """128 bits over the event's content as JSON: member order and spacing do not matter, 5.0 is 5."""
    if _FLOATING.search(raw):
        document = _whole(document)
    return blake2b(msgspec.json.encode(document, order="deterministic"), digest_size=16).digest()


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def is_identifier(text: str) -> bool:
    """Whether the text can be an id or a source: 1 to 256 printable characters, not blank."""
    return 0 < len(text) <= 256 and text.isprintable() and not text.isspace()
