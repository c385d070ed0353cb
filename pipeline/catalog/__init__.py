"""The catalog: reading and checking it, asking it, comparing versions of it (contract, section 3)."""

from pipeline.catalog.changes import Change, diff, render_changes
from pipeline.catalog.document import CatalogError
from pipeline.catalog.parse import parse_data, parse_yaml
from pipeline.catalog.price_report import CostChange, PriceChange, cost_report, price_report, render_price_report
from pipeline.catalog.queries import (
    PlanSpan,
    allowed_model,
    assignments,
    matches,
    plan_at,
    plan_id_at,
    quotas_of,
    version_at,
)
from pipeline.catalog.schema import json_schema

__all__ = [
    "CatalogError",
    "Change",
    "CostChange",
    "PlanSpan",
    "PriceChange",
    "allowed_model",
    "assignments",
    "cost_report",
    "diff",
    "json_schema",
    "matches",
    "parse_data",
    "parse_yaml",
    "plan_at",
    "plan_id_at",
    "price_report",
    "quotas_of",
    "render_changes",
    "render_price_report",
    "version_at",
]
