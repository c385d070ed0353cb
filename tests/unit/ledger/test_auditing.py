"""The audit finds what was changed by hand, on both databases, and nothing where nothing was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import text

from pipeline.admission import Ask
from pipeline.alerting import Alert
from pipeline.ledger import Ledger, chain
from pipeline.ledger.auditing import differences
from schemas.instants import DAY_US
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event, ref

QUOTA = {"name": "t", "meter": "tokens", "limit": 1000, "window": "day"}
TAMPERING = {
    "event deleted": ("intake", "DELETE FROM events WHERE id = 'e1'"),
    "event altered": ("rollups", "UPDATE events SET input = input + 1 WHERE id = 'e1'"),
    "event of another model": ("rollups", "UPDATE events SET model = 'x' WHERE id = 'e1'"),
    "event of another tenant": ("rollups", "UPDATE events SET tenant = 'beta' WHERE id = 'e1'"),
    "event of another time": ("events", "UPDATE events SET time_us = time_us + 1 WHERE id = 'e1'"),
    "event on another key": ("rollups", "UPDATE events SET key = 'k2' WHERE id = 'e1'"),
    "event an error": ("rollups", "UPDATE events SET status = 'error' WHERE id = 'e1'"),
    "event doubled": ("intake", "event"),
    "event uncounted": ("events", "UPDATE events SET state = 'voided' WHERE id = 'e1'"),
    "voided event counted": ("rollups", "UPDATE events SET state = 'counted', by_id = NULL WHERE id = 'e2'"),
    "void deleted": ("events", "DELETE FROM events WHERE id = 'v2'"),
    "event moved on": ("intake", "UPDATE events SET \"offset\" = 99 WHERE id = 'e1'"),
    "redelivery forgotten": ("redelivered", "UPDATE events SET redelivered = 0"),
    "held released": ("intake", "UPDATE events SET state = 'applied' WHERE state = 'held'"),
    "rollup deleted": ("rollups", "DELETE FROM rollups"),
    "rollup altered": ("rollups", "UPDATE rollups SET output = output + 1"),
    "counters deleted": ("intake", "DELETE FROM intake"),
    "received altered": ("intake", "UPDATE intake SET received = received + 1"),
    "counted and received": ("intake", "UPDATE intake SET received = received + 1, counted = counted + 1"),
    "duplicates altered": ("redelivered", "UPDATE intake SET received = received + 1, duplicates = duplicates + 1"),
    "offset set back": ("intake", "UPDATE intake SET next_offset = 0"),
    "rejection deleted": ("intake", "DELETE FROM rejected"),
    "rejection altered": ("rejected", "UPDATE rejected SET raw = digest"),
    "reserved altered": ("reservations", "UPDATE quota_windows SET reserved = 0"),
    "reservation deleted": ("reservations", "DELETE FROM reservations"),
    "reservation ended": ("reservations", "UPDATE reservations SET state = 'released'"),
    "catalog altered": ("catalogs", "UPDATE catalogs SET document = replace(document, '1.00', '9.00')"),
    "catalog deleted": ("catalogs", "DELETE FROM catalogs"),
    "key restored": ("key states", "UPDATE key_states SET state = 'active'"),
    "log line deleted": ("key states", "DELETE FROM audit_log WHERE action = 'key.revoked'"),
    "first log line deleted": ("audit log", "DELETE FROM audit_log WHERE n = 1"),
    "log line altered": ("audit log", "UPDATE audit_log SET who = 'ada' WHERE n = 1"),
    "log line put in": (
        "audit log",
        "INSERT INTO audit_log (n, at_us, who, action, subject, detail, hash) VALUES (0, 1, 'a', 'b', 'c', 'd', '')",
    ),
    "log line put at the end": (
        "audit log",
        "INSERT INTO audit_log (n, at_us, who, action, subject, detail, hash) VALUES (99, 1, 'a', 'b', 'c', 'd', '')",
    ),
    "log lines exchanged": ("audit log", "UPDATE audit_log SET n = -n"),
    "log truncated": ("audit log", "DELETE FROM audit_log WHERE n = 2"),
    "log emptied": ("audit log", "DELETE FROM audit_log"),
    "quota's use altered": ("quotas", "UPDATE quota_windows SET used = used - 1"),
    "alert altered": ("alerts", "UPDATE alerts SET count = 0"),
    "alert deleted": ("alerts", "DELETE FROM alerts"),
    "alert never told": ("alerts", "DELETE FROM deliveries"),
    "invoice number taken": (
        "documents",
        "INSERT INTO billing_documents (kind, id, document) VALUES ('sequence', 'INV-2026', '1')",
    ),
}


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    made.apply(catalog(tenants={"acme": {"plan": "p", "quotas": [QUOTA]}, "beta": {"plan": "p"}}, keys={
        "k1": {"provider": "openai", "kind": "pooled"}, "k2": {"provider": "openai", "kind": "pooled"},
    }), TIME_US - DAY_US, "test")  # fmt: skip
    made.set_key_state("k2", "revoked", TIME_US, "test")
    documents = [
        event("e1", input=5, output=3),
        event("e1", input=5, output=3),
        event("e2", input=7),
        event("v2", kind="void", voids=ref("e2")),
        event("bad", key="k9", input=1),
        event("v", kind="void", voids=ref("unseen")),
    ]
    made.take(
        [Delivery(json.dumps(d).encode(), ARRIVAL_US, Evidence("t", 0, i, 0)) for i, d in enumerate(documents)],
        ARRIVAL_US,
    )
    made.raise_alerts([Alert("x", TIME_US, "pipeline", "ticket", "acme", "made up")])
    assert made.authorize(Ask(id="r", tenant="acme", model="m", estimate={"tokens": Decimal(10)}), ARRIVAL_US).allowed
    yield made
    made.close()


def test_an_untouched_ledger_has_no_difference(ledger: Ledger) -> None:
    assert ledger.read(differences) == []


def test_tampering_is_found(ledger: Ledger) -> None:
    """Every kind in a transaction that is undone: the ledger is whole again before the next one."""
    missed = {}
    for kind, (check, statement) in TAMPERING.items():
        with ledger.engine.connect() as connection, connection.begin() as transaction:
            if statement == "event":
                row = dict(connection.execute(text("SELECT * FROM events WHERE id = 'e1'")).mappings().one())
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO events ({names}) VALUES ({marks})"), row | {"id": "e9"})
            else:
                assert connection.execute(text(statement)).rowcount > 0, kind
            found = differences(connection)
            transaction.rollback()
        if not any(line.startswith(f"{check}: ") for line in found):
            missed[kind] = found
    assert missed == {}
    assert ledger.read(differences) == []


def test_a_tail_cut_off_with_all_that_knows_of_it_is_found_by_an_anchor(ledger: Ledger) -> None:
    seen = ledger.read(chain.head)
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM key_states"))
        connection.execute(text("DELETE FROM audit_log WHERE n = :n"), {"n": seen.n})
        connection.execute(
            text("UPDATE billing_documents SET document = :end WHERE kind = 'audit'"),
            {"end": chain.head(connection).text()},
        )
    assert ledger.read(differences) == []
    anchor = chain.parse_anchor(seen.text())
    found = ledger.read(lambda connection: list(chain.verify(connection, anchor)))
    assert found == [f"the anchor's line {seen.n} is missing"]
    ledger.set_key_state("k2", "active", TIME_US, "mallory")
    found = ledger.read(lambda connection: list(chain.verify(connection, anchor)))
    assert found == [f"line {seen.n} has another digest than the anchor"]


@pytest.mark.parametrize("said", ["", "7", "x:" + "0" * 64, "7:abc"])
def test_what_is_no_anchor_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="is no anchor"):
        chain.parse_anchor(said)


def test_writers_at_once_make_one_chain(ledger: Ledger) -> None:
    before = ledger.read(chain.head).n

    def write(worker: int) -> None:
        for step in range(5):
            ledger.set_key_state(f"key-{worker}", "suspended" if step % 2 else "active", TIME_US, f"operator:{worker}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert ledger.read(chain.head).n == before + 20
    assert ledger.read(differences) == []
