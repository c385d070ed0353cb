"""Anthropic: usage and cost analytics (beta), and the legacy usage report (SDK 2.14, read November 2026).

Only combinations with usage have a row. Reasoning is within output. Amounts are decimal strings in cents.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

from billing.provider_reports.client import Fetch, ReportError, amount, count, pages
from pipeline.reconcile.rows import CostRow, ReportRow
from schemas.instants import DAY_US, HOUR_US, format_instant, parse_instant
from schemas.money import Money

USAGE: Final = "v1/organizations/analytics/usage"
COST: Final = "v1/organizations/analytics/cost"
LEGACY_USAGE: Final = "v1/organizations/usage_report/messages"
LEGACY_COST: Final = "v1/organizations/cost_report"
WIDTHS: Final = {60: ("1m", DAY_US), 3600: ("1h", 31 * DAY_US), 86_400: ("1d", 31 * DAY_US)}
"""Bucket width in seconds to its name and the longest span of one question."""
ROWS: Final = 1000
LEGACY_LIMITS: Final = {"1m": 1440, "1h": 168, "1d": 31}


class Anthropic:
    """See Connector."""

    has: ClassVar[tuple[str, ...]] = (
        "input", "cache_read", "cache_write", "cache_write_long", "output", "web_searches",
    )  # fmt: skip
    settle_us: ClassVar[int] = 24 * HOUR_US
    """Exported in batches, within 4 hours as a rule and 24 at times."""
    key_variable: ClassVar[str] = "ANTHROPIC_ADMIN_KEY"
    base: ClassVar[str] = "https://api.anthropic.com/"
    costs_by_key: ClassVar[bool] = True
    finest_s: ClassVar[int] = 60

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        """Of every request."""
        return {
            "x-api-key": key,
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "analytics-usage-cost-2026-08-24",
        }

    def usage(self, start_us: int, end_us: int, width_s: int, keys: Sequence[str]) -> list[ReportRow]:  # noqa: ARG002
        """See Connector.usage: grouped by key and model, in spans that one question may cover."""
        return [_usage_row(row) for row in self._spans(USAGE, start_us, end_us, width_s, ("api_key_id", "model"))]

    def costs(self, start_us: int, end_us: int) -> list[CostRow]:
        """See Connector.costs."""
        groups = ("api_key_id", "model", "cost_type", "token_type")
        first = start_us // DAY_US * DAY_US
        return [_cost_row(row) for row in self._spans(COST, first, end_us, 86_400, groups)]

    def _spans(
        self, path: str, start_us: int, end_us: int, width_s: int, groups: Sequence[str]
    ) -> list[dict[str, Any]]:
        width, span_us = WIDTHS[width_s]
        found = []
        for at_us in range(start_us, end_us, span_us):
            query = [
                ("starting_at", format_instant(at_us)), ("ending_at", format_instant(min(at_us + span_us, end_us))),
                ("time_bucket_width", width), ("limit", str(ROWS)), *(("group_by[]", name) for name in groups),
            ]  # fmt: skip
            found += pages(self._fetch, path, query)
        return found


class AnthropicLegacy(Anthropic):
    """The older report, by buckets; its costs do not tell keys apart."""

    settle_us: ClassVar[int] = HOUR_US
    costs_by_key: ClassVar[bool] = False

    def usage(self, start_us: int, end_us: int, width_s: int, keys: Sequence[str]) -> list[ReportRow]:  # noqa: ARG002
        """See Connector.usage."""
        width = WIDTHS[width_s][0]
        buckets = pages(self._fetch, LEGACY_USAGE, _legacy(start_us, end_us, width, ("api_key_id", "model")))
        return [
            ReportRow(*_bounds(bucket), row.get("api_key_id"), row.get("model"), anthropic_counts(row))
            for bucket in buckets
            for row in bucket.get("results") or ()
        ]

    def costs(self, start_us: int, end_us: int) -> list[CostRow]:
        """See Connector.costs."""
        query = _legacy(start_us // DAY_US * DAY_US, end_us, "1d", ("description",))
        return [
            CostRow(
                *_bounds(bucket), None, str(row.get("description") or row.get("cost_type") or "(no line)"),
                _cents(row.get("amount"), row.get("currency")), row.get("model"),
            )
            for bucket in pages(self._fetch, LEGACY_COST, query)
            for row in bucket.get("results") or ()
        ]  # fmt: skip


def _legacy(start_us: int, end_us: int, width: str, groups: Sequence[str]) -> list[tuple[str, str]]:
    return [
        ("starting_at", format_instant(start_us)), ("ending_at", format_instant(end_us)), ("bucket_width", width),
        ("limit", str(LEGACY_LIMITS[width])), *(("group_by[]", name) for name in groups),
    ]  # fmt: skip


def _bounds(row: Mapping[str, Any]) -> tuple[int, int]:
    try:
        start, end = (parse_instant(str(row[name])) for name in ("starting_at", "ending_at"))
    except (KeyError, ValueError):
        raise ReportError(f"{USAGE}: a row without starting_at and ending_at") from None
    return start, end


def anthropic_counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Counts by class of a usage object; the analytics' and the legacy report's are alike."""
    cache = usage.get("cache_creation") or {}
    tools = usage.get("server_tool_use") or {}
    return {
        "input": count(usage, "uncached_input_tokens", USAGE, needed=True),
        "cache_read": count(usage, "cache_read_input_tokens", USAGE),
        "cache_write": count(cache, "ephemeral_5m_input_tokens", USAGE),
        "cache_write_long": count(cache, "ephemeral_1h_input_tokens", USAGE),
        "output": count(usage, "output_tokens", USAGE, needed=True),
        "web_searches": count(tools, "web_search_requests", USAGE),
    }


def _usage_row(row: Mapping[str, Any]) -> ReportRow:
    usage, group = row.get("usage"), row.get("group") or {}
    if not isinstance(usage, dict):
        raise ReportError(f"{USAGE}: a row without usage")
    requests = None if usage.get("requests") is None else count(usage, "requests", USAGE)
    return ReportRow(*_bounds(row), group.get("api_key_id"), group.get("model"), anthropic_counts(usage), requests)


def _cost_row(row: Mapping[str, Any]) -> CostRow:
    cost, group = row.get("cost"), row.get("group") or {}
    if not isinstance(cost, dict):
        raise ReportError(f"{COST}: a row without cost")
    words = [str(group[name]) for name in ("model", "cost_type", "token_type") if group.get(name)]
    money = _cents(cost.get("amount"), cost.get("currency"))
    return CostRow(*_bounds(row), group.get("api_key_id"), ", ".join(words) or "(no line)", money, group.get("model"))


def _cents(value: Any, currency: Any) -> Money:
    return Money.of(amount(value, COST) / Decimal(100), str(currency or "USD").upper())
