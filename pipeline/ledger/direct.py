"""The hot path to PostgreSQL: single statements over kept connections of the driver itself.

Every statement is a transaction of its own, prepared once a connection, and planned once: the planner sees tables that
are small today, and would choose to read them whole tomorrow. No ping before use: a connection that the server closed
is noticed by the statement on it, and what is sent here is safe to send again.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final, LiteralString

import psycopg
from sqlalchemy import Engine

from pipeline.ledger.engine import DENIED, PASSING, TRIES, away, back_off

CONNECTIONS: Final = 8
"""At a time, in one process: an ask holds one for a millisecond, and waits behind its own tenant's others anyway."""
_SETTINGS: Final[tuple[LiteralString, ...]] = (
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET jit = off",  # compiling such a statement takes a thousand times as long as running it
)


class Direct:
    """Thread-safe. Where the engine's database is, with its own connections."""

    def __init__(self, engine: Engine) -> None:
        _, self._arguments = engine.dialect.create_connect_args(engine.url)
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._idle: list[psycopg.Connection[Any]] = []

    def row(self, query: LiteralString, values: Sequence[object]) -> tuple[Any, ...] | None:
        """The statement's first row, tried again while its failure is a passing one; LedgerUnavailable when the
        database stays away, LedgerDenied when its role may not. The statement must bear to be done twice: the answer to
        the first may have been lost."""
        for attempt in range(1, TRIES + 1):
            try:
                with self._free:
                    return self._once(query, values)
            except psycopg.Error as error:
                if attempt == TRIES or not _is_passing(error):
                    if isinstance(error, psycopg.OperationalError) or error.sqlstate == DENIED:
                        raise away(error) from error
                    raise
                back_off(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(self, query: LiteralString, values: Sequence[object]) -> tuple[Any, ...] | None:
        while True:
            try:
                connection, kept = self._idle.pop(), True
            except IndexError:
                connection, kept = self._open(), False
            try:
                found: tuple[Any, ...] | None = connection.execute(query, values, prepare=True).fetchone()
            except psycopg.Error:
                if not connection.closed:
                    self._idle.append(connection)
                elif kept:
                    continue  # the server closed it while it was idle; the others are found out one by one
                raise
            except BaseException:  # interrupted: nobody knows what the connection is in the middle of
                connection.close()
                raise
            self._idle.append(connection)
            return found

    def _open(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = psycopg.connect(**self._arguments, autocommit=True)
        for setting in _SETTINGS:
            connection.execute(setting)
        return connection

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()


def _is_passing(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state is None:  # no server said it: the connection was lost or refused
        return isinstance(error, psycopg.OperationalError)
    return state in PASSING or state.startswith(("08", "23"))  # 23: somebody else inserted the same first
