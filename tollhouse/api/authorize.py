"""`POST /v1/authorize`: may this tenant's call go out now, and with which key."""

import re
import uuid
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from pipeline.admission import DEFAULT_TTL_S, MAX_TTL_S, Ask, Decision, decision_json
from pipeline.ledger import LedgerUnavailable
from pipeline.redact import redact_text
from schemas.money import decimal
from schemas.tokens import COUNT_MAX, METERS
from tollhouse.api.bodies import described, name_of, parsed_body, raw_body
from tollhouse.api.callers import BEARER, authenticate, bearer
from tollhouse.api.direct import Direct
from tollhouse.api.misuse import raw_key_alert
from tollhouse.api.problems import Problem
from tollhouse.api.rate_limits import decision_headers
from tollhouse.api.state import Api, api_of
from tollhouse.own_keys import key_of
from tollhouse.tokens import Claims, TokenRefused
from tollhouse.tokens.verify import looks_like_token

router = APIRouter(tags=["proxy"], route_class=Direct)
_log = structlog.get_logger("tollhouse.api")

_OWN_ID: Final = re.compile(r"rsv_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""As the client makes them: no secret looks so."""
COST_MAX: Final = Decimal(1_000_000)
"""No single call costs more; and a hold in 10**-12 of the currency stays within 64 bits."""

STATUS: Final = {
    "ok": 200,
    "token_invalid": 401,
    "token_expired": 401,
    "token_revoked": 401,
    "unknown_tenant": 403,
    "model_not_allowed": 403,
    "key_unavailable": 403,
    "quota": 429,
    "rate_limit": 429,
}


class AuthorizeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """token: the tenant's JWT. estimate: an upper bound by meter. id: a repeat with it gets the same answer."""

    token: str
    model: str
    estimate: dict[str, int | str | None] = {}
    ttl_s: int = DEFAULT_TTL_S
    id: str | None = None


_EXAMPLE: Final = {
    "token": "JWT of the tenant",
    "model": "gpt-5-mini",
    "estimate": {"tokens": 5000, "cost": "0.02"},
    "ttl_s": 600,
}


@router.post(
    "/v1/authorize",
    summary="Admit or refuse a call, and reserve for it",
    openapi_extra=described(AuthorizeBody, example=_EXAMPLE),
    responses={
        200: {"description": "Admitted; the estimate is reserved."},
        401: {"description": "The tenant's token (or, as a problem, the proxy's) does not count."},
        403: {"description": "Unknown tenant, model not allowed, or no key that may carry the call."},
        429: {"description": "A quota or a rate limit refuses; Retry-After and RateLimit say when."},
    },
)
async def authorize(request: Request, _shown: Annotated[object, Depends(BEARER)] = None) -> Response:
    """The one way of a call: token, tenant, model, key, quotas, reservation; decided by the database."""
    bearer(request)  # before anything of a caller without a token is read
    raw = await raw_body(request)
    return await run_in_threadpool(_answer, request, raw)


def _answer(request: Request, raw: bytes) -> Response:
    """All of the work in one thread: each change of threads costs as much as the decision."""
    api = api_of(request)
    proxy = authenticate(request, "proxy")
    body = parsed_body(request, raw, AuthorizeBody)
    now_us = api.now_us()
    estimate = _estimate(body)
    given = body.id if body.id is None else name_of(body.id, "id")
    _no_secret(api, proxy, "model", body.model, now_us)
    if given is not None and not _OWN_ID.fullmatch(given):
        _no_secret(api, proxy, "id", given, now_us)
    ask_id = given or f"rsv_{uuid.uuid4()}"
    try:
        claims = tenant_of(api, proxy, body.token, now_us)
    except TokenRefused as no:
        api.metrics.decisions.labels(no.reason).inc()
        refused = Decision(ask_id, allowed=False, reason=no.reason, tenant="")
        return _response(refused, {"detail": no.detail})
    over = [meter for meter, most in claims.limits.items() if estimate.get(meter, Decimal(0)) > most]
    if over:
        api.metrics.decisions.labels("quota").inc()
        decision = Decision(ask_id, allowed=False, reason="quota", tenant=claims.tenant, quota=f"token:{over[0]}")
        return _response(
            decision, {"kind": "budget", "detail": f"the token allows {over[0]} up to a lower bound a call"}
        )
    ask = Ask(ask_id, claims.tenant, body.model, estimate, body.ttl_s, claims.models)
    try:
        decision = api.ledger.authorize(ask, now_us, remember=given is not None)
        context = api.ledger.known_context()
    except LedgerUnavailable as error:
        admitted = api.fail_open.decide(ask, now_us)
        if admitted is None:
            raise  # and the problem's handler says why in the log
        _log.warning("database away, admitted without it", error=str(error))
        api.metrics.fail_open.inc()
        return _response(admitted, {"fail_open": True})
    api.fail_open.remember(context)
    api.metrics.decisions.labels(decision.reason).inc()
    headers, kind = decision_headers(decision, context, now_us)
    labels = {"labels": dict(claims.labels)} if claims.labels and decision.allowed else {}
    return _response(decision, {"kind": kind, **labels} if kind else labels, headers)


def _estimate(body: AuthorizeBody) -> dict[str, Decimal]:
    """Exact amounts by meter; a 422 problem for what cannot be an estimate."""
    if not 1 <= body.ttl_s <= MAX_TTL_S:
        raise Problem(422, "invalid_request", f"ttl_s must be 1 to {MAX_TTL_S}")
    name_of(body.model, "model")
    return amounts(body.estimate, "estimate")


def amounts(given: Mapping[str, int | str | None], name: str) -> dict[str, Decimal]:
    """The member's exact amounts by meter; a 422 problem for what cannot be one."""
    found: dict[str, Decimal] = {}
    for meter, units in given.items():
        if units is None:
            continue
        if meter not in METERS:
            raise Problem(422, "invalid_request", f"{name}.{meter[:40]} is no meter: use {', '.join(METERS)}")
        try:
            amount = decimal(units)
        except ValueError as error:
            raise Problem(422, "invalid_request", f"{name}.{meter}: {error}") from None
        most = COST_MAX if meter == "cost" else Decimal(COUNT_MAX)
        if not 0 <= amount <= most or (meter != "cost" and amount != amount.to_integral_value()):
            what = "an amount" if meter == "cost" else "a whole number"
            raise Problem(422, "invalid_request", f"{name}.{meter} must be {what} from 0 to {most}")
        found[meter] = amount
    return found


def _no_secret(api: Api, proxy: Claims, where: str, text: str, now_us: int) -> None:
    """A 422 problem for a member that holds a secret, and somebody is told."""
    try:
        _plain(text)
    except _SecretFoundError:
        api.ledger.raise_alerts([raw_key_alert(proxy, now_us, where=where)])
        detail = f"{where} holds a provider's key or another secret: rotate it"
        raise Problem(422, "secret_sent", detail) from None


class _SecretFoundError(Exception):
    """Raised and not returned: what is returned is remembered, and a secret must not be."""


@lru_cache(maxsize=4096)
def _plain(text: str) -> None:
    """Looking takes 0.1 ms, and a gate sees few models."""
    if redact_text(text)[1]:
        raise _SecretFoundError


def tenant_of(api: Api, proxy: Claims, token: str, now_us: int) -> Claims:
    """The tenant's claims. A provider's key in the token's place is refused, and somebody is told."""
    if not looks_like_token(token):
        key = key_of(api.fingerprints, api.ledger, token)
        if key is not None or redact_text(token)[1]:
            api.ledger.raise_alerts([raw_key_alert(proxy, now_us, key)])
            raise TokenRefused(
                "token_invalid", "this is a provider's key, not a tenant's token: rotate it, it has leaked here"
            )
    return api.checker.check(token, now_us, kind="tenant")


def _response(decision: Decision, more: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    shown = {**decision_json(decision), **more}
    out = dict(headers or {})
    if decision.retry_after_s is not None:
        out["Retry-After"] = str(decision.retry_after_s)
    if STATUS[decision.reason] == 401:
        out["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(shown), STATUS[decision.reason], out, "application/json")
