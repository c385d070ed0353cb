"""Screening: a delivery becomes an event that can be counted, or a rejection with its reason.

Pure: the arrival time comes with the delivery. What depends on other events (duplicates, conflicts, corrections) is
decided by the fold; a verdict on the event's time is only noted here, since a redelivered event that is already in the
ledger stays a duplicate however old it is by now.
"""

from typing import Any, Final, NamedTuple

import msgspec

from pipeline.context import Context
from pipeline.normalise import Rejection, classes_from_tokens, normalise
from pipeline.redact import redact, redact_bytes, redact_text, suspicious
from schemas.catalog import Key
from schemas.instants import DAY_US, MINUTE_US, parse_instant
from schemas.tokens import ZERO, Classes, input_side
from schemas.usage_event import (
    USAGE_TYPE,
    VOID_TYPE,
    Delivery,
    EventData,
    Evidence,
    UsageEvent,
    content_digest,
    decode_document,
    is_identifier,
    typed,
)

FUTURE_US: Final = 5 * MINUTE_US
"""A proxy's clock may run ahead of ours by this much (contract, section 1)."""
CUT_ATTRIBUTE: Final = "redacted"
"""Of an event out of which the client has cut secrets: where, divided by commas."""
CUT_PLACES_MAX: Final = 20
LOOK_BACK_US: Final = 35 * DAY_US
"""An event may come this late (contract, section 1)."""


class Identity(NamedTuple):
    """Who sent what: the identity of an event, each part compared whole."""

    tenant: str
    source: str
    id: str


class Screened(NamedTuple):
    """An event with everything that counting and pricing need.

    kind: usage or void. classes: what the event reports; billable: the part that is billed and costed (nothing for
    errors and cache answers). target: the event that this one replaces or voids. late: from_future, too_old or "".
    """

    identity: Identity
    digest: bytes
    kind: str
    time_us: int
    arrival_us: int
    evidence: Evidence
    key: str
    provider: str
    api: str
    model: str
    service_tier: str
    status: str
    cache_hit: bool
    estimated: bool
    pooled: bool
    size_band: int
    classes: Classes
    requests: int
    upstream_id: str | None
    reservation: str | None
    user: str
    network: str
    agent: str
    labels: str
    target: Identity | None
    reason: str
    late: str
    raw: bytes

    @property
    def billable(self) -> Classes:
        """The counts that are billed and costed."""
        return ZERO if self.cache_hit or self.status == "error" else self.classes


class Refused(NamedTuple):
    """A delivery that does not count, with its bytes (without secrets), the reason and what exactly is wrong."""

    raw: bytes
    reason: str
    detail: str
    tenant: str | None
    source: str | None
    id: str | None
    arrival_us: int
    evidence: Evidence


class Leak(NamedTuple):
    """Fields of an event that held a secret; the event goes on without it."""

    tenant: str | None
    source: str | None
    fields: tuple[str, ...]
    arrival_us: int


class _No(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def screen(delivery: Delivery, context: Context) -> tuple[Screened | Refused, Leak | None]:
    """The delivery judged by itself, and a note of any secret that was cut out of it."""
    raw, leak = delivery.raw, None
    try:
        document = decode_document(raw)
        if b"\\u" in raw and (bad := unstorable(document)) is not None:
            raise ValueError(f"{bad} holds a character that no database stores (NUL or half of a surrogate pair)")
        fields = _cut_by_the_client(document)
        if suspicious(raw):
            document, more = redact(document)
            fields += more
        if fields:
            raw = msgspec.json.encode(document)
            leak = Leak(_text(document, "subject"), _text(document, "source"), fields, delivery.arrival_us)
        return _judge(document, raw, delivery, context), leak
    except _No as no:
        names = (_text(document, "subject"), _text(document, "source"), _text(document, "id"))
        return Refused(raw, no.reason, no.detail, *names, delivery.arrival_us, delivery.evidence), leak
    except (ValueError, RecursionError) as error:  # no event at all, so its bytes are all that can be looked at
        deep = isinstance(error, RecursionError)
        detail = "nested too deeply: an event has a handful of levels" if deep else redact_text(str(error))[0]
        raw, found = redact_bytes(delivery.raw)
        leak = Leak(None, None, ("event",), delivery.arrival_us) if found else None
        return Refused(raw, "malformed", detail, None, None, None, delivery.arrival_us, delivery.evidence), leak


def _cut_by_the_client(document: dict[str, Any]) -> tuple[str, ...]:
    """The places out of which the client has cut secrets before it sent the event, taken off the event: its content is
    then the same whoever cut."""
    told = document.get(CUT_ATTRIBUTE)
    if not isinstance(told, str) or not told:
        return ()
    del document[CUT_ATTRIBUTE]
    return tuple(redact_text(told)[0].split(",")[:CUT_PLACES_MAX])


def unstorable(value: Any, path: str = "event") -> str | None:
    """The path of the first text with a NUL or a lone surrogate in it; None if all of it can be stored."""
    if isinstance(value, str):
        bad = "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)
        return path if bad else None
    if isinstance(value, dict):
        inner = ((name, item, f"{path}.{name}") for name, item in value.items())
        return next((f for name, item, at in inner if (f := unstorable(name, path) or unstorable(item, at))), None)
    if isinstance(value, list):
        return next((f for i, item in enumerate(value) if (f := unstorable(item, f"{path}[{i}]"))), None)
    return None


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) else None


def _judge(document: dict[str, Any], raw: bytes, delivery: Delivery, context: Context) -> Screened:
    event, time_us = _envelope(document)
    identity = Identity(event.subject, event.source, event.id)
    late = _late(time_us, delivery.arrival_us)
    digest = content_digest(document, raw)
    if event.type == VOID_TYPE:
        return _void(event, identity, digest, time_us, late, raw, delivery, context)
    data = event.data
    for name in ("key", "model"):
        if not getattr(data, name):
            raise _No("malformed", f"data.{name} is missing: name the {'provider key' if name == 'key' else 'model'}")
    assert data.key is not None  # checked just above, as is the model
    assert data.model is not None
    if data.usage is not None and data.tokens is not None:
        raise _No("malformed", "both data.usage and data.tokens are given: send one of them")
    key = _key(data.key, event.subject, context)
    classes = _classes(data)
    provider = data.provider or key.provider
    status, tier = data.status or "ok", data.service_tier or "standard"
    target = Identity(event.subject, data.replaces.source, data.replaces.id) if data.replaces else None
    if target == identity:
        raise _No("malformed", "data.replaces names the event itself: give the replacement an id of its own")
    return Screened(
        identity=identity,
        digest=digest,
        kind="usage",
        time_us=time_us,
        arrival_us=delivery.arrival_us,
        evidence=delivery.evidence,
        key=data.key,
        provider=provider,
        api=data.api or "",
        model=data.model,
        service_tier=tier,
        status=status,
        cache_hit=bool(data.cache_hit),
        estimated=bool(data.estimated),
        pooled=key.kind == "pooled",
        size_band=context.prices.size_band(provider, data.model, input_side(classes)),
        classes=classes,
        requests=0 if status == "error" else 1,
        upstream_id=data.upstream_id or None,
        reservation=data.reservation or None,
        user=data.user or "",
        network=data.network or "",
        agent=data.agent or "",
        labels=msgspec.json.encode(data.labels, order="deterministic").decode() if data.labels else "",
        target=target,
        reason="",
        late=late,
        raw=raw,
    )


def _envelope(document: dict[str, Any]) -> tuple[UsageEvent, int]:
    try:
        event = typed(document)
        if event.specversion != "1.0":
            raise ValueError(f"specversion {event.specversion!r}: only 1.0 is known")
        if event.type not in (USAGE_TYPE, VOID_TYPE):
            raise ValueError(f"type {event.type!r} is neither {USAGE_TYPE} nor {VOID_TYPE}")
        for name, value in (("id", event.id), ("source", event.source)):
            if not is_identifier(value):
                raise ValueError(f"{name} must have 1 to 256 printable characters and not be blank")
        return event, parse_instant(event.time)
    except ValueError as error:
        raise _No("malformed", str(error)) from None


def _late(time_us: int, arrival_us: int) -> str:
    if time_us - arrival_us > FUTURE_US:
        return "from_future"
    return "too_old" if arrival_us - time_us > LOOK_BACK_US else ""


def _key(name: str, tenant: str, context: Context) -> Key:
    if tenant not in context.catalog.tenants:
        raise _No("unknown_tenant", f"subject {tenant!r} is no tenant of the catalog: add it, then replay")
    key = context.catalog.keys.get(name)
    if key is None:
        raise _No("unknown_key", f"data.key {name!r} is no key of the catalog: add it, then replay")
    if key.kind == "byok" and key.tenant != tenant:
        raise _No("foreign_key", f"data.key {name!r} belongs to another tenant")
    return key


def _classes(data: EventData) -> Classes:
    given = data.usage if data.tokens is None else data.tokens
    if given in (None, {}, []):
        if data.status == "error":
            return ZERO
        raise _No("no_usage", "neither data.usage nor data.tokens says anything: send the provider's usage object")
    if data.tokens is not None:
        found = classes_from_tokens(data.tokens)
    else:
        found = normalise(data.provider, data.api, data.usage)
    if isinstance(found, Rejection):
        raise _No(found.reason, found.detail)
    return found


def _void(
    event: UsageEvent,
    identity: Identity,
    digest: bytes,
    time_us: int,
    late: str,
    raw: bytes,
    delivery: Delivery,
    context: Context,
) -> Screened:
    data = event.data
    if data.voids is None:
        raise _No("malformed", "data.voids is missing: name the event to take back by source and id")
    if event.subject not in context.catalog.tenants:
        raise _No("unknown_tenant", f"subject {event.subject!r} is no tenant of the catalog: add it, then replay")
    target = Identity(event.subject, data.voids.source, data.voids.id)
    if target == identity:
        raise _No("malformed", "data.voids names the void itself: give the void an id of its own")
    return Screened(
        identity=identity,
        digest=digest,
        kind="void",
        time_us=time_us,
        arrival_us=delivery.arrival_us,
        evidence=delivery.evidence,
        key="",
        provider="",
        api="",
        model="",
        service_tier="standard",
        status="ok",
        cache_hit=False,
        estimated=False,
        pooled=False,
        size_band=0,
        classes=ZERO,
        requests=0,
        upstream_id=None,
        reservation=None,
        user="",
        network="",
        agent="",
        labels="",
        target=target,
        reason=data.reason or "",
        late=late,
        raw=raw,
    )
