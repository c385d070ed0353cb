"""Alerts for people: the list, and each incident with its picture, its facts and what was done about it."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pipeline.alerting import Alert
from pipeline.ledger.alerts import find_alert
from pipeline.ledger.deliveries import list_deliveries
from pipeline.ledger.responses import list_responses
from pipeline.ledger.tables import audit_log
from pipeline.response import split_subject
from schemas.instants import HOUR_US
from tollhouse.alerting import incident_cost, incident_plot
from tollhouse.api import alerts
from tollhouse.api.problems import not_found
from tollhouse.api.state import Api, api_of
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import look_of, may_act, operator_of, page, svg

router = APIRouter(include_in_schema=False)

LIST_MAX: Final = 200
AFTER_US: Final = 2 * HOUR_US
"""How much is drawn after an incident's last sign: whether it went on."""
PICTURE_FRESH_S: Final = 30.0


@router.get("/alerts")
def list_page(request: Request, state: str = "") -> Response:
    """Every incident, the newest first; of one state if asked."""
    person, api = operator_of(request), api_of(request)
    if state and state not in alerts.STATES:
        raise not_found(f"a state is one of {', '.join(alerts.STATES)}")
    found = alerts.newest(api, state or None)
    return page(
        "alerts.html",
        person=person,
        csrf=sessions.csrf_of(request),
        alerts=found[:LIST_MAX],
        more_alerts=max(0, len(found) - LIST_MAX),
        state=state,
        states=alerts.STATES,
        can_act=may_act(person),
    )


def _row(api: Api, alert_id: str) -> dict[str, Any]:
    """The alert's row; 404 if there is none."""
    row = api.ledger.read(lambda c: find_alert(c, alert_id)) if alert_id.isprintable() else None
    if row is None:
        raise not_found("there is no alert of this id")
    return row


def _alert(row: dict[str, Any]) -> Alert:
    names = ("kind", "severity", "subject", "detail", "facts")
    return Alert(row["id"], row["first_us"], **{name: row[name] for name in names})


def _pictured(api: Api, row: dict[str, Any]) -> bool:
    """Whether there are minutes of one tenant's use of one key to draw."""
    known = row["kind"] == "leak" and isinstance(row["facts"].get("since_us"), int)
    return known and split_subject(row["subject"], api.ledger.context().catalog) is not None


@router.get("/alerts/{alert_id:path}")
def alert_page(request: Request, alert_id: str) -> Response:
    """One incident."""
    person, api = operator_of(request), api_of(request)
    row = _row(api, alert_id)
    return page(
        "alert.html",
        person=person,
        csrf=sessions.csrf_of(request),
        alert=alerts.alert_row(row),
        pictured=_pictured(api, row),
        cost=incident_cost(api.ledger, _alert(row), row["last_us"]),
        responses=api.ledger.read(lambda c: list_responses(c, alert_id)),
        deliveries=api.ledger.read(lambda c: list_deliveries(c, alert_id)),
        actions=api.ledger.rows(audit_log, audit_log.c.subject == alert_id, order=[audit_log.c.n]),
        can_act=may_act(person),
    )


@router.get("/plots/incident.svg")
def incident_picture(request: Request, alert: str, theme: str = "light") -> Response:
    """The key's minutes before, in and after the incident."""
    operator_of(request)
    look = look_of(theme)
    api = api_of(request)
    row = _row(api, alert)
    end_us = row["last_us"] + AFTER_US
    picture = api.cached(
        f"incident.svg/{alert}/{theme}",
        PICTURE_FRESH_S,
        lambda: incident_plot(api.ledger, _alert(row), end_us, look=look, end_us=end_us),
    )
    if picture is None:
        raise not_found("this alert has no minutes to draw")
    return svg(picture)
