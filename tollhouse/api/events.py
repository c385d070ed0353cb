"""`POST /v1/events`: usage events over HTTP, in the three modes of the CloudEvents HTTP binding.

Each event is screened at once, with the same code as in the pipeline. What cannot count is told with its reason and
kept in the rejected list; what can goes through the spool to the broker, and is "accepted" once the broker has it.
Whether it is a duplicate, a conflict or a correction is decided by the ledger later, as for any event.
"""

import json
import os
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import unquote

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from pipeline.alerting import secret_alert
from pipeline.ledger.rejected import insert_rejected
from pipeline.ledger.tables import events as counted_events
from pipeline.screen import Leak, Refused, Screened, screen
from schemas.usage_event import EVENTS_MAX, Delivery, Evidence, split_message
from tollhouse.api.bodies import raw_body
from tollhouse.api.callers import BEARER, authenticate
from tollhouse.api.problems import Problem
from tollhouse.api.state import Api, api_of
from tollhouse_client import (
    EventTooLargeError,
    InvalidEventError,
    PublisherClosedError,
    SpoolFullError,
    SpoolLockedError,
)

router = APIRouter(tags=["proxy"])
_log = structlog.get_logger("tollhouse.api")

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
TOPIC: Final = "http"
"""Evidence of what never reached Kafka: the process stands for the partition, the instant for the offset."""
PARTITION: Final = os.getpid() % 2**15
WAIT_S: Final = 10.0
"""A broker that is there answers in milliseconds; a proxy should not hold a connection longer than this."""
_MEDIA: Final = {"schema": {"type": "object"}, "example": {"specversion": "1.0", "id": "req_1", "source": "proxy/eu-1"}}
_OPENAPI: Final = {
    "requestBody": {
        "required": True,
        "content": {
            SINGLE: _MEDIA,
            BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


@router.post(
    "/v1/events",
    status_code=202,
    summary="Send usage events",
    openapi_extra=_OPENAPI,
    responses={
        202: {"description": "A result for each event, in order: accepted, or rejected with the reason."},
        503: {"description": "The broker did not confirm in time. Send again: an event counts once."},
    },
)
async def post_events(request: Request, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """One event, a batch, or one in binary mode (ce- headers)."""
    api = api_of(request)
    await run_in_threadpool(authenticate, request, "proxy")
    raws = events_of(request, await raw_body(request))
    results = await run_in_threadpool(take, api, raws)
    return JSONResponse({"results": results}, 202)


def events_of(request: Request, body: bytes) -> list[bytes]:
    """The bytes of each event; a 4xx problem where the mode is none of the three."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == SINGLE:
        return [body]
    if content_type == BATCH:
        if body.lstrip()[:1] != b"[":
            raise Problem(400, "not_a_batch", "a batch is a JSON array of events")
        raws = split_message(body)
        if raws and raws[0] is body:
            raise Problem(400, "not_a_batch", f"the batch is not JSON, or has more than {EVENTS_MAX} events")
        return raws
    if "ce-specversion" in request.headers:
        return [_binary(request, content_type, body)]
    raise Problem(
        415, "unsupported_media_type", f"send {SINGLE}, {BATCH}, or application/json with ce- headers (binary mode)"
    )


def _binary(request: Request, content_type: str, body: bytes) -> bytes:
    if content_type not in ("application/json", ""):
        raise Problem(415, "unsupported_media_type", "data in binary mode is application/json")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "not_json", f"the data is not JSON: {error}") from None
    # Header values carry UTF-8 in per cent encoding (CloudEvents HTTP binding 1.0.2, section 3.1.3.2).
    event: dict[str, Any] = {
        name[3:]: unquote(value, errors="replace") for name, value in request.headers.items() if name.startswith("ce-")
    }
    return json.dumps({**event, "data": data}).encode()


@dataclass(slots=True)
class _Taken:
    """What becomes of the events of one request."""

    results: list[dict[str, Any]]
    refused: list[Refused]
    leaks: list[Leak]
    position: int | None = None


_offset_lock = threading.Lock()
_last_offset = [0]


def _next_offset(now_us: int) -> int:
    """Two requests within a microsecond have two places all the same."""
    with _offset_lock:
        _last_offset[0] = max(now_us, _last_offset[0] + 1)
        return _last_offset[0]


def take(api: Api, raws: list[bytes]) -> list[dict[str, Any]]:
    """Screen, publish, wait for the broker; a result for each event."""
    now_us = api.now_us()
    offset = _next_offset(now_us)
    context = api.ledger.context()
    taken = _Taken([], [], [])
    try:
        for index, raw in enumerate(raws):
            verdict, leak = screen(Delivery(raw, now_us, Evidence(TOPIC, PARTITION, offset, index)), context)
            if leak is not None:
                taken.leaks.append(leak)
            _one(api, verdict, taken)
    finally:
        # Also where the spool is full in the middle: what was refused so far is refused all the same.
        _keep(api, taken)
    if taken.position is not None and not api.open_publisher().wait(taken.position, WAIT_S):
        detail = "the events are in the spool and go out when the broker answers; sending them again is harmless"
        raise Problem(503, "broker_unavailable", detail, headers={"Retry-After": "5"})
    for result in taken.results:
        api.metrics.events.labels(result["status"]).inc()
    return taken.results


def _one(api: Api, verdict: Screened | Refused, taken: _Taken) -> None:
    if isinstance(verdict, Refused):
        _refuse(taken, verdict)
        return
    if verdict.late and not _known(api, verdict):
        late = {
            "from_future": "its time is more than 5 minutes ahead",
            "too_old": "its time is more than 35 days ago",
        }
        _refuse(taken, _refused(verdict, verdict.late, late[verdict.late]))
        return
    try:
        taken.position = api.open_publisher().publish(json.loads(verdict.raw))
    except (EventTooLargeError, InvalidEventError) as error:
        _refuse(taken, _refused(verdict, "malformed", str(error)))
        return
    except SpoolFullError as error:
        detail = f"the spool is full, the broker has been away too long: {error}"
        raise Problem(503, "spool_full", detail, headers={"Retry-After": "30"}) from None
    except (PublisherClosedError, SpoolLockedError, OSError) as error:
        _log.error("events cannot be spooled", error=str(error))
        detail = "events cannot be taken now: the process is stopping, or its spool cannot be written"
        raise Problem(503, "not_taking_events", detail, headers={"Retry-After": "5"}) from None
    identity = verdict.identity
    taken.results.append({"source": identity.source, "id": identity.id, "status": "accepted"})


def _known(api: Api, event: Screened) -> bool:
    """Whether the ledger has the event already: then it is a duplicate, however old it is by now."""
    c, identity = counted_events.c, event.identity
    where = (c.tenant == identity.tenant, c.source == identity.source, c.id == identity.id)
    return bool(api.ledger.rows(counted_events, *where))


def _refused(event: Screened, reason: str, detail: str) -> Refused:
    return Refused(event.raw, reason, detail, *event.identity, event.arrival_us, event.evidence)


def _refuse(taken: _Taken, refused: Refused) -> None:
    taken.refused.append(refused)
    taken.results.append(
        {
            "source": refused.source,
            "id": refused.id,
            "status": "rejected",
            "reason": refused.reason,
            "detail": refused.detail,
        }
    )


def _keep(api: Api, taken: _Taken) -> None:
    if taken.leaks:
        api.ledger.raise_alerts([secret_alert(leak) for leak in taken.leaks])
    if taken.refused:
        api.ledger.write(lambda connection: insert_rejected(connection, taken.refused))
