"""Alerts: the list, and what on-call does with one."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from pipeline.alerting import KINDS
from pipeline.ledger.alerts import list_alerts
from schemas.instants import DAY_US, SECOND_US, format_instant
from tollhouse import incidents
from tollhouse.api.bodies import described, json_body, name_of
from tollhouse.api.callers import BEARER, Operator, authenticate, require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.incidents import Changed
from tollhouse.tokens import Claims

router = APIRouter(tags=["alerts"])
STATES: Final = ("open", "acked", "resolved")
MUTE_MAX_S: Final = 90 * DAY_US // SECOND_US
LIMIT_MAX: Final = 1000


class AckBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """feedback: leak, expected, or what it was in a few words; without it, what is there stays."""

    feedback: str = ""


class MuteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """for_s: seconds from now, 0 ends a mute."""

    for_s: int = 86_400


def alert_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the ledger as the API shows it."""
    muted = row["muted_until_us"]
    return {
        "id": row["id"],
        "at": format_instant(row["first_us"]),
        "last_at": format_instant(row["last_us"]),
        "kind": row["kind"],
        "severity": row["severity"],
        "subject": row["subject"],
        "detail": row["detail"],
        "facts": row["facts"],
        "state": row["state"],
        "count": row["count"],
        "muted_until": None if muted is None else format_instant(muted),
        "feedback": row["feedback"],
    }


@router.get("/v1/alerts", summary="Alerts, the newest first")
def list_them(
    request: Request,
    _caller: Operator,
    state: Annotated[str | None, Query()] = None,
    kind: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 200,
) -> dict[str, Any]:
    """One entry an incident."""
    if state is not None and state not in STATES:
        raise Problem(422, "invalid_request", f"state must be one of {', '.join(STATES)}")
    if kind is not None and kind not in KINDS:
        raise Problem(422, "invalid_request", f"kind must be one of {', '.join(KINDS)}")
    found = newest(api_of(request), state)
    return {"alerts": [row for row in found if kind is None or row["kind"] == kind][:limit]}


def newest(api: Api, state: str | None = None) -> list[dict[str, Any]]:
    """All alerts of a state as the API shows them, the newest first."""
    rows = api.ledger.read(lambda connection: list_alerts(connection, state=state, limit=100_000))
    return [alert_row(row) for row in sorted(rows, key=lambda row: (row["first_us"], row["id"]), reverse=True)]


def _oncall(request: Request) -> Claims:
    caller = authenticate(request, "operator")
    require_role(caller, "oncall")
    return caller


def _named(alert_id: str) -> str:
    """The id, as far as one can be asked for."""
    name = name_of(alert_id, "the alert's id") if len(alert_id) <= 256 else alert_id
    if not name.isprintable():
        raise not_found("there is no alert of this id")
    return name


def shown(done: Changed | None) -> dict[str, Any]:
    """What a change led to, as the API shows it; 404 if there is no such alert."""
    if done is None:
        raise not_found("there is no alert of this id")
    return alert_row(done.alert)


async def _close(request: Request, alert_id: str, how: Callable[..., Changed | None]) -> JSONResponse:
    caller, api = await run_in_threadpool(_oncall, request), api_of(request)
    body = await json_body(request, AckBody)
    if body.feedback:
        name_of(body.feedback, "feedback")
    done = await run_in_threadpool(how, api.ledger, caller.who, _named(alert_id), api.now_us(), body.feedback)
    return JSONResponse(shown(done))


@router.post(
    "/v1/alerts/{alert_id:path}/ack",
    summary="Take an alert",
    openapi_extra=described(AckBody, required=False, example={"feedback": "leak"}),
)
async def ack(request: Request, alert_id: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For on-call: somebody has seen it; what it was goes into feedback.

    `expected` teaches the detector this level, and ends a throttle or suspension that the incident set off.
    """
    return await _close(request, alert_id, incidents.ack)


@router.post(
    "/v1/alerts/{alert_id:path}/resolve",
    summary="Close an alert, and end what it set off",
    openapi_extra=described(AckBody, required=False, example={"feedback": "leak"}),
)
async def resolve(request: Request, alert_id: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For on-call: it is over, and so is a throttle or suspension that it set off. It opens again if it goes on."""
    return await _close(request, alert_id, incidents.resolve)


@router.post(
    "/v1/alerts/{alert_id:path}/mute",
    summary="Keep an alert quiet for a while",
    openapi_extra=described(MuteBody, required=False, example={"for_s": 86400}),
)
async def mute(request: Request, alert_id: str, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For on-call: it goes to no sink until then."""
    caller, api = await run_in_threadpool(_oncall, request), api_of(request)
    body = await json_body(request, MuteBody)
    if not 0 <= body.for_s <= MUTE_MAX_S:
        raise Problem(422, "invalid_request", f"for_s must be 0 to {MUTE_MAX_S}")
    now_us = api.now_us()
    until_us = now_us + body.for_s * SECOND_US if body.for_s else None
    done = await run_in_threadpool(incidents.mute, api.ledger, caller.who, _named(alert_id), now_us, until_us)
    return JSONResponse(shown(done))
