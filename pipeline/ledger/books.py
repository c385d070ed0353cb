"""Billing documents in the ledger: invoices, credit notes and number sequences, as the JSON that billing made of them.

A run reads a tenant's documents, computes and writes inside one transaction; runs take turns, so that a number is never
given twice and a month never has two invoices.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import billing_documents, credit_notes, invoices

_i, _n, _d = invoices.c, credit_notes.c, billing_documents.c

SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class Documents:
    """Plain data by identity: invoices by (tenant, month, revision), credit notes by number, sequences by series."""

    invoices: Mapping[tuple[str, str, int], dict[str, Any]]
    credit_notes: Mapping[str, dict[str, Any]]
    sequences: Mapping[str, int]


def take_turn(connection: Connection) -> None:
    """Wait until no other billing run writes, and then see the ledger as it is at that moment, however many statements
    read it: the transaction's first statement. SQLite's writers take turns anyway."""
    if not is_sqlite(connection):
        # A view is taken by the first statement that reads, and LOCK does not: what the run before wrote is in it.
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(text("LOCK TABLE invoices IN SHARE ROW EXCLUSIVE MODE"))


def load(connection: Connection, tenant: str | Collection[str] | None = None, month: str | None = None) -> Documents:
    """The documents of one tenant, of some or of all, of one month or of all, and every sequence."""
    found, notes = select(invoices), select(credit_notes)
    if tenant is not None:
        names = [tenant] if isinstance(tenant, str) else list(tenant)
        found, notes = found.where(_i.tenant.in_(names)), notes.where(_n.tenant.in_(names))
    if month is not None:
        found, notes = found.where(_i.month == month), notes.where(_n.month == month)
    rows = connection.execute(found.order_by(_i.tenant, _i.month, _i.revision)).all()
    series = connection.execute(select(_d.id, _d.document).where(_d.kind == SEQUENCE)).all()
    return Documents(
        {(row.tenant, row.month, row.revision): json.loads(row.document) for row in rows},
        {row.number: json.loads(row.document) for row in connection.execute(notes.order_by(_n.number))},
        {name: int(number) for name, number in series},
    )


def save(connection: Connection, before: Documents, after: Documents, now_us: int) -> None:
    """Write what differs. An invoice changes state by replacement of its row; a credit note never changes."""
    dialect = sqlite if is_sqlite(connection) else postgresql
    for key, document in after.invoices.items():
        if before.invoices.get(key) == document:
            continue
        tenant, month, revision = key
        values = {
            "status": document["status"],
            "number": document["number"],
            "changed_us": now_us,
            "document": json.dumps(document, sort_keys=True),
            "summary": json.dumps(summary_of(document), sort_keys=True),
        }
        statement = dialect.insert(invoices).values(tenant=tenant, month=month, revision=revision, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "month", "revision"], set_=values))
    for number, document in after.credit_notes.items():
        if number not in before.credit_notes:
            connection.execute(
                dialect.insert(credit_notes).values(
                    number=number,
                    tenant=document["tenant"],
                    month=document["month"],
                    revision=document["revision"],
                    issued_us=document["issued_at_us"],
                    document=json.dumps(document, sort_keys=True),
                )
            )
    for name, last in after.sequences.items():
        if before.sequences.get(name) != last:
            put(connection, SEQUENCE, name, str(last))


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What lists and sums of invoices need of a document; amounts as decimal strings."""
    types: dict[str, Decimal] = {}
    for line in document["lines"]:
        types[line["type"]] = types.get(line["type"], Decimal(0)) + Decimal(line["amount"])
    kept = {name: document[name] for name in ("currency", "subtotal", "tax", "total", "held")}
    return {**kept, "types": {name: str(amount) for name, amount in types.items()}}


def summaries(connection: Connection, tenant: str | None = None, month: str | None = None) -> list[dict[str, Any]]:
    """Of each invoice of one tenant or of all, of one month or of all: summary_of, with tenant, month, revision, status
    and number. Documents are not read."""
    columns = (_i.tenant, _i.month, _i.revision, _i.status, _i.number, _i.summary)
    query = select(*columns).order_by(_i.tenant, _i.month, _i.revision)
    if tenant is not None:
        query = query.where(_i.tenant == tenant)
    if month is not None:
        query = query.where(_i.month == month)
    found = []
    for row in connection.execute(query).mappings():
        key = {name: row[name] for name in ("tenant", "month", "revision", "status", "number")}
        kept = json.loads(row["summary"]) if row["summary"] is not None else _summary_anew(connection, dict(row))
        found.append({**key, **kept})
    return found


def counts(connection: Connection, tenant: str | None = None) -> dict[tuple[str, str], int]:
    """How many invoices there are by (month, status), of one tenant or of all."""
    query = select(_i.month, _i.status, func.count()).group_by(_i.month, _i.status)
    if tenant is not None:
        query = query.where(_i.tenant == tenant)
    return {(month, status): int(n) for month, status, n in connection.execute(query)}


def _summary_anew(connection: Connection, row: Mapping[str, Any]) -> dict[str, Any]:
    at = (_i[name] == row[name] for name in ("tenant", "month", "revision"))
    return summary_of(json.loads(connection.execute(select(_i.document).where(*at)).scalar_one()))


def changed_invoices(connection: Connection, since_us: int) -> list[Mapping[str, Any]]:
    """Rows of invoices that changed their state at or after the instant, in order of that."""
    query = select(invoices).where(_i.changed_us >= since_us).order_by(_i.changed_us, _i.tenant, _i.month, _i.revision)
    return [dict(row) for row in connection.execute(query).mappings()]


def put(connection: Connection, kind: str, name: str, document: str) -> None:
    """Keep a small document by kind and id, in the place of its former state."""
    dialect = sqlite if is_sqlite(connection) else postgresql
    statement = dialect.insert(billing_documents).values(kind=kind, id=name, document=document)
    connection.execute(statement.on_conflict_do_update(index_elements=["kind", "id"], set_={"document": document}))


def get(connection: Connection, kind: str, name: str) -> str | None:
    """A small document; None if there is none."""
    row = connection.execute(select(_d.document).where(_d.kind == kind, _d.id == name)).first()
    return row.document if row is not None else None


def get_some(connection: Connection, kind: str, names: Collection[str]) -> dict[str, str]:
    """Those of the small documents of a kind that there are, by id."""
    found = connection.execute(select(_d.id, _d.document).where(_d.kind == kind, _d.id.in_(names)))
    return {row.id: row.document for row in found}


def get_all(connection: Connection, kind: str) -> dict[str, str]:
    """All small documents of a kind, by id."""
    found = connection.execute(select(_d.id, _d.document).where(_d.kind == kind).order_by(_d.id))
    return {row.id: row.document for row in found}
