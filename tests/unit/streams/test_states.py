"""What leaves after a commit is absolute and plain: invoices by their state, quotas in decimal notation."""

from __future__ import annotations

import json
from decimal import Decimal
from threading import Thread

from pipeline.context import WindowKey
from pipeline.ledger import Ledger, books
from pipeline.ledger.record import QuotaState
from schemas.catalog import Quota
from streams.publishing import invoice_message, quota_state_message

DOCUMENT = {
    "status": "finalised",
    "number": "INV-2026-000001",
    "currency": "USD",
    "subtotal": "12.30",
    "tax": "0.00",
    "total": "12.30",
    "held": [],
    "lines": [],
}


def save(ledger: Ledger, status: str, at_us: int) -> None:
    """One invoice in this state."""
    key = ("acme", "2026-10", 1)
    empty = books.Documents({}, {}, {})
    document = {**DOCUMENT, "status": status}
    ledger.write(lambda c: books.save(c, empty, books.Documents({key: document}, {}, {}), at_us))


def test_an_invoice_is_told_by_its_newest_state() -> None:
    ledger = Ledger("sqlite://")
    ledger.create()
    save(ledger, "finalised", 1_000_000)
    save(ledger, "paid", 5_000_000)
    rows = ledger.read(lambda c: books.changed_invoices(c, 2_000_000))
    key, value = invoice_message(rows[0])
    assert key == b"acme/2026-10/r1"
    assert json.loads(value) == {
        "tenant": "acme",
        "month": "2026-10",
        "revision": 1,
        "status": "paid",
        "number": "INV-2026-000001",
        "currency": "USD",
        "subtotal": "12.30",
        "tax": "0.00",
        "total": "12.30",
        "changed": "1970-01-01T00:00:05Z",
    }
    assert ledger.read(lambda c: books.changed_invoices(c, 5_000_001)) == []


def test_a_tiny_reserve_is_no_power_of_ten() -> None:
    quota = Quota("daily", "cost", Decimal("5.00"), "day")
    state = QuotaState(WindowKey("tenant:acme", "daily", "cost/*/day", 0, 86_400_000_000), quota, 5, 1, 1)
    body = json.loads(quota_state_message(state, 0)[1])
    assert (body["used"], body["reserved"], body["limit"]) == ("0.000000000005", "0.000000000001", "5")


def test_processes_that_open_a_new_database_at_once_take_turns(database_url: str) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        ledger = Ledger(database_url)
        try:
            ledger.create()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the failure looked for
            failures.append(error)
        finally:
            ledger.close()

    threads = [Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
