"""The state of one Stripe account: objects, their ids, its clock, its events, its idempotency keys."""

import hashlib
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tollhouse.stripe_double.errors import invalid, missing

Obj: TypeAlias = dict[str, Any]
Params: TypeAlias = dict[str, Any]

DAY_S = 86_400
EVENTS_KEPT_S = 30 * DAY_S
API_VERSION = "2026-10-28.endive"


@dataclass(slots=True)
class StoredAnswer:
    """What an idempotency key remembers. fingerprint: of method, path and parameters."""

    fingerprint: str
    status: int
    body: bytes
    at_s: int


@dataclass(slots=True)
class Account:
    """clock_s gives whole Unix seconds; skew_s is what tests advance it by."""

    clock_s: Callable[[], int]
    skew_s: int = 0
    objects: dict[str, dict[str, Obj]] = field(default_factory=dict)
    lines: dict[str, list[Obj]] = field(default_factory=dict)
    events: list[Obj] = field(default_factory=list)
    keys: dict[str, StoredAnswer] = field(default_factory=dict)
    counter: int = 0

    def now_s(self, customer: Obj | None = None) -> int:
        """Now; for a customer on a test clock, that clock's frozen time."""
        clock_id = (customer or {}).get("test_clock")
        if clock_id:
            return int(self.get("test_helpers.test_clock", clock_id)["frozen_time"])
        return self.clock_s() + self.skew_s

    def new_id(self, prefix: str) -> str:
        """The next id: no meaning, never used twice, the same in each run of a test."""
        self.counter += 1
        digest = hashlib.sha256(f"{prefix}:{self.counter}".encode()).hexdigest()[:12]
        return f"{prefix}_{self.counter:06d}{digest}"

    def add(self, kind: str, obj: Obj) -> Obj:
        """Keep a new object."""
        self.objects.setdefault(kind, {})[obj["id"]] = obj
        return obj

    def get(self, kind: str, object_id: str) -> Obj:
        """The object; ApiError 404 if there is none."""
        found = self.objects.get(kind, {}).get(object_id)
        if found is None:
            raise missing(kind, object_id)
        return found

    def all(self, kind: str) -> list[Obj]:
        """All objects of the kind, newest first, as Stripe lists them."""
        return list(reversed(self.objects.get(kind, {}).values()))

    def emit(self, kind: str, obj: Obj, **also: Any) -> None:
        """Record an event with the object as it is now (https://docs.stripe.com/api/events)."""
        event = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now_s(),
            "data": {"object": deepcopy(obj), **also},
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        self.events.append(event)


def page(items: Iterable[Obj], params: Params, url: str) -> Obj:
    """One page of a list: at most 100, 10 unless told, by cursor (https://docs.stripe.com/api/pagination)."""
    rows = list(items)
    limit = params.get("limit", 10)
    ids = [row["id"] for row in rows]
    after, before = params.get("starting_after"), params.get("ending_before")
    for cursor in (after, before):
        if cursor is not None and cursor not in ids:
            raise invalid(f"No such object: '{cursor}'", code="resource_missing")
    if after is not None:
        rows = rows[ids.index(after) + 1 :]
        shown, more = rows[:limit], len(rows) > limit
    elif before is not None:
        rows = rows[: ids.index(before)]
        shown, more = rows[-limit:], len(rows) > limit
    else:
        shown, more = rows[:limit], len(rows) > limit
    return {"object": "list", "url": url, "has_more": more, "data": shown}


def created_within(rows: Iterable[Obj], bounds: Any) -> list[Obj]:
    """The rows whose `created` fits a number or the bounds gt, gte, lt, lte."""
    if bounds is None:
        return list(rows)
    if not isinstance(bounds, dict):
        return [row for row in rows if row["created"] == bounds]
    return [
        row
        for row in rows
        if row["created"] > bounds.get("gt", -1)
        and row["created"] >= bounds.get("gte", 0)
        and row["created"] < bounds.get("lt", 1 << 62)
        and row["created"] <= bounds.get("lte", 1 << 62)
    ]


def merge_metadata(old: dict[str, str], new: Any) -> dict[str, str]:
    """Metadata after an update: an empty value takes a key away, an empty set takes all (docs: metadata)."""
    if new is None:
        return old
    if new == "":
        return {}
    merged = {**old, **new}
    return {key: value for key, value in merged.items() if value != ""}
