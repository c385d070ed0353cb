"""What each service may do in a PostgreSQL ledger, table by table, and the SQL that grants it.

Four roles: `migration` owns the tables and alone changes them; it also does what changes the past on purpose (apply,
retention, erasure, restore). `worker`, `api` and `finance` read everything and write only what is listed here. None of
them empties a table, deletes an invoice or edits a line of the audit log.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, Table

from pipeline.ledger.schema import VERSION_TABLE
from pipeline.ledger.tables import metadata

OWNER: Final = "migration"
ROLES: Final = ("worker", "api", "finance")

# I insert, U update (and lock a row), D delete.
WRITES: Final[Mapping[str, Mapping[str, str]]] = {
    "worker": {
        "events": "IUD",  # deleted: held corrections whose time is over
        "rollups": "IU",
        "rollup_days": "ID",
        "rollup_months": "ID",
        "compacted": "IU",
        "late_quarters": "IUD",
        "quota_windows": "IU",
        "reservations": "U",
        "rejected": "I",
        "intake": "IU",
        "topic_generations": "I",
        "outbox": "IUD",
        "key_states": "IU",
        "alerts": "IU",
        "deliveries": "IU",
        "responses": "IU",
        "detector_states": "IU",
        "leak_scores": "IUD",
        "residuals": "IU",
        "billing_documents": "IU",  # its own kinds only: WORKER_KINDS
        "audit_log": "I",
    },
    "api": {
        "events": "IU",  # rejected ones that a person has judged anew; it hands all others to the topic
        "rollups": "IU",
        "late_quarters": "IU",
        "intake": "IU",
        "quota_windows": "IU",
        "reservations": "IU",
        "rejected": "IU",
        "outbox": "I",
        "key_states": "IU",
        "key_fingerprints": "I",
        "alerts": "IU",
        "deliveries": "IU",
        "responses": "U",
        "revoked_tokens": "I",
        "sessions": "IUD",
        "sign_ins": "ID",
        "invoices": "IU",
        "credit_notes": "I",
        "billing_documents": "IU",
        "audit_log": "I",
    },
    "finance": {
        "invoices": "IU",
        "credit_notes": "I",
        "billing_documents": "IU",
        "alerts": "IU",
        "deliveries": "I",
        "outbox": "I",
        "residuals": "IU",
        "audit_log": "I",
    },
}
OWNERS: Final = ("catalogs", "signing_keys", "dropped_months", "dropped_places")
"""Tables that no service writes."""
WORKER_KINDS: Final = ("cursor", "audit")
"""Of billing_documents: how far invoices were published, and the end of the audit log's chain."""
_WORDS: Final = {"I": "INSERT", "U": "UPDATE", "D": "DELETE"}

_HEAD: Final = """\
-- Roles of least privilege for a Tollhouse ledger on PostgreSQL. Made by `python scripts/roles.py`; do not edit.
--
-- Run it as a superuser in the ledger's database: once after the first `tollhouse migrate`, and after each later one.
--
--   psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--   psql "$ADMIN_URL" -c "CREATE ROLE tollhouse_worker_1 LOGIN PASSWORD '...' IN ROLE tollhouse_worker"
--
-- The roles themselves cannot sign in; give each service a user of its own in one of them.
BEGIN;
"""


def roles_sql(prefix: str = "tollhouse") -> str:
    """The whole file. prefix: of the roles' names; lower-case letters, digits and underscores."""
    if not prefix.isidentifier() or prefix != prefix.lower():
        raise ValueError(f"{prefix!r} is no prefix of a role's name")
    names = {role: f"{prefix}_{role}" for role in (OWNER, *ROLES)}
    all_services = ", ".join(names[role] for role in ROLES)
    tables = [*sorted(metadata.tables), VERSION_TABLE]
    parts = [_HEAD, *(_make(name) for name in names.values()), _database(all_services, names[OWNER])]
    parts += [f'ALTER TABLE "{table}" OWNER TO {names[OWNER]};' for table in tables]
    listed = ", ".join(f'"{table}"' for table in tables)
    parts += [f"\nREVOKE ALL ON {listed} FROM PUBLIC, {all_services};", f"GRANT SELECT ON {listed} TO {all_services};"]
    for role in ROLES:
        parts.append("")
        parts += [_grant(table, rights, names[role]) for table, rights in WRITES[role].items()]
    parts += ["", _rows(names), "COMMIT;", ""]
    return "\n".join(parts)


def _make(name: str) -> str:
    there = "duplicate_object OR unique_violation"  # the second when two do it at once
    return f"DO $$ BEGIN CREATE ROLE {name} NOLOGIN; EXCEPTION WHEN {there} THEN NULL; END $$;"


def _database(services: str, owner: str) -> str:
    return f"""
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM {services};
GRANT USAGE ON SCHEMA public TO {services};
GRANT USAGE, CREATE ON SCHEMA public TO {owner};
-- The services keep keys to look for in tables of their own session.
DO $$ BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO {services}, {owner}', current_database());
END $$;
"""


def _grant(table: str, rights: str, role: str) -> str:
    found = f'GRANT {", ".join(_WORDS[right] for right in rights)} ON "{table}" TO {role};'
    if "I" in rights and (sequence := _sequence(metadata.tables[table])):
        found += f"\nGRANT USAGE ON SEQUENCE {sequence} TO {role};"
    return found


def _sequence(table: Table) -> str:
    column = table.autoincrement_column
    counted = column is not None and isinstance(column.type, BigInteger) and column.autoincrement is not False
    return f"{table.name}_{column.name}_seq" if column is not None and counted else ""


def _rows(names: Mapping[str, str]) -> str:
    kinds = ", ".join(f"'{kind}'" for kind in WORKER_KINDS)
    others = f"{names['api']}, {names['finance']}"
    policies = {
        "everybody_reads": f"FOR SELECT TO {names['worker']}, {others} USING (true)",
        "billing_writes": f"FOR INSERT TO {others} WITH CHECK (true)",
        "billing_changes": f"FOR UPDATE TO {others} USING (true)",
        "worker_writes": f"FOR INSERT TO {names['worker']} WITH CHECK (kind IN ({kinds}))",
        "worker_changes": f"FOR UPDATE TO {names['worker']} USING (kind IN ({kinds}))",
    }
    lines = ['ALTER TABLE "billing_documents" ENABLE ROW LEVEL SECURITY;']
    for name, what in policies.items():
        lines.append(f'DROP POLICY IF EXISTS {name} ON "billing_documents";')
        lines.append(f'CREATE POLICY {name} ON "billing_documents" {what};')
    return "\n".join(lines)
