"""Provider keys: their states, and what on-call does with one."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from tollhouse.api.bodies import described, json_body, name_of
from tollhouse.api.callers import BEARER, Operator, authenticate, require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.provider_keys import change_key, key_list
from tollhouse.api.state import Api, api_of
from tollhouse.errors import UserError

router = APIRouter(tags=["keys"])
ACTIONS: Final = {"suspend": "suspended", "resume": "active", "revoke": "revoked", "rotate": "rotating"}


class ReasonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """reason: for the audit log."""

    reason: str = ""


@router.get("/v1/keys", summary="Provider keys with their states")
def list_keys(request: Request, _caller: Operator) -> dict[str, Any]:
    """Ids only: the keys themselves live in the proxy."""
    return {"keys": key_list(api_of(request).ledger)}


@router.post(
    "/v1/keys/{key:path}/{action}",
    summary="Suspend, resume, revoke or rotate a key",
    openapi_extra=described(ReasonBody, required=False, example={"reason": "seen in a public repository"}),
)
async def act(request: Request, key: str, action: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For on-call. action: suspend, resume, revoke (for good) or rotate (drains: no new calls)."""
    who = await run_in_threadpool(_oncall, request)
    body = await json_body(request, ReasonBody)
    if action not in ACTIONS:
        raise not_found(f"what can be done with a key: {', '.join(ACTIONS)}")
    if body.reason:
        name_of(body.reason, "reason")
    return JSONResponse(await run_in_threadpool(change, api_of(request), who, key, action, body.reason))


def _oncall(request: Request) -> str:
    caller = authenticate(request, "operator")
    require_role(caller, "oncall")
    return caller.who


def change(api: Api, who: str, key: str, action: str, reason: str) -> dict[str, Any]:
    """Change a key's state; 404 for an unknown key, 409 for one revoked before."""
    if key not in api.ledger.context().catalog.keys:
        raise not_found("there is no key of this id in the catalog")
    try:
        return change_key(api.ledger, key, ACTIONS[action], api.now_us(), who, reason)
    except UserError as error:
        raise Problem(409, "refused", str(error)) from None
