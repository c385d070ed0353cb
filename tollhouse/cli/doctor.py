"""`tollhouse doctor`: settings, broker, database, topics, lag, Stripe, clock; each line ok or what to do."""

from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@dir_option
@json_option
def doctor(directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Look at every part and say what to do about it.

    \b
    Example:
      tollhouse doctor --dir ./data
    """
    from tollhouse.checkup import examine

    findings = examine(settings_of(directory))
    if as_json:
        print_json({"checks": [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in findings]})
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.detail}")
    bad = [finding.name for finding in findings if not finding.ok]
    if bad:
        raise UserError(f"{len(bad)} of {len(findings)} checks need attention: {', '.join(bad)}")
