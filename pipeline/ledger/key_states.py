"""States of keys, and of tenants as `tenant:NAME`: absolute, with a growing version, each change in the audit log."""

from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger import chain
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import key_states

_k = key_states.c

KEY_STATES: Final = ("active", "throttled", "suspended", "revoked", "rotating")


def audit(connection: Connection, at_us: int, who: str, action: str, subject: str, detail: str = "") -> None:
    """One line of the audit log: who did what to whom."""
    chain.append(connection, at_us, who, action, subject, detail)


def set_key_state(connection: Connection, key: str, state: str, now_us: int, who: str, reason: str = "") -> int:
    """Change a key's state; the version of the change. ValueError for a state that does not exist."""
    if state not in KEY_STATES:
        raise ValueError(f"{state!r} is no key state: use {', '.join(KEY_STATES)}")
    dialect = sqlite if is_sqlite(connection) else postgresql
    statement = dialect.insert(key_states).values(
        key=key, state=state, changed_us=now_us, changed_by=who, reason=reason, version=1
    )
    statement = statement.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "state": state,
            "changed_us": now_us,
            "changed_by": who,
            "reason": reason,
            "version": key_states.c.version + 1,
        },
    )
    version = connection.execute(statement.returning(_k.version)).scalar_one()
    audit(connection, now_us, who, f"key.{state}", key, reason)
    return int(version)


def state_row(connection: Connection, key: str) -> dict[str, Any] | None:
    """The key's state as it was last set; None if it never was (it is active)."""
    row = connection.execute(select(key_states).where(_k.key == key)).mappings().first()
    return None if row is None else dict(row)


def list_key_states(connection: Connection) -> list[dict[str, Any]]:
    """All states that were ever set, by key."""
    return [dict(row) for row in connection.execute(select(key_states).order_by(_k.key)).mappings()]
