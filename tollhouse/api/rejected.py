"""Rejected events: why, and the event as it came (without secrets); on-call can have them judged anew."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from pipeline.ledger.rejected import list_rejected
from pipeline.ledger.tables import rejected
from schemas.instants import format_instant
from schemas.usage_event import REASONS
from tollhouse.api.callers import BEARER, Operator, authenticate, require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import api_of
from tollhouse.replay import replay_rejected

router = APIRouter(tags=["rejected"])


def _row(row: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    shown = {name: row[name] for name in ("n", "tenant", "source", "id", "reason", "detail", "state")}
    shown["at"] = format_instant(row["arrival_us"])
    if whole:
        shown["evidence"] = {name: row[name] for name in ("topic", "partition", "offset", "item")}
        shown["event"] = row["raw"].decode("utf-8", "replace")
    return shown


@router.get("/v1/rejected", summary="Rejected events, in order of arrival")
def list_them(
    request: Request,
    _caller: Operator,
    reason: Annotated[str | None, Query()] = None,
    state: Annotated[str | None, Query(pattern="^(open|replayed)$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Each with its reason; `/v1/rejected/{n}` shows the event itself."""
    if reason is not None and reason not in REASONS:
        raise Problem(422, "invalid_request", f"reason must be one of {', '.join(REASONS)}")
    ledger = api_of(request).ledger
    rows = ledger.read(lambda connection: list_rejected(connection, reason=reason, state=state, limit=limit))
    return {"rejected": [_row(row, whole=False) for row in rows]}


def _find(request: Request, number: int) -> dict[str, Any]:
    rows = api_of(request).ledger.rows(rejected, rejected.c.n == number) if 0 < number < 2**63 else []
    if not rows:
        raise not_found("there is no rejected event of this number")
    return rows[0]


@router.get("/v1/rejected/{number}", summary="A rejected event, whole")
def show(request: Request, number: int, _caller: Operator) -> dict[str, Any]:
    """The event as it came, without secrets, and where its bytes are."""
    return _row(_find(request, number), whole=True)


@router.post("/v1/rejected/{number}/replay", summary="Judge a rejected event anew")
def replay(request: Request, number: int, _shown: Annotated[object, Depends(BEARER)]) -> dict[str, Any]:
    """For on-call, after the catalog was mended: it counts as of its first arrival, or is rejected again."""
    require_role(authenticate(request, "operator"), "oncall")
    row = _find(request, number)
    if row["state"] != "open":
        raise Problem(409, "refused", "this event was replayed before")
    return {"number": number, **replay_rejected(api_of(request).ledger, numbers=[number])}
