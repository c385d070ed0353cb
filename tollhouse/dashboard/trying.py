"""What-if: a month's charges under another catalog, before any customer meets it. Nothing is kept."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from pipeline.catalog import parse_yaml
from pipeline.ledger.catalogs import document_of
from schemas.catalog import Catalog
from schemas.periods import local_date
from tollhouse.api import invoices
from tollhouse.api.callers import require_role
from tollhouse.api.state import Api, api_of
from tollhouse.compare import compare, comparison_json, sums
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import form_of, operator_of, page, person_of
from tollhouse.tokens import Claims

router = APIRouter(include_in_schema=False)

ROWS_MAX: Final = 200
ERRORS_MAX: Final = 30
_SECTIONS: Final = (
    "plans", "provider_prices", "credits", "taxes", "exchange_rates", "invoicing", "currency", "keys", "tenants",
)  # fmt: skip
"""Of the text to change, what is most likely changed first. Where alerts go is nobody's business here."""


@router.get("/catalog/compare")
def form_page(request: Request) -> Response:
    """The form, with the catalog in force to change."""
    person, api = operator_of(request), api_of(request)
    require_role(person, "finance")
    # The month that is over has usage to compare.
    month = (local_date(api.now_us(), "UTC").replace(day=1) - timedelta(days=1)).isoformat()[:7]
    return _page(request, person, api, month=month, text=_current(api.ledger.context().catalog))


def _current(catalog: Catalog) -> str:
    """The catalog's document as YAML, without what prices nothing."""
    document: dict[str, Any] = json.loads(document_of(catalog))
    kept = {name: document[name] for name in _SECTIONS if name in document}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)


@router.post("/catalog/compare")
async def compare_page(request: Request) -> Response:
    """The month under the given catalog, a row a tenant."""
    form = await form_of(request)
    await sessions.check_form(request, form.get("csrf", ""))
    return await run_in_threadpool(_compare, request, form)


def _compare(request: Request, form: dict[str, str]) -> Response:
    person, api = person_of(request), api_of(request)
    require_role(person, "finance")
    text = form.get("catalog", "").replace("\r\n", "\n")
    month = invoices.month_of_text(form.get("month", ""))
    tenant = form.get("tenant", "")
    other = parse_yaml(text)
    if not isinstance(other, Catalog):
        errors = [str(error) for error in other]
        return _page(request, person, api, 422, month=month, tenant=tenant, text=text, errors=errors)
    known = {*api.ledger.context().catalog.tenants, *other.tenants}
    if tenant and tenant not in known:
        errors = [f"neither catalog has a tenant {tenant!r}"]
        return _page(request, person, api, 422, month=month, tenant=tenant, text=text, errors=errors)
    found = compare(api.ledger, other, month, tenant or None)
    changed = [row for row in found if row.difference != 0 or row.unrated]
    # The largest change first; what cannot be subtracted is what most needs to be seen.
    changed.sort(key=lambda row: (row.difference is not None, -abs(row.difference or Decimal(0)), row.tenant))
    return _page(
        request, person, api,
        month=month, tenant=tenant, text=text, done=True,
        rows=[comparison_json(row) for row in changed[:ROWS_MAX]], more=max(0, len(changed) - ROWS_MAX),
        same=len(found) - len(changed), sums=sums(found),
    )  # fmt: skip


def _page(request: Request, person: Claims, _api: Api, status: int = 200, **values: Any) -> Response:
    blank: dict[str, Any] = {
        "tenant": "", "errors": [], "done": False, "rows": [], "more": 0, "same": 0, "sums": [],
    }  # fmt: skip
    given = blank | values
    given["more_errors"] = max(0, len(given["errors"]) - ERRORS_MAX)
    given["errors"] = given["errors"][:ERRORS_MAX]
    return page("compare.html", status, person=person, csrf=sessions.csrf_of(request), **given)
