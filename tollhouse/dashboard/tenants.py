"""Tenants for operators: the list with a month's usage, and each tenant's page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from billing.plots import month_over_month
from pipeline.catalog import plan_id_at
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.sums import usage_bounds
from pipeline.ledger.tables import audit_log
from schemas.catalog import Tenant
from schemas.instants import DAY_US
from schemas.invoice import InvoiceSummary
from schemas.periods import month_of, month_period, previous_month
from schemas.tokens import TOKEN_CLASSES
from tollhouse.api.callers import require_role
from tollhouse.api.problems import not_found
from tollhouse.api.provider_keys import key_list
from tollhouse.api.state import Api, api_of
from tollhouse.closing import load_summaries
from tollhouse.dashboard import figures, sessions
from tollhouse.dashboard.common import form_of, look_of, may_act, may_bill, operator_of, page, paged, person_of, svg
from tollhouse.dashboard.figures import Overview
from tollhouse.tokens.revoked import revoke_before
from tollhouse.usage import Total, totals

router = APIRouter(include_in_schema=False)

FRESH_S: Final = 5.0
PICTURE_FRESH_S: Final = 60.0
QUERY_MAX: Final = 100
LOG_MAX: Final = 20
MONTHS_MAX: Final = 18
"""Bars of the plot of invoices: a year and a half can be read."""


@dataclass(slots=True)
class Row:
    """A tenant in the list, with its use in the month. cost None: some of it has no price."""

    tenant: Tenant
    plan: str
    tokens: int = 0
    requests: int = 0
    errors: int = 0
    cost: Decimal | None = Decimal(0)
    invoice: InvoiceSummary | None = None


@dataclass(slots=True)
class ModelUse:
    """A tenant's use of a model: token classes that occur to counts."""

    model: str
    total: Total
    tokens: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)


def plan_at(tenant: Tenant, now_us: int) -> str:
    """The plan that holds; the next one where none holds yet, empty for none at all."""
    return plan_id_at(tenant, now_us) or (f"{tenant.plans[0].plan} (later)" if tenant.plans else "")


def _months(api: Api) -> list[str]:
    """The months in which there is usage, the newest first."""
    bounds = api.ledger.read(usage_bounds).values()
    if not bounds:
        return []
    found = [month_of(max(own.end_us for own in bounds) - 1, "UTC")]
    while found[-1] > month_of(min(own.start_us for own in bounds), "UTC"):
        found.append(previous_month(found[-1]))
    return found


def _of_month(api: Api, month: str) -> dict[str, Total]:
    """Each tenant's usage of its own calendar month: those of all zones are read, less what is of another month."""

    def read() -> dict[str, Total]:
        period = month_period(month, "UTC")
        found = totals(
            api.ledger, ("tenant", "month"), start_us=period.start_us - DAY_US, end_us=period.end_us + DAY_US
        )
        return {tenant: total for (tenant, name), total in found.items() if name == month}

    made: dict[str, Total] = api.cached(f"tenants/{month}", FRESH_S, read)
    return made


def _book(api: Api, tenant: str | None) -> list[InvoiceSummary]:
    """The invoices, the newest month first."""
    found: list[InvoiceSummary] = api.cached(
        f"invoices/{tenant}", FRESH_S, lambda: api.ledger.read(lambda connection: load_summaries(connection, tenant))
    )
    return found


@router.get("/tenants")
def list_page(request: Request, q: str = "", month: str = "") -> Response:
    """Every tenant of the catalog whose id, name or plan has the text, the largest of the month first."""
    person, api = operator_of(request), api_of(request)
    try:
        catalog = api.ledger.context().catalog
    except NoCatalog as error:
        return page("empty.html", detail=str(error), person=person, csrf=sessions.csrf_of(request))
    used = _months(api)
    months = sorted({*used, month_of(api.now_us(), "UTC")}, reverse=True)
    # The month with the newest usage says more than one that has just begun.
    chosen = month if month in months else used[0] if used else months[0]
    found = _of_month(api, chosen)
    bills = {i.tenant: i for i in reversed(_book(api, None)) if i.month == chosen and i.status != "void"}
    wanted = q.strip().casefold()[:QUERY_MAX]
    rows = []
    for tenant in catalog.tenants.values():
        row = Row(tenant, plan_at(tenant, api.now_us()), invoice=bills.get(tenant.id))
        if not any(wanted in text.casefold() for text in (tenant.id, tenant.name, row.plan)):
            continue
        total = found.get(tenant.id)
        if total is not None:
            row.tokens = sum(total.classes[: len(TOKEN_CLASSES)])
            row.requests, row.errors, row.cost = total.requests, total.errors, total.cost
        rows.append(row)
    rows.sort(key=lambda row: (-row.tokens, row.tenant.id))
    return page(
        "tenants.html",
        person=person,
        csrf=sessions.csrf_of(request),
        pages=paged(request, rows),
        of=len(catalog.tenants),
        q=q[:QUERY_MAX],
        month=chosen,
        months=months,
    )


def _tenant(api: Api, name: str) -> Tenant:
    found = api.ledger.context().catalog.tenants.get(name)
    if found is None:
        raise not_found("there is no tenant of this id in the catalog")
    return found


def _models(api: Api, tenant: str, month: str) -> list[ModelUse]:
    found = []
    for (model, in_month), total in totals(api.ledger, ("model", "month"), tenant=tenant).items():
        if in_month == month:
            classes = dict(zip(TOKEN_CLASSES, total.classes, strict=False))
            found.append(ModelUse(model, total, sum(classes.values()), classes))
    return sorted(found, key=lambda use: (-use.tokens, use.model))


@router.get("/tenants/{tenant:path}")
def tenant_page(request: Request, tenant: str, month: str = "") -> Response:
    """A tenant: usage by model and class, quotas, invoices, keys, and its tokens' log."""
    person, api = operator_of(request), api_of(request)
    owner = _tenant(api, tenant)
    view: Overview = api.cached(
        f"overview/{tenant}", FRESH_S, lambda: figures.overview(api.ledger, api.now_us(), tenant)
    )
    months = sorted(view.months, reverse=True)
    chosen = month if month in months else (months[0] if months else "")
    models = api.cached(f"models/{tenant}/{chosen}", FRESH_S, lambda: _models(api, tenant, chosen))
    classes = [name for name in TOKEN_CLASSES if any(use.classes[name] for use in models)]
    who = f"tenant:{tenant}"
    return page(
        "tenant.html",
        person=person,
        csrf=sessions.csrf_of(request),
        owner=owner,
        plan=plan_at(owner, api.now_us()),
        view=view,
        month=chosen,
        months=months,
        models=models,
        classes=classes,
        keys=[row for row in key_list(api.ledger) if row["tenant"] == tenant],
        log=api.ledger.rows(audit_log, audit_log.c.subject == who, order=[audit_log.c.n.desc()])[:LOG_MAX],
        can_act=may_act(person),
        can_bill=may_bill(person),
    )


@router.post("/tenants/revoke")
async def revoke(request: Request) -> Response:
    """For on-call: every token of the tenant that was issued until now is over."""
    form = await form_of(request)
    await sessions.check_form(request, form.get("csrf", ""))
    return await run_in_threadpool(_revoke, request, form.get("subject", ""))


def _revoke(request: Request, tenant: str) -> Response:
    person, api = person_of(request), api_of(request)
    require_role(person, "oncall")
    _tenant(api, tenant)
    now_us = api.now_us()
    # A token keeps the second in which it was issued: one issued in this second goes too.
    revoke_before(api.ledger, f"tenant:{tenant}", now_us, now_us, person.who)
    api.caches.clear()
    return RedirectResponse("/tenants/" + quote(tenant), 303)


@router.get("/plots/months.svg")
def months_picture(request: Request, tenant: str = "", currency: str = "", theme: str = "light") -> Response:
    """Invoices month over month, of one tenant or of all in a currency."""
    person = person_of(request)
    if person.kind == "tenant":
        tenant = person.subject
    api = api_of(request)
    look = look_of(theme)
    found = [i for i in _book(api, tenant or None) if i.status != "void" and currency in ("", i.currency)]
    months = sorted({i.month for i in found})[-MONTHS_MAX:]
    kept = [i for i in found if i.month in months]
    if len({i.currency for i in kept}) != 1:
        raise not_found("there are no such invoices, or in several currencies: name one")
    picture = api.cached(
        f"months.svg/{tenant}/{currency}/{theme}",
        PICTURE_FRESH_S,
        lambda: month_over_month(kept, f"Invoices by month, {kept[0].currency}", look=look),
    )
    return svg(picture)
