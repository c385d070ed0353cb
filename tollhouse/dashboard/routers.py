"""The dashboard's routers; the more special an address, the earlier it stands."""

from typing import Final

from fastapi import APIRouter

from tollhouse.dashboard import acting, alerting, billing, keys, operations, pages, signing_in, tenants, trying

ROUTERS: Final[tuple[APIRouter, ...]] = tuple(
    part.router for part in (billing, tenants, trying, keys, pages, signing_in, acting, alerting, operations)
)
