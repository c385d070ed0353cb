"""Sums of days and months: made when a day is over, stale when usage comes later, never in the way of counting."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count, pairwise
from random import Random
from typing import Any

import pytest
from sqlalchemy import update

from pipeline.ledger import Ledger
from pipeline.ledger.compaction import differences, has_stale
from pipeline.ledger.reach import DAYS, EVENTS, MONTHS, QUARTERS, Reach, pieces, reaches, unit_of
from pipeline.ledger.rows import insert_rows
from pipeline.ledger.tables import compacted, late_quarters, rollup_days, rollup_months, rollups
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, QUARTER_US, parse_instant
from schemas.tokens import CLASSES
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import TIME_US, catalog, event
from tollhouse.usage import totals

NEXT_DAY_US = parse_instant("2026-10-04T02:00:00Z")
_offsets = count()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    made.apply(catalog(), TIME_US - 60 * DAY_US, "test")
    yield made
    made.close()


def take(ledger: Ledger, name: str, time_us: int = TIME_US, arrival_us: int = NEXT_DAY_US, **more: Any) -> None:
    """One event arrives."""
    raw = json.dumps(event(name, time_us=time_us, **{"input": 5, **more})).encode()
    ledger.take([Delivery(raw, arrival_us, Evidence("t", 0, next(_offsets), 0))], arrival_us)


def found(ledger: Ledger) -> list[str]:
    """Differences between sums and what they are made of."""
    return ledger.read(lambda connection: list(differences(connection)))


def counted(ledger: Ledger) -> int:
    """Requests by the sums."""
    return sum(total.requests for total in totals(ledger, ("tenant",)).values())


def test_a_day_is_summed_up_when_it_is_over_and_again_when_usage_comes_late(ledger: Ledger) -> None:
    take(ledger, "a", arrival_us=TIME_US)
    assert ledger.compact(TIME_US + HOUR_US) == 0
    assert ledger.rows(rollup_days) == []
    assert ledger.rows(compacted) == []  # a tenant of today costs no transaction
    assert ledger.compact(NEXT_DAY_US) == 1
    take(ledger, "b", NEXT_DAY_US - MINUTE_US)
    assert ledger.rows(late_quarters) == []
    take(ledger, "late")
    assert [row["changes"] - row["done"] for row in ledger.rows(late_quarters)] == [1]
    assert ledger.read(has_stale)
    assert counted(ledger) == 3
    assert [row["requests"] for row in ledger.rows(rollup_days)] == [1]
    assert ledger.compact(NEXT_DAY_US) == 1
    assert [row["requests"] for row in ledger.rows(rollup_days)] == [2]
    assert not ledger.read(has_stale)
    assert counted(ledger) == 3
    assert found(ledger) == []


def test_the_sweep_sums_up(ledger: Ledger) -> None:
    take(ledger, "a", arrival_us=TIME_US)
    ledger.sweep(NEXT_DAY_US)
    assert [row["requests"] for row in ledger.rows(rollup_days)] == [1]
    take(ledger, "late")
    ledger.sweep(NEXT_DAY_US)
    assert [row["requests"] for row in ledger.rows(rollup_days)] == [2]


def test_another_time_zone_makes_all_sums_anew(ledger: Ledger) -> None:
    for day in range(40):
        take(ledger, f"e{day}", TIME_US + day * DAY_US, TIME_US + day * DAY_US)
    now_us = TIME_US + 60 * DAY_US
    ledger.compact(now_us)
    before = totals(ledger, ("month",), tenant="acme")
    assert len(ledger.rows(rollup_months)) == 2
    tenants = {"acme": {"plan": "p", "timezone": "Asia/Kathmandu"}, "own": {"plan": "p", "tier": "byok"}}
    ledger.apply(catalog(tenants=tenants), now_us, "test")
    assert counted(ledger) == 40
    ledger.compact(now_us)
    assert ledger.read(reaches)["acme"].zone == "Asia/Kathmandu"
    assert {row["start_us"] % DAY_US for row in ledger.rows(rollup_days)} == {DAY_US - 5 * HOUR_US - 45 * MINUTE_US}
    assert totals(ledger, ("month",), tenant="acme") == before
    assert found(ledger) == []


def test_sums_that_are_not_what_they_are_made_of_are_named(ledger: Ledger) -> None:
    take(ledger, "a", arrival_us=TIME_US)
    ledger.compact(TIME_US + 40 * DAY_US)
    assert found(ledger) == []
    ledger.write(lambda connection: connection.execute(update(rollup_days).values(input=6)))
    assert found(ledger) == [
        "acme: the day from 2026-10-03T00:00:00Z is not the sum of what it is made of",
        "acme: the month from 2026-10-01T00:00:00Z is not the sum of what it is made of",
    ]
    ledger.write(lambda connection: connection.execute(update(rollup_days).values(input=5, start_us=TIME_US)))
    assert "acme: the day from 2026-10-03T10:11:12Z is not over, or none of UTC" in found(ledger)


def test_a_tenant_whose_sums_no_column_holds_is_not_in_the_way_of_others(ledger: Ledger) -> None:
    take(ledger, "a", arrival_us=TIME_US)
    quarter_us = TIME_US - TIME_US % QUARTER_US
    counts = [2**62] + [0] * (len(CLASSES) - 1)
    rows = [
        ("aaaa", "k1", "openai", "m", "standard", 0, 1, quarter_us + n * QUARTER_US, *counts, 1, 0, 1) for n in (0, 1)
    ]
    ledger.write(lambda connection: insert_rows(connection, rollups, rows))
    assert ledger.compact(NEXT_DAY_US) == 1
    assert [row["tenant"] for row in ledger.rows(rollup_days)] == ["acme"]


def test_counting_and_summing_up_at_the_same_time_miss_nothing(ledger: Ledger) -> None:
    take(ledger, "first", arrival_us=TIME_US)
    errors: list[BaseException] = []
    over = threading.Event()

    def sum_up() -> None:
        try:
            while not over.is_set():
                ledger.compact(NEXT_DAY_US)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    thread = threading.Thread(target=sum_up)
    thread.start()
    try:
        for n in range(60):
            take(ledger, f"e{n}", TIME_US + n % 7 * QUARTER_US)
    finally:
        over.set()
        thread.join()
    assert errors == []
    assert found(ledger) == []
    assert counted(ledger) == 61
    ledger.compact(NEXT_DAY_US)
    assert counted(ledger) == 61
    assert sum(row["requests"] for row in ledger.rows(rollup_days)) == 61


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
def test_pieces_cover_a_period_without_gap_or_overlap(zone: str) -> None:
    rng = Random(zone)
    for _ in range(300):
        start_us = TIME_US + rng.randrange(-80 * DAY_US, 80 * DAY_US)
        end_us = start_us + rng.choice((1, QUARTER_US, DAY_US, 70 * DAY_US)) + rng.randrange(QUARTER_US)
        until_us = unit_of(DAYS, TIME_US + rng.randrange(-60 * DAY_US, 60 * DAY_US), zone).start_us
        stale = {
            (grain, unit_of(grain, at_us, zone).start_us)
            for at_us in [until_us - 1 - rng.randrange(90 * DAY_US) for _ in range(rng.randrange(3))]
            for grain in (DAYS, MONTHS)
        }
        reach = Reach(zone, until_us, unit_of(MONTHS, until_us, zone).start_us, frozenset(stale))
        cut = pieces(reach, zone, start_us, end_us)
        assert [cut[0].start_us, cut[-1].end_us] == [start_us, end_us]
        assert all(one.end_us == other.start_us for one, other in pairwise(cut))
        for piece in cut:
            assert piece.start_us < piece.end_us
            if piece.grain in (DAYS, MONTHS):
                assert piece.end_us <= until_us
                for bound_us in (piece.start_us, piece.end_us):
                    assert unit_of(piece.grain, bound_us, zone).start_us == bound_us
                assert not any(of == piece.grain and piece.start_us <= at < piece.end_us for of, at in stale)
            assert piece.grain == EVENTS or (piece.start_us % QUARTER_US, piece.end_us % QUARTER_US) == (0, 0)
        assert {piece.grain for piece in pieces(reach, "Asia/Tokyo", start_us, end_us)} <= {EVENTS, QUARTERS}
