"""Alerts about what callers send by mistake."""

from pipeline.alerting import Alert
from schemas.instants import DAY_US
from tollhouse.tokens import Claims


def raw_key_alert(caller: Claims, now_us: int, key: str | None = None, where: str = "token") -> Alert:
    """A provider's key came where it does not belong. One alert a caller, key and day; the secret is nowhere in it.

    key: its id, where it was registered by its fingerprint. where: the member of the body.
    """
    name = f" of {key}" if key is not None else ""
    return Alert(
        id=f"secret:{caller.who}:authorize:{f'{key}:' if key is not None else ''}{now_us - now_us % DAY_US}",
        at_us=now_us,
        kind="secret_in_event",
        severity="page",
        subject=caller.subject,
        detail=f"a provider's key{name} was sent as {where} to authorize by {caller.who}: rotate the key, "
        "and make the proxy send the tenant's token",
        facts={"caller": caller.who, "where": "authorize", **({"key": key} if key is not None else {})},
    )
