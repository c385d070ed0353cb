"""Usage by minute out of the ledger: for a detector that has to catch up, and to compare with a provider's report."""

from collections.abc import Mapping
from sys import intern
from typing import Final

from sqlalchemy import Connection, case, func, or_, select

from pipeline.ledger.record import MinuteSum
from pipeline.ledger.tables import events
from schemas.instants import MINUTE_US
from schemas.tokens import TOKEN_CLASSES

_e = events.c
_TOKENS: Final = sum((events.c[name] for name in TOKEN_CLASSES[1:]), events.c[TOKEN_CLASSES[0]])
_MINUTE: Final = (_e.time_us - _e.time_us % MINUTE_US).label("minute_us")
PART: Final = 5_000
"""Rows that are fetched at a time."""


def minutes_since(connection: Connection, tenant: str, key: str, since_us: int) -> list[MinuteSum]:
    """The tenant's counted usage of the key from an instant on, by minute, network, model and agent."""
    return minutes_of(connection, {tenant: {key: since_us}})


def minutes_of(connection: Connection, since_us: Mapping[str, Mapping[str, int]]) -> list[MinuteSum]:
    """Counted usage of several tenants' keys, each from its own instant on (tenant to key to instant), by time;
    summed by the database, with one look for all of them."""
    first_us = [us for keys in since_us.values() for us in keys.values()]
    if not first_us:
        return []
    unbilled = or_(_e.status == "error", _e.cache_hit != 0)
    query = (
        select(
            _e.tenant,
            _e.key,
            _MINUTE,
            _e.network,
            _e.model,
            _e.agent,
            func.sum(_e.requests),
            func.sum(case((unbilled, 0), else_=_TOKENS)),
            func.sum(case((_e.status == "error", 1), else_=0)),
        )
        .where(_e.tenant.in_(sorted(since_us)), _e.key.in_(sorted({key for keys in since_us.values() for key in keys})))
        .where(_e.time_us >= min(first_us), _e.state == "counted", _e.kind == "usage")
        .group_by(_e.tenant, _e.key, _MINUTE, _e.network, _e.model, _e.agent)
        .order_by(_MINUTE, _e.tenant, _e.key, _e.network, _e.model, _e.agent)
    )
    # Hours of many tenants are hundreds of thousands of rows: fetched in parts, and each name kept once.
    found = []
    for tenant, key, minute_us, network, model, agent, *sums in connection.execute(
        query, execution_options={"yield_per": PART}
    ):
        if minute_us + MINUTE_US > since_us[tenant].get(key, minute_us + MINUTE_US):
            names = intern(tenant), intern(key), minute_us, intern(network), intern(model), intern(agent)
            found.append(MinuteSum(*names, *map(int, sums)))
    return found


def key_minutes(connection: Connection, key: str, start_us: int, end_us: int) -> dict[int, int]:
    """Tokens of the key by minute in [start_us, end_us), over all tenants."""
    query = (
        select(_MINUTE, func.sum(_TOKENS))
        .where(_e.key == key, _e.time_us >= start_us, _e.time_us < end_us)
        .where(_e.state == "counted", _e.kind == "usage", _e.status != "error", _e.cache_hit == 0)
        .group_by(_MINUTE)
    )
    return {minute_us: int(count) for minute_us, count in connection.execute(query)}
