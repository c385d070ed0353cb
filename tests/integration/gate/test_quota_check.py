"""`quotas --check`: counters that were tampered with are found, reported and put right; others are left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.admission import Ask
from pipeline.ledger import Ledger
from pipeline.ledger.tables import audit_log, quota_windows
from schemas.instants import SECOND_US
from schemas.usage_event import Delivery, Evidence
from tests.unit.cli.command import Result, tollhouse
from tests.unit.pipeline.events import TIME_US, catalog, event
from tollhouse.quotas import quota_check

CATALOG = catalog(
    tenants={
        "acme": {
            "plan": "p",
            "quotas": [
                {"name": "t", "meter": "tokens", "limit": 10_000, "window": "day"},
                {"name": "c", "meter": "cost", "limit": "1.00", "window": "month"},
            ],
        }
    },
    keys={"k1": {"provider": "openai", "kind": "pooled"}},
)
EMPTY = {"skipped": 0, "repaired": False, "drifts": []}


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """A ledger with one event counted and one hold open."""
    made = Ledger(database_url)
    made.create()
    made.apply(CATALOG, TIME_US - SECOND_US, "test")
    delivery = Delivery(
        json.dumps(event("e1", input=100, output=20)).encode(), TIME_US, Evidence("usage.events", 0, 0, 0)
    )
    assert made.take([delivery], TIME_US).counted == 1
    assert made.authorize(Ask("open", "acme", "m", {"tokens": Decimal(70)}), TIME_US).allowed
    yield made
    made.close()


def test_what_was_counted_and_held_agrees(ledger: Ledger) -> None:
    found = quota_check(ledger, TIME_US, "test", repair=False)
    assert found == {"windows": 2, **EMPTY}
    assert ledger.rows(quota_windows, quota_windows.c.reserved == 70)


@pytest.mark.parametrize(("column", "by"), [("used", 5), ("used", -3), ("reserved", 11), ("reserved", -70)])
def test_a_counter_that_was_tampered_with_is_found_and_repaired(ledger: Ledger, column: str, by: int) -> None:
    c = quota_windows.c
    (before,) = ledger.rows(quota_windows, c.name == "t")
    ledger.write(lambda db: db.execute(quota_windows.update().where(c.name == "t").values({column: c[column] + by})))
    found = quota_check(ledger, TIME_US, "test", repair=False)
    (drift,) = found["drifts"]
    right = {"used": "counted", "reserved": "held"}[column]
    assert (drift["scope"], drift["name"]) == ("tenant:acme", "t")
    assert int(drift[column]) - int(drift[right]) == by

    assert quota_check(ledger, TIME_US, "test", repair=True)["drifts"] == found["drifts"]
    (after,) = ledger.rows(quota_windows, c.name == "t")
    assert (after["used"], after["reserved"]) == (before["used"], before["reserved"])
    assert after["version"] > before["version"]
    assert quota_check(ledger, TIME_US, "test", repair=False)["drifts"] == []
    (note,) = ledger.rows(audit_log, audit_log.c.action == "quota.repair")
    assert (note["who"], note["subject"].split("/")[:2]) == ("test", ["tenant:acme", "t"])


def test_the_command_fails_until_it_has_repaired(tmp_path: Path) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'tollhouse.db'}")
    made.create()
    made.apply(CATALOG, TIME_US - SECOND_US, "test")
    assert made.authorize(Ask("open", "acme", "m", {"tokens": Decimal(70)}), TIME_US).allowed
    made.write(lambda db: db.execute(quota_windows.update().values(reserved=quota_windows.c.reserved + 1)))
    made.close()

    def quotas(*arguments: str) -> Result:
        return tollhouse("quotas", *arguments, "--dir", tmp_path, "--json")

    found = quotas("--check")
    assert found.code == 1, found.err
    assert "differ from the ledger" in found.err
    assert quotas("--check", "--repair").code == 0
    found = quotas("--check")
    assert (found.code, found.json()["drifts"]) == (0, [])
    assert quotas("--repair").code == 2
