"""The SDK's client, pinned to the API version that the SDK was made for; live keys only when asked for."""

from typing import Final

import stripe

TIMEOUT_S: Final = 80
"""The SDK's own default: Stripe may take long over a large invoice, and a cut answer costs a look-up."""
_TEST: Final = ("sk_test_", "rk_test_")
_LIVE: Final = ("sk_live_", "rk_live_")


class KeyRefused(ValueError):
    """The key is not one to work with; the message never shows it."""


def make_client(
    api_key: str,
    *,
    api_base: str | None = None,
    allow_live: bool = False,
    timeout_s: int = TIMEOUT_S,
    http_client: stripe.HTTPClient | None = None,
) -> stripe.StripeClient:
    """A client without retries of its own. api_base: another address than Stripe's (a double on this machine)."""
    if api_key.startswith(_LIVE) and not allow_live:
        raise KeyRefused("this is a key of live mode: real money moves. Use a test key, or ask for it with --live")
    if not api_key.startswith(_TEST + _LIVE):
        raise KeyRefused("this is no secret or restricted key of Stripe (sk_test_…, rk_test_…, sk_live_…, rk_live_…)")
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else {},
        max_network_retries=0,
        http_client=http_client or stripe.RequestsClient(timeout=timeout_s),
    )


def probe(client: stripe.StripeClient) -> str:
    """Ask Stripe for one invoice: empty if it answers, else the one line that says what is wrong."""
    try:
        client.v1.invoices.list({"limit": 1}, {"max_network_retries": 0})
    except stripe.StripeError as error:
        return f"{type(error).__name__}: {(error.user_message or str(error)).splitlines()[0][:200]}"
    return ""
