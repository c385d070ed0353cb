"""Screening in bulk: the ordinary events of a batch, decoded once and kept as columns of facts.

Nine events in ten are plain: a call's report of a known shape by a known tenant on a known key, in time, correcting
nothing. They need none of the care that `pipeline.screen` takes, and come out the same. Everything else in a batch is
screened there, one by one; so is a plain event that turns out to touch another (`Batch.again`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from pipeline.context import Context
from pipeline.normalise import Rejection, classes_from_tokens, normalise
from pipeline.normalise.common import LIMIT, common
from pipeline.screen import FUTURE_US, LOOK_BACK_US, Identity, Leak, Refused, Screened, screen
from pipeline.traces import unusual
from schemas.instants import parse_instant
from schemas.plain_event import PlainData, PlainEvent, canonical, decode_plain, decode_plain_list
from schemas.tokens import ZERO, Classes, input_side
from schemas.usage_event import (
    EVENTS_MAX,
    SERVICE_TIERS,
    USAGE_TYPE,
    Delivery,
    Message,
    is_identifier,
    split_message,
)

USES_MAX: Final = 100_000
"""Kept at most; a tenant that makes up model names must not fill the memory."""
_VERSIONS: Final = ("1.0", msgspec.UNSET)
_STATUSES: Final = frozenset(("ok", "error", "aborted"))


class Use:
    """What very many events have in common: looked up once while a catalog version lasts.

    bandless: input sides up to this have no price band. billed: whether the counts are billed and costed. apart:
    they must not be summed first, since a quota on cost counts them, which rounds event by event, or their key was
    revoked, at an instant and not at a minute.
    """

    __slots__ = (
        "apart",
        "api",
        "bandless",
        "billed",
        "cache_hit",
        "error",
        "estimated",
        "key",
        "model",
        "pooled",
        "provider",
        "requests",
        "service_tier",
        "status",
        "tenant",
    )

    def __init__(self, tenant: str, data: PlainData, context: Context) -> None:
        key = context.catalog.keys[data.key]
        self.tenant, self.key, self.model = tenant, data.key, data.model
        self.provider = data.provider or key.provider
        self.api = data.api or ""
        self.status = data.status or "ok"
        self.service_tier = data.service_tier or "standard"
        self.cache_hit, self.estimated = bool(data.cache_hit), bool(data.estimated)
        self.pooled = key.kind == "pooled"
        self.error = int(self.status == "error")
        self.requests = 1 - self.error
        self.billed = not (self.cache_hit or self.error)
        self.bandless = context.prices.bandless(self.provider, self.model)
        self.apart = data.key in context.revoked_us or context.counts_cost(tenant, data.key)


class Plain(NamedTuple):
    """One plain event. upstream: (tenant, provider, upstream id). at: its place in the batch. message, item: where its
    bytes are."""

    identity: Identity
    digest: bytes
    time_us: int
    use: Use
    size_band: int
    classes: Classes
    upstream: tuple[str, str, str] | None
    reservation: str | None
    user: str
    network: str
    agent: str
    labels: str
    at: int
    message: Message
    item: int


Odd = tuple[int, Screened | Refused, Leak | None]
"""Place in the batch, what screening made of it, and a note of a secret that was cut out."""


@dataclass(slots=True)
class Batch:
    """What arrived, judged by itself. messages: with the number of events in each, for the intake's books."""

    plain: list[Plain] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    messages: list[tuple[Message, int]] = field(default_factory=list)
    context: Context | None = None

    def tenants(self) -> set[str]:
        """Whose events these are."""
        found = {use.tenant for use in {event.use for event in self.plain}}
        return found | {item.identity.tenant for _, item, _ in self.odd if isinstance(item, Screened)}

    def again(self, event: Plain) -> Screened:
        """The plain event as single screening gives it: for one that touches another after all."""
        assert self.context is not None  # a batch with plain events was screened in a context
        message = event.message
        raw = message.value if message.whole else split_message(message.value)[event.item]
        found, _ = screen(message.delivery(event.item, raw), self.context)
        assert isinstance(found, Screened)  # plain is a part of what screening takes
        return found


def screen_deliveries(deliveries: Sequence[Delivery], context: Context) -> Batch:
    """A batch of single events."""
    batch, marks = Batch(context=context), unusual([delivery.raw for delivery in deliveries])
    for delivery, mark in zip(deliveries, marks, strict=True):
        topic, partition, offset, item = delivery.evidence
        message = Message(delivery.raw, delivery.arrival_us, topic, partition, offset, whole=True)
        batch.messages.append((message, 1))
        if mark or not _take(batch, message, item, _decode(delivery.raw), context):
            _single(batch, delivery, context)
    return batch


def screen_messages(messages: Sequence[Message], context: Context) -> Batch:
    """A batch of messages as the topic holds them, each with one event or an array of them."""
    batch, marks = Batch(context=context), unusual([message.value for message in messages])
    for message, mark in zip(messages, marks, strict=True):
        events = None if mark else _decode_message(message.value)
        if events is None:
            _by_event(batch, message, context)
            continue
        raws: list[bytes] = []
        for item, event in enumerate(events):
            if not _take(batch, message, item, event, context):
                raws = raws or split_message(message.value)
                _single(batch, message.delivery(item, raws[item]), context)
        batch.messages.append((message, len(events)))
    return batch


def _by_event(batch: Batch, message: Message, context: Context) -> None:
    """A message in which something is not plain: each of its events by itself."""
    raws = split_message(message.value)
    for item, (raw, mark) in enumerate(zip(raws, unusual(raws), strict=True)):
        if mark or not _take(batch, message, item, _decode(raw), context):
            _single(batch, message.delivery(item, raw), context)
    batch.messages.append((message, len(raws)))


def _single(batch: Batch, delivery: Delivery, context: Context) -> None:
    batch.odd.append((len(batch.plain) + len(batch.odd), *screen(delivery, context)))


def _decode(raw: bytes) -> PlainEvent | None:
    try:
        return decode_plain(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decode_message(value: bytes) -> list[PlainEvent] | None:
    try:
        events = decode_plain_list(value) if value[:1] == b"[" else [decode_plain(value)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return events if len(events) <= EVENTS_MAX else None


def _take(batch: Batch, message: Message, item: int, event: PlainEvent | None, context: Context) -> bool:
    """Add the event to the batch if it is plain; whether it was."""
    if event is None or event.type != USAGE_TYPE or event.specversion not in _VERSIONS:
        return False
    data = event.data
    use = _use(event.subject, data, context)
    time_us = _instant(event.time)
    if use is None or not -FUTURE_US <= message.arrival_us - time_us <= LOOK_BACK_US:
        return False
    if not (is_identifier(event.id) and is_identifier(event.source)):
        return False
    classes = _classes(data, use)
    if classes is None:
        return False
    side = input_side(classes)
    batch.plain.append(
        Plain(
            Identity(event.subject, event.source, event.id),
            blake2b(canonical(event), digest_size=16).digest(),
            time_us,
            use,
            context.prices.size_band(use.provider, use.model, side) if side > use.bandless else 0,
            classes,
            (event.subject, use.provider, data.upstream_id) if data.upstream_id else None,
            data.reservation or None,
            data.user or "",
            data.network or "",
            data.agent or "",
            msgspec.json.encode(data.labels, order="deterministic").decode() if data.labels else "",
            len(batch.plain) + len(batch.odd),
            message,
            item,
        )
    )
    return True


def _use(tenant: str, data: PlainData, context: Context) -> Use | None:
    """What the event has in common with others; None if a lookup fails, and single screening then says how."""
    mark = (
        tenant,
        data.key,
        data.model,
        data.provider,
        data.api,
        data.status,
        data.service_tier,
        data.cache_hit,
        data.estimated,
    )
    uses = context.uses
    found = uses.get(mark)
    if found is None:
        key = context.catalog.keys.get(data.key)
        if (
            key is None
            or tenant not in context.catalog.tenants
            or (key.kind == "byok" and key.tenant != tenant)
            or not data.model
            or (data.status or "ok") not in _STATUSES
            or (data.service_tier or "standard") not in SERVICE_TIERS
        ):
            return None
        if len(uses) >= USES_MAX:
            uses.clear()
        found = uses[mark] = Use(tenant, data, context)
    assert isinstance(found, Use)  # the context keeps them for us and knows nothing of them
    return found


_CLOCK: Final = len("2026-10-03T10:11:12Z")
_second = lru_cache(maxsize=USES_MAX)(parse_instant)
"""Many events share a second."""


def _instant(text: str) -> int:
    """parse_instant for the usual spelling in UTC; 0, which is never in time, where that has to look."""
    try:
        base = _second(text[:19] + "Z")
    except ValueError:
        return 0
    length = len(text)
    if length == _CLOCK:
        return base if text[19] == "Z" else 0
    digits = text[20:-1]
    if text[19:20] != "." or text[-1] != "Z" or not (digits.isascii() and digits.isdigit()) or text[17:19] == "60":
        return 0
    return base + int(digits[:6].ljust(6, "0"))


def _classes(data: PlainData, use: Use) -> Classes | None:
    usage, tokens = data.usage, data.tokens
    if usage is not msgspec.UNSET and usage is not None:
        if tokens is not msgspec.UNSET and tokens is not None:
            return None
        provider, api = data.provider or None, data.api or None
        found = common(provider, api, usage) or normalise(provider, api, usage)
    elif tokens is not msgspec.UNSET and tokens is not None:
        found = classes_from_tokens(tokens)
    else:
        return ZERO if use.error else None
    return None if isinstance(found, Rejection) or max(found) >= LIMIT else found
