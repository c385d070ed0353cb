"""`tollhouse audit`: the counter counted."""

from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@dir_option
@json_option
@click.option("--alert", is_flag=True, help="Raise an alert for differences: for a nightly run.")
@click.option(
    "--anchor", help="An end of the audit log that an earlier audit printed, N:DIGEST: it must still be there."
)
@click.option("--no-broker", is_flag=True, help="Do not compare with the topic.")
def audit(directory: Path | None, as_json: bool, alert: bool, anchor: str | None, no_broker: bool) -> None:  # noqa: FBT001
    """Work out again what the ledger says, from its events; a line for each difference, exit code 1 if any.

    Counters, rollups, quotas, the rejected list, catalogs, invoices line by line, credit notes, alerts, the audit
    log's chain; and what the broker has, where it answers. The audit log's end is printed: kept outside the database,
    and given back with --anchor, it shows a log that was cut off.

    \b
    Example:
      tollhouse audit --dir ./data
      tollhouse audit --alert
    """
    from pipeline.ledger.chain import parse_anchor
    from tollhouse.auditing import audit as examine
    from tollhouse.auditing import raise_alert

    settings = settings_of(directory)
    try:
        known = None if anchor is None else parse_anchor(anchor)
    except ValueError as error:
        raise UserError(f"--anchor: {error}", code=2) from None
    ledger = open_ledger(settings)
    found = examine(settings, ledger, broker=not no_broker, anchor=known)
    if alert and found.differences:
        raise_alert(ledger, found, now_us() + settings.clock_offset_s * 1_000_000)
    if as_json:
        print_json(
            {
                "checks": found.checks,
                "differences": found.differences,
                "notes": found.notes,
                "audit_log": found.anchor,
            }
        )
    else:
        for line in found.differences:
            click.echo(line)
        for note in found.notes:
            click.echo(note, err=True)
        click.echo(f"the audit log ends at {found.anchor}", err=True)
    if found.differences:
        raise UserError(f"{len(found.differences)} differences in the ledger")
    if not as_json:
        click.echo(f"{len(found.checks)} checks, no difference")
