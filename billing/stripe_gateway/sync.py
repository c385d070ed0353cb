"""`stripe sync`: what happened at Stripe since the last time, from its list of events.

Stripe keeps events for 30 days (https://docs.stripe.com/webhooks/process-undelivered-events). After a longer pause, or
the first time, each invoice that is not settled is read instead.
"""

from dataclasses import dataclass
from typing import Any, Final

import stripe

from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.statuses import EVENT_TYPES, Apply, StatusUpdate, apply_events, fetch

EVENTS_KEPT_S: Final = 30 * 86_400
_OVERLAP_S: Final = 600
"""Events may show up a little after their time; looking at one twice is harmless."""
_CURSOR: Final = "cursor/events"
_SETTLED: Final = ("paid", "void")


@dataclass(frozen=True, slots=True)
class SyncResult:
    """updates: what was applied. whole: every unsettled invoice was read. since_s: where the events began."""

    updates: tuple[StatusUpdate, ...]
    events: int
    whole: bool
    since_s: int | None
    requests: int


def sync(gateway: StripeGateway, apply: Apply, now_s: int, *, whole: bool = False) -> SyncResult:
    """Apply what Stripe says back; the cursor moves only after all of it was applied.

    now_s: Unix seconds. whole: read every unsettled invoice, whatever the events say. Refused and Unreachable pass.
    """
    caller = gateway.caller()
    kept = gateway.store.get(_CURSOR)
    since_s = int(kept["created"]) if kept else None
    whole = whole or since_s is None or since_s < now_s - EVENTS_KEPT_S + _OVERLAP_S
    # A whole run reads the invoices themselves; only disputes do not show there.
    types = [kind for kind in EVENT_TYPES if not whole or kind.startswith("charge.dispute.")]
    span: Any = {"types": types}
    if since_s is not None:
        span["created"] = {"gte": since_s - _OVERLAP_S}
    service = gateway.client.v1.events
    found = caller.pages(lambda paging, options: service.list(paging | span, options))
    events = [event.to_dict() for event in found if isinstance(event, stripe.Event)]
    updates = apply_events(gateway, caller, events, apply)
    if whole:
        seen = {update.stripe_id for update in updates}
        for key in gateway.store.keys("invoice/"):
            record = gateway.store.get(key) or {}
            stripe_id = record.get("stripe_id", "")
            if stripe_id and stripe_id not in seen and record.get("status") not in _SETTLED:
                update = fetch(gateway, caller, stripe_id)
                if update is not None:
                    apply(update)
                    updates.append(update)
    for update in updates:
        gateway.remember_status(update.stripe_id, update.tenant, update.month, update.revision, update.stripe_status)
    newest = now_s if whole else max((int(event["created"]) for event in events), default=0)
    gateway.store.put(_CURSOR, {"created": str(max(newest, since_s or 0))})
    return SyncResult(tuple(updates), len(events), whole, since_s, caller.requests)
