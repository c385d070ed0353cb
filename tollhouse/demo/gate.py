"""The demo's proxy: asks the API over HTTP, with a proxy's token and the tenants' own."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx

from pipeline.ledger import Ledger
from schemas.instants import HOUR_US
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens import Claims
from tollhouse.tokens.issue import issue
from tollhouse.tokens.keys import signing_key

START_S: Final = 30.0


def authorize_over_http(
    settings: Settings,
    ledger: Ledger,
    now_us: int,
    asks: Sequence[tuple[str, str, dict[str, Any]]],
    check: Callable[[], None],
) -> list[dict[str, Any]]:
    """The API's answers to (tenant, model, estimate), in order."""
    base = f"http://{settings.host}:{settings.port}"
    key = signing_key(settings, ledger, now_us, "demo")

    def token(kind: str, subject: str) -> str:
        claims = Claims(kind, subject, f"demo-{kind}-{subject}", now_us, now_us + HOUR_US)
        return issue(key, claims, issuer=settings.issuer, audience=settings.audience)

    proxy = token("proxy", "demo-proxy")
    with httpx.Client(base_url=base, timeout=10.0, headers={"Authorization": f"Bearer {proxy}"}) as client:
        wait_ready(client, check)
        answers = []
        for number, (tenant, model, estimate) in enumerate(asks, 1):
            body = {
                "token": token("tenant", tenant),
                "model": model,
                "estimate": estimate,
                "ttl_s": 600,
                "id": f"demo-{number}",
            }
            answer = client.post("/v1/authorize", json=body).json()
            answers.append({"tenant": tenant, "key": None, "quota": None, "retry_after_s": None, **answer})
    return answers


def wait_ready(client: httpx.Client, check: Callable[[], None]) -> None:
    """Until the API answers; UserError when it does not."""
    deadline = time.monotonic() + START_S
    while True:
        check()
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise UserError(f"the API does not answer at {client.base_url} (see api.log)")
        time.sleep(0.1)
