"""Usage and quotas, for operators and for the tenant itself."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from schemas.money import plain
from schemas.periods import parse_date_or_instant
from schemas.tokens import CLASSES
from tollhouse.api.bodies import name_of
from tollhouse.api.callers import Operator, Reader, own
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.quotas import quota_rows
from tollhouse.usage import GROUPS, totals

router = APIRouter(tags=["usage"])

OWN_GROUPS: Final = ("model", "service_tier", "day", "month")
"""What a tenant may group by: provider and key are the operator's business."""


def known_tenant(api: Api, tenant: str) -> str:
    """The tenant's name; 404 where the catalog has none of it."""
    if name_of(tenant, "the tenant's id") not in api.ledger.context().catalog.tenants:
        raise not_found(f"there is no tenant {tenant!r}")
    return tenant


def instant(api: Api, tenant: str | None, text: str | None, name: str) -> int | None:
    """An RFC 3339 time, or a date as the tenant's midnight; a 422 problem for anything else."""
    if text is None:
        return None
    try:
        zone = api.ledger.context().catalog.tenants[tenant].timezone if tenant else "UTC"
        return parse_date_or_instant(text, zone)
    except (ValueError, OverflowError):
        detail = f"{name} must be a time like 2026-10-03T10:11:12Z or a date like 2026-10-03"
        raise Problem(422, "invalid_request", detail) from None


@router.get("/v1/tenants", summary="Tenants of the catalog")
def tenants(request: Request, _caller: Operator) -> dict[str, Any]:
    """By id: name, tier, plans, time zone, currency."""
    found = api_of(request).ledger.context().catalog.tenants
    return {
        "tenants": [
            {
                "id": tenant.id,
                "name": tenant.name,
                "tier": tenant.tier,
                "plans": [assignment.plan for assignment in tenant.plans],
                "timezone": tenant.timezone,
                "currency": tenant.currency,
                "models": list(tenant.models),
            }
            for tenant in sorted(found.values(), key=lambda t: t.id)
        ]
    }


@router.get("/v1/tenants/{tenant:path}/usage", summary="Usage of a tenant")
def tenant_usage(
    request: Request,
    tenant: str,
    caller: Reader,
    by: Annotated[str, Query(description="Groups, with commas between.")] = "model",
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: Annotated[str | None, Query(description="Exclusive.")] = None,
) -> dict[str, Any]:
    """Tokens by class, requests and errors, by group; to operators also what the provider charges."""
    own(caller, tenant)
    api = api_of(request)
    known_tenant(api, tenant)
    allowed = GROUPS if caller.kind == "operator" else OWN_GROUPS
    groups = [part.strip() for part in by.split(",") if part.strip()]
    if not groups or len(set(groups)) != len(groups) or not set(groups) <= set(allowed):
        raise Problem(422, "invalid_request", f"by must name some of {', '.join(allowed)}, each once")
    start_us, end_us = instant(api, tenant, from_, "from"), instant(api, tenant, to, "to")
    rows = []
    for key, total in totals(api.ledger, groups, tenant=tenant, start_us=start_us, end_us=end_us).items():
        row: dict[str, Any] = dict(zip(groups, key, strict=True))
        row["tokens"] = dict(zip(CLASSES, total.classes, strict=True))
        row |= {"requests": total.requests, "errors": total.errors}
        if caller.kind == "operator":
            row["provider_cost"] = None if total.cost is None else plain(total.cost)
        rows.append(row)
    return {"tenant": tenant, "by": groups, "from": from_, "to": to, "usage": rows}


@router.get("/v1/tenants/{tenant:path}/quotas", summary="Quotas of a tenant in their windows now")
def tenant_quotas(request: Request, tenant: str, caller: Reader) -> dict[str, Any]:
    """Used, reserved and limit as decimal strings; limit null: unlimited."""
    own(caller, tenant)
    api = api_of(request)
    known_tenant(api, tenant)
    return {"tenant": tenant, "quotas": quota_rows(api.ledger, api.now_us(), tenant)}
