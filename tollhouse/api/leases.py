"""`/v1/leases`: a block of calls held at once, which a proxy spends by itself; see pipeline/ledger/leases.py.

A lease is for one tenant, one model and one key, and admits what authorize would admit: the same token, models, key
states and quotas, decided by the same statement. So outstanding leases are part of `reserved`, and no quota is passed.
"""

import uuid
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from pipeline.admission import MAX_TTL_S, Ask, Decision, candidates, decision_json, refuse_early
from pipeline.ledger import leases
from pipeline.ledger.leases import PREFIX, Lease
from schemas.instants import format_instant
from schemas.money import plain
from tollhouse.api.authorize import STATUS, amounts, tenant_of
from tollhouse.api.bodies import described, json_body, name_of
from tollhouse.api.callers import BEARER, authenticate
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.rate_limits import decision_headers
from tollhouse.api.state import Api, api_of
from tollhouse.tokens import Claims, TokenRefused

router = APIRouter(tags=["proxy"])

LEASE_TTL_S: Final = 60
CALL_S: Final = 600
"""As authorize holds a call by default."""
SHARES: Final = (Decimal(1), Decimal("0.25"), Decimal("0.0625"), Decimal(0))
"""Of what is asked beyond the least, tried in this order: near its limit a quota is leased in small blocks."""
_COST_STEP: Final = Decimal("0.000001")


class LeaseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """token: the tenant's JWT. amount: the block by meter; at_least: what it is of use with. ttl_s: how long calls
    begin; call_s: how long one may last. id: begins with lease_; a repeat with it gets the same answer.
    """

    token: str
    model: str
    amount: dict[str, int | str | None]
    at_least: dict[str, int | str | None] = {}
    ttl_s: int = LEASE_TTL_S
    call_s: int = CALL_S
    id: str | None = None


class RenewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """token: of the lease's tenant, checked anew. ttl_s: how long calls begin from now on."""

    token: str
    ttl_s: int = LEASE_TTL_S


class CloseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """spent: upper bound by meter of all that the lease's calls used and will use."""

    tenant: str
    spent: dict[str, int | str | None] = {}


_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Held; calls may begin until `until`."},
    401: {"description": "The tenant's token (or, as a problem, the proxy's) does not count."},
    403: {"description": "Unknown tenant, model not allowed, or no key that may carry the calls."},
    429: {"description": "A quota has no room for the least block; Retry-After says when."},
}
_EXAMPLE: Final = {
    "token": "JWT of the tenant",
    "model": "gpt-5-mini",
    "amount": {"tokens": 100000, "requests": 50, "cost": "1.00"},
    "at_least": {"tokens": 5000, "requests": 1, "cost": "0.02"},
    "ttl_s": 60,
}


@router.post(
    "/v1/leases",
    summary="Hold a block of calls for a proxy that decides by itself",
    openapi_extra=described(LeaseBody, example=_EXAMPLE),
    responses=_ANSWERS,
)
async def lease(request: Request, _shown: Annotated[object, Depends(BEARER)]) -> Response:
    """As authorize, for many calls. Each call's usage names the lease as its reservation."""
    api = api_of(request)
    proxy = await run_in_threadpool(authenticate, request, "proxy")
    body = await json_body(request, LeaseBody)
    return await run_in_threadpool(_begin, api, proxy, body)


def _begin(api: Api, proxy: Claims, body: LeaseBody) -> Response:
    now_us = api.now_us()
    for name, seconds in (("ttl_s", body.ttl_s), ("call_s", body.call_s)):
        if not 1 <= seconds <= MAX_TTL_S // 2:
            raise Problem(422, "invalid_request", f"{name} must be 1 to {MAX_TTL_S // 2}")
    name_of(body.model, "model")
    lease_id = name_of(body.id, "id") if body.id is not None else f"{PREFIX}{uuid.uuid4()}"
    if not lease_id.startswith(PREFIX):
        raise Problem(422, "invalid_request", f"a lease's id begins with {PREFIX}")
    most, least = amounts(body.amount, "amount"), amounts(body.at_least, "at_least")
    if over := [meter for meter, units in least.items() if units > most.get(meter, Decimal(0))]:
        raise Problem(422, "invalid_request", f"at_least.{over[0]} is more than amount.{over[0]}")
    try:
        claims = tenant_of(api, proxy, body.token, now_us)
    except TokenRefused as no:
        return _refused(Decision(lease_id, allowed=False, reason=no.reason, tenant=""), {"detail": no.detail})
    if over := [meter for meter, units in claims.limits.items() if least.get(meter, Decimal(0)) > units]:
        decision = Decision(lease_id, allowed=False, reason="quota", tenant=claims.tenant, quota=f"token:{over[0]}")
        detail = f"the token allows {over[0]} up to a lower bound a call"
        return _refused(decision, {"kind": "budget", "detail": detail})
    before = api.ledger.read(lambda c: leases.known(c, claims.tenant, lease_id))
    if before is not None and before.open and now_us < before.expires_us:
        return _answer(before, claims)
    decision = _decide(api, claims, lease_id, body, (least, most), now_us)
    context = api.ledger.context()
    if not decision.allowed or decision.key is None:
        headers, kind = decision_headers(decision, context, now_us)
        return _refused(decision, {"kind": kind} if kind else {}, headers)
    meters = leases.limited_meters(claims.tenant, decision.key, body.model, context, now_us)
    made = api.ledger.write(lambda c: leases.begin(c, claims.tenant, lease_id, meters, body.ttl_s, body.call_s, now_us))
    if made is None:
        raise not_found("the reservation of this id has ended: take another id")
    return _answer(made, claims)


def _decide(
    api: Api,
    claims: Claims,
    lease_id: str,
    body: LeaseBody,
    bounds: tuple[Mapping[str, Decimal], Mapping[str, Decimal]],
    now_us: int,
) -> Decision:
    """On the largest of a few blocks between the least and the most that the quotas take."""
    least, most = bounds
    for share in SHARES:
        amount = _between(least, most, share)
        ask = Ask(lease_id, claims.tenant, body.model, amount, body.ttl_s + body.call_s, claims.models)
        decision = api.ledger.authorize(ask, now_us, remember=False)
        if decision.reason not in ("quota", "rate_limit"):
            break
    api.metrics.decisions.labels(decision.reason).inc()
    return decision


def _between(least: Mapping[str, Decimal], most: Mapping[str, Decimal], share: Decimal) -> dict[str, Decimal]:
    found = {}
    for meter, units in most.items():
        low = least.get(meter, Decimal(0))
        step = _COST_STEP if meter == "cost" else Decimal(1)
        found[meter] = low + ((units - low) * share).quantize(step, ROUND_FLOOR)
    return found


@router.post(
    "/v1/leases/{lease:path}/renew",
    summary="Let calls of a lease begin for longer",
    openapi_extra=described(RenewBody, example={"token": "JWT of the tenant", "ttl_s": 60}),
    responses={**_ANSWERS, 404: {"description": "There is no open lease of this id."}},
)
async def renew(request: Request, lease: str, _shown: Annotated[object, Depends(BEARER)]) -> Response:
    """Checks token, model and key again. Not beyond the turn of the first of its quotas' windows."""
    api = api_of(request)
    proxy = await run_in_threadpool(authenticate, request, "proxy")
    body = await json_body(request, RenewBody)
    name_of(lease, "the lease's id")
    if not 1 <= body.ttl_s <= MAX_TTL_S // 2:
        raise Problem(422, "invalid_request", f"ttl_s must be 1 to {MAX_TTL_S // 2}")
    return await run_in_threadpool(_renew, api, proxy, lease, body)


def _renew(api: Api, proxy: Claims, lease: str, body: RenewBody) -> Response:
    now_us = api.now_us()
    try:
        claims = tenant_of(api, proxy, body.token, now_us)
    except TokenRefused as no:
        return _refused(Decision(lease, allowed=False, reason=no.reason, tenant=""), {"detail": no.detail})
    before = api.ledger.read(lambda c: leases.known(c, claims.tenant, lease))
    if before is None:
        raise not_found("no open lease of this id and tenant")
    context = api.ledger.context()
    ask = Ask(lease, claims.tenant, before.model, models=claims.models)
    reason = refuse_early(ask, context)
    if reason is None and before.key not in [key.id for key in candidates(ask, context, now_us)]:
        reason = "key_unavailable"
    if reason is not None:
        return _refused(Decision(lease, allowed=False, reason=reason, tenant=claims.tenant), {})
    after = api.ledger.write(lambda c: leases.renew(c, claims.tenant, lease, body.ttl_s, now_us))
    if after is None:
        raise not_found("no open lease of this id: it was closed, or its time is over")
    return _answer(after, claims)


@router.post(
    "/v1/leases/{lease:path}/close",
    status_code=204,
    summary="Give back what a lease's calls cannot use",
    openapi_extra=described(CloseBody, example={"tenant": "acme", "spent": {"tokens": 12000, "requests": 7}}),
    responses={404: {"description": "There is no open lease of this id."}},
)
async def close(request: Request, lease: str, _shown: Annotated[object, Depends(BEARER)]) -> Response:
    """What its calls used and has not arrived stays held until it does, or until the lease's time to live."""
    api = api_of(request)
    await run_in_threadpool(authenticate, request, "proxy")
    body = await json_body(request, CloseBody)
    name_of(lease, "the lease's id")
    tenant, spent = name_of(body.tenant, "tenant"), amounts(body.spent, "spent")
    now_us = api.now_us()
    done = await run_in_threadpool(api.ledger.write, lambda c: leases.close(c, tenant, lease, spent, now_us))
    if not done:
        raise not_found("no open lease of this id and tenant: it was closed and used up, or its time is over")
    return Response(status_code=204)


def _answer(lease: Lease, claims: Claims) -> JSONResponse:
    decision = Decision(
        lease.id, allowed=True, reason="ok", tenant=lease.tenant, key=lease.key, expires_us=lease.expires_us
    )
    shown = decision_json(decision)
    del shown["remaining"]
    shown["until"] = format_instant(lease.until_us)
    shown["granted"] = {meter: plain(units) for meter, units in lease.granted.items()}
    shown["limits"] = {meter: plain(units) for meter, units in claims.limits.items()}
    shown["labels"] = dict(claims.labels)
    return JSONResponse(shown)


def _refused(decision: Decision, more: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    out = dict(headers or {})
    if decision.retry_after_s is not None:
        out["Retry-After"] = str(decision.retry_after_s)
    if STATUS[decision.reason] == 401:
        out["WWW-Authenticate"] = "Bearer"
    return JSONResponse({**decision_json(decision), **more}, STATUS[decision.reason], out)
