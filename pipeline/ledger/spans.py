"""From when on there is something in the ledger, tenant by tenant."""

from sqlalchemy import Connection, func, select

from pipeline.ledger.tables import events, rejected, rollups
from schemas.tokens import CLASSES

_e, _r, _x = events.c, rollups.c, rejected.c


def tenants_with_events(connection: Connection) -> list[str]:
    """Every tenant that has events, also one that the catalog no longer has."""
    return list(connection.execute(select(_e.tenant).distinct().order_by(_e.tenant)).scalars())


def first_event_us(connection: Connection, tenant: str) -> int | None:
    """The earliest event time of the tenant."""
    found = connection.execute(select(func.min(_e.time_us)).where(_e.tenant == tenant)).scalar()
    return None if found is None else int(found)


def first_rejected_us(connection: Connection) -> int | None:
    """When the first delivery that is still in the rejected list arrived."""
    found = connection.execute(select(func.min(_x.arrival_us))).scalar()
    return None if found is None else int(found)


def has_billable(connection: Connection, tenant: str, start_us: int, end_us: int) -> bool:
    """Whether the tenant used pooled keys in [start_us, end_us)."""
    used = sum((rollups.c[name] for name in CLASSES), _r.requests)
    where = (_r.tenant == tenant, _r.quarter_us >= start_us, _r.quarter_us < end_us, _r.pooled != 0, used > 0)
    return connection.execute(select(_r.tenant).where(*where).limit(1)).first() is not None
