"""What one key was used for: sums by tenant, made by the database."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from sqlalchemy import Connection

from pipeline.ledger.reach import DAYS
from pipeline.ledger.sums import Asked, token_sums
from schemas.periods import local_date


class KeyUser(NamedTuple):
    """One tenant's use of the key; last: its last day of use, in its time zone."""

    tenant: str
    tokens: int
    requests: int
    errors: int
    last: date


def key_users(connection: Connection, zones: Mapping[str, str], key: str, since_us: int) -> list[KeyUser]:
    """Use of the key from an instant on, the largest users first. zones: time zone by tenant."""
    asked = Asked(start_us=since_us, key=key, coarsest=DAYS)
    found: dict[str, KeyUser] = {}
    for row in token_sums(connection, zones, asked, calls=True):
        last = local_date(row.last_us, zones.get(row.tenant, "UTC"))
        before = found.get(row.tenant, KeyUser(row.tenant, 0, 0, 0, last))
        found[row.tenant] = KeyUser(
            row.tenant,
            before.tokens + row.tokens,
            before.requests + row.requests,
            before.errors + row.errors,
            max(before.last, last),
        )
    return sorted(found.values(), key=lambda user: (-user.tokens, user.tenant))
