"""One way to a database: SQLite (WAL) or PostgreSQL, by SQLAlchemy URL, with transactions that are retried whole.

A transaction here either commits once or leaves nothing. What can pass by itself (a lock, a deadlock, a lost
connection, a unique key that another worker took first) is tried again with a short back-off; all else is raised.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool

T = TypeVar("T")

TRIES: Final = 6
"""Six tries with doubling waits from 20 ms: about two seconds, longer than any lock this ledger holds."""
FIRST_WAIT_S: Final = 0.02

# PostgreSQL: serialization failure, deadlock, lock timeout, too many connections, shutting down and starting up.
PASSING: Final = frozenset({"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"})
DENIED: Final = "42501"


class LedgerUnavailable(Exception):
    """The database cannot be reached or does not take this write now, or from this role; nothing was changed."""


class LedgerDenied(LedgerUnavailable):
    """The database does not let this role do it: trying again does not help, another role or `roles.sql` does."""


def with_password(url: str, password: str) -> str:
    """The URL with the password in it; ValueError if it is no URL of a database."""
    try:
        return make_url(url).set(password=password).render_as_string(hide_password=False)
    except ArgumentError as error:
        raise ValueError(str(error)) from None


def make_engine(url: str) -> Engine:
    """An engine with this ledger's settings; ValueError for a database that it does not know."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url, in_memory=parsed.database in (None, "", ":memory:"))
    if backend == "postgresql":
        return create_engine(url, pool_size=4, max_overflow=12, pool_pre_ping=True, pool_timeout=10)
    raise ValueError(f"{backend} is no database for the ledger: use sqlite:///FILE or postgresql+psycopg://…")


def _sqlite(url: str, *, in_memory: bool) -> Engine:
    if in_memory:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, pool_size=4)

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, by us
        cursor = connection.cursor()
        set_wal(cursor)
        for pragma in (
            "synchronous = FULL",  # costs nothing measurable at batches of thousands, and loses nothing at a power cut
            "busy_timeout = 30000",
            "temp_store = MEMORY",
            "cache_size = -65536",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a reader that later writes would fail instead of waiting.
        mode = "" if connection.get_execution_options().get("read_only") else " IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN{mode}")

    return engine


def set_wal(cursor: sqlite3.Cursor, sleep: Callable[[float], None] = time.sleep) -> None:
    """Journal by WAL; tried again, since of two that change a new file at once SQLite refuses one without waiting."""
    for attempt in range(1, TRIES + 1):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if attempt == TRIES or "locked" not in str(error):
                raise
            back_off(attempt, sleep)
        else:
            return


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction can succeed when it is tried again."""
    if isinstance(error, IntegrityError):
        return True  # another worker inserted the same identity first: the next try sees it
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in PASSING or state.startswith("08")
    return isinstance(error, OperationalError) and ("locked" in str(error) or "closed" in str(error))


def back_off(attempt: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait after a failed try (the first is 1): doubling, spread so that those who collided do not meet again."""
    sleep(FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - back-off, no secret


def run_transaction(engine: Engine, work: Callable[[Connection], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """work(connection) inside one transaction, tried again while its failure is a passing one.

    work must do all of its reading inside, so that a second run sees the world as it then is. LedgerUnavailable when
    the database stays away.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            if attempt == TRIES or not is_passing(error):
                if isinstance(error, OperationalError) or _denied(error):
                    raise away(error.orig or error) from error
                raise
            back_off(attempt, sleep)
    raise AssertionError("unreachable: the last try returns or raises")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only transaction: one consistent view, however many statements look at it."""
    # PostgreSQL would show each statement what was committed by then, and an audit differences where there are none.
    options: dict[str, Any] = {"read_only": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        if isinstance(error, OperationalError) or _denied(error):
            raise away(error.orig or error) from error
        raise


def _denied(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == DENIED


def away(error: BaseException) -> LedgerUnavailable:
    """What is raised for the driver's error, in one line."""
    line = str(error).strip().splitlines()[0]
    if getattr(error, "sqlstate", None) == DENIED:
        return LedgerDenied(f"{line}: the database's role is not one that may do this")
    return LedgerUnavailable(line)


def driver(connection: Connection) -> Any:
    """The driver's own connection, for the hot path (COPY, executemany), inside the same transaction."""
    return connection.connection.driver_connection


def is_sqlite(connection: Connection) -> bool:
    """Whether this is SQLite (otherwise PostgreSQL)."""
    return connection.dialect.name == "sqlite"
