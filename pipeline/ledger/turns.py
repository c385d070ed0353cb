"""Who counts a tenant's events at a time: advisory locks of PostgreSQL, held until the transaction ends.

A tenant has a lock of its own, so that two workers with different tenants never wait for each other; shared locks for
several tenants made nearly every two batches of some hundred tenants take turns. More than FEW of them would fill the
server's lock table: such a batch takes one lock instead, for which all others wait. SQLite has one writer anyway.
"""

from collections.abc import Iterable
from typing import Final
from zlib import crc32

from sqlalchemy import Connection, text

from pipeline.ledger.engine import is_sqlite

FEW: Final = 500
"""Locks of one transaction; the server's table has 6,400 as it is shipped (max_locks_per_transaction)."""
LOCK: Final = 7_041
"""First half of the tenant locks' names, apart from other advisory locks."""
_OF_ALL: Final = text("SELECT pg_advisory_xact_lock(hashtext('tollhouse tenants'))")
_WITH_ALL: Final = text("SELECT pg_advisory_xact_lock_shared(hashtext('tollhouse tenants'))")
_OF_EACH: Final = text("SELECT pg_advisory_xact_lock(:k, n) FROM unnest(:n) n")


def lock_tenants(connection: Connection, tenants: Iterable[str]) -> None:
    """Wait until nobody else counts events of these tenants, and keep others from it until the transaction ends.

    Once in a transaction: locks are taken in one order, so that no two wait for one another.
    """
    if is_sqlite(connection):
        return
    # Two tenants with one number only wait for each other where they need not.
    numbers = sorted({crc32(tenant.encode()) - 2**31 for tenant in tenants})
    if len(numbers) > FEW:
        connection.execute(_OF_ALL)
    elif numbers:  # a batch of refused events alone has none, and an empty array has no type
        connection.execute(_WITH_ALL)
        connection.execute(_OF_EACH, {"k": LOCK, "n": numbers})
