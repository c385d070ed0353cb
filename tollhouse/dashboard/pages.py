"""Pages for people: overview, invoice; and the pictures on them. No scripts, nothing from elsewhere."""

from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from billing.render import credit_note_json, invoice_json
from pipeline.ledger.catalogs import NoCatalog
from schemas.invoice import Invoice
from schemas.periods import local_date
from tollhouse.api import alerts, invoices
from tollhouse.api.problems import not_found
from tollhouse.api.provider_keys import key_list
from tollhouse.api.state import Api, api_of
from tollhouse.closing import load_book
from tollhouse.dashboard import billing, figures, sessions
from tollhouse.dashboard.common import look_of, may_act, may_bill, page, person_of, svg
from tollhouse.dashboard.figures import Overview
from tollhouse.errors import UserError
from tollhouse.explaining import explain_invoice
from tollhouse.tokens import Claims

router = APIRouter(include_in_schema=False)

FRESH_S: Final = 5.0
"""How old a page's figures may be: the ledger is read once in this time, however many look."""
PICTURE_FRESH_S: Final = 60.0
"""Drawing takes tens of milliseconds, one picture at a time."""
ALERTS_MAX: Final = 25
KEYS_MAX: Final = 12
QUOTAS_MAX: Final = 12
INVOICES_MAX: Final = 12
"""The first page shows what needs a person; the whole of each has a page of its own."""
OWN_INVOICES_MAX: Final = 120
_STYLE: Final = (files("tollhouse.dashboard") / "assets" / "style.css").read_bytes()


@router.get("/assets/style.css")
async def style() -> Response:
    """The one style sheet."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=300"})


@router.get("/favicon.ico")
async def icon() -> Response:
    """None: a page without a picture in its tab."""
    return Response(status_code=204, headers={"Cache-Control": "public, max-age=86400"})


def _view(api: Api, tenant: str | None) -> Overview:
    made: Overview = api.cached(
        f"overview/{tenant}", FRESH_S, lambda: figures.overview(api.ledger, api.now_us(), tenant)
    )
    return made


def _tenant_of(person: Claims) -> str | None:
    return person.subject if person.kind == "tenant" else None


@router.get("/")
def first_page(request: Request) -> Response:
    """The overview; for a tenant, its own."""
    api = api_of(request)
    person = sessions.session_of(request)
    if person is None:
        return RedirectResponse("/sign-in", 303)
    tenant = _tenant_of(person)
    try:
        view = _view(api, tenant)
    except NoCatalog as error:
        return page("empty.html", detail=str(error), person=person, csrf=sessions.csrf_of(request))
    found = alerts.newest(api) if tenant is None else []
    found.sort(key=lambda row: (row["state"] != "open", row["severity"] != "page"))
    keys = key_list(api.ledger) if tenant is None else []
    keys.sort(key=lambda row: (row["state"] == "active", row["kind"] != "pooled", row["key"]))
    return page(
        "overview.html",
        view=view,
        person=person,
        tenant=tenant,
        csrf=sessions.csrf_of(request),
        alerts=found[:ALERTS_MAX],
        more_alerts=max(0, len(found) - ALERTS_MAX),
        keys=keys[:KEYS_MAX],
        more_keys=max(0, len(keys) - KEYS_MAX),
        quotas_max=QUOTAS_MAX,
        invoices_max=INVOICES_MAX if tenant is None else OWN_INVOICES_MAX,
        can_act=may_act(person),
    )


@router.get("/plots/usage.svg")
def usage_picture(request: Request, theme: str = "light", tenant: str = "") -> Response:
    """Tokens by day; to an operator of all tenants, or of one."""
    person = person_of(request)
    of = person.subject if person.kind == "tenant" else tenant or None
    look = look_of(theme)
    api = api_of(request)
    if of is not None and of not in api.ledger.context().catalog.tenants:
        raise not_found("there is no tenant of this id in the catalog")
    picture = api.cached(f"usage.svg/{of}/{theme}", PICTURE_FRESH_S, lambda: figures.usage_plot(api.ledger, of, look))
    return svg(picture)


@router.get("/invoices/{tenant:path}/{name}")
def invoice_page(request: Request, tenant: str, name: str) -> Response:
    """An invoice with its lines and what they are made of; with a suffix, the document."""
    person, api = person_of(request), api_of(request)
    if person.kind == "tenant" and person.subject != tenant:
        raise not_found("there is no such invoice")
    chosen = request.query_params.get("revision", "")
    revision = int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 6 else None
    if "." in name:
        return invoices.show_invoice(request, tenant, name, person, revision)
    return _invoice_html(request, api, person, tenant, name, revision)


def _invoice_html(
    request: Request, api: Api, person: Claims, tenant: str, month: str, revision: int | None
) -> Response:
    book = api.ledger.read(lambda connection: load_book(connection, tenant, invoices.month_of_text(month)))
    revisions = book.revisions(tenant, month)
    asked = [i for i in revisions if i.revision == revision] if revision else revisions
    if not asked:
        raise not_found(f"there is no such invoice of {tenant} for {month}")
    chosen = (book.live(tenant, month) if revision is None else None) or asked[-1]
    owner = api.ledger.context().catalog.tenants.get(tenant)
    zone = owner.timezone if owner else "UTC"
    notes = [credit_note_json(note) for invoice in revisions for note in book.notes_on(invoice)]
    show, bills = request.query_params.get("show", ""), may_bill(person)
    evidence, trouble = _evidence(api, chosen) if show == "evidence" else ([], "")
    summary = None
    if show == "push" and bills:
        summary, trouble = billing.planned(api, month, [tenant])
    return page(
        "invoice.html",
        invoice=invoice_json(chosen, parts=True),
        revisions=[invoice.revision for invoice in revisions],
        notes=notes,
        days=(local_date(chosen.period_start_us, zone), local_date(chosen.period_end_us - 1, zone)),
        zone=zone,
        person=person,
        tenant=_tenant_of(person),
        csrf=sessions.csrf_of(request),
        evidence=evidence,
        trouble=trouble,
        summary=summary,
        can_bill=bills,
    )


def _evidence(api: Api, invoice: Invoice) -> tuple[list[dict[str, Any]], str]:
    """Each line worked out again from the ledger's events, or what does not add up."""
    try:
        name = f"evidence/{invoice.tenant}/{invoice.month}/{invoice.revision}/{invoice.status}"
        found: list[dict[str, Any]] = api.cached(name, FRESH_S, lambda: explain_invoice(api.ledger, invoice, None))
    except UserError as error:
        return [], str(error)
    return found, ""
