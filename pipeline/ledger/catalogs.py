"""Catalog versions and key states: what was in force when, who changed it."""

import json
from functools import lru_cache
from hashlib import sha256

from sqlalchemy import Connection, func, insert, select

from pipeline.catalog import parse_data
from pipeline.context import Context
from pipeline.ledger.key_states import KEY_STATES, audit, list_key_states, set_key_state
from pipeline.ledger.rebanding import reband
from pipeline.ledger.responses import throttles
from pipeline.ledger.tables import catalogs, key_states
from pipeline.ledger.windows import recount_costs
from schemas.catalog import Catalog

_c, _k = catalogs.c, key_states.c

__all__ = [
    "KEY_STATES",
    "NoCatalog",
    "apply_catalog",
    "audit",
    "catalog_version",
    "document_of",
    "list_key_states",
    "list_versions",
    "load_context",
    "newest_version",
    "set_key_state",
    "stamp",
]


class NoCatalog(Exception):
    """No catalog was applied yet."""

    def __init__(self) -> None:
        super().__init__("no catalog was applied yet: run `tollhouse apply catalog.yaml`")


def document_of(catalog: Catalog) -> str:
    """The catalog's document as it is stored: JSON with members in order of their names."""
    return json.dumps(catalog.source, sort_keys=True, separators=(",", ":"), default=str)


def apply_catalog(connection: Connection, catalog: Catalog, now_us: int, who: str) -> int:
    """Keep the catalog as the newest version, in force from now on; its number. The same again is no change."""
    document = document_of(catalog)
    digest = sha256(document.encode()).hexdigest()
    newest = connection.execute(select(_c.version, _c.digest).order_by(_c.version.desc()).limit(1)).first()
    if newest is not None and newest.digest == digest:
        return int(newest.version)
    old = load_context(connection) if newest is not None else None
    version = int(newest.version) + 1 if newest is not None else 1
    connection.execute(
        insert(catalogs).values(version=version, applied_us=now_us, applied_by=who, document=document, digest=digest)
    )
    audit(connection, now_us, who, "catalog.apply", f"version {version}", digest)
    if old is not None:
        new = load_context(connection)
        reband(connection, old, new)
        if new.catalog.provider_prices != old.catalog.provider_prices:
            recount_costs(connection, new, now_us)
    return version


@lru_cache(maxsize=64)
def _parsed(document: str) -> Catalog:
    catalog = parse_data(json.loads(document))
    if isinstance(catalog, list):
        raise ValueError(f"a stored catalog no longer parses: {catalog[0]}")
    return catalog


def catalog_version(connection: Connection, version: int) -> Catalog:
    """The catalog of a version; KeyError if there is none."""
    row = connection.execute(select(_c.document).where(_c.version == version)).first()
    if row is None:
        raise KeyError(version)
    return _parsed(row.document)


def list_versions(connection: Connection, limit: int) -> list[dict[str, object]]:
    """Versions without their documents, the newest first: version, applied_us, applied_by, digest."""
    query = select(_c.version, _c.applied_us, _c.applied_by, _c.digest).order_by(_c.version.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def newest_version(connection: Connection) -> int:
    """The number of the newest catalog; NoCatalog before the first."""
    version = connection.execute(select(func.max(_c.version))).scalar()
    if version is None:
        raise NoCatalog
    return int(version)


def load_context(connection: Connection) -> Context:
    """The newest catalog with the keys' states; NoCatalog before the first."""
    row = connection.execute(
        select(_c.version, _c.applied_us, _c.document).order_by(_c.version.desc()).limit(1)
    ).first()
    if row is None:
        raise NoCatalog
    keys = connection.execute(select(_k.key, _k.state, _k.changed_us)).all()
    states = {key: state for key, state, _ in keys}
    revoked = {key: int(changed_us) for key, state, changed_us in keys if state == "revoked"}
    return Context(int(row.version), _parsed(row.document), states, int(row.applied_us), revoked, throttles(connection))


def stamp(connection: Connection) -> tuple[int, int]:
    """A cheap mark that changes whenever load_context would: (catalog version, sum of key state versions)."""
    versions = connection.execute(select(func.coalesce(func.sum(_k.version), 0))).scalar_one()
    return newest_version(connection), int(versions)
