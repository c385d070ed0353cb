"""`tollhouse backup` and `tollhouse restore`: the whole ledger as Parquet files, and back."""

from pathlib import Path
from typing import Any

import click

from tollhouse.cli.shared import dir_option, json_option, now_us, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@click.argument("to", type=click.Path(path_type=Path))
@dir_option
@json_option
def backup(to: Path, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Write the whole ledger into the new directory TO, a Parquet file a table, while everything runs.

    One consistent view of the database, with the offsets up to which the topic was taken. Whatever reads Parquet
    reads it. Not in it, and to be kept beside it: signing keys and secrets, and the spools of API processes.

    \b
    Example:
      tollhouse backup /backups/2026-11-25
    """
    from pipeline.ledger.archive import ArchiveError, export
    from schemas.instants import format_instant

    settings = settings_of(directory)
    _database(settings.database)
    try:
        manifest = export(settings.database, to, format_instant(now_us()))
    except ArchiveError as error:
        raise UserError(str(error)) from None
    _print(manifest, f"{to}: written", as_json=as_json)


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@dir_option
@json_option
def restore(source: Path, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Fill an empty database from the backup FROM; SQLite or PostgreSQL, whichever it came from.

    Files are checked before, rows after, all in one transaction. Then start the workers: they go on in the topic
    where the backup stands, so that what came after it is counted again, once. Put the signing keys back as well.

    \b
    Example:
      tollhouse restore /backups/2026-11-25
      tollhouse audit
    """
    from pipeline.ledger.archive import ArchiveError
    from pipeline.ledger.archive import restore as fill

    settings = settings_of(directory)
    _database(settings.database)
    try:
        manifest = fill(settings.database, source)
    except ArchiveError as error:
        raise UserError(str(error)) from None
    _print(manifest, f"restored from {source}, of {manifest['made_at']}", as_json=as_json)


def _database(url: str) -> None:
    from pipeline.ledger.engine import make_engine

    try:
        make_engine(url).dispose()
    except ValueError as error:
        raise UserError(f"TOLLHOUSE_DATABASE_URL: {error}", code=2) from None


def _print(manifest: dict[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
        return
    tables = manifest["tables"]
    click.echo(f"{line}: {sum(table['rows'] for table in tables.values()):,} rows in {len(tables)} tables")
    click.echo(f"events {tables['events']['rows']:,}, digest {tables['events']['digest']}")
