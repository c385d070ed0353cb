"""The one place where an event counts: a batch and all of its effects in one transaction.

Events by identity, rollups, quota use, settled reservations, rejections, intake counters and alerts are written
together or not at all. Running it again with the same messages changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add as plus
from operator import itemgetter, neg
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, text

from pipeline.alerting import Alert, quota_alerts, revoked_alert, secret_alert, uncharged_alert, unrated_alert
from pipeline.context import Context, Meterable, WindowKey, measured, window_of
from pipeline.fold import Book, Outcome
from pipeline.ledger import dropped, leases, windows
from pipeline.ledger.alerts import insert_alerts
from pipeline.ledger.engine import is_sqlite, run_transaction
from pipeline.ledger.moves import Move, move_of, moves_of
from pipeline.ledger.plain_rows import insert_plain
from pipeline.ledger.reach import mark_late
from pipeline.ledger.rejected import insert_rejected
from pipeline.ledger.reservations import settle
from pipeline.ledger.rows import (
    add_sums,
    delete_entries,
    insert_entries,
    update_entries,
)
from pipeline.ledger.tables import ROLLUP_KEY, ROLLUP_SUMS, intake, rollups
from pipeline.ledger.touching import part
from pipeline.ledger.turns import lock_tenants
from pipeline.plain import Batch, Plain
from pipeline.screen import Refused
from schemas.catalog import Quota
from schemas.instants import MINUTE_US, QUARTER_US
from schemas.tokens import CLASSES, ZERO, total_tokens
from schemas.usage_event import Evidence

INTAKE: Final = ("next_offset", "received", "counted", "duplicates", "rejected", "held")


class MinuteSum(NamedTuple):
    """New usage of one tenant's key in one minute, from one network, model and agent: what the leak detector reads."""

    tenant: str
    key: str
    minute_us: int
    network: str
    model: str
    agent: str
    requests: int
    tokens: int
    errors: int


class QuotaState(NamedTuple):
    """A quota window as it is now, absolute, with a version that only grows."""

    window: WindowKey
    quota: Quota
    used: int
    reserved: int
    version: int


@dataclass(slots=True)
class Recorded:
    """What a batch did. rejected carries the bytes; quota_states, alerts are to be published after the commit."""

    counted: int = 0
    duplicates: int = 0
    held: int = 0
    reread: int = 0
    rejected: list[Refused] = field(default_factory=list)
    quota_states: list[QuotaState] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    minutes: list[MinuteSum] = field(default_factory=list)


def record(engine: Engine, batch: Batch, context: Context, now_us: int) -> Recorded:
    """Count the batch. Safe to repeat; LedgerUnavailable when the database stays away (then nothing was counted)."""
    return run_transaction(engine, lambda connection: _record(connection, batch, context, now_us))


def _record(connection: Connection, batch: Batch, context: Context, now_us: int) -> Recorded:
    tenants = batch.tenants()
    marks = _lock_partitions(connection, batch, tenants)
    if gone := dropped.floors(connection):
        batch = dropped.without_dropped(batch, gone, marks)
    book = Book()
    plain, rest, known = part(connection, book, batch, marks, tenants)
    for item in rest:
        if isinstance(item, Refused):
            book.refuse(item)  # the rejected list itself tells a message that is read again from a new one
        else:
            topic, partition, offset, _ = item.evidence
            book.take(item, reread=offset < marks[topic, partition])
    result = Recorded(counted=len(plain), reread=known)
    moves = [move_of(entry, sign) for entry, sign in book.movements()]
    moves += moves_of(plain)
    book.released += [(event.identity.tenant, event.reservation) for event in plain if event.reservation is not None]
    settle(connection, book.released, now_us)
    leases.spend(connection, _on_leases(book, plain, context))
    # Before the usage itself is written: a window that is made here starts from what the ledger had before this batch.
    result.quota_states, alerts = _add_quotas(connection, moves, context, now_us)
    delete_entries(connection, book.dropped())
    insert_entries(connection, book.added())
    insert_plain(connection, plain)
    update_entries(connection, book.changed())
    verdicts = book.verdicts()
    for verdict, event in verdicts:
        if verdict == "rejected":
            assert isinstance(event, Refused)  # the fold makes one of everything that it rejects
            result.rejected.append(event)
        elif verdict == "duplicate":
            result.duplicates += 1
        elif verdict == "held":
            result.held += 1
        elif verdict == "reread":
            result.reread += 1
        else:
            result.counted += 1
    result.rejected = insert_rejected(connection, result.rejected)
    _add_rollups(connection, moves)
    alerts += [secret_alert(leak) for _, _, leak in batch.odd if leak is not None]
    alerts += _usage_alerts(moves, context)
    result.alerts = insert_alerts(connection, alerts)
    result.minutes = _minutes(moves)
    _add_intake(connection, batch, plain, verdicts, book.decided(), marks)
    return result


def _lock_partitions(connection: Connection, batch: Batch, tenants: set[str]) -> dict[tuple[str, int], int]:
    """Next offsets of the batch's partitions; on PostgreSQL two workers take turns at one partition, and at one tenant.

    A tenant's events come through one partition, as the client keys them. A producer that does not must not have an
    event and its void taken at the same moment, each without the other.
    """
    partitions = sorted({(message.topic, message.partition) for message, _ in batch.messages})
    lock_tenants(connection, tenants)
    marks = {}
    for topic, partition in partitions:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:t), :p)"), {"t": topic, "p": partition})
        query = intake.select().where(intake.c.topic == topic, intake.c.partition == partition)
        row = connection.execute(query).first()
        marks[topic, partition] = row.next_offset if row else 0
    return marks


def _add_rollups(connection: Connection, moves: Sequence[Move]) -> None:
    sums: dict[tuple[str, str, str, str, str, int, int, int], tuple[int, ...]] = {}
    for m in moves:
        quarter_us = m.time_us - m.time_us % QUARTER_US
        key = (m.tenant, m.key, m.provider, m.model, m.service_tier, m.size_band, int(m.pooled), quarter_us)
        add = (*m.billable, m.requests, m.errors, m.events)
        total = sums.get(key)
        sums[key] = add if total is None else tuple(map(plus, total, add))
    rows = [(*key, *total) for key, total in sorted(sums.items(), key=itemgetter(0))]
    add_sums(connection, rollups, ROLLUP_KEY, ROLLUP_SUMS, rows)
    mark_late(connection, {(key[0], key[-1]) for key in sums})


def _quota_deltas(moves: Iterable[Move], context: Context) -> dict[WindowKey, tuple[Quota, int, int]]:
    """What the moves bring to each window: (its quota, units, the latest arrival)."""
    deltas: dict[WindowKey, tuple[Quota, int, int]] = {}
    seen: dict[tuple[str, str, str, str, str], WindowKey] = {}
    for m in moves:
        applicable = context.quotas(m.tenant, m.key, m.time_us)
        if not applicable:
            continue
        cost = 0
        if any(quota.meter == "cost" for _, quota, _ in applicable):
            cost = _cost(m, context)
        part = Meterable(m.model, m.billable, m.requests, cost)
        for scope, quota, zone in applicable:
            units = measured(quota, part)
            if not units and not (quota.meter == "cost" and m.pooled):
                continue  # what has no price yet makes its window all the same, to be counted once it has one
            mark = (scope, quota.name, quota.meter, quota.models, quota.window)
            window = seen.get(mark)
            if window is None or not window.start_us <= m.time_us < window.end_us:
                window = seen[mark] = window_of(scope, quota, zone, m.time_us)
            _, delta, at_us = deltas.get(window, (quota, 0, 0))
            deltas[window] = (quota, delta + units, max(at_us, m.arrival_us))
    return deltas


def _on_leases(book: Book, plain: Sequence[Plain], context: Context) -> dict[tuple[str, str], dict[leases.Window, int]]:
    """Units by window that usage which names a lease brings, by (tenant, lease)."""
    moves: dict[tuple[str, str], list[Move]] = {}
    for entry, sign in book.movements():
        reservation = entry.event.reservation
        if reservation is not None and leases.is_lease(reservation):
            moves.setdefault((entry.event.identity.tenant, reservation), []).append(move_of(entry, sign))
    events: dict[tuple[str, str], list[Plain]] = {}
    for event in plain:
        if event.reservation is not None and leases.is_lease(event.reservation):
            events.setdefault((event.identity.tenant, event.reservation), []).append(event)
    for lease, found in events.items():
        moves.setdefault(lease, []).extend(moves_of(found))
    return {
        lease: {window[:4]: units for window, (_, units, _) in _quota_deltas(found, context).items()}
        for lease, found in moves.items()
    }


def _add_quotas(
    connection: Connection, moves: Sequence[Move], context: Context, now_us: int
) -> tuple[list[QuotaState], list[Alert]]:
    deltas = _quota_deltas(moves, context)
    ordered = sorted(deltas.items(), key=itemgetter(0))
    rows = windows.add_used(connection, [windows.Delta(w, quota, delta) for w, (quota, delta, _) in ordered], context)
    states, alerts = [], []
    for (window, (quota, delta, at_us)), row in zip(ordered, rows, strict=True):
        states.append(QuotaState(window, quota, row.used, row.reserved, row.version))
        alerts += quota_alerts(window, quota, row.used - delta, row.used, min(at_us, now_us))
    return states, alerts


def _cost(m: Move, context: Context) -> int:
    """Units of cost of one event, with the move's sign: rounded as one event's, in both directions alike."""
    sign = 1 if m.events > 0 else -1
    classes = m.billable if sign > 0 else tuple(map(neg, m.billable))
    return sign * context.cost_units(
        (m.provider, m.model, m.service_tier, m.time_us, m.size_band, classes), pooled=m.pooled
    )


def _usage_alerts(moves: Sequence[Move], context: Context) -> list[Alert]:
    """Use of revoked keys, and what the batch brings that has no charge or no price: one alert of each kind, with all
    classes that lack one and the latest arrival, so that it does not matter how the batch's events were summed."""
    revoked: dict[tuple[str, str], int] = {}
    uncharged: dict[tuple[str, str], set[str]] = {}
    unpriced: dict[tuple[str, str, str], set[str]] = {}
    latest_us: dict[tuple[str, ...], int] = {}
    for m in moves:
        if m.events < 0:
            continue
        revoked_us = context.revoked_us.get(m.key)
        if revoked_us is not None and m.time_us >= revoked_us:
            revoked[m.key, m.tenant] = max(m.arrival_us, revoked.get((m.key, m.tenant), 0))
        if not m.pooled:
            continue
        own, kind = (m.tenant, m.model), (m.tenant, m.provider, m.model)
        for name in (own, kind):
            latest_us[name] = max(m.arrival_us, latest_us.get(name, 0))
        if m.billable == ZERO:
            continue
        uncharged.setdefault(own, set()).update(context.uncharged(*own, m.time_us, m.billable))
        priced = (m.provider, m.model, m.service_tier, m.time_us, m.size_band, m.billable)
        unpriced.setdefault(kind, set()).update(context.prices.unpriced(*priced))
    alerts: dict[str, Alert] = {}
    for name, at_us in sorted(revoked.items()):
        alert = revoked_alert(*name, at_us)
        alerts.setdefault(alert.id, alert)
    found = [uncharged_alert(*n, _in_order(lacks), latest_us[n]) for n, lacks in sorted(uncharged.items()) if lacks]
    found += [unrated_alert(*n, _in_order(lacks), latest_us[n]) for n, lacks in sorted(unpriced.items()) if lacks]
    return [*alerts.values(), *found]


def _in_order(names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in CLASSES if name in names)


def _minutes(moves: Sequence[Move]) -> list[MinuteSum]:
    sums: dict[tuple[str, str, int, str, str, str], list[int]] = {}
    for m in moves:
        minute_us = m.time_us - m.time_us % MINUTE_US
        total = sums.setdefault((m.tenant, m.key, minute_us, m.network, m.model, m.agent), [0, 0, 0])
        total[0] += m.requests
        total[1] += total_tokens(m.billable)
        total[2] += m.errors
    return [MinuteSum(*key, *total) for key, total in sums.items() if any(total)]


def _add_intake(
    connection: Connection,
    batch: Batch,
    plain: Sequence[Plain],
    verdicts: Sequence[Outcome],
    decided: Sequence[tuple[Evidence, str]],
    marks: Mapping[tuple[str, int], int],
) -> None:
    """received = counted + duplicates + rejected + held, for each partition, over messages taken for the first time.

    plain: events that were counted without the book. held: what waits now. decided: what waited before this batch and
    was counted or rejected by it.
    """
    column = {"received": 1, "counted": 2, "duplicate": 3, "rejected": 4, "held": 5}
    sums: dict[tuple[str, int], list[int]] = {mark: [0] * 6 for mark in marks}
    following = dict(marks)
    for message, events in batch.messages:
        mark = (message.topic, message.partition)
        if events and message.offset >= marks[mark]:
            sums[mark][column["received"]] += events
            following[mark] = max(following[mark], message.offset + 1)
    for mark, offset in marks.items():
        sums[mark][0] = following[mark] - offset
    for event in plain:
        sums[event.message.topic, event.message.partition][column["counted"]] += 1
    for verdict, item in verdicts:
        mark = (item.evidence.topic, item.evidence.partition)
        if verdict in column and mark in marks and item.evidence.offset >= marks[mark]:
            sums[mark][column[verdict]] += 1
    move_held(sums, decided)
    add_sums(connection, intake, ("topic", "partition"), INTAKE, [(*mark, *sums[mark]) for mark in sorted(sums)])


def end_held(connection: Connection, rejected: Sequence[Refused]) -> None:
    """Note in the intake that these waited and were rejected."""
    sums: dict[tuple[str, int], list[int]] = {}
    move_held(sums, [(refused.evidence, "rejected") for refused in rejected])
    add_sums(connection, intake, ("topic", "partition"), INTAKE, [(*mark, *sums[mark]) for mark in sorted(sums)])


def move_held(sums: dict[tuple[str, int], list[int]], decided: Sequence[tuple[Evidence, str]]) -> None:
    """One less that waits, one more that was counted or rejected; sums are in the order of INTAKE."""
    for evidence, verdict in decided:
        total = sums.setdefault((evidence.topic, evidence.partition), [0] * len(INTAKE))
        total[INTAKE.index("held")] -= 1
        total[INTAKE.index(verdict)] += 1
