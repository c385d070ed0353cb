"""Months that are dropped: sums, invoices and proofs stay, nothing of them counts again, what is unsettled waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from pipeline.ledger import Ledger, dropped
from pipeline.ledger.archive import figures
from pipeline.ledger.auditing import differences
from pipeline.ledger.tables import events, intake, rejected, rollups
from schemas.instants import parse_instant
from schemas.usage_event import VOID_TYPE, Delivery, Evidence
from tests.integration.cli.installation import CATALOG, Installation, event, installation
from tollhouse.retention import apply, plan

__all__ = ["installation"]

FEBRUARY = parse_instant("2027-02-10T00:00:00Z")


def void(name: str, at: str, target: str) -> dict[str, Any]:
    return {
        "specversion": "1.0", "type": VOID_TYPE, "source": "proxy/eu-1", "id": name, "time": at, "subject": "acme",
        "data": {"voids": {"source": "proxy/eu-1", "id": target}, "reason": "test"},
    }  # fmt: skip


DOCUMENTS = [
    event("a1", "2026-10-02T10:00:00Z", input=1_500_000, output=100_000),
    event("a2", "2026-10-20T10:00:00Z", input=500_000, output=100_000),
    event("a2", "2026-10-20T10:00:00Z", input=500_000, output=100_000),
    event("bad", "2026-10-21T10:00:00Z", tenant="nobody", input=1),
    event("gone", "2026-10-31T20:00:00Z", input=70),
    void("v1", "2026-10-31T20:00:01Z", "later"),
    event("later", "2026-11-01T05:00:00Z", input=80),
    void("v2", "2026-11-02T00:00:00Z", "gone"),
    event("b1", "2026-10-05T10:00:00Z", "bolt", input=1_000_000),
    event("a3", "2026-11-20T10:00:00Z", input=10),
]


def deliveries() -> list[Delivery]:
    return [
        Delivery(json.dumps(d).encode(), parse_instant(d["time"]) + 1_000_000, Evidence("usage.events", 0, n, 0))
        for n, d in enumerate(DOCUMENTS)
    ]


@pytest.fixture
def billed(installation: Installation) -> Iterator[tuple[Installation, Ledger]]:
    """October invoiced for acme and bolt, November for acme alone; it is February."""
    ledger = Ledger(installation.database_url)
    for delivery in deliveries():
        ledger.take([delivery], delivery.arrival_us)
    for tenant, month, now in (
        ("acme", "2026-10", "2026-11-04T06:00:00Z"),
        ("bolt", "2026-10", "2026-11-04T06:00:00Z"),
        ("acme", "2026-11", "2026-12-04T06:00:00Z"),
    ):
        done = installation.at(now)("invoices", "finalise", "--month", month, "--tenant", tenant)
        assert done.code == 0, done
    installation.at("2027-02-10T00:00:00Z")
    yield installation, ledger
    ledger.close()


def test_sums_invoices_and_proofs_stay(billed: tuple[Installation, Ledger]) -> None:
    house, ledger = billed
    before = {name: house("explain", name, "--json").json()["lines"] for name in ("acme/2026-10", "bolt/2026-10")}
    usage = house("usage", "--by", "tenant,day", "--format", "json").json()
    sums = ledger.read(figures)
    shown = house("retention", "--months", "3", "--json").json()
    assert not shown["applied"]
    assert ledger.read(figures) == sums
    done = house("retention", "--months", "3", "--apply", "--json").json()["months"]
    assert [(m["tenant"], m["what"], m["month"], m["dropped"]) for m in done] == [
        ("acme", "events", "2026-10", 3),
        ("bolt", "events", "2026-10", 1),
        (None, "rejected", "2026-10", 1),
    ]
    left = sorted(row["id"] for row in ledger.rows(events))
    assert left == ["a3", "later", "v1", "v2"]  # a void stays as long as what it voids
    assert ledger.rows(rejected) == []
    assert ledger.read(figures)["rollups"] == sums["rollups"]
    assert ledger.read(figures)["intake"] == sums["intake"]
    assert house("usage", "--by", "tenant,day", "--format", "json").json() == usage
    for name, lines in before.items():
        kept = house("explain", name, "--json").json()["lines"]
        assert [{k: v for k, v in line.items() if k != "kept"} for line in kept] == lines
        assert all("kept" in line for line in kept)
    assert "before the month's events were dropped" in house("explain", "acme/2026-10").out
    audited = house("audit", "--no-broker")
    assert (audited.code, audited.out) == (0, audited.out), audited
    assert house("quotas", "--check").code == 0
    again = house("retention", "--months", "3", "--apply", "--json").json()["months"]
    assert again == []


def test_what_is_read_again_or_comes_late_never_counts_again(billed: tuple[Installation, Ledger]) -> None:
    _, ledger = billed
    apply(ledger, 3, FEBRUARY, "test")
    before = ledger.read(figures)
    ledger.take(deliveries(), FEBRUARY)  # the topic from its beginning
    after = ledger.read(figures)
    assert {n: after[n] for n in ("events", "rollups", "rejected", "intake", "quota_windows")} == {
        n: before[n] for n in ("events", "rollups", "rejected", "intake", "quota_windows")
    }
    anew = [
        Delivery(d.raw, d.arrival_us, Evidence("usage.events", 0, 100 + n, 0)) for n, d in enumerate(deliveries()[:2])
    ]
    recorded = ledger.take(anew, FEBRUARY)  # sent again, by a broker whose clock stands still
    assert [refused.reason for refused in recorded.rejected] == ["too_old", "too_old"]
    assert ledger.read(figures)["rollups"] == before["rollups"]
    assert ledger.read(differences) == []


def test_the_next_invoices_do_not_take_the_month_back(billed: tuple[Installation, Ledger]) -> None:
    house, ledger = billed
    apply(ledger, 3, FEBRUARY, "test")
    run = house("invoices", "run", "--month", "2027-01", "--tenant", "acme", "--json").json()["invoices"][0]
    assert [line["type"] for line in run["lines"] if line["type"] == "adjustment"] == []
    for month in ("2026-10", "2026-11"):
        assert house("invoices", "void", "--tenant", "acme", "--month", month, "--reason", "test").code == 0
    refused = house("invoices", "run", "--month", "2026-10", "--tenant", "acme", "--json").json()
    assert refused["refused"] == ["acme, 2026-10: its events were dropped by the retention"]
    assert house("audit", "--no-broker").code == 0


def test_what_is_not_settled_stays(billed: tuple[Installation, Ledger]) -> None:
    house, ledger = billed
    may = parse_instant("2027-05-10T00:00:00Z")
    ledger.take(
        [
            Delivery(
                json.dumps(event("b2", "2026-11-20T10:00:00Z", "bolt", input=5)).encode(),
                parse_instant("2026-11-20T10:00:01Z"), Evidence("usage.events", 1, 0, 0),
            ),
            Delivery(
                json.dumps(event("a4", "2026-11-25T10:00:00Z", input=3_000_000)).encode(),
                parse_instant("2026-12-20T10:00:01Z"), Evidence("usage.events", 1, 1, 0),
            ),
        ],
        may,
    )  # fmt: skip
    found = {(m.tenant, m.month): m.why for m in plan(ledger, 3, may)}
    assert found["acme", "2026-10"] == found["bolt", "2026-10"] == ""
    assert found["acme", "2026-11"] == "an adjustment of it is not invoiced yet"
    assert found["bolt", "2026-11"] == "it was not invoiced"
    house.at("2027-05-10T00:00:00Z")("invoices", "run", "--month", "2026-11", "--tenant", "bolt")
    apply(ledger, 3, may, "test")
    found = {(m.tenant, m.month): m.why for m in plan(ledger, 3, may)}
    assert found["bolt", "2026-11"] == "its invoice is a draft"
    assert sorted(row["id"] for row in ledger.rows(events)) == ["a3", "a4", "b2", "later", "v1", "v2"]


TAMPERING = {
    "a rollup of a dropped month": "UPDATE rollups SET input = input + 1 WHERE tenant = 'bolt'",
    "the digest of the rollups": "UPDATE dropped_months SET rollups_digest = '0' WHERE tenant = 'bolt'",
    "how many events there were": "UPDATE dropped_months SET events = events - 1 WHERE tenant = 'acme'",
    "a dropped month": "DELETE FROM dropped_months WHERE tenant = 'acme'",
    "how many came by a partition": "UPDATE dropped_places SET events = events + 1",
    "the kept explanation": "UPDATE billing_documents SET document = replace(document, '1000000', '900000')"
    " WHERE kind = 'evidence' AND id LIKE 'bolt%'",
    "the proof in it": "UPDATE billing_documents SET document = replace(document, '\"count\": 1', '\"count\": 2')"
    " WHERE kind = 'evidence' AND id LIKE 'bolt%'",
    "an explanation that was not kept": "DELETE FROM billing_documents WHERE kind = 'evidence' AND id LIKE 'acme%'",
    "an invoice of a dropped month": "UPDATE invoices SET document = replace(document, '1000000', '900000')"
    " WHERE tenant = 'bolt'",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_was_changed_by_hand_is_found(billed: tuple[Installation, Ledger], what: str) -> None:
    house, ledger = billed
    apply(ledger, 3, FEBRUARY, "test")
    with ledger.engine.begin() as connection:
        assert connection.execute(text(TAMPERING[what])).rowcount > 0
    assert house("audit", "--no-broker").code == 1


def test_the_same_on_postgresql(postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", postgresql_url)
    house = Installation(tmp_path / "data", monkeypatch.setenv, postgresql_url)
    assert house.at("2026-10-01T00:00:00Z").apply(CATALOG).code == 0
    ledger = Ledger(postgresql_url)
    for delivery in deliveries():
        ledger.take([delivery], delivery.arrival_us)
    assert house.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10").code == 0
    before = ledger.read(figures)
    done = apply(ledger, 3, FEBRUARY, "test")
    assert [(m.tenant, m.month, m.events, m.why) for m in done] == [
        ("acme", "2026-10", 3, ""),
        ("bolt", "2026-10", 1, ""),
        (dropped.REJECTED, "2026-10", 1, ""),
    ]
    assert ledger.read(lambda c: c.execute(select(func.count()).select_from(events)).scalar_one()) == 4
    assert ledger.read(figures)["rollups"] == before["rollups"]
    assert ledger.read(differences) == []
    ledger.take(deliveries(), FEBRUARY)
    assert ledger.read(differences) == []
    assert ledger.rows(intake)[0]["received"] == len(DOCUMENTS)
    assert len(ledger.rows(rollups)) == before["rollups"].rows
    ledger.close()


def test_too_few_months_are_refused(installation: Installation) -> None:
    assert installation("retention").code == 2
    assert installation("retention", "--months", "2", "--apply").code == 2
