"""Admission on the ledger: every hold is one conditional update, all holds of a call are one transaction."""

import json

from sqlalchemy import Connection, Engine

from pipeline.admission import (
    Ask,
    Check,
    Decision,
    candidates,
    checks,
    decision_json,
    is_bucket,
    is_held,
    is_of_tenant,
    is_shown,
    key_room,
    left_of,
    rate_checks,
    refuse_early,
    refused,
    used_share,
)
from pipeline.context import Context
from pipeline.ledger import admit_direct, buckets, reservations, windows
from pipeline.ledger.direct import Direct
from pipeline.ledger.engine import run_transaction
from schemas.catalog import Key
from schemas.instants import SECOND_US, parse_instant


class _Due(Exception):
    """Some reservation's time is over: it has to end before anything is decided."""


def authorize(engine: Engine, ask: Ask, context: Context, now_us: int, *, remember: bool = True) -> Decision:
    """Admit or refuse, and reserve. remember: a later ask with the same id gets the same answer.

    Reservations that are over end first, in a transaction of their own: together, two processes that end each other's
    tenants' holds before they take their own tenant's would wait for one another.
    """
    # Without `remember` nobody else has the id, but this call's own first try may have been written unheard.
    tried = False

    def decide(connection: Connection) -> Decision:
        nonlocal tried
        known = reservations.find(connection, ask.tenant, ask.id) if remember or tried else None
        tried = True
        if known is not None:
            return _decision(known["answer"])
        if look and reservations.any_due(connection, now_us):
            raise _Due
        return _authorize(connection, ask, context, now_us, remember=remember)

    look = True
    try:
        return run_transaction(engine, decide)
    except _Due:
        look = False
        run_transaction(engine, lambda connection: reservations.expire(connection, now_us))
        return run_transaction(engine, decide)


def _authorize(connection: Connection, ask: Ask, context: Context, now_us: int, *, remember: bool) -> Decision:
    decision, holds = _decide(connection, ask, context, now_us)
    if decision.allowed or remember:
        reservations.open_reservation(
            connection,
            tenant=ask.tenant,
            reservation=ask.id,
            key=decision.key or "",
            model=ask.model,
            created_us=now_us,
            expires_us=decision.expires_us or now_us,
            holds=holds,
            answer=decision_json(decision),
            state="open" if decision.allowed else "denied",
        )
    return decision


def _decision(text: str) -> Decision:
    answer = admit_direct.filled(json.loads(text))
    expires = answer["expires_at"]
    return Decision(
        id=str(answer["id"]),
        allowed=bool(answer["allowed"]),
        reason=str(answer["reason"]),
        tenant=str(answer["tenant"]),
        key=answer["key"],
        quota=answer["quota"],
        expires_us=parse_instant(str(expires)) if expires is not None else None,
        retry_after_s=answer["retry_after_s"],
        remaining=answer["remaining"],
    )


def authorize_directly(
    engine: Engine,
    direct: Direct,
    ask: Ask,
    context: Context,
    stamp: admit_direct.Stamp,
    now_us: int,
    *,
    remember: bool = True,
) -> Decision | None:
    """`authorize` on PostgreSQL, by one statement a key. None: the context is old, or the answer needs no counter."""
    if refuse_early(ask, context) is not None:
        return None
    worst: Decision | None = None
    for key in _roomiest(direct, candidates(ask, context, now_us), ask, now_us):
        needed = [*_rates(ask, key, context, now_us), *checks(ask, key, context, now_us)]
        if not needed:
            return None
        asked = _ask(engine, direct, ask, key, needed, context, stamp, now_us)
        if asked.known is not None:
            return _decision(asked.known)
        if asked.stale:
            return None
        if asked.full is None:
            return admit_direct.admitted(ask, key, needed, asked.taken, now_us)
        full = needed[asked.full]
        left = admit_direct.remaining(needed, asked.taken)
        worst = _worse(worst, refused(ask, full, asked.taken[asked.full], left, now_us))
        if is_of_tenant(full):
            break
    if worst is None or not remember:
        return worst
    return _remember_refusal(direct, ask, worst, now_us)


def _ask(
    engine: Engine,
    direct: Direct,
    ask: Ask,
    key: Key,
    needed: list[Check],
    context: Context,
    stamp: admit_direct.Stamp,
    now_us: int,
) -> admit_direct.Asked:
    """Ask until nothing has to be done first: reservations that are over end, windows that are missing are made."""
    look = True
    while True:
        asked = admit_direct.ask_once(direct, ask, key, needed, stamp, now_us, look=look)
        if asked.known is not None or asked.stale:
            return asked
        if asked.due:
            look = False
            run_transaction(engine, lambda connection: reservations.expire(connection, now_us))
        elif asked.missing:
            run_transaction(engine, lambda connection: _make(connection, needed, context))
        else:
            return asked


def _make(connection: Connection, needed: list[Check], context: Context) -> None:
    for check in needed:
        if is_bucket(check):
            buckets.ensure(connection, check)
        else:
            windows.ensure(connection, check.window, check.quota, context)


def _roomiest(direct: Direct, keys: list[Key], ask: Ask, now_us: int) -> list[Key]:
    """Keys, the one with the most room in its minute first."""
    rooms = {key.id: key_room(key, now_us, ask.estimate) for key in keys}
    if len(keys) < 2 or not any(rooms.values()):
        return keys
    taken = admit_direct.taken_of(direct, [check.window for room in rooms.values() for check in room])
    return sorted(
        keys, key=lambda key: (max((used_share(c, taken.get(c.window, 0)) for c in rooms[key.id]), default=0), key.id)
    )


def _remember_refusal(direct: Direct, ask: Ask, decision: Decision, now_us: int) -> Decision:
    """Write the refusal down for a repeat; where another ask of the same id was first, its answer is the answer."""
    first = admit_direct.keep_refusal(direct, ask, json.dumps(decision_json(decision)), now_us)
    return decision if first is None else _decision(first)


def _decide(
    connection: Connection, ask: Ask, context: Context, now_us: int
) -> tuple[Decision, list[reservations.Hold]]:
    early = refuse_early(ask, context)
    if early is not None:
        return Decision(ask.id, allowed=False, reason=early, tenant=ask.tenant), []
    keys = candidates(ask, context, now_us)
    if not keys:
        return Decision(ask.id, allowed=False, reason="key_unavailable", tenant=ask.tenant), []
    worst: Decision | None = None
    if len(keys) > 1:
        keys = sorted(keys, key=lambda k: _pressure(connection, k, now_us, ask))
    for key in keys:
        needed = checks(ask, key, context, now_us)
        room = _rates(ask, key, context, now_us)
        taken, full = _reserve(connection, [*room, *needed], context)
        if full is None:
            left = {}
            for check, row in taken:
                if is_shown(check):
                    left[check.quota.name] = _left(check, row.used + row.reserved)
            return Decision(
                ask.id,
                allowed=True,
                reason="ok",
                tenant=ask.tenant,
                key=key.id,
                expires_us=now_us + ask.ttl_s * SECOND_US,
                remaining=left,
            ), [_hold(check) for check, _ in taken if check.units and is_held(check)]
        taken_of_full = buckets.taken(connection, full) if is_bucket(full) else 0
        worst = _worse(worst, refused(ask, full, taken_of_full, _remaining(connection, [*room, *needed]), now_us))
        if is_of_tenant(full):
            break  # no other key changes a tenant's quota
    assert worst is not None  # there was a key, and it was not taken
    return worst, []


def _worse(before: Decision | None, now: Decision) -> Decision:
    """Of two keys' refusals the one to tell: a quota lasts longer than a full minute."""
    return now if before is None or now.reason == "quota" else before


def _pressure(connection: Connection, key: Key, now_us: int, ask: Ask) -> tuple[int, str]:
    """The more of its minute a key has used, the later it comes; in parts of a million."""
    most = 0
    for check in key_room(key, now_us, ask.estimate):
        row = windows.state_of(connection, check.window)
        most = max(most, used_share(check, row.used + row.reserved))
    return most, key.id


_Taken = list[tuple[Check, windows.WindowRow]]


def _reserve(connection: Connection, needed: list[Check], context: Context) -> tuple[_Taken, Check | None]:
    """Every hold, with the window's state after it; or none at all, and the check that refused.

    A statement for each window, and no reading before it: while a hold is not committed, the window's row is locked for
    everybody else, so that each round trip here is one that the tenant's other calls wait for.
    """
    taken: _Taken = []
    for check in needed:
        bound = check.limit if check.blocks else None
        row = None
        if is_bucket(check):
            drawn = buckets.draw(connection, check)
            row = windows.WindowRow(drawn, 0, 0) if drawn is not None else None
        elif bound != 0:  # a limit of 0 blocks, also an ask that estimates nothing
            row = windows.reserve(connection, check.window, check.units, bound)
            if row is None and windows.ensure(connection, check.window, check.quota, context):
                row = windows.reserve(connection, check.window, check.units, bound)
        if row is None:
            windows.give_back(connection, [_hold(done) for done, _ in taken if done.units and not is_bucket(done)])
            for done, _ in taken:
                if is_bucket(done):
                    buckets.undo(connection, done)
            return [], check
        taken.append((check, row))
    return taken, None


def _hold(check: Check) -> reservations.Hold:
    window = check.window
    return window.scope, window.name, window.kind, window.start_us, check.units


def _remaining(connection: Connection, needed: list[Check]) -> dict[str, str]:
    return {check.quota.name: _left(check, _taken(connection, check)) for check in needed if is_shown(check)}


def _taken(connection: Connection, check: Check) -> int:
    if is_bucket(check):
        return buckets.taken(connection, check)
    row = windows.state_of(connection, check.window)
    return row.used + row.reserved


def _left(check: Check, taken: int) -> str:
    assert check.limit is not None
    return left_of(check.quota.meter, check.limit, check.per_minute, taken)


def _rates(ask: Ask, key: Key, context: Context, now_us: int) -> list[Check]:
    """What a call is checked for before its quotas: the key's room in its minute, and the buckets."""
    return [*key_room(key, now_us, ask.estimate), *rate_checks(ask, key, context, now_us)]
