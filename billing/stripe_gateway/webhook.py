"""The webhook: signature and time checked over the raw bytes, then the invoice is looked up (docs: webhooks).

The SDK's own check lets a time in the future pass and reads the process's clock; this one takes the clock and is
strict both ways. https://docs.stripe.com/webhooks#verify-manually
"""

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.statuses import EVENT_TYPES, Apply, StatusUpdate, apply_events

TOLERANCE_S: Final = 300
"""As in Stripe's libraries: long enough for slow delivery, short against replay."""
BODY_MAX: Final = 1 << 20


class WebhookRefused(ValueError):
    """Not a delivery of Stripe's, or not now; answer 400. reason is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """outcome: applied, duplicate, or ignored (about none of our invoices). Each is answered with 200."""

    outcome: str
    event_id: str
    event_type: str
    updates: tuple[StatusUpdate, ...] = ()


def verify(raw_body: bytes, signature: str, secrets: Sequence[str], now_s: int, tolerance_s: int = TOLERANCE_S) -> None:
    """WebhookRefused unless one of the secrets signed the body within the tolerance. Several: while one is replaced."""
    parts = [part.strip().partition("=") for part in signature.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or len(times[0]) > 12 or not given:
        raise WebhookRefused("no_signature", "the Stripe-Signature header is missing or malformed")
    signed = times[0].encode() + b"." + raw_body
    good = False
    for secret in secrets:
        want = hmac.new(secret.encode(), signed, sha256).hexdigest().encode()
        for one in given:
            good |= hmac.compare_digest(want, one.encode())
    if not good:
        raise WebhookRefused("bad_signature", "no signature fits: check the endpoint's signing secret")
    if abs(int(times[0]) - now_s) > tolerance_s:
        raise WebhookRefused("not_now", f"signed at {times[0]}, now is {now_s}: late, replayed, or a wrong clock")


def handle_webhook(
    gateway: StripeGateway,
    raw_body: bytes,
    signature: str,
    secrets: Sequence[str],
    apply: Apply,
    now_s: int,
    tolerance_s: int = TOLERANCE_S,
) -> WebhookResult:
    """Check a delivery and apply what Stripe now says about the invoice. now_s: Unix seconds.

    The event counts as seen only after `apply` returned, so a crash in between leads to another delivery. Unreachable
    passes: answer 503 and Stripe delivers again (for up to 3 days).
    """
    if len(raw_body) > BODY_MAX:
        raise WebhookRefused("too_large", f"a delivery of {len(raw_body)} bytes")
    verify(raw_body, signature, secrets, now_s, tolerance_s)
    event = _event(raw_body)
    event_id, kind = str(event["id"]), str(event["type"])
    if gateway.store.get(f"event/{event_id}") is not None:
        return WebhookResult("duplicate", event_id, kind)
    if kind not in EVENT_TYPES:
        return WebhookResult("ignored", event_id, kind)
    updates = apply_events(gateway, gateway.caller(), [event], apply)
    for update in updates:
        gateway.remember_status(update.stripe_id, update.tenant, update.month, update.revision, update.stripe_status)
    gateway.store.put(f"event/{event_id}", {"type": kind, "at_s": str(now_s)})
    return WebhookResult("applied" if updates else "ignored", event_id, kind, tuple(updates))


def _event(raw_body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw_body)
        whole = (
            isinstance(event["id"], str)
            and isinstance(event["type"], str)
            and isinstance(event["data"]["object"], dict)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise WebhookRefused("malformed", f"the body is no event: {error}") from error
    if not whole:
        raise WebhookRefused("malformed", "the body is no event")
    result: dict[str, Any] = event
    return result
