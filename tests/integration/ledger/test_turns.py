"""Who waits for whom while a tenant's events are counted, on PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from pipeline.ledger.turns import FEW, lock_tenants

ONE_HALF = [f"tenant-{n}" for n in range(0, FEW, 2)]
OTHER_HALF = [f"tenant-{n}" for n in range(1, FEW, 2)]
MANY = [f"other-{n}" for n in range(FEW + 1)]


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """A fresh database."""
    made = create_engine(postgresql_url)
    yield made
    made.dispose()


@contextmanager
def counting(engine: Engine, tenants: Sequence[str]) -> Iterator[Connection]:
    """A transaction that counts events of these."""
    with engine.connect() as connection, connection.begin():
        lock_tenants(connection, tenants)
        yield connection


def waits(engine: Engine, tenants: Sequence[str]) -> bool:
    """Whether one who comes now with these has to wait."""
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
        try:
            lock_tenants(connection, tenants)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            return True
    return False


def test_batches_of_other_tenants_never_wait_for_each_other(engine: Engine) -> None:
    with counting(engine, ONE_HALF):
        assert not waits(engine, OTHER_HALF)


def test_one_tenant_is_counted_by_one_at_a_time(engine: Engine) -> None:
    with counting(engine, ONE_HALF):
        assert waits(engine, [*OTHER_HALF, ONE_HALF[-1]])
    assert not waits(engine, ONE_HALF)


def test_a_batch_of_too_many_tenants_is_alone(engine: Engine) -> None:
    with counting(engine, ONE_HALF[:1]):
        assert waits(engine, MANY)
    with counting(engine, MANY):
        assert waits(engine, ONE_HALF[:1])


@pytest.mark.parametrize(("tenants", "most"), [(FEW, FEW + 1), (FEW + 1, 1)])
def test_a_batch_never_takes_more_locks_than_the_server_has_room_for(engine: Engine, tenants: int, most: int) -> None:
    held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
    with counting(engine, MANY[:tenants]) as connection:
        assert 0 < connection.execute(held).scalar_one() <= most


def test_without_tenants_nobody_waits(engine: Engine) -> None:
    with counting(engine, MANY):
        assert not waits(engine, [])
