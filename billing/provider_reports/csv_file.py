"""A report as a CSV file, for providers without an API of their own: start,end,key,model and a column a class."""

import csv
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

from billing.provider_reports.client import ReportError
from pipeline.reconcile.rows import CostRow, ReportRow
from schemas.money import Money, decimal
from schemas.periods import parse_date_or_instant
from schemas.tokens import CLASSES, COUNT_MAX

NEEDED: Final = ("start", "end", "key", "model")
OTHER: Final = ("requests", "cost", "currency", "line")


def read_csv(lines: Iterable[str]) -> tuple[list[ReportRow], list[CostRow], tuple[str, ...]]:
    """(usage, costs, the classes that it tells apart). Empty cells: no key, no model, no count. ReportError with line.

    `start` and `end` are instants or dates (UTC); key is the provider's id of it; cost is in `currency` or USD.
    """
    reader = csv.DictReader(lines)
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in (*NEEDED, *OTHER, *CLASSES)]
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown)}, which are no columns"
        raise ReportError(f"line 1: it {what}; use {', '.join((*NEEDED, *CLASSES, *OTHER))}")
    has: tuple[str, ...] = tuple(name for name in CLASSES if name in columns)
    usage, costs = [], []
    for row in reader:
        where = f"line {reader.line_num}"
        try:
            start_us, end_us = (parse_date_or_instant((row[name] or "").strip(), "UTC") for name in ("start", "end"))
        except ValueError as error:
            raise ReportError(f"{where}: {error}") from None
        if end_us <= start_us:
            raise ReportError(f"{where}: end is not after start")
        key, model = ((row[name] or "").strip() or None for name in ("key", "model"))
        counts: dict[str, int] = {name: _count(row.get(name), where, name) for name in has}
        requests = _count(row["requests"], where, "requests") if (row.get("requests") or "").strip() else None
        usage.append(ReportRow(start_us, end_us, key, model, counts, requests))
        if cost := (row.get("cost") or "").strip():
            try:
                money = Money.of(decimal(cost), (row.get("currency") or "").strip() or "USD")
            except ValueError as error:
                raise ReportError(f"{where}: cost: {error}") from None
            costs.append(
                CostRow(start_us, end_us, key, (row.get("line") or model or "(no line)").strip(), money, model)
            )
    return usage, costs, has


def _count(text: str | None, where: str, name: str) -> int:
    given = (text or "").strip()
    if not given:
        return 0
    try:
        value = Decimal(given)
    except InvalidOperation:
        value = Decimal(-1)
    if not (0 <= value <= COUNT_MAX) or value != int(value):
        raise ReportError(f"{where}: {name} is {given!r}, not a count")
    return int(value)
