"""What was dropped, for those who have to know: readers, recounts, and whoever counts messages that are read again.

See retention.py for what goes and what is kept in its place.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import Connection, exists, func, select
from sqlalchemy.sql import ColumnElement

from pipeline.ledger.tables import dropped_months, dropped_places, rollups
from pipeline.plain import Batch, Odd, Plain
from pipeline.screen import Refused

_m, _p, _r = dropped_months.c, dropped_places.c, rollups.c

REJECTED: Final = ""
"""The tenant of what belongs to none: a month of rejected deliveries."""

Places = dict[tuple[str, int], tuple[int, int]]
"""By (topic, partition): how many, and the last offset."""


class Dropped(NamedTuple):
    """A month that is gone. events: how many. digest: of the events; rollups_digest: of the rollups that stay."""

    tenant: str
    month: str
    start_us: int
    end_us: int
    events: int
    redelivered: int
    digest: str
    rollups_digest: str

    @property
    def subject(self) -> str:
        """As the audit log names it."""
        return f"{self.tenant or 'rejected'} {self.month}"

    def line(self, evidence: str) -> str:
        """As the audit log has it. evidence: a digest of what was kept of the month's invoices; empty if none was."""
        said = f"{self.events} events {self.digest}, rollups {self.rollups_digest}"
        return f"{said}, evidence {evidence}" if evidence else said


def floors(connection: Connection) -> dict[str, int]:
    """Until when each tenant's events are gone; of REJECTED, the rejected ones."""
    found = connection.execute(select(_m.tenant, func.max(_m.end_us)).group_by(_m.tenant))
    return {tenant: int(end_us) for tenant, end_us in found}


def floor_of(gone: Mapping[str, int], scope: str) -> int:
    """Until when events of a quota's scope ("tenant:NAME", "key:NAME") are gone; a key's may be of any tenant."""
    kind, _, name = scope.partition(":")
    if kind == "tenant":
        return gone.get(name, 0)
    return max((end_us for tenant, end_us in gone.items() if tenant != REJECTED), default=0)


def months(connection: Connection) -> list[Dropped]:
    """All that was dropped, by tenant and time."""
    columns = [_m.tenant, _m.month, _m.start_us, _m.end_us, _m.events, _m.redelivered, _m.digest, _m.rollups_digest]
    rows = connection.execute(select(*columns).order_by(_m.tenant, _m.start_us))
    return [
        Dropped(tenant, month, int(start_us), int(end_us), int(n), int(again), digest, rollups_digest)
        for tenant, month, start_us, end_us, n, again, digest, rollups_digest in rows
    ]


def is_dropped(connection: Connection, tenant: str, at_us: int) -> bool:
    """Whether the tenant's events of this instant are gone."""
    where = (_m.tenant == tenant, _m.start_us <= at_us, _m.end_us > at_us)
    return connection.execute(select(_m.month).where(*where)).first() is not None


def rollup_is_dropped() -> ColumnElement[bool]:
    """Of a rollup: its events are gone, so that it cannot be made anew from them."""
    return exists().where(_m.tenant == _r.tenant, _m.start_us <= _r.quarter_us, _m.end_us > _r.quarter_us)


def counts(connection: Connection) -> tuple[Places, Places]:
    """The events that are gone, and the places of the rejected ones."""
    refused = (_p.tenant == REJECTED).label("refused")
    query = select(refused, _p.topic, _p.partition, func.sum(_p.events), func.max(_p.last_offset))
    found: tuple[Places, Places] = ({}, {})
    for which, topic, partition, n, last in connection.execute(query.group_by(refused, _p.topic, _p.partition)):
        found[bool(which)][topic, int(partition)] = (int(n), int(last))
    return found


def without_dropped(batch: Batch, gone: Mapping[str, int], marks: Mapping[tuple[str, int], int]) -> Batch:
    """The batch without what is read again of dropped months; what comes new of them is too old.

    gone: see floors. marks: next offsets by partition.
    """
    plain: list[Plain] = []
    odd: list[Odd] = []
    for event in batch.plain:
        message = event.message
        if event.time_us >= gone.get(event.identity.tenant, 0):
            plain.append(event)
        elif message.offset >= marks[message.topic, message.partition]:
            odd.append((event.at, batch.again(event)._replace(late="too_old"), None))
    for at, item, leak in batch.odd:
        topic, partition, offset, _ = item.evidence
        new = offset >= marks[topic, partition]
        if isinstance(item, Refused):
            if new or item.arrival_us >= gone.get(REJECTED, 0):
                odd.append((at, item, leak))
        elif item.time_us >= gone.get(item.identity.tenant, 0):
            odd.append((at, item, leak))
        elif new:
            odd.append((at, item._replace(late="too_old"), leak))
    return replace(batch, plain=plain, odd=odd)
