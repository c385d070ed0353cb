"""Pages for those who run it: the pipeline with what it rejected, a provider key, the catalog."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pipeline.catalog.entries import Entry, entries
from pipeline.ledger.catalogs import list_versions
from pipeline.ledger.generations import newest
from pipeline.ledger.rejected import count_open, list_rejected
from pipeline.ledger.tables import intake
from streams.topics import USAGE_EVENTS
from tollhouse.api.state import Api, api_of
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import may_act, may_bill, operator_of, page
from tollhouse.dashboard.lag import end_offsets

router = APIRouter(include_in_schema=False)

REJECTED_MAX: Final = 100
LAG_FRESH_S: Final = 5.0
KEY_FRESH_S: Final = 30.0
KEY_DAYS: Final = 90
LOG_MAX: Final = 20
VERSIONS_MAX: Final = 50
ENTRIES_MAX: Final = 100
"""Rows of a section of the catalog; a thousand tenants are not read on a page."""


@router.get("/pipeline")
def pipeline_page(request: Request) -> Response:
    """The intake equation of each partition, how far behind it is, and what was rejected."""
    person, api = operator_of(request), api_of(request)
    ends = api.cached("lag", LAG_FRESH_S, lambda: end_offsets(api.settings))
    waiting = api.ledger.read(lambda c: list_rejected(c, state="open", limit=REJECTED_MAX))
    return page(
        "pipeline.html",
        person=person,
        csrf=sessions.csrf_of(request),
        partitions=_partitions(api, ends),
        broker=ends is not None,
        rejected=waiting,
        more_rejected=max(0, api.ledger.read(count_open) - len(waiting)),
        can_act=may_act(person),
    )


def _partitions(api: Api, ends: dict[int, int] | None) -> list[dict[str, Any]]:
    """The rows of the intake, each with whether its equation holds and its lag (None: not known)."""
    found = api.ledger.rows(intake, order=[intake.c.topic, intake.c.partition])
    current = api.ledger.read(lambda c: newest(c, api.settings.topic_prefix + USAGE_EVENTS)).name
    for row in found:
        row["whole"] = row["received"] == sum(row[name] for name in ("counted", "duplicates", "rejected", "held"))
        end = (ends or {}).get(row["partition"]) if row["topic"] == current else None
        row["lag"] = None if end is None else max(0, end - row["next_offset"])
    return found


@router.get("/catalog")
def catalog_page(request: Request) -> Response:
    """The catalog in force: plans, prices and the rest as read; what is planned; every version."""
    person, api = operator_of(request), api_of(request)
    now_us = api.now_us()
    context = api.ledger.context()
    found = list(entries(context.catalog))
    planned = sorted(
        (e for e in found if e.since_us is not None and e.since_us > now_us), key=lambda e: e.since_us or 0
    )
    current = [e for e in found if e.since_us is None or e.since_us <= now_us]
    return page(
        "catalog.html",
        person=person,
        csrf=sessions.csrf_of(request),
        version=context.version,
        versions=api.ledger.read(lambda c: list_versions(c, VERSIONS_MAX)),
        can_bill=may_bill(person),
        planned=planned[:ENTRIES_MAX],
        sections=_sections(current),
        entries_max=ENTRIES_MAX,
    )


_TITLES: Final = {
    "plans": "Plans",
    "provider_prices": "Provider prices",
    "tenants": "Tenants",
    "keys": "Provider keys",
    "credits": "Credits",
    "taxes": "Taxes",
    "exchange_rates": "Exchange rates",
}


def _sections(current: list[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries under their titles; what is there once, under `General`."""
    found: dict[str, list[Entry]] = {title: [] for title in (*_TITLES.values(), "General")}
    for entry in current:
        section = entry.path.split(".", 1)[0].split("[", 1)[0]
        found[_TITLES.get(section, "General")].append(entry)
    return [(title, rows) for title, rows in found.items() if rows]
