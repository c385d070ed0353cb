"""OpenAI: organization usage of completions, and costs (openai-openapi, read November 2026).

`input_tokens` includes what was read from and written to the cache; there is no figure for reasoning apart from output.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from billing.provider_reports.client import Fetch, ReportError, amount, count, pages
from pipeline.reconcile.rows import CostRow, ReportRow
from schemas.instants import DAY_US, MINUTE_US, SECOND_US
from schemas.money import Money

USAGE: Final = "organization/usage/completions"
COSTS: Final = "organization/costs"
WIDTHS: Final = {60: ("1m", 1440), 3600: ("1h", 168), 86_400: ("1d", 31)}
"""Bucket width in seconds to its name and the most buckets of a page."""
COST_BUCKETS: Final = 180


class OpenAI:
    """See Connector."""

    has: ClassVar[tuple[str, ...]] = (
        "input", "cache_read", "cache_write", "cache_write_long", "output", "input_audio", "output_audio",
        "input_image", "output_image",
    )  # fmt: skip
    settle_us: ClassVar[int] = 15 * MINUTE_US
    key_variable: ClassVar[str] = "OPENAI_ADMIN_KEY"
    base: ClassVar[str] = "https://api.openai.com/v1/"
    costs_by_key: ClassVar[bool] = True
    finest_s: ClassVar[int] = 60

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {key}"}

    def usage(self, start_us: int, end_us: int, width_s: int, keys: Sequence[str]) -> list[ReportRow]:  # noqa: ARG002
        """See Connector.usage: grouped by key and model."""
        width, limit = WIDTHS[width_s]
        query = [
            ("start_time", str(start_us // SECOND_US)), ("end_time", str(end_us // SECOND_US)),
            ("bucket_width", width), ("limit", str(limit)),
            ("group_by[]", "api_key_id"), ("group_by[]", "model"),
        ]  # fmt: skip
        return [
            ReportRow(
                *_bounds(bucket), row.get("api_key_id"), row.get("model"), openai_counts(row),
                count(row, "num_model_requests", USAGE),
            )
            for bucket in pages(self._fetch, USAGE, query)
            for row in bucket.get("results") or ()
        ]  # fmt: skip

    def costs(self, start_us: int, end_us: int) -> list[CostRow]:
        """See Connector.costs: by line item and key."""
        query = [
            ("start_time", str(start_us // DAY_US * DAY_US // SECOND_US)), ("end_time", str(end_us // SECOND_US)),
            ("bucket_width", "1d"), ("limit", str(COST_BUCKETS)),
            ("group_by[]", "line_item"), ("group_by[]", "api_key_id"),
        ]  # fmt: skip
        return [
            _cost(bucket, row)
            for bucket in pages(self._fetch, COSTS, query)
            for row in bucket.get("results") or ()
            if row.get("amount") is not None
        ]


def _bounds(bucket: Mapping[str, Any]) -> tuple[int, int]:
    start, end = (count(bucket, name, USAGE, needed=True) * SECOND_US for name in ("start_time", "end_time"))
    return start, end


def openai_counts(row: Mapping[str, Any]) -> dict[str, int]:
    """Counts by class, none of them twice. ReportError where the parts exceed the whole."""

    def of(name: str) -> int:
        return count(row, name, USAGE)

    whole, out = count(row, "input_tokens", USAGE, needed=True), count(row, "output_tokens", USAGE, needed=True)
    read, written, long = of("input_cached_tokens"), of("input_cache_write_tokens"), of("input_cache_write_12h_tokens")
    written = max(written, of("input_cache_write_30m_tokens") + long)
    audio, image = of("input_audio_tokens"), of("input_image_tokens")
    plain = whole - read - written - audio - image
    visible = out - of("output_audio_tokens") - of("output_image_tokens")
    if plain < 0:
        # The older meaning of input_audio_tokens: what of it was read from the cache is in it too.
        audio = max(0, audio - of("input_cached_audio_tokens"))
        image = max(0, image - of("input_cached_image_tokens"))
        plain = whole - read - written - audio - image
    if plain < 0 or visible < 0:
        raise ReportError(f"{USAGE}: the parts of a row come to more than its input_tokens or output_tokens")
    return {
        "input": plain, "cache_read": read, "cache_write": written - long, "cache_write_long": long,
        "output": visible, "input_audio": audio, "output_audio": of("output_audio_tokens"), "input_image": image,
        "output_image": of("output_image_tokens"),
    }  # fmt: skip


def _cost(bucket: Mapping[str, Any], row: Mapping[str, Any]) -> CostRow:
    line = str(row.get("line_item") or "(no line item)")
    given = row["amount"]
    money = Money.of(amount(given.get("value"), COSTS), str(given.get("currency") or "usd").upper())
    model = line.rpartition(",")[0].strip() or None  # "gpt-5-mini, input_tokens"; other lines name no model
    quantity = f"{row['quantity']} {row.get('quantity_unit') or ''}".strip() if row.get("quantity") is not None else ""
    return CostRow(*_bounds(bucket), row.get("api_key_id"), line, money, model, quantity)
