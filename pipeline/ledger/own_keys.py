"""Fingerprints of provider keys: which key of the catalog a secret belongs to, without the secret."""

from typing import Any

from sqlalchemy import Connection, insert, select

from pipeline.ledger.key_states import audit
from pipeline.ledger.tables import key_fingerprints

_f = key_fingerprints.c


def find_fingerprint(connection: Connection, fingerprint: str) -> str | None:
    """The id of the key that was registered with it."""
    key: str | None = connection.execute(select(_f.key).where(_f.fingerprint == fingerprint)).scalar()
    return key


def list_fingerprints(connection: Connection) -> dict[str, dict[str, Any]]:
    """The newest fingerprint of each key: fingerprint, last_four, registered_us, registered_by."""
    rows = connection.execute(select(key_fingerprints).order_by(_f.registered_us, _f.fingerprint)).mappings()
    return {row["key"]: dict(row) for row in rows}


def register_fingerprint(
    connection: Connection, key: str, fingerprint: str, last_four: str, now_us: int, who: str
) -> str:
    """Note the fingerprint of a key's secret; the id of the key that it belongs to, another's if it was known as that.

    Lines are only added: a key whose secret was changed has several, and an old secret is still recognised.
    """
    known = find_fingerprint(connection, fingerprint)
    if known is not None:
        return known
    connection.execute(
        insert(key_fingerprints).values(
            fingerprint=fingerprint, key=key, last_four=last_four, registered_us=now_us, registered_by=who
        )
    )
    audit(connection, now_us, who, "key.register", key, f"{fingerprint[:15]}… ends in {last_four}")
    return key
