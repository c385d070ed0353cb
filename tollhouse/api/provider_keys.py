"""Provider keys as operators see and change them; the command line and the API share it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.admission import OPEN
from pipeline.ledger import Ledger
from pipeline.ledger.catalogs import list_key_states
from pipeline.ledger.own_keys import list_fingerprints
from schemas.instants import format_instant
from tollhouse.errors import UserError


def key_list(ledger: Ledger) -> list[dict[str, Any]]:
    """Every key of the catalog with its state, by id; the secret is nowhere in this system."""
    catalog = ledger.context().catalog
    states = {row["key"]: row for row in ledger.read(list_key_states)}
    prints = ledger.read(list_fingerprints)
    found = []
    for key in sorted(catalog.keys.values(), key=lambda k: k.id):
        row, known = states.get(key.id), prints.get(key.id)
        found.append(
            {
                "key": key.id,
                "provider": key.provider,
                "kind": key.kind,
                "tenant": key.tenant,
                "provider_key_id": key.provider_key_id,
                "models": list(key.models),
                "requests_per_minute": key.requests_per_minute,
                "tokens_per_minute": key.tokens_per_minute,
                "fingerprint": known["fingerprint"] if known else None,
                "last_four": known["last_four"] if known else None,
                "state": row["state"] if row else "active",
                "changed_at": format_instant(row["changed_us"]) if row else None,
                "changed_by": row["changed_by"] if row else None,
                "reason": row["reason"] if row else "",
            }
        )
    return found


def change_key(ledger: Ledger, key: str, state: str, now_us: int, who: str, reason: str) -> dict[str, Any]:
    """Bring a key to a state; the key as `key_list` shows it. UserError for an unknown key, or one revoked before.

    A revoked key stays so: it was given up at the provider, and a new one has a new id. A key that is rotated comes
    with `successors`, the keys that take its new calls; none: those calls are refused as key_unavailable.
    """
    known = {row["key"]: row for row in key_list(ledger)}
    if key not in known:
        raise UserError(f"{key!r} is no key of the catalog: it has {', '.join(known) or 'none'}")
    if known[key]["state"] == "revoked" and state != "revoked":
        raise UserError(f"{key} is revoked for good: give its successor a new id in the catalog")
    ledger.set_key_state(key, state, now_us, who, reason)
    rows = key_list(ledger)
    row = next(row for row in rows if row["key"] == key)
    return row | {"successors": successors(row, rows)} if state == "rotating" else row


def successors(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which other keys take new calls while this one drains: of its provider and owner, active, and for its models."""
    same = ("provider", "kind", "tenant")
    return [
        other["key"]
        for other in rows
        if other["key"] != row["key"]
        and other["state"] in OPEN
        and all(other[name] == row[name] for name in same)
        and ("*" in other["models"] or set(row["models"]) <= set(other["models"]))
    ]
