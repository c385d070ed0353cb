"""Provider keys for operators: the list with traffic, room and leak scores, and each key's page with its pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from billing.plots import HourScore, leak_scores, usage_by_day
from billing.plots.scores import SERIES_MAX
from pipeline.admission import key_room
from pipeline.ledger import windows
from pipeline.ledger.key_history import (
    REPORT,
    Residual,
    Score,
    highest_scores,
    residuals_of,
    scores,
)
from pipeline.ledger.key_usage import KeyUser, key_users
from pipeline.ledger.sums import zones_of
from pipeline.ledger.tables import alerts as alerts_table
from pipeline.ledger.tables import audit_log
from pipeline.response import split_subject
from schemas.instants import DAY_US, HOUR_US
from schemas.tokens import total_tokens
from tollhouse.api.problems import not_found
from tollhouse.api.provider_keys import key_list
from tollhouse.api.state import Api, api_of
from tollhouse.dashboard import figures, sessions, shown
from tollhouse.dashboard.common import look_of, may_act, operator_of, page, paged, svg
from tollhouse.usage import Total, totals

router = APIRouter(include_in_schema=False)

FRESH_S: Final = 30.0
KEY_DAYS: Final = 90
SCORE_DAYS: Final = 28
LIST_DAYS: Final = 28
LOG_MAX: Final = 20
TENANTS_MAX: Final = 300
HOURS_MAX: Final = 10
"""Hours in the table beside the plot of scores: the highest ones."""
RESIDUALS_MAX: Final = 60


@router.get("/keys")
def list_page(request: Request, q: str = "") -> Response:
    """Every key whose id, provider, owner or state has the text; those that are not active first."""
    person, api = operator_of(request), api_of(request)
    wanted = q.strip().casefold()[:100]
    found = [
        row
        for row in key_list(api.ledger)
        if any(wanted in (row[name] or "").casefold() for name in ("key", "provider", "tenant", "state", "kind"))
    ]
    found.sort(key=lambda row: (row["state"] == "active", row["kind"] != "pooled", row["key"]))
    pages = paged(request, found)
    return page(
        "keys.html",
        person=person,
        csrf=sessions.csrf_of(request),
        pages=pages,
        rows=_with_use(api, pages.rows),
        q=q[:100],
        days=LIST_DAYS,
        can_act=may_act(person),
    )


def _with_use(api: Api, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with tokens and requests of the last days, this minute's room and the highest leak score."""
    now_us = api.now_us()
    since_us = (now_us // DAY_US - LIST_DAYS + 1) * DAY_US

    def read() -> dict[tuple[str, ...], Total]:
        return totals(api.ledger, ("key",), start_us=since_us)

    use: dict[str, Total] = {key: total for (key,), total in api.cached("keys/use", FRESH_S, read).items()}
    names = [row["key"] for row in rows]
    peaks = api.ledger.read(lambda c: highest_scores(c, names, since_us))
    return [
        {
            **row,
            "tokens": total_tokens(tuple(use.get(row["key"], Total()).classes)),
            "requests": use.get(row["key"], Total()).requests,
            "room": _room(api, row["key"], now_us),
            "score": peaks.get(row["key"]),
        }
        for row in rows
    ]


def _room(api: Api, key: str, now_us: int) -> str:
    """What is left of the provider's limits in this minute, as admission counts it."""
    limits = key_room(api.ledger.context().catalog.keys[key], now_us, {})
    if not limits:
        return "no limit"
    parts = []
    states = api.ledger.read(lambda c: [windows.state_of(c, check.window) for check in limits])
    for check, state in zip(limits, states, strict=True):
        left = max(0, (check.limit or 0) - state.used - state.reserved)
        parts.append(f"{shown.count(left)} of {shown.count(check.limit or 0)} {check.quota.meter}")
    return ", ".join(parts)


def _users(api: Api, key: str) -> list[KeyUser]:
    since_us = (api.now_us() // DAY_US - KEY_DAYS + 1) * DAY_US
    zones = zones_of(api.ledger.context())
    found: list[KeyUser] = api.cached(
        f"key/{key}", FRESH_S, lambda: api.ledger.read(lambda c: key_users(c, zones, key, since_us))
    )
    return found


@router.get("/plots/key.svg")
def key_picture(request: Request, key: str, theme: str = "light") -> Response:
    """Tokens by day of a key, stacked by tenant."""
    operator_of(request)
    api = api_of(request)
    look = look_of(theme)
    _known_key(api, key)

    def draw() -> bytes:
        return usage_by_day(figures.day_counts(api.ledger, key=key), "Tokens by day and tenant", look=look)

    picture = api.cached(f"key.svg/{key}/{theme}", FRESH_S, draw)
    return svg(picture)


def _known_key(api: Api, key: str) -> dict[str, Any]:
    row = next((row for row in key_list(api.ledger) if row["key"] == key), None)
    if row is None:
        raise not_found("there is no key of this id in the catalog")
    return row


@router.get("/keys/{key:path}")
def key_page(request: Request, key: str) -> Response:
    """A provider key: state, use, leak alerts, what was done with it."""
    person, api = operator_of(request), api_of(request)
    row = _known_key(api, key)
    users = _users(api, key)
    return page(
        "key.html",
        person=person,
        csrf=sessions.csrf_of(request),
        key=row,
        tenants=users[:TENANTS_MAX],
        tenants_more=max(0, len(users) - TENANTS_MAX),
        days=KEY_DAYS,
        room=_room(api, key, api.now_us()),
        score_days=SCORE_DAYS,
        hours=_highest(_scores(api, key)),
        residuals=_residuals(api, key),
        alerts=_key_alerts(api, key)[:LOG_MAX],
        actions=api.ledger.rows(audit_log, audit_log.c.subject == key, order=[audit_log.c.n.desc()])[:LOG_MAX],
        can_act=may_act(person),
    )


def _key_alerts(api: Api, key: str) -> list[dict[str, Any]]:
    """Alerts about the key itself or a tenant's use of it, the newest first."""
    catalog = api.ledger.context().catalog
    kinds = alerts_table.c.kind.in_(("leak", "residual", "revoked_key_used"))
    found = []
    for row in api.ledger.rows(alerts_table, kinds, order=[alerts_table.c.last_us.desc()]):
        parts = split_subject(row["subject"], catalog)
        if row["subject"] == key or (parts is not None and parts[1] == key):
            found.append(row)
    return found


def _since_us(api: Api) -> int:
    return (api.now_us() // DAY_US - SCORE_DAYS + 1) * DAY_US


def _scores(api: Api, key: str) -> list[Score]:
    found: list[Score] = api.cached(
        f"scores/{key}", FRESH_S, lambda: api.ledger.read(lambda c: scores(c, key, _since_us(api), SERIES_MAX))
    )
    return found


def _highest(found: Sequence[Score]) -> list[Score]:
    """The most surprising hours, in words for who sees no picture."""
    return sorted(found, key=lambda one: (-one.score_milli, -one.hour_us, one.tenant))[:HOURS_MAX]


def _residuals(api: Api, key: str) -> list[Residual]:
    """Residuals by day or by the report's bucket, the newest first; a reconciliation's stands before a watch's."""
    rows = api.ledger.read(lambda c: residuals_of(c, key, _since_us(api)))
    told = [row for row in rows if row.kind == REPORT]
    days: dict[int, Residual] = {}
    for row in rows:
        if row.kind == REPORT or any(one.start_us < row.end_us and row.start_us < one.end_us for one in told):
            continue
        day_us = row.start_us - row.start_us % DAY_US
        before = days.get(day_us, Residual(day_us, day_us + DAY_US, 0, 0, row.kind))
        days[day_us] = before._replace(reported=before.reported + row.reported, metered=before.metered + row.metered)
    return sorted([*told, *days.values()], reverse=True)[:RESIDUALS_MAX]


@router.get("/plots/scores.svg")
def score_picture(request: Request, key: str, theme: str = "light") -> Response:
    """The key's leak scores by the hour, with the alerts about it."""
    operator_of(request)
    api = api_of(request)
    look = look_of(theme)
    _known_key(api, key)

    def draw() -> bytes:
        found = [HourScore(one.hour_us, one.tenant, one.score_milli / 1000) for one in _scores(api, key)]
        marks = [row["first_us"] for row in _key_alerts(api, key)]
        return leak_scores(
            found,
            marks,
            (_since_us(api), (api.now_us() // HOUR_US + 1) * HOUR_US),
            "Leak score by hour and tenant",
            look=look,
        )

    picture = api.cached(f"scores.svg/{key}/{theme}", FRESH_S, draw)
    return svg(picture)
