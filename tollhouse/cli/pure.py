"""Commands that are pure: a file in, answers out; no broker, no clock, and a database only to compare with."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from tollhouse.cli.shared import (
    dir_option,
    json_option,
    line_batches,
    open_input,
    open_ledger,
    print_json,
    print_table,
    progress,
    settings_of,
)
from tollhouse.errors import UserError


@click.command()
@click.argument("file")
def normalize(file: str) -> None:
    """Token classes of provider usage payloads, NDJSON in and out, a line for each line.

    \b
    Example:
      echo '{"id":"a","provider":"openai","api":"chat","raw":{"prompt_tokens":9,"completion_tokens":2}}' \\
        | tollhouse normalize -
    """
    from pipeline.normalise.ndjson import answer_line

    out = sys.stdout.buffer
    number = 0
    with open_input(file) as stream:
        for lines in line_batches(stream):
            for line in lines:
                number += 1
                out.write(answer_line(line, number) + b"\n")
            out.flush()


@click.command()
@click.argument("file")
@click.option("--catalog", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For lines without one.")
def rate(file: str, catalog: Path | None) -> None:
    """Rate usage under a plan, NDJSON in and out, a line for each line.

    \b
    Example:
      echo '{"id":"a","plan":"team","at":"2026-10-03T00:00:00Z","usage":[{"model":"gpt-5-mini","provider":"openai",
             "tokens":{"input":1000000}}]}' | tr -d '\\n' | tollhouse rate --catalog examples/catalog.yaml -
    """
    from pipeline.rating.ndjson import RateStream

    rating = RateStream(read_catalog(catalog) if catalog is not None else None)
    out = sys.stdout.buffer
    with open_input(file) as stream:
        for lines in line_batches(stream):
            out.write(b"\n".join([*rating.answers(lines), b""]))
            out.flush()


@click.command()
@click.argument("file", required=False)
@click.option("--lines", "as_lines", is_flag=True, help="Print the invoices' lines as a table instead.")
@click.option("--compare", "other", help="A catalog: what a month's invoices would be under it.")
@click.option("--month", help="With --compare: the month, like 2026-10.")
@click.option("--tenant", help="With --compare: one tenant; default all.")
@dir_option
@json_option
def simulate(
    file: str | None,
    as_lines: bool,  # noqa: FBT001 - click's way
    other: str | None,
    month: str | None,
    tenant: str | None,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Run a scenario (YAML or JSON): a catalog, a start and dated steps; prints the result as JSON.

    With --compare instead of FILE: price a month's real usage under another catalog, a row a tenant. The amounts are
    usage charges, true-up and fees, before adjustments, credits and tax.

    \b
    Examples:
      tollhouse simulate examples/scenario.yaml
      tollhouse simulate examples/scenario.yaml --lines
      tollhouse simulate --compare other.yaml --month 2026-10 --dir ./data
    """
    if (file is None) == (other is None):
        raise UserError("give either a scenario FILE, or --compare CATALOG with --month", code=2)
    if other is not None:
        _compare(other, month, tenant, directory, as_json=as_json)
        return
    if file is None or month is not None or tenant is not None or directory is not None:
        raise UserError("--month, --tenant and --dir go with --compare: a scenario brings everything itself", code=2)
    from tollhouse.documents_in import parse_document
    from tollhouse.simulate import ScenarioError, run_scenario

    with open_input(file) as stream:
        text = _text(stream.read(), file)
    try:
        result = run_scenario(parse_document(text, file))
    except ScenarioError as error:
        raise UserError(*(f"{file}: {line}" for line in str(error).splitlines())) from None
    if as_lines:
        _lines(result)
    else:
        click.echo(json.dumps(result, indent=2))


def _lines(result: dict[str, Any]) -> None:
    """The invoices of a scenario for people."""
    rows = []
    for invoice in result["invoices"]:
        head = (invoice["tenant"], invoice["month"])
        rows += [(*head, x["type"], x["description"], x["quantity"], x["amount"]) for x in invoice["lines"]]
        rows.append((*head, "total", f"{invoice['status']}, {invoice['currency']}", None, invoice["total"]))
    print_table(("tenant", "month", "type", "description", "quantity", "amount"), rows)


def _compare(other: str, month: str | None, tenant: str | None, directory: Path | None, *, as_json: bool) -> None:
    from tollhouse.compare import compare, comparison_json, sums

    if month is None:
        raise UserError("--compare needs --month, like 2026-10", code=2)
    catalog = read_catalog(other)
    ledger = open_ledger(settings_of(directory))
    if tenant is not None and tenant not in {**ledger.context().catalog.tenants, **catalog.tenants}:
        raise UserError(f"--tenant {tenant}: no such tenant in either catalog")
    try:
        found = compare(ledger, catalog, month, tenant)
    except ValueError as error:
        raise UserError(f"--month: {error}", code=2) from None
    rows, totals = [comparison_json(row) for row in found], sums(found)
    if as_json:
        print_json({"month": month, "tenants": rows, "totals": totals})
    else:
        columns = ("tenant", "currency", "now", "then", "difference")
        cells = [[row[name] for name in columns] for row in rows]
        print_table(columns, [*cells, *(["(all)", *total.values()] for total in totals)])
    unrated = [f"{row['tenant']}: {u['model']}, {u['meter']}" for row in rows for u in row["unrated"]]
    if unrated:
        raise UserError(f"{other}: no price for {'; '.join(unrated)}: the amounts above leave this usage out")


@click.command()
@click.option(
    "--minutes",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Metered usage by minute and key (Parquet).",
)
@click.option(
    "--provider",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the providers report for the pooled keys (Parquet).",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for the alerts.")
def detect(minutes: Path, provider: Path | None, out: Path) -> None:
    """Run the leak detector over recorded usage (Parquet) and write its alerts as NDJSON.

    \b
    Example:
      tollhouse detect --minutes minutes.parquet --provider provider.parquet --out alerts.jsonl
    """
    from tollhouse.detect import run

    with progress(None, "detecting") as bar:
        task = bar.task_ids[0]
        summary = run(minutes, provider, out, lambda done, total: bar.update(task, completed=done, total=total))
    found = ", ".join(f"{count} {severity}" for severity, count in sorted(summary.findings.items())) or "nothing"
    click.echo(f"{summary.rows:,} rows read: {found}; {len(summary.subjects)} subjects, see {out}", err=True)


@click.command()
@click.argument("name", type=click.Choice(["event", "catalog", "scenario"]))
def schema(name: str) -> None:
    """Print the JSON Schema of the event, the catalog or the scenario.

    \b
    Example:
      tollhouse schema catalog > catalog.schema.json
    """
    from tollhouse.published_schemas import schema_of

    click.echo(json.dumps(schema_of(name), indent=2))


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text at byte {error.start}") from None


def read_catalog(path: Path | str) -> Any:
    """The catalog of a YAML file; UserError with every fault, one a line."""
    from pipeline.catalog import parse_yaml

    name = str(path)
    with open_input(name) as stream:
        catalog = parse_yaml(_text(stream.read(), name))
    if isinstance(catalog, list):
        raise UserError(
            *(f"{name}:{error.line or 1}: {error.path and f'{error.path}: '}{error.message}" for error in catalog)
        )
    return catalog
