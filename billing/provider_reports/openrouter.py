"""OpenRouter: activity of the last 30 completed UTC days, asked for once a key (read November 2026)."""

from collections.abc import Sequence
from datetime import date
from typing import Any, ClassVar, Final

from billing.provider_reports.client import Fetch, ReportError, amount, count
from pipeline.reconcile.rows import CostRow, ReportRow
from schemas.instants import DAY_US, HOUR_US, format_instant
from schemas.money import Money
from schemas.periods import day_start

ACTIVITY: Final = "activity"


class OpenRouter:
    """See Connector. The catalog's provider_key_id is the key's hash."""

    has: ClassVar[tuple[str, ...]] = ("input", "output")
    settle_us: ClassVar[int] = 24 * HOUR_US
    key_variable: ClassVar[str] = "OPENROUTER_MANAGEMENT_KEY"
    base: ClassVar[str] = "https://openrouter.ai/api/v1/"
    costs_by_key: ClassVar[bool] = True
    finest_s: ClassVar[int] = 86_400

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._costs: list[CostRow] = []

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {key}"}

    def usage(self, start_us: int, end_us: int, width_s: int, keys: Sequence[str]) -> list[ReportRow]:  # noqa: ARG002
        """See Connector.usage. Activity that belongs to none of the keys is left out: it is not asked for."""
        found: list[ReportRow] = []
        self._costs = []
        for day_us in range(start_us // DAY_US * DAY_US, end_us, DAY_US):
            for key in keys:
                query = [("date", format_instant(day_us)[:10]), ("api_key_hash", key)]
                entries = self._fetch(ACTIVITY, query).get("data")
                if not isinstance(entries, list):
                    raise ReportError(f"{ACTIVITY}: the answer has no list `data`")
                for row in entries:
                    self._take(row, key, found)
        return found

    def _take(self, row: dict[str, Any], key: str, found: list[ReportRow]) -> None:
        try:
            start_us = day_start(date.fromisoformat(str(row["date"])[:10]), "UTC")
        except (KeyError, ValueError):
            raise ReportError(f"{ACTIVITY}: a row without a date") from None
        counts = {
            "input": count(row, "prompt_tokens", ACTIVITY, needed=True),
            "output": count(row, "completion_tokens", ACTIVITY, needed=True),
        }
        model = str(row["model"]) if row.get("model") else None
        end_us = start_us + DAY_US
        found.append(ReportRow(start_us, end_us, key, model, counts, count(row, "requests", ACTIVITY)))
        spent = Money.of(amount(row.get("usage", 0), ACTIVITY), "USD")
        line = f"{model}, by {row.get('provider_name') or 'unknown'}"
        self._costs.append(CostRow(start_us, end_us, key, line, spent, model))

    def costs(self, start_us: int, end_us: int) -> list[CostRow]:  # noqa: ARG002 - the same rows have both
        """See Connector.costs: what the last question for usage brought along."""
        return list(self._costs)
