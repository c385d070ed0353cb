"""What on-call does by the forms of the pages; each post names one action and one subject."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from schemas.instants import SECOND_US
from tollhouse import incidents
from tollhouse.api import alerts, keys
from tollhouse.api.callers import require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import form_of, person_of
from tollhouse.errors import UserError
from tollhouse.replay import replay_rejected

router = APIRouter(include_in_schema=False)

MUTES_S: Final = {"0": 0, "3600": 3600, "86400": 86_400, "604800": 604_800}
BACK: Final = ("/alerts", "/keys", "/pipeline")
"""Where a post may lead to, besides the overview."""


@router.post("/act")
async def act(request: Request) -> Response:
    """Ack, mute or resolve an alert, change a key's state, replay a rejected event; then back to where it was asked."""
    form = await form_of(request)
    await sessions.check_form(request, form.get("csrf", ""))
    await run_in_threadpool(_act, request, form)
    back = form.get("back", "/")
    local = back.startswith(BACK) and back.isascii() and back.isprintable() and "\\" not in back
    return RedirectResponse(back if local else "/", 303)


def _act(request: Request, form: dict[str, str]) -> None:
    person, api = person_of(request), api_of(request)
    require_role(person, "oncall")
    action, subject = form.get("action", ""), form.get("subject", "")
    if action in ("ack", "resolve", "mute"):
        _alert(api, person.who, action, subject, form)
    elif action in keys.ACTIONS:
        keys.change(api, person.who, subject, action, form.get("reason", "")[:200] or "on the dashboard")
    elif action == "replay":
        _replay(api, subject)
    else:
        raise not_found("there is no such action")
    api.caches.clear()


def _alert(api: Api, who: str, action: str, alert: str, form: dict[str, str]) -> None:
    now_us = api.now_us()
    if action == "mute":
        if form.get("for_s", "") not in MUTES_S:
            raise Problem(422, "invalid_request", f"for_s is one of {', '.join(MUTES_S)}")
        for_s = MUTES_S[form["for_s"]]
        alerts.shown(incidents.mute(api.ledger, who, alert, now_us, now_us + for_s * SECOND_US if for_s else None))
        return
    feedback = form.get("feedback", "")
    if feedback not in ("", *incidents.FEEDBACK):
        raise Problem(422, "invalid_request", f"feedback is {' or '.join(incidents.FEEDBACK)}")
    how = incidents.ack if action == "ack" else incidents.resolve
    alerts.shown(how(api.ledger, who, alert, now_us, feedback))


def _replay(api: Api, number: str) -> None:
    if not (number.isascii() and number.isdigit() and 0 < len(number) < 19):
        raise not_found("there is no rejected event of this number")
    try:
        replay_rejected(api.ledger, numbers=[int(number)])
    except UserError as error:
        raise Problem(409, "refused", str(error)) from None
