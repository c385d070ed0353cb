"""`tollhouse audit` on a billed month: no difference, and one line for what was changed by hand."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.alerts import find_alert
from tests.integration.cli.installation import Installation
from tollhouse.auditing import ALERT

Change = Callable[[dict[str, Any]], None]


def rewrite(database: Path, table: str, where: str, change: Change) -> None:
    """Change a document where it is kept, as a hand in the database would."""
    with sqlite3.connect(database) as connection:
        (text,) = connection.execute(f"SELECT document FROM {table} WHERE {where}").fetchone()
        document = json.loads(text)
        change(document)
        connection.execute(f"UPDATE {table} SET document = ? WHERE {where}", (json.dumps(document),))


def test_a_billed_month_audits_clean_and_a_changed_invoice_does_not(october: Installation) -> None:
    closed = october.at("2026-11-04T06:00:00Z")
    assert closed("invoices", "finalise", "--month", "2026-10").code == 0
    clean = closed("audit", "--json")
    assert (clean.code, clean.json()["differences"]) == (0, [])
    changes = {
        "UPDATE invoices SET status = 'paid' WHERE tenant = 'acme'": "documents: acme 2026-10: status is paid",
        "DELETE FROM invoices WHERE tenant = 'bolt'": "was given and is missing",
    }
    for statement, line in changes.items():
        with sqlite3.connect(october.database) as database:
            assert database.execute(statement).rowcount == 1
        found = closed("audit")
        assert found.code == 1
        assert line in found.out


def _one_cent_less(invoice: dict[str, Any]) -> None:
    invoice["lines"][0]["amount"] = "0.01"


def _cheaper_throughout(invoice: dict[str, Any]) -> None:
    """A line without its usage, and every sum of the document with it: the arithmetic holds, the events do not."""
    line = next(line for line in invoice["lines"] if line["type"] == "usage")
    lost = line["amount"]
    for name in ("amount", "unrounded", "quantity"):
        line[name] = "0"
    line["parts"] = []
    for name in ("subtotal", "total"):
        invoice[name] = str(float(invoice[name]) - float(lost))


def _half(note: dict[str, Any]) -> None:
    note["amount"] = "1.00"


def _another_invoice(note: dict[str, Any]) -> None:
    note["revision"] = 7


@pytest.mark.parametrize(
    ("table", "change", "line"),
    [
        ("invoices", _one_cent_less, "invoices: INV-2026-"),
        ("invoices", _cheaper_throughout, "invoices: INV-2026-"),
        ("credit_notes", _half, "credit notes: notes on INV-2026-"),
        ("credit_notes", _another_invoice, "which is not there"),
    ],
)
def test_a_document_that_was_changed_by_hand_is_found(
    october: Installation, table: str, change: Change, line: str
) -> None:
    closed = october.at("2026-11-04T06:00:00Z")
    assert closed("invoices", "finalise", "--month", "2026-10").code == 0
    assert closed("invoices", "void", "--tenant", "bolt", "--month", "2026-10", "--reason", "test").code == 0
    assert closed("audit", "--no-broker").code == 0
    where = {"invoices": "tenant = 'acme'", "credit_notes": "tenant = 'bolt'"}[table]
    rewrite(october.database, table, where, change)
    found = closed("audit", "--no-broker")
    assert found.code == 1
    assert line in found.out


def test_a_difference_raises_one_alert_that_counts_on(october: Installation) -> None:
    assert october("audit", "--alert", "--no-broker").code == 0
    ledger = Ledger(f"sqlite:///{october.database}")
    assert ledger.read(lambda connection: find_alert(connection, ALERT)) is None
    with sqlite3.connect(october.database) as database:
        database.execute("UPDATE rollups SET output = output + 1 WHERE tenant = 'acme'")
    for _ in range(2):
        assert october("audit", "--alert", "--no-broker").code == 1
    alert = ledger.read(lambda connection: find_alert(connection, ALERT))
    assert alert is not None
    assert (alert["kind"], alert["severity"], alert["state"], alert["count"]) == ("pipeline", "page", "open", 2)
    assert "rollups: " in alert["detail"]
    ledger.close()


def test_the_end_of_the_log_is_told_and_asked_for_again(october: Installation) -> None:
    told = october("audit", "--json", "--no-broker").json()["audit_log"]
    assert october("keys", "suspend", "pool-1").code == 0
    assert october("audit", "--no-broker", "--anchor", told).code == 0
    missing = october("audit", "--no-broker", "--anchor", f"99:{told.partition(':')[2]}")
    assert (missing.code, "the anchor's line 99 is missing" in missing.out) == (1, True)
    wrong = october("audit", "--anchor", "x")
    assert wrong.code == 2
    assert "give N:DIGEST" in wrong.err


def test_without_a_broker_it_says_what_was_not_compared(october: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", "127.0.0.1:1")
    found = october("audit", "--json")
    assert found.code == 0
    assert found.json()["notes"][0].startswith("broker: not compared: 127.0.0.1:1 does not answer")
    assert "broker" not in found.json()["checks"]
