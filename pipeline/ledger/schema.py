"""The version of the database's schema: made new, checked at each start, migrated when asked.

A new database gets the newest tables at once. One with another version than this program's is left as it is, with a
line that says what to do: a migration belongs to the operator, who knows which processes still run. It takes place in
one transaction on both databases, and processes that start or migrate at once take turns.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from pipeline.ledger.engine import LedgerUnavailable, is_sqlite, make_engine, reading, run_transaction
from pipeline.ledger.tables import metadata

VERSIONS: Final = ("0001", "0002", "0003")
"""Every revision in migrations/versions, the oldest first (a start must not pay for loading Alembic)."""
HEAD: Final = VERSIONS[-1]
VERSION_TABLE: Final = "alembic_version"
MIGRATIONS: Final = Path(__file__).parent / "migrations"


class SchemaError(Exception):
    """The database's schema is not the one that this program works with."""


def version_of(connection: Connection) -> str | None:
    """The revision that the database is at; None if it keeps none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def prepare(engine: Engine) -> None:
    """Make the tables of a new database; SchemaError if it has others than this program works with.

    LedgerUnavailable when the database is away or read-only. A database at the right version is only read, so that a
    role that may not make tables can start.
    """

    def work(connection: Connection) -> None:
        _take_turn(connection)
        found = version_of(connection)
        if found == HEAD:
            return  # another process made them meanwhile
        if found is not None or _ours(connection):
            raise SchemaError(_unfit(found))
        metadata.create_all(connection)
        connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:version)"), {"version": HEAD})

    try:
        with reading(engine) as connection:
            if version_of(connection) == HEAD:
                return
        run_transaction(engine, work)
    except DBAPIError as error:  # a file that is no database among them
        raise LedgerUnavailable(str(error.orig).strip().splitlines()[0]) from error


def migrate(engine: Engine, to: str = HEAD) -> tuple[str | None, str]:
    """Bring the schema to a revision, forward or back ("base": no tables), in one transaction: (before, after).

    A database that has our tables and no version is from before versions were kept: it is taken for the first one if
    its columns are those. SchemaError for a version that this program does not know, or tables that fit none.
    """
    if to != "base" and to not in VERSIONS:
        raise SchemaError(f"--to {to}: there is no such version: use {', '.join(VERSIONS)} or base")

    def work(connection: Connection) -> tuple[str | None, str]:
        _take_turn(connection)
        before = version_of(connection)
        if before is None and _ours(connection):
            _adopt(connection)
        elif before is not None and before not in VERSIONS:
            raise SchemaError(_unfit(before))
        start = version_of(connection)
        if start != to and not (start is None and to == "base"):
            _run(connection, start, to)
        return before, version_of(connection) or "base"

    try:
        return run_transaction(engine, work)
    except DBAPIError as error:
        raise LedgerUnavailable(str(error.orig).strip().splitlines()[0]) from error


def _run(connection: Connection, start: str | None, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - only a migration pays for it

    config = _config(connection)
    forward = start is None or (to in VERSIONS and VERSIONS.index(to) > VERSIONS.index(start))
    (command.upgrade if forward else command.downgrade)(config, to)


def _config(connection: Connection) -> Any:
    from alembic.config import Config  # noqa: PLC0415 - only a migration pays for it

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _take_turn(connection: Connection) -> None:
    if not is_sqlite(connection):  # SQLite's writers take turns anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tollhouse tables'))"))


def _ours(connection: Connection) -> set[str]:
    """The ledger's tables that are there."""
    return set(inspect(connection).get_table_names()) & set(metadata.tables)


def _adopt(connection: Connection) -> None:
    """Note the first version in a database of before versions were kept; SchemaError if its columns are others."""
    expected = _baseline()
    inspector = inspect(connection)
    there = {name: {column["name"] for column in inspector.get_columns(name)} for name in _ours(connection)}
    for name in sorted(expected):
        if there.get(name) != expected[name]:
            odd = sorted(expected[name] ^ there.get(name, set()))
            raise SchemaError(
                f"the database has no version, and its table {name} is not that of version {VERSIONS[0]} "
                f"({', '.join(odd[:5])} differ): start once the program that made it, then migrate"
            )
    from alembic import command  # noqa: PLC0415 - only a migration pays for it

    command.stamp(_config(connection), VERSIONS[0])


def _baseline() -> dict[str, set[str]]:
    """Columns by table of the first version: made in memory and read back."""
    engine = make_engine("sqlite://")
    try:
        with engine.begin() as connection:
            _run(connection, None, VERSIONS[0])
            inspector = inspect(connection)
            names = [name for name in inspector.get_table_names() if name != VERSION_TABLE]
            return {name: {column["name"] for column in inspector.get_columns(name)} for name in names}
    finally:
        engine.dispose()


def _unfit(found: str | None) -> str:
    if found is None:
        return "the database is from before its versions were kept: stop its processes and run `tollhouse migrate`"
    if found not in VERSIONS:
        return (
            f"the database is at version {found}, which this program does not know (its newest is {HEAD}): "
            "it is from a newer Tollhouse, use that one"
        )
    return (
        f"the database is at version {found}, this program works with {HEAD}: "
        "back it up, stop its processes and run `tollhouse migrate`"
    )
