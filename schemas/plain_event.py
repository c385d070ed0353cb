"""The ordinary usage event, decoded in one pass: the shape of nearly all of the traffic.

It has the members named here and no others, corrects nothing, and is written without a backslash and without a number
that has a fraction: then no text in it needs escaping, and `canonical` gives the very bytes that `content_digest`
digests. What does not fit is no error: it is taken by the way that knows all shapes (schemas.usage_event).
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

Text = str | UnsetType | None


class PlainData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Payload of a call's report. UNSET is a member that is not there; null is kept, since it is other content."""

    key: str
    model: str
    provider: Text = UNSET
    api: Text = UNSET
    usage: Any = UNSET
    tokens: Any = UNSET
    status: Text = UNSET
    estimated: bool | UnsetType | None = UNSET
    upstream_id: Text = UNSET
    service_tier: Text = UNSET
    cache_hit: bool | UnsetType | None = UNSET
    request_id: Text = UNSET
    reservation: Text = UNSET
    user: Text = UNSET
    network: Text = UNSET
    agent: Text = UNSET
    labels: dict[str, Any] | UnsetType | None = UNSET


class PlainEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The envelope, with the attributes of CloudEvents 1.0 that proxies add."""

    id: str
    source: str
    type: str
    time: str
    subject: str
    data: PlainData
    specversion: str | UnsetType = UNSET
    datacontenttype: Any = UNSET
    dataschema: Any = UNSET
    traceparent: Any = UNSET
    tracestate: Any = UNSET


decode_plain: Final[Callable[[bytes], PlainEvent]] = msgspec.json.Decoder(PlainEvent).decode
"""One event; msgspec's errors and RecursionError for another shape."""
decode_plain_list: Final[Callable[[bytes], list[PlainEvent]]] = msgspec.json.Decoder(list[PlainEvent]).decode
"""The events of an array; errors as above if one of them has another shape."""

_encode: Final = msgspec.json.Encoder(order="sorted").encode


def canonical(event: PlainEvent) -> bytes:
    """The event's content as JSON with sorted members: equal for two events that are equal as JSON."""
    return _encode(event)
