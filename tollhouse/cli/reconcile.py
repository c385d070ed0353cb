"""`tollhouse reconcile`: the provider's own usage report minus what was metered."""

from pathlib import Path
from typing import Any

import click

from tollhouse.cli.access import Duration
from tollhouse.cli.shared import dir_option, json_option, open_ledger, print_json, print_table, settings_of
from tollhouse.errors import UserError


@click.command()
@click.option("--provider", help="openai, anthropic, anthropic-legacy, openrouter; with --csv any of the catalog.")
@click.option("--from", "start", help="RFC 3339 or a date (UTC). Default: a day before --to.")
@click.option("--to", "end", help="Default: now, less what has not settled yet.")
@click.option("--csv", "file", type=click.Path(dir_okay=False), help="The report as a file; - reads standard input.")
@click.option("--settle", type=Duration(), help="How late the report may be, like 15m or 24h. Default: the provider's.")
@click.option("--watch", "watching", is_flag=True, help="Feed the leak detector each minute until interrupted.")
@dir_option
@json_option
def reconcile(
    provider: str | None,
    start: str | None,
    end: str | None,
    file: str | None,
    settle: int | None,
    watching: bool,  # noqa: FBT001 - click's way
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Compare the provider's usage report with what was metered: a row for each key, model and class.

    Admin keys come from the environment: OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY, OPENROUTER_MANAGEMENT_KEY. Exits 1
    where a key's totals differ.

    \b
    Examples:
      tollhouse reconcile --provider openai --from 2026-10-01 --to 2026-11-01
      tollhouse reconcile --provider google --csv report.csv
      tollhouse reconcile --provider openai --watch
    """
    from billing.provider_reports import ReportError
    from tollhouse import reconciling
    from tollhouse.clock import clock

    settings = settings_of(directory)
    ledger = open_ledger(settings)
    now_us = clock(settings.clock_offset_s)
    name = provider or _only_provider(ledger)
    settle_us = None if settle is None else settle * 1_000_000
    try:
        if file is not None:
            if watching:
                raise UserError("--watch asks the provider again and again: leave --csv away", code=2)
            done = _from_file(ledger, name, file, start, end)
        else:
            connector, client = reconciling.connect(settings, name)
            of = name.removesuffix("-legacy")
            try:
                if watching:
                    _watch(ledger, connector, of, now_us, settle_us)
                    return
                until_us = _instant("--to", end) or now_us()
                from_us = _instant("--from", start) or until_us - reconciling.DEFAULT_SPAN_US - (
                    connector.settle_us if settle_us is None else settle_us
                )
                done = reconciling.from_provider(ledger, connector, of, from_us, until_us, now_us(), settle_us)
            finally:
                client.close()
    except ReportError as error:
        raise UserError(str(error)) from None
    _show(done, as_json=as_json)


def _watch(ledger: Any, connector: Any, provider: str, now_us: Any, settle_us: int | None) -> None:
    import time

    from tollhouse.reconciling import watch

    try:
        watch(ledger, connector, provider, now_us, time.sleep, lambda line: click.echo(line, err=True), settle_us)
    except KeyboardInterrupt:
        return


def _only_provider(ledger: Any) -> str:
    found = sorted({key.provider for key in ledger.context().catalog.keys.values() if key.kind == "pooled"})
    if len(found) != 1:
        raise UserError(
            f"say which with --provider: the catalog's pooled keys are of {', '.join(found) or 'none'}", code=2
        )
    return str(found[0])


def _instant(option: str, text: str | None) -> int | None:
    from schemas.periods import parse_date_or_instant

    if text is None:
        return None
    try:
        return parse_date_or_instant(text, "UTC")
    except ValueError as error:
        raise UserError(f"{option}: {error}", code=2) from None


def _from_file(ledger: Any, provider: str, file: str, start: str | None, end: str | None) -> Any:
    import io

    from billing.provider_reports import read_csv
    from tollhouse.cli.shared import open_input
    from tollhouse.reconciling import provider_keys, reconcile

    with open_input(file) as stream:
        usage, bill, has = read_csv(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
    if not usage:
        raise UserError(f"{file}: it has no rows")
    from_us = _instant("--from", start)
    until_us = _instant("--to", end)
    from_us = min(row.start_us for row in usage) if from_us is None else from_us
    until_us = max(row.end_us for row in usage) if until_us is None else until_us
    cut = [row for row in usage if row.start_us < until_us and row.end_us > from_us]
    if any(row.start_us < from_us or row.end_us > until_us for row in cut):
        raise UserError(f"{file}: a row crosses --from or --to: choose bounds between its rows")
    bill = [row for row in bill if row.start_us >= from_us and row.end_us <= until_us]
    keys = provider_keys(ledger.context().catalog, provider)
    return reconcile(ledger, provider, cut, bill, keys, has, from_us, until_us)


def _show(done: Any, *, as_json: bool) -> None:
    from tollhouse.reconciling import reconciled_json

    found = reconciled_json(done)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['provider']}, {found['from']} to {found['to']}")
        for title, part in (("Tokens", "rows"), ("Keys", "totals"), ("Costs", "costs")):
            if rows := found[part]:
                columns = [name for name in rows[0] if name != "lines"]
                print_table(columns, [[row[name] for name in columns] for row in rows], title)
        bill = [[row["key"], line["line"], line["amount"]] for row in found["costs"] for line in row["lines"]]
        if bill:
            print_table(("key", "provider's line", "amount"), bill, "The provider's bill")
        click.echo(f"Verdict: {found['verdict']}")
    differing = [f"{row['key']} ({row['verdict']})" for row in found["totals"] if row["verdict"] != "agrees"]
    if differing:
        raise UserError(f"report and meter differ for {', '.join(differing)}: `docs/reconcile.md` says what each means")
