"""The whole ledger as Parquet files, and back: a backup, an export for other tools, a way to another database.

A directory with a file for each table and `manifest.json`, which says for each table how many rows it has, the file's
SHA-256 and the rows' digest. That one does not depend on order, file format or database: two ledgers with the same
digests are the same. Sessions of the dashboard are in none. Everything is read in one consistent view, the offsets up
to which the topic was taken with it, so that a worker on the restored ledger goes on where the backup stands.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    select,
    text,
)

from pipeline.ledger.digests import Rows, TableFigures
from pipeline.ledger.engine import is_sqlite, make_engine, reading, run_transaction
from pipeline.ledger.rows import insert_rows
from pipeline.ledger.schema import HEAD, VERSIONS, SchemaError, migrate, prepare, version_of
from pipeline.ledger.tables import PASSING, Units, metadata

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CHUNK: Final = 20_000
"""Rows read, written and inserted at a time: about 20 MB of events."""
PIECE: Final = 1 << 20


class ArchiveError(Exception):
    """The archive or the database is not fit for what was asked; nothing was changed."""


def figures(connection: Connection) -> dict[str, TableFigures]:
    """Rows and digest of every table: what makes two ledgers the same."""
    return {table.name: _count(connection, table) for table in _kept()}


def _kept() -> list[Table]:
    """The tables that an archive has."""
    return [table for table in metadata.sorted_tables if table.name not in PASSING]


def _count(connection: Connection, table: Table) -> TableFigures:
    rows = Rows()
    for part in _read(connection, table):
        for row in part:
            rows.add(row)
    return rows.figures


def export(url: str, directory: Path, made_at: str) -> dict[str, Any]:
    """Write the ledger to a new directory; its manifest. ArchiveError if the directory is there.

    made_at: the instant, for people. The directory appears under its name when it is whole.
    """
    if directory.exists():
        raise ArchiveError(f"{directory} is there already: name a new directory")
    partial = directory.with_name(f"{directory.name}.partial")
    if partial.exists():
        raise ArchiveError(f"{partial} is there: another backup is at work, or was ended; remove it first")
    engine = make_engine(url)
    try:
        with reading(engine) as connection:
            version = version_of(connection)
            if version != HEAD:
                raise SchemaError(f"the database is at version {version or 'none'}, this program works with {HEAD}")
            partial.mkdir(parents=True, mode=0o700)
            tables = {table.name: _write(connection, table, partial) for table in _kept()}
    finally:
        engine.dispose()
    manifest = {"format": FORMAT, "schema": HEAD, "made_at": made_at, "tables": tables}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    partial.rename(directory)
    _sync(directory.parent)
    return manifest


def restore(url: str, directory: Path) -> dict[str, Any]:
    """Fill an empty database from an archive, in one transaction; its manifest.

    The files are checked before, the rows in the database after; ArchiveError where anything differs, or where the
    database holds a ledger already. An archive of an older schema is migrated once it is in.
    """
    manifest = load_manifest(directory)
    version = manifest["schema"]
    engine = make_engine(url)
    try:
        if version == HEAD:
            prepare(engine)
        else:
            migrate(engine, version)
        run_transaction(engine, lambda connection: _fill(connection, directory, manifest))
        migrate(engine)
    finally:
        engine.dispose()
    return manifest


def load_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of an archive whose files are all as it says; ArchiveError otherwise."""
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        known, version, tables = manifest["format"], manifest["schema"], manifest["tables"]
        if known != FORMAT or version not in VERSIONS:
            raise ArchiveError(f"{directory} has format {known}, schema {version}: use the Tollhouse that made it")
        for name, table in tables.items():
            if _sha256(directory / f"{name}.parquet") != table["sha256"]:
                raise ArchiveError(f"{directory}/{name}.parquet is not what was written: take another backup")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{directory} is no whole backup: {error}") from None
    return manifest


def _fill(connection: Connection, directory: Path, manifest: dict[str, Any]) -> None:
    there = version_of(connection)
    for name, said in manifest["tables"].items():
        table = _table(connection, name)
        if connection.execute(select(text("1")).select_from(table).limit(1)).first() is not None:
            raise ArchiveError(f"the database has a ledger already (rows in {name}): restore into an empty one")
        file = pq.ParquetFile(directory / f"{name}.parquet")
        names = [column.name for column in table.columns]
        if set(file.schema_arrow.names) != set(names):
            raise ArchiveError(f"{name} of the archive has other columns than schema {there}")
        for batch in file.iter_batches(batch_size=CHUNK, columns=names):
            columns = [column.to_pylist() for column in batch.columns]
            insert_rows(connection, table, list(map(_plain(table), zip(*columns, strict=True))))
        found = _count(connection, table)
        if found != (said["rows"], said["digest"]):
            raise ArchiveError(f"{name}: the database has {found.rows} rows that are not the archive's {said['rows']}")
    _continue_numbers(connection)


def _table(connection: Connection, name: str) -> Table:
    """The table as this program knows it; as the database has it where that is older."""
    if version_of(connection) == HEAD and name in metadata.tables:
        return metadata.tables[name]
    from sqlalchemy import MetaData  # noqa: PLC0415 - an older archive only

    return Table(name, MetaData(), autoload_with=connection)


def _continue_numbers(connection: Connection) -> None:
    """Numbers that PostgreSQL gives go on after the highest that came in; SQLite looks for itself."""
    if is_sqlite(connection):
        return
    for name in ("rejected", "outbox"):
        table = metadata.tables[name]
        highest = connection.execute(select(func.max(table.c.n))).scalar()
        if highest is not None:
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:t, 'n'), :n)"), {"t": name, "n": highest})


def _read(connection: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """All rows, some thousand at a time, bytes as bytes."""
    found = connection.execute(select(table), execution_options={"stream_results": True, "yield_per": CHUNK})
    for part in found.partitions():
        yield list(map(_plain(table), part))


def _plain(table: Table) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Makes a row such as databases and files alike give and take it: units of a quota, whole by their scale, are ints.

    Looked at column by column only where there are any: at millions of events it would take half of the time.
    """
    if any(isinstance(column.type, Units | Numeric) for column in table.columns):
        return lambda row: tuple(int(value) if isinstance(value, Decimal) else value for value in row)
    return tuple


def _write(connection: Connection, table: Table, directory: Path) -> dict[str, Any]:
    schema = pa.schema([pa.field(c.name, _type(c.type), nullable=bool(c.nullable)) for c in table.columns])
    path, rows = directory / f"{table.name}.parquet", Rows()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in _read(connection, table):
            for row in part:
                rows.add(row)
            columns = zip(*part, strict=True)
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return {"rows": rows.figures.rows, "digest": rows.figures.digest, "sha256": _sha256(path)}


def _type(kind: Any) -> Any:
    if isinstance(kind, Units):
        return pa.decimal128(38, 0)
    if isinstance(kind, SmallInteger | Integer | BigInteger):
        return pa.int64()
    if isinstance(kind, LargeBinary):
        return pa.binary()
    assert isinstance(kind, Text)  # tables.py has no other types
    return pa.string()


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """A backup that a power cut may empty is none."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
