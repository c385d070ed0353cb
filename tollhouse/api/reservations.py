"""What becomes of a reservation: released where its call was not made, extended for a stream that goes on."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from pipeline.admission import DEFAULT_TTL_S, MAX_TTL_S
from pipeline.ledger import Connection, Ledger
from pipeline.ledger.tables import reservations
from schemas.instants import SECOND_US, format_instant
from tollhouse.api.bodies import described, json_body, name_of
from tollhouse.api.callers import BEARER, authenticate
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of

router = APIRouter(tags=["proxy"])


class ExtendBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ttl_s: from now on. tenant: only needed where two tenants have a reservation of this id."""

    ttl_s: int = DEFAULT_TTL_S
    tenant: str | None = None


def _find(ledger: Ledger, reservation: str, tenant: str | None) -> dict[str, Any]:
    """The open reservation of this id. Tenants choose ids, so two may have the same: then say whose."""
    c = reservations.c
    tenants = [tenant] if tenant is not None else list(ledger.context().catalog.tenants)
    found = ledger.rows(reservations, c.tenant.in_(tenants), c.id == reservation, c.state == "open")
    if not found:
        raise not_found("no open reservation of this id: it was settled, released, or its time is over")
    if len(found) > 1:
        raise Problem(409, "ambiguous", "several tenants have a reservation of this id: add tenant")
    return found[0]


@router.delete(
    "/v1/reservations/{reservation:path}",
    status_code=204,
    summary="Give an unused reservation back",
    responses={404: {"description": "There is no open reservation of this id."}},
)
def release(
    request: Request,
    reservation: str,
    _shown: Annotated[object, Depends(BEARER)],
    tenant: Annotated[str | None, Query()] = None,
) -> Response:
    """What it held goes back to the quotas at once."""
    api = api_of(request)
    authenticate(request, "proxy")
    name_of(reservation, "the reservation's id")
    row = _find(api.ledger, reservation, None if tenant is None else name_of(tenant, "tenant"))
    if row["expires_us"] <= api.now_us() or not api.ledger.release(row["tenant"], reservation):
        raise not_found("no open reservation of this id: it was settled, released, or its time is over")
    return Response(status_code=204)


@router.post(
    "/v1/reservations/{reservation:path}/extend",
    summary="Let a reservation live longer, for a stream that goes on",
    openapi_extra=described(ExtendBody, required=False, example={"ttl_s": 600}),
    responses={404: {"description": "There is no open reservation of this id."}},
)
async def extend(request: Request, reservation: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """Its time to live counts from now; the whole life stays within a day."""
    api = api_of(request)
    await run_in_threadpool(authenticate, request, "proxy")
    body = await json_body(request, ExtendBody)
    if not 1 <= body.ttl_s <= MAX_TTL_S:
        raise Problem(422, "invalid_request", f"ttl_s must be 1 to {MAX_TTL_S}")
    name_of(reservation, "the reservation's id")
    tenant = None if body.tenant is None else name_of(body.tenant, "tenant")
    expires_us = await run_in_threadpool(_extend, api, reservation, tenant, body.ttl_s)
    return JSONResponse({"reservation": reservation, "expires_at": format_instant(expires_us)})


def _extend(api: Api, reservation: str, tenant: str | None, ttl_s: int) -> int:
    now_us = api.now_us()
    row = _find(api.ledger, reservation, tenant)
    until_us = min(now_us + ttl_s * SECOND_US, row["created_us"] + MAX_TTL_S * SECOND_US)
    expires_us: int = max(until_us, int(row["expires_us"]))
    c = reservations.c

    def work(connection: Connection) -> bool:
        # One conditional statement: a reservation that ended meanwhile stays ended.
        still = (c.tenant == row["tenant"], c.id == reservation, c.state == "open", c.expires_us > now_us)
        return connection.execute(reservations.update().where(*still).values(expires_us=expires_us)).rowcount == 1

    if not api.ledger.write(work):
        raise not_found("no open reservation of this id: it was settled, released, or its time is over")
    return expires_us
