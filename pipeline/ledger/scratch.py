"""Databases to measure in: made empty, thrown away afterwards; and the two tables that a bench compares with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Engine, LargeBinary, MetaData, Table, Text, create_engine, func, select, text
from sqlalchemy.engine import make_url

from pipeline.ledger.engine import make_engine
from pipeline.ledger.rows import insert_rows

_metadata = MetaData()
BARE: Final = Table(
    "bare",  # no key and no index: what the database can do at most
    _metadata,
    *(Column(name, Text) for name in ("id", "source", "subject", "time", "key", "provider", "model")),
    Column("usage", LargeBinary),
)
PLAIN: Final = Table(
    "plain", _metadata, Column("id", Text, primary_key=True), Column("subject", Text), Column("body", Text)
)


@contextmanager
def scratch_database(url: str, name: str) -> Iterator[str]:
    """The URL of a new, empty database of this name beside the one at `url`; dropped afterwards. SQLite: a file."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or ".").with_name(f"{name}.db")
        try:
            yield f"sqlite:///{path}"
        finally:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        return
    server = create_engine(parsed, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield parsed.set(database=name).render_as_string(hide_password=False)
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    finally:
        server.dispose()


def size_bytes(engine: Engine) -> int:
    """What the database takes on disk."""
    if engine.dialect.name == "sqlite":
        path = Path(engine.url.database or "")
        return sum(p.stat().st_size for s in ("", "-wal") if (p := Path(f"{path}{s}")).exists())
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


class Reference:
    """A database with the two tables to compare with."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        _metadata.create_all(self._engine)

    def append_bare(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows for BARE by COPY (SQLite: executemany), one transaction."""
        with self._engine.begin() as connection:
            insert_rows(connection, BARE, rows)

    def insert_plain(self, row: tuple[str, str, str]) -> None:
        """One row for PLAIN, in a transaction of its own."""
        with self._engine.begin() as connection:
            connection.execute(PLAIN.insert().values(id=row[0], subject=row[1], body=row[2]))

    def count(self, table: Table) -> int:
        """Rows of one of the two tables."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()
