"""`POST /v1/keys/{key}/register`: an owner or on-call tells which provider key an id stands for, by fingerprint."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from tollhouse.api.bodies import described, json_body
from tollhouse.api.callers import BEARER, authenticate, require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import api_of
from tollhouse.errors import UserError
from tollhouse.own_keys import register
from tollhouse.tokens import Claims

router = APIRouter(tags=["keys"])


class RegisterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """secret: the provider's key; it is hashed, and not kept, logged or answered."""

    secret: str


@router.post(
    "/v1/keys/{key:path}/register",
    summary="Register a provider key by its fingerprint",
    openapi_extra=described(RegisterBody, example={"secret": "the provider's key"}),
)
async def register_key(request: Request, key: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For on-call, and for a tenant of its own (BYOK) keys. Keeps a keyed hash and the last four characters."""
    caller = await run_in_threadpool(authenticate, request, "operator", "tenant")
    body = await json_body(request, RegisterBody)
    return JSONResponse(await run_in_threadpool(_register, request, caller, key, body.secret))


def _register(request: Request, caller: Claims, key: str, secret: str) -> dict[str, Any]:
    api = api_of(request)
    known = api.ledger.context().catalog.keys.get(key)
    if caller.kind == "operator":
        require_role(caller, "oncall")
    elif known is None or known.tenant != caller.tenant:
        raise Problem(403, "not_yours", "a tenant's token registers this tenant's own keys only")
    if known is None:
        raise not_found("there is no key of this id in the catalog")
    try:
        return register(api.settings, api.ledger, key, secret, api.now_us(), caller.who)
    except UserError as error:
        raise Problem(409, "refused", str(error)) from None
