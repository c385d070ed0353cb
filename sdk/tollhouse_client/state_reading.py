"""The messages of `quota.states` and `key.states`, read: what a message says, before it is taken into the book.

Reading needs nothing of the gate, so it is done before the gate's lock is taken: a caller who wants a decision does not
wait for JSON. Units are whole numbers (see decisions), instants microseconds of UTC.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from tollhouse_client.decisions import units_of

QUOTAS: Final = "quota.states"
KEYS: Final = "key.states"
CLOCK: Final = b"clock"
TENANT: Final = "tenant:"
JTI: Final = "jti:"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ClockSaid(NamedTuple):
    """All that was committed before clock_us has been told; what was last told before full_us is gone."""

    clock_us: int
    full_us: int


class QuotaSaid(NamedTuple):
    """A quota in its window. limit None: unlimited. key: of a throttle, the key that it is for."""

    scope: str
    name: str
    meter: str
    models: str
    window: str
    limit: int | None
    blocks: bool
    key: str | None
    start_us: int
    end_us: int
    used: int
    reserved: int
    version: int
    told_us: int


RateLimit = tuple[str, int, int]
"""A token bucket: meter, units a minute, units that it holds."""


class TenantSaid(NamedTuple):
    """A tenant and what decides its calls. tokens_before_us: older tokens are revoked; 0: none are."""

    id: str
    facts: tuple[str, str, tuple[str, ...]]
    """State, tier, patterns of models."""
    tokens_before_us: int
    limits: tuple[RateLimit, ...]
    told_us: int


class KeySaid(NamedTuple):
    """A provider key and what decides the calls it carries."""

    id: str
    facts: tuple[str, str, str, str | None, tuple[str, ...]]
    """State, provider, kind, owner of a BYOK key, patterns of models."""
    limits: tuple[int | None, int | None, tuple[RateLimit, ...]]
    """Of the provider, requests and tokens a minute, None: none; and buckets."""
    told_us: int


class RevokedSaid(NamedTuple):
    """A token that counts no more."""

    jti: str


class GoneSaid(NamedTuple):
    """What was told under the name is there no more."""

    name: str


Said = ClockSaid | QuotaSaid | TenantSaid | KeySaid | RevokedSaid | GoneSaid | None
"""None: nothing to do."""


def read_message(topic: str, key: bytes, value: bytes | None) -> Said:
    """What the message says. ValueError, KeyError, TypeError or AttributeError for what is none of ours."""
    if key == CLOCK:
        if value is None:
            return None
        said = json.loads(value)
        return ClockSaid(micros(said["clock"]), micros(said["full"]))
    name = key.decode()
    if value is None:
        return None if name.startswith(JTI) else GoneSaid(name)
    said = json.loads(value)
    return quota_said(said) if topic == QUOTAS else _subject_said(name, said)


def quota_said(said: Mapping[str, Any]) -> QuotaSaid:
    """A message about a quota."""
    meter = said["meter"]
    return QuotaSaid(
        said["scope"],
        said["name"],
        meter,
        said["models"],
        said["window"],
        None if said["limit"] is None else units_of(meter, said["limit"]),
        said["action"] == "block",
        said.get("key"),
        micros(said["window_start"]),
        micros(said["window_end"]),
        _signed(meter, said["used"]),
        _signed(meter, said["reserved"]),
        int(said["version"]),
        micros(said["at"]),
    )


def _subject_said(name: str, said: Mapping[str, Any]) -> Said:
    if name.startswith(JTI):
        return RevokedSaid(name.removeprefix(JTI))
    if name.startswith(TENANT):
        if "tier" not in said:  # a tenant that the catalog no longer has
            return GoneSaid(name)
        before_us = micros(said["tokens_before"]) if "tokens_before" in said else 0
        facts = (said["state"], said["tier"], tuple(said["models"]))
        return TenantSaid(name.removeprefix(TENANT), facts, before_us, _limits(said), micros(said["at"]))
    if "kind" not in said:
        return GoneSaid(name)
    return KeySaid(
        name,
        (said["state"], said["provider"], said["kind"], said.get("tenant"), tuple(said["models"])),
        (_count(said.get("requests_per_minute")), _count(said.get("tokens_per_minute")), _limits(said)),
        micros(said["at"]),
    )


def _limits(said: Mapping[str, Any]) -> tuple[RateLimit, ...]:
    return tuple(
        (str(one["meter"]), int(one["per_minute"]), int(one["burst"])) for one in said.get("rate_limits") or ()
    )


def _count(limit: Any) -> int | None:
    return None if limit is None else int(limit)


def micros(text: str) -> int:
    """An RFC 3339 instant in microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def _signed(meter: str, amount: str) -> int:
    """Units of a figure that corrections may have brought below zero."""
    return -units_of(meter, amount[1:]) if amount.startswith("-") else units_of(meter, amount)
