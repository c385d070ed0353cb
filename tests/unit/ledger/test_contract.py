"""The ledger's promises, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from pipeline.admission import Ask
from pipeline.alerting import Alert
from pipeline.context import window_of
from pipeline.ledger import Ledger, LedgerUnavailable, alerts, books, catalogs, windows
from pipeline.ledger.engine import run_transaction
from pipeline.ledger.rejected import insert_rejected, list_rejected, mark_replayed
from pipeline.ledger.tables import alerts as alerts_table
from pipeline.ledger.tables import events, intake, invoices, quota_windows, rejected, reservations, rollups
from pipeline.screen import Refused
from schemas.instants import DAY_US, HOUR_US
from schemas.tokens import COUNT_MAX
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event, ref

BEFORE_US = TIME_US - 60 * DAY_US
TOKENS_A_DAY = {"name": "t", "meter": "tokens", "limit": 1000, "window": "day"}


def with_quota(*quotas: dict[str, Any], **more: Any) -> Any:
    """The catalog with quotas on acme."""
    return catalog(
        tenants={
            "acme": {"plan": "p", "quotas": list(quotas)},
            "beta": {"plan": "p"},
            "own": {"plan": "p", "tier": "byok"},
        },
        **more,
    )


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    made.apply(with_quota(TOKENS_A_DAY), BEFORE_US, "test")
    yield made
    made.close()


def deliveries(
    *documents: dict[str, Any], offset: int = 0, partition: int = 0, at_us: int = ARRIVAL_US
) -> list[Delivery]:
    return [
        Delivery(json.dumps(document).encode(), at_us, Evidence("t", partition, offset + i, 0))
        for i, document in enumerate(documents)
    ]


def at_once(work: Callable[[int], Any], threads: int = 8) -> list[Any]:
    """work(n) from many threads that start together."""
    gate = threading.Barrier(threads)

    def one(n: int) -> Any:
        gate.wait()
        return work(n)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def used(made: Ledger, at_us: int = TIME_US) -> windows.WindowRow:
    ((scope, quota, zone), *_) = made.context().quotas("acme", "k1", at_us)
    window = window_of(scope, quota, zone, at_us)
    return made.read(lambda connection: windows.state_of(connection, window))


def test_a_batch_has_all_of_its_effects(ledger: Ledger) -> None:
    done = ledger.take(
        deliveries(
            event("e1", input=5, output=3),
            event("e1", input=5, output=3),
            event("e2", key="k9", input=1),
            event("v", kind="void", voids=ref("x")),
        ),
        ARRIVAL_US,
    )
    assert (done.counted, done.duplicates, done.held, len(done.rejected)) == (1, 1, 1, 1)
    (row,) = ledger.rows(rollups)
    assert (row["input"], row["output"], row["requests"], row["events"]) == (5, 3, 1, 1)
    assert used(ledger).used == 8
    (taken,) = ledger.rows(intake)
    assert {k: taken[k] for k in ("next_offset", "received", "counted", "duplicates", "rejected", "held")} == {
        "next_offset": 4, "received": 4, "counted": 1, "duplicates": 1, "rejected": 1, "held": 1,
    }  # fmt: skip
    assert done.quota_states[0].used == 8
    assert {(m.tenant, m.key, m.requests, m.tokens) for m in done.minutes} == {("acme", "k1", 1, 8)}


def test_a_held_void_leaves_by_the_sweep_and_the_intake_keeps_its_equation(ledger: Ledger) -> None:
    ledger.take(deliveries(event("v", kind="void", voids=ref("x"))), ARRIVAL_US)
    assert ledger.sweep(ARRIVAL_US + DAY_US) == []
    (gone,) = ledger.sweep(ARRIVAL_US + DAY_US + 1)
    assert (gone.reason, gone.id) == ("unknown_event", "v")
    assert json.loads(gone.raw)["id"] == "v"
    (taken,) = ledger.rows(intake)
    assert (taken["received"], taken["rejected"], taken["held"]) == (1, 1, 0)
    assert ledger.sweep(ARRIVAL_US + 2 * DAY_US) == []
    ledger.take(
        deliveries(event("v", kind="void", voids=ref("x")), offset=9, at_us=ARRIVAL_US + 2 * DAY_US),
        ARRIVAL_US + 2 * DAY_US,
    )
    assert [row["state"] for row in ledger.rows(events)] == ["held"]


def test_corrections_over_batches(ledger: Ledger) -> None:
    ledger.take(deliveries(event("r2", input=60, upstream_id="u", replaces=ref("r1"))), ARRIVAL_US)
    ledger.take(deliveries(event("e1", input=100, upstream_id="u"), offset=1), ARRIVAL_US)
    assert used(ledger).used == 100
    ledger.take(deliveries(event("r1", input=70, upstream_id="u", replaces=ref("e1")), offset=2), ARRIVAL_US)
    assert used(ledger).used == 60
    assert {row["id"]: row["state"] for row in ledger.rows(events)} == {
        "e1": "replaced",
        "r1": "replaced",
        "r2": "counted",
    }
    ledger.take(deliveries(event("v", kind="void", voids=ref("e1")), offset=3), ARRIVAL_US)
    assert used(ledger).used == 0
    (taken,) = ledger.rows(intake)
    assert (taken["counted"], taken["held"], taken["rejected"]) == (4, 0, 0)


def test_refused_bytes_at_places_of_a_broker_that_forgot_are_kept(ledger: Ledger) -> None:
    ledger.take(deliveries(event("e1", key="k9", input=1)), ARRIVAL_US)
    assert ledger.take(deliveries(event("e1", key="k9", input=1)), ARRIVAL_US).rejected == []
    (new,) = ledger.take(deliveries(event("e2", key="k9", input=1)), ARRIVAL_US).rejected
    assert new.id == "e2"
    assert len(ledger.rows(rejected)) == 2
    (taken,) = ledger.rows(intake)
    assert (taken["received"], taken["rejected"]) == (1, 1)


def test_a_message_of_many_refused_events(ledger: Ledger) -> None:
    raw = [Delivery(b"1", ARRIVAL_US, Evidence("t", 0, 0, index)) for index in range(40_000)]
    done = ledger.take(raw, ARRIVAL_US)
    assert len(done.rejected) == 40_000
    assert ledger.take(raw, ARRIVAL_US).rejected == []


def test_the_rejected_list(ledger: Ledger) -> None:
    refused = [
        Refused(f"{n}".encode(), "malformed" if n % 2 else "no_usage", "d", None, None, None, n, Evidence("t", 0, n, 0))
        for n in range(5)
    ]
    assert len(ledger.write(lambda c: insert_rejected(c, refused))) == 5
    assert len(ledger.read(lambda c: list_rejected(c, reason="malformed"))) == 2
    numbers = [row["n"] for row in ledger.read(list_rejected)]
    assert ledger.write(lambda c: mark_replayed(c, numbers[:2])) == 2
    assert ledger.write(lambda c: mark_replayed(c, numbers[:2])) == 0
    assert len(ledger.read(lambda c: list_rejected(c, state="open", limit=2))) == 2


@pytest.mark.parametrize("letter", ["\0", "\ud800"])
def test_characters_that_cannot_be_stored_are_refused_and_stop_nothing(ledger: Ledger, letter: str) -> None:
    done = ledger.take(deliveries(event("e1", input=1, user=letter), event("e2", input=1)), ARRIVAL_US)
    assert (done.counted, [r.reason for r in done.rejected]) == (1, ["malformed"])


def test_the_same_events_from_many_threads_count_once(ledger: Ledger) -> None:
    documents = [event(f"e{n}", input=1) for n in range(40)]
    results = at_once(lambda n: ledger.take(deliveries(*documents[n:], *documents[:n], partition=n), ARRIVAL_US))
    assert sum(r.counted for r in results) == 40
    assert sum(r.duplicates for r in results) == 40 * 7
    assert used(ledger).used == 40
    assert sum(row["input"] for row in ledger.rows(rollups)) == 40


def test_an_event_and_its_void_at_the_same_moment(ledger: Ledger) -> None:
    """Through two partitions: neither may miss the other."""
    for round_ in range(5):
        pair = [event(f"e{round_}", input=1), event(f"v{round_}", kind="void", voids=ref(f"e{round_}"))]
        at_once(
            lambda n, pair=pair, round_=round_: ledger.take(
                deliveries(pair[n], partition=n, offset=round_), ARRIVAL_US
            ),
            2,
        )  # type: ignore[misc]
    assert {row["state"] for row in ledger.rows(events)} == {"voided", "applied"}
    assert used(ledger).used == 0


def test_authorize_from_many_threads_never_passes_the_limit(ledger: Ledger) -> None:
    def ask(n: int) -> int:
        asks = (Ask(f"a{n}.{i}", "acme", "m", {"tokens": Decimal(70)}) for i in range(5))
        return sum(ledger.authorize(a, TIME_US).allowed for a in asks)

    assert sum(at_once(ask)) == 14
    assert used(ledger)[:2] == (0, 980)


def test_the_same_id_from_many_threads_holds_once(ledger: Ledger) -> None:
    answers = at_once(lambda _: ledger.authorize(Ask("a", "acme", "m", {"tokens": Decimal(300)}), TIME_US))
    assert len({(a.allowed, a.key, a.expires_us) for a in answers}) == 1
    assert used(ledger).reserved == 300


def test_a_hold_ends_once(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        assert ledger.authorize(Ask(name, "acme", "m", {"tokens": Decimal(100)}, ttl_s=60), TIME_US).allowed
    at_once(lambda _: ledger.release("acme", "a"), 4)
    assert used(ledger).reserved == 200
    ledger.take(deliveries(event("e1", input=30, reservation="b")), TIME_US + 1)
    assert used(ledger)[:2] == (30, 100)
    ledger.sweep(TIME_US + 60_000_000 - 1)
    assert used(ledger).reserved == 100
    ledger.sweep(TIME_US + 60_000_000)
    assert used(ledger).reserved == 0
    ledger.take(deliveries(event("e2", input=30, reservation="c"), offset=1), TIME_US + 61_000_000)
    assert used(ledger)[:2] == (60, 0)
    assert {r["id"]: r["state"] for r in ledger.rows(reservations)} == {"a": "released", "b": "settled", "c": "expired"}


def test_what_is_asked_for_is_held_in_whole_units_and_never_below_zero(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=r"estimate\.tokens is -1"):
        Ask("a", "acme", "m", {"tokens": Decimal(-1)})
    with pytest.raises(ValueError, match="ttl_s is 0"):
        Ask("a", "acme", "m", ttl_s=0)
    assert ledger.authorize(Ask("a", "acme", "m", {"tokens": Decimal("0.5")}), TIME_US).allowed
    assert used(ledger).reserved == 1
    assert not ledger.authorize(Ask("b", "acme", "m", {"tokens": Decimal(10) ** 25}), TIME_US).allowed


def test_a_refusal_holds_nothing(ledger: Ledger) -> None:
    ledger.apply(
        with_quota(TOKENS_A_DAY, {"name": "r", "meter": "requests", "limit": 0, "window": "day"}), BEFORE_US + 1, "test"
    )
    denied = ledger.authorize(Ask("a", "acme", "m", {"tokens": Decimal(5)}), TIME_US)
    assert (denied.allowed, denied.reason, denied.quota) == (False, "quota", "r")
    assert all(row["reserved"] == 0 for row in ledger.rows(quota_windows))


def test_passing_faults_are_tried_again_and_others_are_not(ledger: Ledger) -> None:
    tries: list[int] = []

    def twice_in_the_way(connection: Any) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise IntegrityError("insert", {}, Exception("taken"))
        return "done"

    assert run_transaction(ledger.engine, twice_in_the_way, sleep=lambda _: None) == "done"
    assert len(tries) == 3
    with pytest.raises((DBAPIError, LedgerUnavailable)):
        ledger.write(lambda connection: connection.execute(text("SELECT * FROM nothing_of_the_kind")))


def test_a_failed_batch_leaves_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.ledger.record._add_intake", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            ledger.take(deliveries(event("e1", input=5), event("bad", key="k9")), ARRIVAL_US)
    for table in (events, rollups, quota_windows, rejected, intake):
        assert ledger.rows(table) == []
    assert ledger.take(deliveries(event("e1", input=5)), ARRIVAL_US).counted == 1


def test_deadlocks_end_well(ledger: Ledger) -> None:
    """Reservations released and asked for in both directions at once, over two tenants' windows."""

    def churn(n: int) -> None:
        for i in range(6):
            name = f"{n}.{i}"
            ledger.authorize(Ask(name, "acme", "m", {"tokens": Decimal(1)}, ttl_s=1), TIME_US + i)
            ledger.sweep(TIME_US + i + 2_000_000)

    at_once(churn, 6)
    ledger.sweep(TIME_US + HOUR_US)
    assert used(ledger).reserved == 0


def test_a_new_threshold_reorders_what_is_there(ledger: Ledger) -> None:
    ledger.take(
        deliveries(event("small", input=100), event("large", input=101), event("v", kind="void", voids=ref("no"))),
        ARRIVAL_US,
    )
    assert [row["size_band"] for row in ledger.rows(rollups)] == [0]
    price = {"provider": "openai", "model": "m", "from": "2026-01-01", "per": 1, "input": "1.00"}
    ledger.apply(
        with_quota(TOKENS_A_DAY, provider_prices=[price, {**price, "over_input": 100, "input": "2.00"}]),
        ARRIVAL_US,
        "test",
    )
    bands = {row["size_band"]: (row["input"], row["events"]) for row in ledger.rows(rollups)}
    assert bands == {0: (100, 1), 100: (101, 1)}
    assert {row["id"]: row["size_band"] for row in ledger.rows(events) if row["kind"] == "usage"} == {
        "small": 0,
        "large": 100,
    }
    ledger.take(deliveries(event("r", input=7, replaces=ref("large")), offset=5), ARRIVAL_US)
    assert sum(row["input"] for row in ledger.rows(rollups)) == 107


def test_new_prices_count_cost_quotas_anew(ledger: Ledger) -> None:
    cost = {"name": "c", "meter": "cost", "limit": "100000000.00", "window": "day"}
    ledger.apply(with_quota(cost), BEFORE_US + 1, "test")
    ledger.take(deliveries(event("e1", input=1_000_000), event("e2", model="new", input=1)), ARRIVAL_US)
    assert used(ledger).used == 10**12
    price = {"provider": "openai", "model": "m", "from": "2026-01-01", "per": 1_000_000, "input": "3.00"}
    ledger.apply(with_quota(cost, provider_prices=[price, {**price, "model": "new", "per": 1}]), ARRIVAL_US, "test")
    assert used(ledger).used == 6 * 10**12
    ledger.take(
        deliveries(event("v", kind="void", voids=ref("e1")), event("w", kind="void", voids=ref("e2")), offset=5),
        ARRIVAL_US,
    )
    assert used(ledger).used == 0


def test_counts_that_no_counter_holds_stop_nothing(ledger: Ledger) -> None:
    ledger.apply(
        with_quota({"name": "c", "meter": "cost", "limit": "20000000.00", "window": "day"}), BEFORE_US + 1, "test"
    )
    assert ledger.take(deliveries(event("e1", input=COUNT_MAX)), ARRIVAL_US).counted == 1
    assert used(ledger).used >= 2**62
    assert not ledger.authorize(Ask("a", "acme", "m", {"cost": Decimal(1000000)}), TIME_US).allowed
    ledger.take(deliveries(event("v", kind="void", voids=ref("e1")), offset=1), ARRIVAL_US)
    assert used(ledger).used == 0


def test_a_large_limit_is_exact(ledger: Ledger) -> None:
    ledger.apply(
        with_quota({"name": "c", "meter": "cost", "limit": "20000000.00", "window": "day"}), BEFORE_US + 1, "test"
    )
    answer = ledger.authorize(Ask("a", "acme", "m", {"cost": Decimal("5.000001")}), TIME_US)
    assert answer.allowed
    assert Decimal(answer.remaining["c"]) == Decimal("19999994.999999")


def test_many_windows_in_one_batch(ledger: Ledger) -> None:
    minute = {"name": "m", "meter": "tokens", "limit": None, "window": "minute", "action": "alert"}
    ledger.apply(with_quota(minute), BEFORE_US + 1, "test")
    count = 1500
    documents = [event(f"e{n}", input=n + 1, time_us=TIME_US - n * 60_000_000) for n in range(count)]
    for _ in range(2):
        ledger.take(deliveries(*documents), ARRIVAL_US)
    rows = ledger.rows(quota_windows)
    assert len(rows) == count
    assert sum(row["used"] for row in rows) == count * (count + 1) // 2
    assert all(isinstance(row["used"], int) for row in rows)


def test_a_quota_of_a_new_catalog_knows_the_usage_before_it(ledger: Ledger) -> None:
    ledger.take(deliveries(event("e1", input=5), event("e2", model="other", input=7)), ARRIVAL_US)
    quota = {"name": "fresh", "meter": "tokens", "limit": 10, "window": "day", "models": "m"}
    ledger.apply(with_quota(quota), ARRIVAL_US, "test")
    ledger.take(deliveries(event("e3", input=2), offset=5), ARRIVAL_US + 1)
    assert used(ledger).used == 7


def test_catalog_versions_and_their_stamp(ledger: Ledger) -> None:
    first = ledger.read(catalogs.stamp)
    assert ledger.apply(with_quota(TOKENS_A_DAY), TIME_US, "again") == 1
    assert ledger.read(catalogs.stamp) == first
    ledger.set_key_state("k1", "suspended", TIME_US, "ops", "leak")
    second = ledger.read(catalogs.stamp)
    assert second != first
    assert ledger.context().key_states == {"k1": "suspended"}
    assert ledger.set_key_state("k1", "active", TIME_US + 1, "ops") == 2
    assert ledger.read(catalogs.stamp) not in {first, second}
    assert ledger.apply(with_quota(), TIME_US, "other") == 2
    assert ledger.context().version == 2
    assert ledger.read(lambda c: catalogs.catalog_version(c, 1)) == with_quota(TOKENS_A_DAY)
    with pytest.raises(ValueError, match="no key state"):
        ledger.set_key_state("k1", "lost", TIME_US, "ops")
    with pytest.raises(KeyError):
        ledger.read(lambda c: catalogs.catalog_version(c, 9))


def test_before_the_first_catalog(database_url: str) -> None:
    empty = Ledger(database_url)
    empty.create()
    with pytest.raises(catalogs.NoCatalog, match="tollhouse apply"):
        empty.context()
    empty.close()


def test_a_revoked_key_alarms_for_usage_after_it_only(ledger: Ledger) -> None:
    ledger.set_key_state("k1", "revoked", TIME_US, "ops")
    early = ledger.take(deliveries(event("e1", input=1, time_us=TIME_US - 1_000_000)), ARRIVAL_US)
    assert [a.kind for a in early.alerts] == []
    late = ledger.take(deliveries(event("e2", input=1), offset=1), ARRIVAL_US)
    assert [(a.kind, a.subject) for a in late.alerts] == [("revoked_key_used", "k1")]


def test_an_incident_is_one_alert_that_grows(ledger: Ledger) -> None:
    def alert(at_us: int, severity: str = "ticket", name: str = "x") -> Alert:
        return Alert(name, at_us, "leak", severity, "k1", f"seen at {at_us}", {"n": at_us})

    assert [a.at_us for a in ledger.raise_alerts([alert(5), alert(7), alert(6, name="y")])] == [5, 6]
    assert ledger.raise_alerts([alert(9)]) == []
    (worse,) = ledger.raise_alerts([alert(8, "page")])
    assert worse.severity == "page"
    assert ledger.raise_alerts([alert(10, "page"), alert(11)]) == []
    row = next(r for r in ledger.read(alerts.list_alerts) if r["id"] == "x")
    assert (row["first_us"], row["last_us"], row["count"], row["severity"], row["detail"], row["facts"]) == (
        5, 11, 6, "page", "seen at 11", {"n": 11},
    )  # fmt: skip
    assert ledger.write(lambda c: alerts.change_alert(c, "x", state="acked"))
    assert not ledger.write(lambda c: alerts.change_alert(c, "none", state="acked"))
    assert [r["id"] for r in ledger.read(lambda c: alerts.list_alerts(c, state="open"))] == ["y"]


def test_the_same_incident_from_many_threads_is_new_to_one(ledger: Ledger) -> None:
    found = [Alert(f"a{n}", 1, "leak", "ticket", "k1", "d") for n in range(10)]
    news = at_once(lambda n: ledger.raise_alerts(found if n % 2 else found[::-1]))
    assert {row["count"] for row in ledger.rows(alerts_table)} == {8}
    assert sorted(a.id for new in news for a in new) == sorted(a.id for a in found)


def test_billing_documents(ledger: Ledger) -> None:
    key = ("acme", "2026-10", 1)
    amounts = {"currency": "USD", "subtotal": "1.00", "tax": "0.00", "total": "1.00", "held": []}
    draft = {"status": "draft", "number": None, "lines": [], **amounts}
    empty = ledger.read(books.load)
    note = {"tenant": "acme", "month": "2026-10", "revision": 1, "issued_at_us": 5}
    ledger.write(lambda c: books.save(c, empty, books.Documents({key: draft}, {"CN-1": note}, {"INV": 7}), 1))
    first = ledger.read(books.load)
    assert (first.invoices, first.credit_notes, first.sequences) == ({key: draft}, {"CN-1": note}, {"INV": 7})
    done = {**draft, "status": "finalised", "number": "INV-1"}
    ledger.write(lambda c: books.save(c, first, books.Documents({key: done}, first.credit_notes, {"INV": 8}), 2))
    second = ledger.read(lambda c: books.load(c, "acme", "2026-10"))
    assert second.invoices == {key: done}
    assert second.sequences == {"INV": 8}
    assert ledger.read(lambda c: books.load(c, "beta")).invoices == {}
    (row,) = ledger.rows(invoices)
    assert (row["status"], row["changed_us"]) == ("finalised", 2)
    clash = books.Documents({("beta", "2026-10", 1): done}, {}, {})
    with pytest.raises(DBAPIError):  # a number is never given twice
        ledger.write(lambda c: books.save(c, empty, clash, 3))
    ledger.write(lambda c: books.put(c, "push", "a", "1"))
    ledger.write(lambda c: books.put(c, "push", "a", "2"))
    assert ledger.read(lambda c: (books.get(c, "push", "a"), books.get(c, "push", "b"))) == ("2", None)
    assert ledger.read(lambda c: books.get_all(c, "push")) == {"a": "2"}


def test_readers_cut_quarters_exactly(ledger: Ledger) -> None:
    ledger.take(
        deliveries(*(event(f"e{n}", input=1, time_us=TIME_US - n * 300_000_000) for n in range(20))), ARRIVAL_US
    )
    everything = ledger.usage.rows("acme", 0, 2 * TIME_US)
    assert sum(row.classes[0] for row in everything) == 20
    for start, end in (
        (TIME_US - 4_000_000_000, TIME_US - 1_000_000_000),
        (TIME_US - 700_000_000, TIME_US),
        (TIME_US, TIME_US + 1),
    ):
        rows = ledger.usage.rows("acme", start, end)
        single = ledger.usage.events("acme", start, end)
        assert sum(row.classes[0] for row in rows) == len(single)
        assert sum(row.events for row in rows) == len(single)


@pytest.mark.timeout(120)
def test_a_large_batch(ledger: Ledger) -> None:
    """The path of many rows (COPY on PostgreSQL); the time is printed, not judged."""
    documents = [
        event(
            f"e{n % 4900}",
            input=n % 4900,
            subject=("acme", "beta")[n % 2],
            time_us=TIME_US - (n % 4900) * 1_000_000,
            upstream_id=f"u{n % 4900}",
        )
        for n in range(5000)
    ]
    batch = deliveries(*documents)
    started = time.perf_counter()
    done = ledger.take(batch, ARRIVAL_US)
    first_s = time.perf_counter() - started
    assert (done.counted, done.duplicates) == (4900, 100)
    assert sum(row["input"] for row in ledger.rows(rollups)) == 4899 * 4900 // 2
    started = time.perf_counter()
    again = ledger.take(batch, ARRIVAL_US)
    print(
        f"\n5,000 events: {first_s:.3f} s, again {time.perf_counter() - started:.3f} s on {ledger.engine.dialect.name}"
    )
    assert (again.counted, again.reread) == (0, 5000)
