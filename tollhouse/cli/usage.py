"""`tollhouse usage`: what was used, what it cost, what it brings."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from tollhouse.cli.shared import dir_option, json_option, open_ledger, print_table, settings_of
from tollhouse.errors import UserError

FORMATS = ("table", "csv", "parquet", "json")


@click.command()
@dir_option
@json_option
@click.option("--tenant", help="One tenant; default all.")
@click.option("--by", default="tenant,model", show_default=True, help="Groups: tenant,key,provider,model,day,month…")
@click.option("--from", "start", help="First instant (RFC 3339) or day, inclusive.")
@click.option("--to", "end", help="End (RFC 3339) or day, exclusive.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for csv and parquet.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw usage by day (PNG or SVG).")
def usage(
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
    tenant: str | None,
    by: str,
    start: str | None,
    end: str | None,
    form: str,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Usage, provider cost and revenue, grouped as asked.

    \b
    Example:
      tollhouse usage --dir tollhouse-demo --by tenant,day --from 2026-10-01 --to 2026-11-01
    """
    from tollhouse.margins import usage_records
    from tollhouse.usage import GROUPS

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in groups if name not in GROUPS]:
        raise UserError(f"--by {unknown[0]}: use {', '.join(GROUPS)}", code=2)
    ledger = open_ledger(settings_of(directory))
    zone = "UTC"
    if tenant is not None:
        known = ledger.context().catalog.tenants
        if tenant not in known:
            raise UserError(f"--tenant {tenant}: no such tenant in the catalog")
        zone = known[tenant].timezone
    start_us, end_us = _instant(start, zone, "--from"), _instant(end, zone, "--to")
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise UserError(f"--from {start} is not before --to {end}", code=2)
    records = usage_records(ledger, groups, tenant, start_us, end_us)
    if plot is not None:
        _draw(ledger, tenant, start, end, zone, plot)
    _print(records, groups, "json" if as_json else form, out)


def _instant(text: str | None, zone: str, option: str) -> int | None:
    from schemas.periods import parse_date_or_instant

    if text is None:
        return None
    try:
        return parse_date_or_instant(text, zone)
    except ValueError as error:
        raise UserError(f"{option}: {error}", code=2) from None


def _print(records: list[dict[str, Any]], groups: list[str], form: str, out: Path | None) -> None:
    if form == "json":
        click.echo(json.dumps({"usage": records}, indent=2))
    elif form == "table":
        columns = [*groups, "requests", "errors", "tokens", "provider_cost", "revenue", "margin", "currency"]
        print_table(
            columns,
            [[f"{v:,}" if isinstance(v := _cell(record, name), int) else v for name in columns] for record in records],
        )
    else:
        from tollhouse.tables import to_csv, to_parquet

        data = to_csv(records) if form == "csv" else to_parquet(records)
        if out is None:
            if form == "parquet" and sys.stdout.isatty():
                raise UserError("parquet is binary: give --out FILE", code=2)
            sys.stdout.buffer.write(data)
        else:
            out.write_bytes(data)


def _cell(record: dict[str, Any], name: str) -> Any:
    if name == "tokens":
        return sum(n for cls, n in record["tokens"].items() if cls != "web_searches")
    return record.get(name)


def _draw(ledger: Any, tenant: str | None, start: str | None, end: str | None, zone: str, path: Path) -> None:
    from billing.plots import DayCount, Look, usage_by_day
    from schemas.tokens import TOKEN_CLASSES
    from tollhouse.usage import totals

    suffix = path.suffix.lstrip(".").lower()
    if suffix not in ("png", "svg"):
        raise UserError(f"--plot {path}: the name must end in .png or .svg", code=2)
    series = "model" if tenant is not None else "tenant"
    found = totals(
        ledger,
        ("day", series),
        tenant=tenant,
        start_us=_instant(start, zone, "--from"),
        end_us=_instant(end, zone, "--to"),
    )
    from datetime import date

    days = [
        DayCount(date.fromisoformat(day), name, sum(total.classes[: len(TOKEN_CLASSES)]))
        for (day, name), total in found.items()
    ]
    path.write_bytes(usage_by_day(days, f"Tokens by day and {series}", look=Look(format=suffix)))
