"""The ledger as other rooms see it: one object over one database."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from pipeline import fold
from pipeline.admission import Ask, Decision
from pipeline.alerting import Alert
from pipeline.context import Context
from pipeline.ledger import admit, alerts, catalogs, compaction, reservations, rows, schema
from pipeline.ledger.direct import Direct
from pipeline.ledger.engine import make_engine, reading, run_transaction
from pipeline.ledger.readers import LedgerUsage
from pipeline.ledger.record import Recorded, end_held, record
from pipeline.ledger.rejected import insert_rejected
from pipeline.plain import Batch, screen_deliveries, screen_messages
from pipeline.screen import Refused
from schemas.catalog import Catalog
from schemas.usage_event import Delivery, Message

T = TypeVar("T")


class Ledger:
    """Everything that is counted, by URL: sqlite:///FILE, sqlite:// (in memory) or postgresql+psycopg://…"""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self.usage = LedgerUsage(self.engine)
        self.direct = Direct(self.engine) if self.engine.dialect.name == "postgresql" else None
        self._known: tuple[Context, tuple[int, int]] | None = None
        self._compact_us = 0

    def create(self) -> None:
        """Make the tables of a new database; SchemaError if it has others than this program works with.

        LedgerUnavailable when the database is away or read-only.
        """
        schema.prepare(self.engine)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
        if self.direct is not None:
            self.direct.close()

    def read(self, work: Callable[[Connection], T]) -> T:
        """work(connection) in one consistent read-only view."""
        with reading(self.engine) as connection:
            return work(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """work(connection) in one transaction, retried whole on passing failures."""
        return run_transaction(self.engine, work)

    def context(self) -> Context:
        """The newest catalog, compiled; read again only when it or a key changed. NoCatalog before the first."""
        mark, known = self.read(catalogs.stamp), self._known
        if known is None or mark != known[1]:
            known = self._known = self.read(catalogs.load_context), mark
        return known[0]

    def known_context(self) -> Context:
        """The context of the last decision or reading, without asking whether there is a newer one."""
        known = self._known
        return known[0] if known is not None else self.context()

    def apply(self, catalog: Catalog, now_us: int, who: str) -> int:
        """Apply a catalog in one transaction; its version."""
        return self.write(lambda connection: catalogs.apply_catalog(connection, catalog, now_us, who))

    def screen(self, messages: Sequence[Message]) -> tuple[Context, Batch]:
        """Messages of the topic judged by themselves, and the context they were judged in: the part of `take` that can
        be done while another batch is being counted."""
        context = self.context()
        return context, screen_messages(messages, context)

    def take(self, deliveries: Sequence[Delivery], now_us: int) -> Recorded:
        """Screen and count single events: the whole way of an event once its bytes are here."""
        context = self.context()
        return self.record(screen_deliveries(deliveries, context), context, now_us)

    def take_messages(self, messages: Sequence[Message], now_us: int) -> Recorded:
        """Screen and count messages of the topic."""
        context, batch = self.screen(messages)
        return self.record(batch, context, now_us)

    def refuse(self, refused: Refused, now_us: int) -> Recorded:
        """Count a whole message as one refused event: what our own code cannot take."""
        topic, partition, offset, _ = refused.evidence
        message = Message(refused.raw, refused.arrival_us, topic, partition, offset, whole=True)
        return self.record(Batch(odd=[(0, refused, None)], messages=[(message, 1)]), self.context(), now_us)

    def record(self, batch: Batch, context: Context, now_us: int) -> Recorded:
        """Count a screened batch in one transaction."""
        return record(self.engine, batch, context, now_us)

    def authorize(self, ask: Ask, now_us: int, *, remember: bool = True) -> Decision:
        """Admit or refuse a call, and reserve for it."""
        if self.direct is not None:
            # Whether the context is the newest is for the deciding statement to see: no reading before it.
            for refresh in (False, True):
                if refresh or self._known is None:
                    self.context()
                assert self._known is not None  # read just now
                decided = admit.authorize_directly(
                    self.engine, self.direct, ask, *self._known, now_us, remember=remember
                )
                if decided is not None:
                    return decided
        return admit.authorize(self.engine, ask, self.context(), now_us, remember=remember)

    def release(self, tenant: str, reservation: str) -> bool:
        """Give an unused reservation back; False if there is none open."""
        return self.write(lambda connection: reservations.release(connection, tenant, reservation))

    def sweep(self, now_us: int, *, corrections: bool = True) -> list[Refused]:
        """What time alone ends: reservations past their time to live, corrections that waited too long, days to sum up.

        corrections: off while there is a backlog, in which the event may be that a correction waits for.
        """

        def work(connection: Connection) -> list[Refused]:
            reservations.expire(connection, now_us)
            if not corrections:
                return []
            overdue = rows.find_held(connection, before_us=now_us - fold.HOLD_US)
            rows.delete_entries(connection, [entry.event.identity for entry in overdue])
            order = sorted(overdue, key=lambda entry: (entry.event.arrival_us, entry.event.identity))
            refused = [fold.overdue(entry.event) for entry in order]
            end_held(connection, refused)
            return insert_rejected(connection, refused)

        refused = self.write(work)
        if now_us >= self._compact_us or self.read(compaction.has_stale):
            left = self.compact(now_us, compaction.TRANSACTIONS)
            self._compact_us = now_us if left else now_us + compaction.CHECK_US
        return refused

    def compact(self, now_us: int, transactions: int | None = None) -> int | None:
        """Sum up days and months that are over (see compaction.py); how many days, None while another process does it.

        transactions: at most so many; None: until nothing is left. Without a catalog there is nothing to sum up.
        """
        try:
            tenants = self.context().catalog.tenants
        except catalogs.NoCatalog:
            return 0
        zones = {tenant.id: tenant.timezone for tenant in tenants.values()}
        return compaction.compact(self.engine, zones, now_us, transactions)

    def set_key_state(self, key: str, state: str, now_us: int, who: str, reason: str = "") -> int:
        """Change a pooled or own key's state; the version of the change."""
        return self.write(lambda connection: catalogs.set_key_state(connection, key, state, now_us, who, reason))

    def raise_alerts(self, found: Sequence[Alert]) -> list[Alert]:
        """Note alerts; the new ones come back."""
        return self.write(lambda connection: alerts.insert_alerts(connection, found))

    def rows(self, table: Any, *where: Any, order: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Plain rows of one of the ledger's tables."""
        query = select(table).where(*where).order_by(*order)
        return self.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])
