"""Admission on PostgreSQL: one statement decides, at any concurrency and in any number of processes.

The statement looks whether all holds of the call fit; only then it locks their windows, in one order for everybody,
looks again at what the windows are by now, takes all of the holds or none, and writes the reservation down. What it
was asked with (catalog, states of keys, windows that exist, reservations whose time is not over) it checks itself: it
does nothing and says so where that is no longer true.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, LiteralString, NamedTuple

from pipeline.admission import Ask, Check, Decision, decision_json, is_held, is_shown, left_of
from pipeline.context import WindowKey
from pipeline.ledger.direct import Direct
from schemas.catalog import Key
from schemas.instants import SECOND_US

Stamp = tuple[int, int]
"""Catalog version and sum of the versions of key states: what `catalogs.stamp` reads."""


class Asked(NamedTuple):
    """What the statement said. In this order: the first that is true is what matters.

    known: the answer to an earlier ask of the same id. stale: catalog or key states are not those that it was asked
    with. due: some reservation's time is over. missing: a window does not exist yet. full: the first check that does
    not fit. Otherwise admitted. taken: used + reserved of each window, with the holds if admitted.
    """

    known: str | None
    stale: bool
    due: bool
    missing: bool
    full: int | None
    taken: tuple[int, ...]


_ONE: Final = "({n}, %s::text, %s::text, %s::text, %s::bigint, %s::numeric, %s::numeric, %s::numeric)"
_TAKES: Final = "CASE WHEN d.floor IS NULL THEN q.used + q.reserved ELSE greatest(q.used, d.floor) - d.floor END"
"""A window's use; of a token bucket (it has a floor, the instant of the ask) the part that has not filled up again."""
_FITS: Final = f"coalesce(d.bound > 0 AND {_TAKES} + d.units <= d.bound, true)"
_SAME: Final = "q.scope = d.scope AND q.name = d.name AND q.kind = d.kind AND q.start_us = d.start_us"


@lru_cache(maxsize=64)
def _statement(windows: int) -> LiteralString:
    """The statement for so many windows."""
    rows = ", ".join(_ONE.format(n=n) for n in range(windows))
    return f"""
WITH want (n, scope, name, kind, start_us, units, bound, floor) AS (VALUES {rows}),
head AS (
  SELECT (SELECT answer FROM reservations WHERE tenant = %s::text AND id = %s::text) AS known,
    (SELECT max(version) FROM catalogs) IS DISTINCT FROM %s::bigint
      OR (SELECT coalesce(sum(version), 0) FROM key_states) <> %s::numeric AS stale,
    %s::boolean AND EXISTS (SELECT FROM reservations WHERE state = 'open' AND expires_us <= %s::bigint) AS due
),
seen AS (
  SELECT d.n, {_TAKES} AS taken, {_FITS} AS fits FROM want d JOIN quota_windows q ON {_SAME}
),
clear AS (
  SELECT known IS NULL AND NOT stale AND NOT due
    AND (SELECT count(*) = {windows} AND bool_and(fits) FROM seen) AS yes FROM head
),
locked AS (
  SELECT d.n, q.scope, q.name, q.kind, q.start_us, d.units, d.bound, d.floor, {_TAKES} AS taken, {_FITS} AS fits
  FROM want d JOIN quota_windows q ON {_SAME} WHERE (SELECT yes FROM clear) ORDER BY d.n FOR UPDATE OF q
),
decided AS (SELECT count(*) = {windows} AND bool_and(fits) AS yes FROM locked),
held AS (
  UPDATE quota_windows q SET version = q.version + 1,
    reserved = CASE WHEN d.floor IS NULL THEN q.reserved + d.units ELSE q.reserved END,
    used = CASE WHEN d.floor IS NULL THEN q.used ELSE greatest(q.used, d.floor) + d.units END
  FROM locked d WHERE (SELECT yes FROM decided) AND {_SAME} AND {_FITS} RETURNING d.n, {_TAKES} AS taken
),
kept AS (
  INSERT INTO reservations (tenant, id, key, model, created_us, expires_us, state, holds, answer)
  SELECT %s::text, %s::text, %s::text, %s::text, %s::bigint, %s::bigint, 'open', %s::text,
    %s::text || json_agg(taken::text ORDER BY n)::text || '}}'
  FROM held HAVING count(*) = {windows}
  RETURNING 1
)
SELECT known, stale, due, (SELECT count(*) FROM seen) < {windows},
  coalesce((SELECT min(n) FROM locked WHERE NOT fits), (SELECT min(n) FROM seen WHERE NOT fits)),
  (SELECT count(*) FROM held), (SELECT count(*) FROM kept),
  coalesce((SELECT array_agg(taken::text ORDER BY n) FROM held), (SELECT array_agg(taken::text ORDER BY n) FROM locked),
    (SELECT array_agg(taken::text ORDER BY n) FROM seen))
FROM head
"""


def ask_once(
    direct: Direct, ask: Ask, key: Key, checks: Sequence[Check], stamp: Stamp, now_us: int, *, look: bool
) -> Asked:
    """Admit the call on this key, or say what stands in the way. checks: in the order of locking, at least one.

    look: whether reservations whose time is over stand in the way.
    """
    expires_us = now_us + ask.ttl_s * SECOND_US
    values: list[str | None] = []
    for check in checks:
        window = check.window
        bound = str(check.limit) if check.blocks and check.limit is not None else None
        floor = str(check.floor) if check.floor is not None else None
        values += (window.scope, window.name, window.kind, str(window.start_us), str(check.units), bound, floor)
    values += (ask.tenant, ask.id, str(stamp[0]), str(stamp[1]), "true" if look else "false", str(now_us))
    holds = [(*c.window[:4], c.units) for c in checks if c.units and is_held(c)]
    values += (ask.tenant, ask.id, key.id, ask.model, str(now_us), str(expires_us), json.dumps(holds))
    values.append(_head(ask, key, checks, expires_us))
    row = direct.row(_statement(len(checks)), values)
    assert row is not None  # it selects from one row
    known, stale, due, missing, full, held, kept, taken = row
    # Locked and fitting, each of them was updated; anything else would be a hold without a reservation.
    assert (held, kept) in ((0, 0), (len(checks), 1)), "an admission was taken in part"
    return Asked(known, stale, due, missing, full, tuple(map(int, taken or ())))


_TAKEN: Final = """
SELECT json_agg(json_build_array(scope, name, kind, start_us, end_us, (used + reserved)::text)) FROM quota_windows
WHERE (scope, name, kind, start_us) IN (
  SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) AS d(scope, name, kind, start_us))
"""


def taken_of(direct: Direct, windows: Sequence[WindowKey]) -> dict[WindowKey, int]:
    """used + reserved of those of the windows that exist."""
    row = direct.row(_TAKEN, [[str(window[n]) for window in windows] for n in range(4)])
    return {WindowKey(*found[:5]): int(found[5]) for found in (row[0] if row is not None else None) or ()}


_KEEP: Final = """
INSERT INTO reservations (tenant, id, key, model, created_us, expires_us, state, holds, answer)
VALUES (%s, %s, '', %s, %s, %s, 'denied', '[]', %s) ON CONFLICT DO NOTHING RETURNING NULL
"""
_KNOWN: Final = "SELECT answer FROM reservations WHERE tenant = %s AND id = %s"


def keep_refusal(direct: Direct, ask: Ask, answer: str, now_us: int) -> str | None:
    """Keep the answer for a repeat; the earlier answer where there is one already."""
    if direct.row(_KEEP, [ask.tenant, ask.id, ask.model, str(now_us), str(now_us), answer]) is not None:
        return None
    row = direct.row(_KNOWN, [ask.tenant, ask.id])
    return str(row[0]) if row is not None else None


def remaining(checks: Sequence[Check], taken: Sequence[int]) -> dict[str, str]:
    """What is left of each limited quota."""
    return {
        check.quota.name: left_of(check.quota.meter, check.limit or 0, check.per_minute, units)
        for check, units in zip(checks, taken, strict=True)
        if is_shown(check)
    }


def admitted(ask: Ask, key: Key, checks: Sequence[Check], taken: Sequence[int], now_us: int) -> Decision:
    """The answer to an ask that was admitted."""
    expires_us = now_us + ask.ttl_s * SECOND_US
    left = remaining(checks, taken)
    return Decision(
        ask.id, allowed=True, reason="ok", tenant=ask.tenant, key=key.id, expires_us=expires_us, remaining=left
    )


def _head(ask: Ask, key: Key, checks: Sequence[Check], expires_us: int) -> str:
    """The stored answer up to the figures that only the statement knows: `remembered` reads it."""
    decision = Decision(ask.id, allowed=True, reason="ok", tenant=ask.tenant, key=key.id, expires_us=expires_us)
    limits = [[c.quota.name, c.quota.meter, str(c.limit), c.per_minute] if is_shown(c) else None for c in checks]
    return json.dumps({**decision_json(decision), "limits": limits})[:-1] + ', "taken": '


def filled(answer: dict[str, Any]) -> dict[str, Any]:
    """A stored answer with what was left of each quota worked out from the figures that the statement put in."""
    if "taken" not in answer:
        return answer
    limits, taken = answer["limits"], answer["taken"]
    left = {
        limit[0]: left_of(limit[1], int(limit[2]), limit[3], int(Decimal(units)))
        for limit, units in zip(limits, taken, strict=True)
        if limit is not None
    }
    return {name: value for name, value in answer.items() if name not in ("limits", "taken")} | {"remaining": left}
