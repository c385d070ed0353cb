"""Reservations: what an admitted call holds of its quotas, until its usage, a release, or its time ends it.

Each ends once: the change of its state and the return of what it held are one transaction, so a counter can neither
leak nor fall below zero.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, case, insert, select, tuple_, update

from pipeline.ledger import windows
from pipeline.ledger.tables import reservations

_r = reservations.c

CHUNK: Final = 1000
"""Reservations in one statement; SQLite takes 32,766 bound values."""

Hold = tuple[str, str, str, int, int]
"""scope, quota name, kind, window start, units."""


def find(connection: Connection, tenant: str, reservation: str) -> RowMapping | None:
    """The reservation's row."""
    query = select(reservations).where(_r.tenant == tenant, _r.id == reservation)
    return connection.execute(query).mappings().first()


def open_reservation(
    connection: Connection,
    *,
    tenant: str,
    reservation: str,
    key: str,
    model: str,
    created_us: int,
    expires_us: int,
    holds: Sequence[Hold],
    answer: dict[str, Any],
    state: str = "open",
) -> None:
    """Write down an admission (or, with state denied, a refusal that a repeat must find again)."""
    connection.execute(
        insert(reservations).values(
            tenant=tenant,
            id=reservation,
            key=key,
            model=model,
            created_us=created_us,
            expires_us=expires_us,
            state=state,
            holds=json.dumps(holds),
            answer=json.dumps(answer),
        )
    )


def _give_back(connection: Connection, ended: Iterable[str]) -> int:
    """Return what ended reservations (their holds, as stored) held: one statement a window, in the windows' order.

    That order is the one in which admission takes them, so two transactions wait for one another and do not deadlock.
    """
    number = 0
    sums: dict[tuple[str, str, str, int], int] = {}
    for holds in ended:
        number += 1
        for scope, name, kind, start_us, units in json.loads(holds):
            window = (scope, name, kind, start_us)
            sums[window] = sums.get(window, 0) + units
    windows.give_back(connection, [(*window, units) for window, units in sorted(sums.items())])
    return number


def settle(connection: Connection, used: Iterable[tuple[str, str]], now_us: int) -> int:
    """End the reservations whose usage arrived; how many were still open (an expired one is left as it is).

    A lease goes on: see leases.py.
    """
    wanted = sorted(set(used))
    ended: list[str] = []
    for start in range(0, len(wanted), CHUNK):
        statement = (
            update(reservations)
            .where(tuple_(_r.tenant, _r.id).in_(wanted[start : start + CHUNK]), _r.state == "open", _r.leased.is_(None))
            .values(state=case((_r.expires_us <= now_us, "expired"), else_="settled"))
            .returning(_r.holds)
        )
        ended += connection.execute(statement).scalars()
    return _give_back(connection, ended)


def release(connection: Connection, tenant: str, reservation: str) -> bool:
    """Give an unused reservation back; False if it is unknown or ended already."""
    statement = (
        update(reservations)
        .where(_r.tenant == tenant, _r.id == reservation, _r.state == "open")
        .values(state="released")
        .returning(_r.holds)
    )
    return _give_back(connection, connection.execute(statement).scalars().all()) == 1


def any_due(connection: Connection, now_us: int) -> bool:
    """Whether some reservation's time to live is over and its holds are still counted."""
    query = select(_r.id).where(_r.state == "open", _r.expires_us <= now_us).limit(1)
    return connection.execute(query).first() is not None


def expire(connection: Connection, now_us: int, limit: int = CHUNK) -> int:
    """End the reservations whose time to live is over at this instant (it is over at exactly its end).

    Those that another transaction is ending are left to it.
    """
    query = (
        select(_r.tenant, _r.id)
        .where(_r.state == "open", _r.expires_us <= now_us)
        .order_by(_r.expires_us, _r.tenant, _r.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    due = [tuple(row) for row in connection.execute(query)]
    if not due:
        return 0
    statement = (
        update(reservations)
        .where(tuple_(_r.tenant, _r.id).in_(due), _r.state == "open")
        .values(state="expired")
        .returning(_r.holds)
    )
    return _give_back(connection, connection.execute(statement).scalars().all())
