"""Events as a list, and as signed webhook deliveries (https://docs.stripe.com/webhooks)."""

import hmac
from hashlib import sha256

from tollhouse.stripe_double.account import EVENTS_KEPT_S, Account, Obj, Params, created_within, page
from tollhouse.stripe_double.wire import encode


def retrieve(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/events/:id"""
    return account.get("event", ids[0])


def list_(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/events: newest first, of the last 30 days."""
    oldest_s = account.now_s() - EVENTS_KEPT_S
    wanted = set(params.get("types") or ([params["type"]] if "type" in params else []))
    rows = [e for e in reversed(account.events) if e["created"] >= oldest_s]
    if wanted:
        rows = [e for e in rows if e["type"] in wanted or any(_wild(e["type"], want) for want in wanted)]
    return page(created_within(rows, params.get("created")), params, "/v1/events")


def _wild(kind: str, pattern: str) -> bool:
    return pattern == "*" or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def delivery(event: Obj, secret: str, at_s: int) -> tuple[bytes, str]:
    """(raw body, Stripe-Signature header) of one delivery, signed over time and body."""
    body = encode(event, indent=2)
    signature = hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
    return body, f"t={at_s},v1={signature}"
