"""Invoices for finance: the list, a month's steps (draft, finalise, void, push) and what a push would change."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from billing.stripe_gateway import BookSummary, NoteResult, PushResult
from pipeline.ledger.catalogs import audit
from schemas.invoice import STATUSES, InvoiceSummary
from schemas.periods import local_date
from tollhouse.api import invoices
from tollhouse.api.callers import require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.closing import load_summaries
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import form_of, may_bill, operator_of, page, paged, person_of
from tollhouse.errors import UserError
from tollhouse.stripe_push import gateway_of, push
from tollhouse.tokens import Claims

router = APIRouter(include_in_schema=False)

FRESH_S: Final = 5.0
PREVIEW_MAX: Final = 20
"""Each takes some three requests to Stripe, 20 of which go in a second."""
REFUSED_MAX: Final = 50
"""Reasons on one page; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a step: what it was, where to go on, what was done, and what was refused with the reason."""

    title: str
    back: str
    done: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@router.get("/invoices")
def list_page(request: Request, month: str = "", status: str = "", q: str = "") -> Response:
    """Invoices by month, status and tenant; for finance, the month's steps."""
    person, api = operator_of(request), api_of(request)
    if status and status not in STATUSES:
        raise not_found(f"a status is one of {', '.join(STATUSES)}")
    if month:
        invoices.month_of_text(month)
    found = _all(api)
    this_month = local_date(api.now_us(), "UTC").replace(day=1)
    last_month = (this_month - timedelta(days=1)).isoformat()[:7]
    months = sorted({i.month for i in found} | {this_month.isoformat()[:7], last_month}, reverse=True)
    wanted = q.strip().casefold()[:100]
    kept = [
        i
        for i in found
        if month in ("", i.month) and status in ("", i.status) and wanted in f"{i.tenant} {i.number or ''}".casefold()
    ]
    return page(
        "invoices.html",
        person=person,
        csrf=sessions.csrf_of(request),
        pages=paged(request, kept),
        counts={name: sum(i.status == name for i in kept) for name in STATUSES},
        currencies=sorted({i.currency for i in found if i.status != "void"}),
        month=month,
        months=months,
        closing=month or last_month,
        state=status,
        statuses=STATUSES,
        q=q[:100],
        can_bill=may_bill(person),
    )


def _all(api: Api) -> list[InvoiceSummary]:
    """Every invoice: the newest month first, in it by tenant, the newest revision first."""
    made: list[InvoiceSummary] = api.cached("invoices", FRESH_S, lambda: api.ledger.read(load_summaries))
    return made


@router.get("/invoices/push")
def push_page(request: Request, month: str = "") -> Response:
    """What a push of the month would change at Stripe, some invoices a page; nothing is changed there."""
    person, api = operator_of(request), api_of(request)
    require_role(person, "finance")
    name = invoices.month_of_text(month)
    closed = sorted({i.tenant for i in _all(api) if i.month == name and i.status != "draft"})
    pages = paged(request, closed, PREVIEW_MAX)
    summary, trouble = planned(api, name, pages.rows)
    return page(
        "push.html",
        person=person,
        csrf=sessions.csrf_of(request),
        month=month,
        pages=pages,
        summary=summary,
        trouble=trouble,
    )


def planned(api: Api, month: str, tenants: Collection[str]) -> tuple[BookSummary | None, str]:
    """A dry run of the push of these tenants' invoices, or why there is none."""
    try:
        gateway = gateway_of(api.settings, api.ledger)
        return push(gateway, api.ledger, month, api.now_us(), dry_run=True, tenants=tenants), ""
    except UserError as error:
        return None, str(error)


@router.post("/bill")
async def bill(request: Request) -> Response:
    """A step of a month or of an invoice; then what became of it."""
    form = await form_of(request)
    await sessions.check_form(request, form.get("csrf", ""))
    return await run_in_threadpool(_bill, request, form)


def _bill(request: Request, form: dict[str, str]) -> Response:
    person, api = person_of(request), api_of(request)
    require_role(person, "finance")
    month, tenant = invoices.month_of_text(form.get("month", "")), form.get("tenant", "")
    steps = {"draft": _run, "finalise": _run, "void": _void, "push": _push}
    action = form.get("action", "")
    if action not in steps:
        raise not_found("there is no such step")
    step = steps[action](api, person, month, tenant, form)
    api.caches.clear()
    if tenant and not step.refused:
        return RedirectResponse(step.back, 303)
    return page(
        "step.html",
        409 if step.refused else 200,
        person=person,
        csrf=sessions.csrf_of(request),
        step=step,
        shown=step.refused[:REFUSED_MAX],
        more=max(0, len(step.refused) - REFUSED_MAX),
    )


def _back(month: str, tenant: str) -> str:
    return f"/invoices/{quote(tenant)}/{month}" if tenant else f"/invoices?month={month}"


def _run(api: Api, person: Claims, month: str, tenant: str, form: dict[str, str]) -> Step:
    finalise = form["action"] == "finalise"
    body = invoices.RunBody(month, tenant or None, finalise)
    outcome: dict[str, Any] = invoices.run(api, person, body)
    made = outcome["invoices"]
    closed = sum(invoice["status"] != "draft" for invoice in made)
    refused = tuple(f"{row['tenant']}: {row['reason']}" for row in outcome["refused"])
    if tenant and not made and not refused:
        refused = (f"{tenant}: there is nothing to invoice for {month}",)
    title = f"{'Finalise' if finalise else 'Draft'} {month}"
    return Step(title, _back(month, tenant), (f"{closed} closed, {len(made) - closed} drafts",), refused)


def _void(api: Api, person: Claims, month: str, tenant: str, form: dict[str, str]) -> Step:
    title, back = f"Void {month} of {tenant}", _back(month, tenant)
    try:
        notes = invoices.void(api, person, tenant, month, form.get("reason", ""))["credit_notes"]
    except Problem as problem:
        return Step(title, back, refused=(problem.detail,))
    return Step(title, back, tuple(f"credit note {n['number']} over {n['amount']} {n['currency']}" for n in notes))


_PUSHING: Final = threading.Lock()
"""Two pushes of one process over one invoice would make it twice at Stripe."""


def _push(api: Api, person: Claims, month: str, tenant: str, _form: dict[str, str]) -> Step:
    now_us, title = api.now_us(), f"Push {month} to Stripe"
    back = _back(month, tenant)
    if not _PUSHING.acquire(blocking=False):
        return Step(title, back, refused=("a push is under way: wait for its end",))
    try:
        gateway = gateway_of(api.settings, api.ledger)
        summary = push(gateway, api.ledger, month, now_us, tenants=(tenant,) if tenant else None)
    except UserError as error:
        return Step(title, back, refused=(str(error),))
    finally:
        _PUSHING.release()
    found: tuple[PushResult | NoteResult, ...] = (*summary.voids, *summary.month.results, *summary.notes)
    bad = tuple(f"{r.tenant}: {r.reason or r.outcome}: {r.detail}" for r in found if r.outcome in ("refused", "failed"))
    declined = tuple(f"{r.tenant}: {r.payment_error}" for r in summary.month.results if r.payment_error)
    done = tuple(f"{count} {outcome}" for outcome, count in summary.month.outcomes.items())
    what = f"{month}, {tenant or 'all tenants'}: {', '.join(done) or 'nothing'}"
    api.ledger.write(lambda c: audit(c, now_us, person.who, "invoices.push", month, what))
    return Step(title, back, done or ("nothing to push: close invoices first",), (*bad, *declined))
