"""`tollhouse migrate`: the database's schema to this program's version, or to another one."""

import time
from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@dir_option
@json_option
@click.option("--to", help="A version like 0001, or base (removes the tables); default the newest.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 unless the database is at that version.")
@click.option("--yes", is_flag=True, help="Go back although what only the newer version keeps is lost.")
def migrate(directory: Path | None, as_json: bool, to: str | None, check: bool, yes: bool) -> None:  # noqa: FBT001
    """Bring the database's schema to the version that this program works with, in one transaction.

    Back it up and stop its processes first. Several that migrate at once take turns, and the later ones find it done.

    \b
    Example:
      tollhouse migrate --check
      tollhouse migrate
    """
    from pipeline.ledger import schema
    from pipeline.ledger.engine import make_engine, reading

    try:
        engine = make_engine(settings_of(directory).database)
    except ValueError as error:
        raise UserError(f"TOLLHOUSE_DATABASE_URL: {error}", code=2) from None
    wanted = to or schema.HEAD
    with reading(engine) as connection:
        now = schema.version_of(connection)
    if check:
        _print({"version": now, "wanted": wanted}, f"the database is at version {now or 'none'}", as_json=as_json)
        if now != wanted:
            raise UserError(f"the database is not at version {wanted}: run `tollhouse migrate`")
        return
    if not yes and now in schema.VERSIONS and (wanted == "base" or wanted < str(now)):
        raise UserError(
            f"going back from {now} to {wanted} loses what only {now} keeps: back up, then give --yes", code=2
        )
    began_s = time.monotonic()
    before, after = schema.migrate(engine, wanted)
    took_s = time.monotonic() - began_s
    result = {"before": before, "after": after, "seconds": f"{took_s:.2f}"}
    _print(result, f"{before or 'no version'} to {after}: {took_s:.2f} s", as_json=as_json)


def _print(record: dict[str, str | None], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        click.echo(line)
