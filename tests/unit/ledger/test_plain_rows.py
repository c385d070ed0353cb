"""Counting in bulk is counting: the same batches, taken singly, make the same ledger to the last column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from pipeline import plain
from pipeline.ledger import Ledger
from pipeline.ledger.record import Recorded
from pipeline.ledger.tables import alerts, events, intake, quota_windows, rejected, reservations, rollups
from schemas.catalog import Catalog
from schemas.instants import DAY_US
from schemas.usage_event import Delivery, Evidence, Message
from tests.properties.test_ledger import CATALOG, QUOTAS
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event
from tests.unit.screen.shapes import batches

TABLES = (events, rollups, quota_windows, intake, rejected, reservations, alerts)
BY_TOKENS = [quota for quota in QUOTAS if quota["meter"] != "cost"]
SUMMED = catalog(
    tenants={
        "acme": {"plan": "p", "quotas": BY_TOKENS},
        "beta": {"plan": "p", "timezone": "Asia/Kathmandu", "quotas": BY_TOKENS},
        "own": {"plan": "p", "tier": "byok", "quotas": BY_TOKENS},
    }
)
"""No quota on cost: under one, events are not summed before they are counted."""
APPLIED_US = TIME_US - 60 * DAY_US


def made(url: str, terms: Catalog = SUMMED) -> Ledger:
    ledger = Ledger(url)
    ledger.create()
    ledger.apply(terms, APPLIED_US, "test")
    return ledger


def contents(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, without the numbers that the database gives."""
    found = {}
    for table in TABLES:
        rows = [{k: v for k, v in row.items() if k != "n"} for row in ledger.rows(table)]
        found[table.name] = sorted(tuple(row.items()) for row in rows)
    return found


def told(recorded: Recorded) -> tuple[Any, ...]:
    counts = (recorded.counted, recorded.duplicates, recorded.held, recorded.reread)
    return (*counts, recorded.rejected, recorded.quota_states, sorted(recorded.minutes), recorded.alerts)


def batch_of(raws: list[bytes], number: int) -> list[Message]:
    """Some messages: arrays of three, the odd ones alone."""
    arrays = [raws[i : i + 3] for i in range(0, len(raws), 3)]
    return [
        Message(b"[" + b",".join(array) + b"]", ARRIVAL_US + number, "t", number % 2, 10 * number + n)
        for n, array in enumerate(arrays)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(batches(), min_size=1, max_size=3), st.booleans(), st.sampled_from([SUMMED, SUMMED, CATALOG]))
def test_bulk_and_single_make_one_ledger(rounds: list[list[bytes]], again: bool, terms: Catalog) -> None:
    bulk, single = made("sqlite://", terms), made("sqlite://", terms)
    sent = [batch_of(raws, number) for number, raws in enumerate(rounds)]
    if again:
        sent.append(sent[0])
    with pytest.MonkeyPatch.context() as patch:
        for messages in sent:
            one = bulk.take_messages(messages, ARRIVAL_US + DAY_US)
            patch.setattr(plain, "_take", lambda *_: False)
            other = single.take_messages(messages, ARRIVAL_US + DAY_US)
            patch.undo()
            assert told(one) == told(other)
    assert contents(bulk) == contents(single)
    bulk.close()
    single.close()


def one_by_one(documents: list[dict[str, Any]]) -> list[Delivery]:
    raws = [json.dumps(document).encode() for document in documents]
    return [Delivery(raw, ARRIVAL_US, Evidence("t", 0, n, 0)) for n, raw in enumerate(raws)]


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = made(database_url)
    yield ledger
    ledger.close()


def test_both_databases_hold_what_the_event_says(ledger: Ledger) -> None:
    odd = "Zoë ✓ 'a' {b} %s $1 ;--"
    documents = [
        event("full", input=5, user=odd, network=odd, agent=odd, labels={"β": odd, "a": None}, upstream_id=odd),
        event("bare", tokens={"input": 1}),
        event("failed", input=7, status="error", reservation="r", service_tier="batch", cache_hit=True, estimated=True),
    ]
    raws = [json.dumps(document, ensure_ascii=False).encode() for document in documents]
    recorded = ledger.take_messages([Message(b"[" + b",".join(raws) + b"]", ARRIVAL_US, "t", 3, 9)], ARRIVAL_US)
    assert recorded.counted == 3
    rows = {row["id"]: row for row in ledger.rows(events)}
    assert {rows["full"][name] for name in ("user", "network", "agent", "upstream_id")} == {odd}
    assert json.loads(rows["full"]["labels"]) == {"β": odd, "a": None}
    assert [rows[name]["item"] for name in ("full", "bare", "failed")] == [0, 1, 2]
    assert {(row["topic"], row["partition"], row["offset"]) for row in rows.values()} == {("t", 3, 9)}
    assert (rows["bare"]["upstream_id"], rows["bare"]["reservation"], rows["bare"]["target_id"]) == (None, None, None)
    failed = rows["failed"]
    assert (failed["status"], failed["requests"], failed["reservation"]) == ("error", 0, "r")
    assert (failed["service_tier"], failed["cache_hit"], failed["estimated"]) == ("batch", 1, 1)


def test_on_postgresql_bulk_rows_are_single_rows(postgresql_url: str) -> None:
    """COPY's text against the driver's own way, column by column."""
    documents = [event(f"e{n}", input=n, output=2, upstream_id=f"u{n}", labels={"a": n}) for n in range(20)]
    deliveries = one_by_one(documents)
    ledger = made(postgresql_url)
    ledger.take(deliveries, ARRIVAL_US)
    bulk = contents(ledger)
    ledger.write(lambda c: [c.execute(text(f'DELETE FROM "{table.name}"')) for table in TABLES])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_take", lambda *_: False)
        ledger.take(deliveries, ARRIVAL_US)
    assert len(bulk["events"]) == 20
    assert contents(ledger) == bulk
    ledger.close()


def test_a_correction_in_the_batch_finds_the_plain_event_that_it_names(ledger: Ledger) -> None:
    void = event("v", kind="void", voids={"source": "proxy/eu-1", "id": "e1"})
    documents = [void, event("e0", input=1), event("e1", input=10), event("e1", input=10), event("e2", input=100)]
    deliveries = one_by_one(documents)
    recorded = ledger.take(deliveries, ARRIVAL_US)
    assert (recorded.counted, recorded.duplicates) == (4, 1)
    assert sum(row["input"] for row in ledger.rows(rollups)) == 101


def test_use_of_a_key_after_its_revocation_is_told_though_other_use_lies_in_its_minute(ledger: Ledger) -> None:
    """Found: events alike were summed by the minute and judged by the first one's time."""
    minute_us = TIME_US - TIME_US % 60_000_000
    ledger.set_key_state("k1", "revoked", minute_us + 30_000_000, "test")
    times = {"before": minute_us + 1_000_000, "after": minute_us + 40_000_000}
    documents = [event(name, input=1, time_us=time_us) for name, time_us in times.items()]
    recorded = ledger.take(one_by_one(documents), ARRIVAL_US + 60_000_000)
    assert [alert.kind for alert in recorded.alerts] == ["revoked_key_used"]


def test_all_classes_without_a_price_are_told_at_once_however_the_events_are_summed(ledger: Ledger) -> None:
    documents = [event("a", input=1, model="unpriced"), event("b", cache_read=1, model="unpriced")]
    (alert,) = ledger.take(one_by_one(documents), ARRIVAL_US).alerts
    assert alert.facts["meters"] == ["input", "cache_read"]
