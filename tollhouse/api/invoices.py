"""Invoices: lists, one with its lines, documents to download, and the steps that finance takes."""

import re
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from billing.documents import DocumentError, file_name, media_type, render
from billing.render import credit_note_json, invoice_json
from pipeline.ledger.catalogs import audit
from schemas.invoice import STATUSES, Invoice
from tollhouse.api.bodies import described, json_body, name_of
from tollhouse.api.callers import BEARER, Reader, authenticate, own, require_role
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.api.usage import known_tenant
from tollhouse.closing import load_book, run_tenant, run_tenants, void_tenant
from tollhouse.reports import usage_days
from tollhouse.tokens import Claims

router = APIRouter(tags=["invoices"])

DOCUMENTS: Final = {
    "pdf": "pdf",
    "csv": "csv",
    "xlsx": "xlsx",
    "json": "json",
    "usage.csv": "usage-csv",
    "focus.csv": "focus",
    "focus.parquet": "focus-parquet",
}
"""Suffix of the address to format of the document."""
_MONTH: Final = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
_NAME: Final = re.compile(rf"({_MONTH.pattern})(?:\.([a-z.]+))?")


class RunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """month: like 2026-10. tenant: one, else all. finalise: close what can be closed."""

    month: str
    tenant: str | None = None
    finalise: bool = False


class VoidBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """reason: stands on the credit note."""

    reason: str


def month_of_text(text: str) -> str:
    """A month like 2026-10; a 422 problem for anything else."""
    if _MONTH.fullmatch(text) is None:
        raise Problem(422, "invalid_request", "month must be like 2026-10")
    return text


def summary(invoice: Invoice) -> dict[str, Any]:
    """An invoice without its lines."""
    shown = invoice_json(invoice)
    return {name: value for name, value in shown.items() if name not in ("lines", "taxes")}


@router.get("/v1/invoices", summary="Invoices, the newest month first")
def list_invoices(
    request: Request,
    caller: Reader,
    tenant: Annotated[str | None, Query()] = None,
    month: Annotated[str | None, Query()] = None,
    status: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    """Without lines. A tenant sees its own only."""
    api = api_of(request)
    if status is not None and status not in STATUSES:
        raise Problem(422, "invalid_request", f"status must be one of {', '.join(STATUSES)}")
    if tenant is not None:
        own(caller, name_of(tenant, "tenant"))
    wanted = caller.subject if caller.kind == "tenant" else tenant
    chosen = None if month is None else month_of_text(month)
    book = api.ledger.read(lambda connection: load_book(connection, wanted, chosen))
    found = [i for i in book.invoices if status is None or i.status == status]
    found.sort(key=lambda i: (i.tenant, i.revision))
    found.sort(key=lambda i: i.month, reverse=True)
    return {"invoices": [summary(invoice) for invoice in found]}


@router.post(
    "/v1/invoices/run",
    summary="Draft a month anew, and finalise it if asked",
    openapi_extra=described(RunBody, example={"month": "2026-10", "finalise": False}),
)
async def run_invoices(request: Request, _shown: Annotated[object, Depends(BEARER)]) -> JSONResponse:
    """For finance: every tenant of the catalog, or one. What was refused says why."""
    caller = await run_in_threadpool(_finance, request)
    body = await json_body(request, RunBody)
    return JSONResponse(await run_in_threadpool(run, api_of(request), caller, body))


def _finance(request: Request) -> Claims:
    caller = authenticate(request, "operator")
    require_role(caller, "finance")
    return caller


def run(api: Api, caller: Claims, body: RunBody) -> dict[str, Any]:
    """Draft, or close what can be closed, with a line in the audit log: month, invoices, refused."""
    month, now_us = month_of_text(body.month), api.now_us()
    tenants = list(api.ledger.context().catalog.tenants)
    if body.tenant is not None:
        tenants = [known_tenant(api, body.tenant)]
    found, refused = [], []
    for tenant, outcome in run_tenants(api.ledger, tenants, month, now_us, finalise=body.finalise):
        if outcome.invoice is not None:
            found.append(summary(outcome.invoice))
        if outcome.refused:
            refused.append({"tenant": tenant, "reason": outcome.refused})
    what = f"{month}, {body.tenant or 'all tenants'}" + (", finalise" if body.finalise else "")
    api.ledger.write(lambda connection: audit(connection, now_us, caller.who, "invoices.run", month, what))
    return {"month": month, "invoices": found, "refused": refused}


@router.get("/v1/invoices/{tenant:path}/{name}", summary="An invoice with its lines, or a document of it")
def show_invoice(
    request: Request,
    tenant: str,
    name: str,
    caller: Reader,
    revision: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    paper: Annotated[str, Query(pattern="^(a4|letter)$")] = "a4",
) -> Response:
    """name: a month (JSON), or a month with .pdf, .csv, .xlsx, .json, .usage.csv, .focus.csv or .focus.parquet."""
    api = api_of(request)
    own(caller, name_of(tenant, "tenant"))
    match = _NAME.fullmatch(name)
    if match is None or (match[3] is not None and match[3] not in DOCUMENTS):
        raise not_found(f"name a month like 2026-10, alone or with .{', .'.join(DOCUMENTS)}")
    book = api.ledger.read(lambda connection: load_book(connection, tenant, match[1]))
    revisions = book.revisions(tenant, match[1])
    chosen = [i for i in revisions if i.revision == revision] if revision else revisions
    if not chosen:
        raise not_found(f"{tenant} has no such invoice of {match[1]}")
    invoice = (book.live(tenant, match[1]) if revision is None else None) or chosen[-1]
    if match[3] is not None:
        return document(api, invoice, DOCUMENTS[match[3]], paper)
    notes = [credit_note_json(note) for note in book.notes_on(invoice)]
    return JSONResponse({**invoice_json(invoice, parts=True), "credit_notes": notes})


def document(api: Api, invoice: Invoice, form: str, paper: str = "a4") -> Response:
    """The invoice as a file to download; 422 where it cannot be written, with the reason."""
    owner = api.ledger.context().catalog.tenants.get(invoice.tenant)
    days = usage_days(api.ledger, invoice.tenant, invoice.month) if owner is not None else []
    try:
        content = render(invoice, form, days, paper, timezone=owner.timezone if owner else "UTC")
    except DocumentError as error:
        raise Problem(422, "document_refused", str(error)) from None
    headers = {"Content-Disposition": f'attachment; filename="{file_name(invoice, form)}"'}
    return Response(content, media_type=media_type(form), headers=headers)


@router.post("/v1/invoices/{tenant:path}/{month}/finalise", summary="Close an invoice")
def finalise_invoice(
    request: Request, tenant: str, month: str, _shown: Annotated[object, Depends(BEARER)]
) -> dict[str, Any]:
    """For finance. 409 before the grace ends, or where usage is unrated."""
    caller, api = _finance(request), api_of(request)
    known_tenant(api, tenant)
    outcome = run_tenant(api.ledger, tenant, month_of_text(month), api.now_us(), finalise=True)
    if outcome.refused:
        raise Problem(409, "refused", outcome.refused)
    if outcome.invoice is None:
        raise not_found(f"there is nothing to invoice {tenant} for {month}")
    number, now_us = outcome.invoice.number or "", api.now_us()
    api.ledger.write(lambda c: audit(c, now_us, caller.who, "invoice.finalise", f"{tenant} {month}", number))
    return invoice_json(outcome.invoice, parts=True)


@router.post(
    "/v1/invoices/{tenant:path}/{month}/void",
    summary="Void a closed invoice by a full credit note",
    openapi_extra=described(VoidBody, example={"reason": "wrong buyer"}),
)
async def void_invoice(
    request: Request, tenant: str, month: str, _shown: Annotated[object, Depends(BEARER)]
) -> JSONResponse:
    """For finance. 409 where it cannot be voided (again)."""
    caller = await run_in_threadpool(_finance, request)
    body = await json_body(request, VoidBody)
    return JSONResponse(await run_in_threadpool(void, api_of(request), caller, tenant, month, body.reason))


def void(api: Api, caller: Claims, tenant: str, month: str, reason: str) -> dict[str, Any]:
    """Void a tenant's closed invoice, with a line in the audit log: its credit notes; 409 where it cannot be."""
    name_of(reason, "reason")
    name_of(tenant, "tenant")
    now_us = api.now_us()
    outcome = void_tenant(api.ledger, tenant, month_of_text(month), now_us, reason)
    if outcome.refused:
        raise Problem(409, "refused", outcome.refused)
    api.ledger.write(lambda c: audit(c, now_us, caller.who, "invoice.void", f"{tenant} {month}", reason))
    return {"credit_notes": [credit_note_json(note) for note in outcome.credit_notes]}
