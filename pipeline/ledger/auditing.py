"""The counter counted: what the ledger's tables say about one another, worked out again from the single events.

Each check gives a line for each difference; none says that the tables agree. Read-only.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b, sha256
from typing import Any, Final

from sqlalchemy import Connection, case, func, or_, select

from pipeline.alerting import KINDS, SEVERITIES
from pipeline.ledger import chain, compaction, dropped, erasure, retention
from pipeline.ledger.catalogs import NoCatalog, load_context
from pipeline.ledger.quota_check import check_quotas
from pipeline.ledger.tables import (
    ROLLUP_KEY,
    ROLLUP_SUMS,
    alerts,
    audit_log,
    billing_documents,
    catalogs,
    credit_notes,
    deliveries,
    events,
    intake,
    invoices,
    key_states,
    quota_windows,
    rejected,
    reservations,
    rollups,
)
from schemas.instants import QUARTER_US, format_instant
from schemas.tokens import CLASSES

_e, _r, _i = events.c, rejected.c, intake.c
Check = Callable[[Connection], Iterator[str]]


def differences(connection: Connection) -> list[str]:
    """Every difference, in order of the checks; call it inside one consistent view."""
    return [f"{name}: {line}" for name, check in CHECKS.items() for line in check(connection)]


def _intake(connection: Connection) -> Iterator[str]:
    waits = func.sum(case((_e.state == "held", 1), else_=0))
    query = select(_e.topic, _e.partition, func.count(), waits, func.max(_e.offset)).group_by(_e.topic, _e.partition)
    found = {(row[0], row[1]): (int(row[2] - row[3]), int(row[3]), int(row[4])) for row in connection.execute(query)}
    places = select(_r.topic, _r.partition, _r.offset, _r.item).distinct().subquery()
    query = select(places.c.topic, places.c.partition, func.count(), func.max(places.c.offset))
    refused = {
        (row[0], row[1]): (int(row[2]), int(row[3]))
        for row in connection.execute(query.group_by(places.c.topic, places.c.partition))
    }
    taken = {(row.topic, row.partition): row for row in connection.execute(select(intake))}
    gone, gone_refused = dropped.counts(connection)
    for mark in sorted(set(found) | set(refused) | set(taken) | set(gone) | set(gone_refused)):
        name = f"{mark[0]}/{mark[1]}"
        row = taken.get(mark)
        if row is None:
            yield f"{name} has events and no counters"
            continue
        if row.received != row.counted + row.duplicates + row.rejected + row.held:
            yield (
                f"{name} received {row.received}, but counted {row.counted} + duplicates {row.duplicates} "
                f"+ rejected {row.rejected} + held {row.held}"
            )
        counted, held, last = found.get(mark, (0, 0, -1))
        listed, last_refused = refused.get(mark, (0, -1))
        counted, last = counted + gone.get(mark, (0, -1))[0], max(last, gone.get(mark, (0, -1))[1])
        listed += gone_refused.get(mark, (0, -1))[0]
        for what, stated, there in (
            ("counted", row.counted, counted),
            ("held", row.held, held),
            ("rejected", row.rejected, listed),
        ):
            if stated != there:
                yield f"{name} has {what} {stated}, its list has {there}"
        if max(last, last_refused) >= row.next_offset:
            yield f"{name} has an event at offset {max(last, last_refused)}, but the next is {row.next_offset}"


def _redelivered(connection: Connection) -> Iterator[str]:
    duplicates = connection.execute(select(func.coalesce(func.sum(_i.duplicates), 0))).scalar_one()
    again = connection.execute(select(func.coalesce(func.sum(_e.redelivered), 0))).scalar_one()
    again += sum(month.redelivered for month in dropped.months(connection))
    # A correction that came again while it waited, and was rejected in the end, took its count with it.
    lost = connection.execute(select(func.count()).where(_r.reason.in_(("unknown_event", "conflict")))).scalar_one()
    if duplicates != again and not (lost and duplicates > again):
        yield f"{duplicates} duplicates were received, events came again {again} times"


def _rollups(connection: Connection) -> Iterator[str]:
    quarter = (_e.time_us - _e.time_us % QUARTER_US).label("quarter_us")
    billed = case((or_(_e.cache_hit != 0, _e.status == "error"), 0), else_=1)
    key = [quarter if name == "quarter_us" else events.c[name] for name in ROLLUP_KEY]
    sums = [
        *(func.sum(events.c[name] * billed) for name in CLASSES),
        func.sum(_e.requests),
        func.sum(case((_e.status == "error", 1), else_=0)),
        func.count(),
    ]
    query = select(*key, *sums).where(_e.state == "counted", _e.kind == "usage").group_by(*key)
    n = len(key)
    recount = {tuple(row[:n]): tuple(map(int, row[n:])) for row in connection.execute(query)}
    stated = {
        tuple(row[:n]): tuple(map(int, row[n:]))
        for row in connection.execute(
            select(*(rollups.c[name] for name in (*ROLLUP_KEY, *ROLLUP_SUMS))).where(~dropped.rollup_is_dropped())
        )
    }
    none = (0,) * len(ROLLUP_SUMS)
    for one in sorted(set(recount) | set(stated)):
        said, there = stated.get(one, none), recount.get(one, none)
        for name, a, b in zip(ROLLUP_SUMS, said, there, strict=True):
            if a != b:
                yield f"{dict(zip(ROLLUP_KEY, one, strict=True))}: {name} is {a}, from the events it is {b}"


def _events(connection: Connection) -> Iterator[str]:
    odd = or_(
        (_e.target_id.is_(None)) & (_e.time_us != _e.sent_us),
        _e.state.in_(("replaced", "voided")) & _e.by_id.is_(None),
        (_e.state == "counted") & (_e.by_id.is_not(None)),
        (_e.state == "held") & (_e.raw.is_(None)),
        _e.state.not_in(("counted", "replaced", "voided", "held", "applied")),
        func.length(_e.digest) != 16,
    )
    for row in connection.execute(select(_e.tenant, _e.source, _e.id, _e.state).where(odd)):
        yield f"{row.tenant} {row.source} {row.id} ({row.state}) contradicts itself"
    by = events.alias()
    match = (by.c.tenant == _e.tenant) & (by.c.source == _e.by_source) & (by.c.id == _e.by_id)
    query = select(_e.tenant, _e.source, _e.id, _e.by_id).outerjoin(by, match)
    for row in connection.execute(query.where(_e.by_id.is_not(None), by.c.id.is_(None))):
        yield f"{row.tenant} {row.source} {row.id} was corrected by {row.by_id}, which is not there"


def _rejected(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(_r.n, _r.raw, _r.digest).where(_r.state != erasure.ERASED)):
        if blake2b(bytes(row.raw), digest_size=16).digest() != bytes(row.digest):
            yield f"number {row.n}: its bytes do not have its digest"
    erased = connection.execute(select(func.count()).where(_r.state == erasure.ERASED)).scalar_one()
    told = sum(erasure.rejected_in(line["detail"]) for line in chain.lines_of(connection, erasure.ACTION))
    if erased > told:
        yield f"{erased} are marked as erased, by the audit log it were {told}"


def _reservations(connection: Connection) -> Iterator[str]:
    held: Counter[tuple[Any, ...]] = Counter()
    for holds in connection.execute(select(reservations.c.holds).where(reservations.c.state == "open")).scalars():
        for *window, units in json.loads(holds):
            held[tuple(window)] += units
    w = quota_windows.c
    query = select(w.scope, w.name, w.kind, w.start_us, w.reserved).where(w.scope.not_like("room:%"))
    stated = {tuple(row[:4]): int(row[4]) for row in connection.execute(query)}
    for window in sorted(set(held) | set(stated)):
        if held[window] != stated.get(window, 0):
            yield f"{window}: {stated.get(window, 0)} reserved, open reservations hold {held[window]}"


def _catalogs(connection: Connection) -> Iterator[str]:
    query = select(audit_log.c.subject, audit_log.c.detail).where(audit_log.c.action == "catalog.apply")
    logged = {row.subject: row.detail for row in connection.execute(query)}
    known = {f"version {row.version}": row for row in connection.execute(select(catalogs))}
    for name in sorted(set(logged) | set(known)):
        row = known.get(name)
        if row is None:
            yield f"{name} is in the audit log and not there"
        elif sha256(row.document.encode()).hexdigest() != row.digest or logged.get(name) != row.digest:
            yield f"{name} is not what was applied by the audit log"


def _key_states(connection: Connection) -> Iterator[str]:
    last: dict[str, tuple[int, str]] = {}
    log = select(audit_log).where(audit_log.c.action.like("key.%")).order_by(audit_log.c.n)
    states = {row.key: (int(row.version), f"key.{row.state}") for row in connection.execute(select(key_states))}
    for row in connection.execute(log):
        last[row.subject] = (last.get(row.subject, (0, ""))[0] + 1, row.action)
    for key in sorted(set(last) | set(states)):
        if last.get(key) != states.get(key):
            yield f"{key} is {states.get(key)} (version, state), by the audit log {last.get(key)}"


def _documents(connection: Connection) -> Iterator[str]:
    numbers: Counter[str] = Counter()
    for table, columns in (
        (invoices, ("tenant", "month", "revision", "status", "number")),
        (credit_notes, ("tenant", "month", "revision", "number")),
    ):
        for row in connection.execute(select(table)).mappings():
            document = json.loads(row["document"])
            if row["number"] is not None:
                numbers[row["number"]] += 1
            for name in columns:
                if document[name] != row[name]:
                    yield f"{row['tenant']} {row['month']}: {name} is {row[name]}, in the document {document[name]}"
    d = billing_documents.c
    series = {
        row.id: int(row.document) for row in connection.execute(select(billing_documents).where(d.kind == "sequence"))
    }
    wanted = {f"{name}-{n:06d}" for name, last in series.items() for n in range(1, last + 1)}
    for number in sorted(wanted - set(numbers)):
        yield f"number {number} was given and is missing"
    for number in sorted(set(numbers) - wanted):
        yield f"number {number} was never given"


def _dropped(connection: Connection) -> Iterator[str]:
    log = select(audit_log.c.subject, audit_log.c.detail).where(audit_log.c.action == retention.ACTION)
    logged: dict[str, str] = {row.subject: row.detail for row in connection.execute(log)}
    known = {month.subject: month for month in dropped.months(connection)}
    for name in sorted(set(logged) | set(known)):
        month = known.get(name)
        if month is None:
            yield f"{name} is in the audit log and not there"
            continue
        said = month.line("")
        if not (logged.get(name, "") == said or logged.get(name, "").startswith(f"{said}, evidence ")):
            yield f"{name} is not what was dropped by the audit log"
        where = (_e.tenant == month.tenant, _e.time_us >= month.start_us, _e.time_us < month.end_us)
        left = select(func.count()).where(*where, _e.kind != "void", _e.state != "held")
        if n := connection.execute(left).scalar_one():
            yield f"{name} has {n} events after it was dropped"
        if month.tenant and (
            retention.rollups_digest(connection, month.tenant, month.start_us, month.end_us) != month.rollups_digest
        ):
            yield f"{name}: its rollups are not those that were kept"


def _alerts(connection: Connection) -> Iterator[str]:
    known = {row["id"]: row for row in connection.execute(select(alerts)).mappings()}
    for name, alert in known.items():
        named = alert["kind"] in KINDS and alert["severity"] in SEVERITIES
        if not named or alert["first_us"] > alert["last_us"] or alert["count"] < 1:
            yield f"{name} contradicts itself"
    told: Counter[str] = Counter()
    for row in connection.execute(select(deliveries.c.alert, deliveries.c.version, deliveries.c.sink)):
        if row.alert not in known:
            yield f"a delivery of {row.alert}, which is not there"
        told[row.alert] = max(told[row.alert], int(row.version))
    for name in sorted(set(known) - set(told)):
        yield f"{name} was never queued for its sinks"


def _quotas(connection: Connection) -> Iterator[str]:
    try:
        context = load_context(connection)
    except NoCatalog:
        return
    for drift in check_quotas(connection, context).drifts:
        scope, name, kind, start_us, end_us = drift.window
        # A price that was entered later counts the open windows of cost anew, and leaves the past ones as they acted.
        if drift.used == drift.counted or (kind.startswith("cost/") and end_us <= context.applied_us):
            continue  # what is reserved is compared above, of windows without a quota too
        yield f"{scope}/{name} {kind} from {format_instant(start_us)}: used is {drift.used}, recounted {drift.counted}"


CHECKS: Final[dict[str, Check]] = {
    "intake": _intake,
    "redelivered": _redelivered,
    "rollups": _rollups,
    "events": _events,
    "rejected": _rejected,
    "reservations": _reservations,
    "catalogs": _catalogs,
    "key states": _key_states,
    "documents": _documents,
    "alerts": _alerts,
    "quotas": _quotas,
    "compacted": compaction.differences,
    "dropped months": _dropped,
    "audit log": chain.verify,
}
