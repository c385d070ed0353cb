"""What is still to be published: queued in the transaction that made it, taken out when the broker has it.

A row only says what (a rejected delivery's number; an alert and its version); the message is made when it goes out. A
worker claims rows for a while, so that several do not all send them; one that dies leaves them to another. So each is
published at least once, and under the same number or version whenever it is repeated.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from pipeline.ledger.tables import outbox
from schemas.instants import SECOND_US

REJECTED: Final = "usage.rejected"
ALERTS: Final = "alerts"
CLAIM_US: Final = 30 * SECOND_US
"""How long a worker may take to publish what it claimed before another takes it up: a broker needs milliseconds."""
BATCH: Final = 500

_o = outbox.c


class Queued(NamedTuple):
    """One message to be: its place in the queue, its topic (without prefix), what it is about, the alert's version."""

    n: int
    topic: str
    ref: str
    version: int


def queue(connection: Connection, topic: str, what: Iterable[tuple[str, int]]) -> None:
    """Queue messages about these (ref, version), due at once."""
    rows = [{"topic": topic, "ref": ref, "version": version, "claimed_us": 0} for ref, version in what]
    if rows:
        connection.execute(outbox.insert(), rows)


def claim(connection: Connection, now_us: int, limit: int = BATCH) -> list[Queued]:
    """Take what waits, the oldest first, until now_us + CLAIM_US.

    A claim that reaches further than any worker could have made it is one from before the clock was set back.
    """
    chosen = select(_o.n).where(_free(now_us)).order_by(_o.n).limit(limit).with_for_update(skip_locked=True)
    statement = update(outbox).where(_o.n.in_(chosen.scalar_subquery())).values(claimed_us=now_us + CLAIM_US)
    found = connection.execute(statement.returning(_o.n, _o.topic, _o.ref, _o.version))
    return sorted(Queued(*row) for row in found)


def due(connection: Connection, now_us: int) -> bool:
    """Whether there is anything to claim."""
    return connection.execute(select(_o.n).where(_free(now_us)).limit(1)).first() is not None


def _free(now_us: int) -> ColumnElement[bool]:
    return or_(_o.claimed_us <= now_us, _o.claimed_us > now_us + CLAIM_US)


def finish(connection: Connection, numbers: Sequence[int]) -> None:
    """The broker has these."""
    connection.execute(delete(outbox).where(_o.n.in_(numbers)))


def release(connection: Connection, numbers: Sequence[int]) -> None:
    """These could not be sent; whoever comes next tries again."""
    connection.execute(update(outbox).where(_o.n.in_(numbers)).values(claimed_us=0))


def waiting(connection: Connection) -> int:
    """How many are not published yet."""
    return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())
