"""What the API tells Prometheus: the ledger's state by kind, no tenant, and the truth while something is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.alerting import Alert
from pipeline.ledger import LedgerUnavailable
from pipeline.ledger.books import put
from pipeline.ledger.figures import Figure, figures
from pipeline.ledger.tables import deliveries, invoices, rejected
from tests.integration.api.kit import NOW_US, House
from tollhouse.api import readiness

SECOND_US = 1_000_000


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    made = House(database_url, tmp_path, broker="127.0.0.1:1")
    yield made
    made.close()


def read(house: House) -> dict[str, Figure]:
    return {figure.name: figure for figure in house.ledger.read(lambda c: figures(c, house.now_us))}


def values(house: House) -> dict[tuple[str, ...], float]:
    """Value of each sample on /metrics, by name and label values."""
    text = house.client.get("/metrics").text
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_the_ledger_by_kind_state_and_reason(house: House) -> None:
    house.count(house.event("e1"), house.event("e2"), house.event("e1"))
    assert read(house)["events_counted"].values == {(): 2}
    assert read(house)["events_duplicate"].values == {(): 1}
    place = {"topic": "t", "partition": 0, "offset": 1, "detail": "", "arrival_us": 0, "raw": b"", "digest": b""}
    rows = [
        place | {"item": n, "reason": reason, "state": state}
        for n, (reason, state) in enumerate([("conflict", "open"), ("conflict", "open"), ("malformed", "replayed")])
    ]
    residual = Alert("r", NOW_US, "residual", "page", "pool", "more than metered", {"residual_tokens": 70_000})
    leak = Alert("l", NOW_US, "leak", "ticket", "acme/k", "another network")

    def fill(connection: object) -> None:
        connection.execute(rejected.insert(), rows)  # type: ignore[attr-defined]
        invoice = {"tenant": "acme", "revision": 0, "document": "{}", "number": None}
        connection.execute(  # type: ignore[attr-defined]
            invoices.insert(),
            [
                invoice | {"month": "2026-09", "status": "finalised", "changed_us": NOW_US - 90 * SECOND_US},
                invoice | {"month": "2026-10", "status": "draft", "changed_us": NOW_US - 900 * SECOND_US},
            ],
        )
        put(connection, "stripe", "invoice/a", '{"status": "paid", "payment_error": "declined once"}')  # type: ignore[arg-type]
        put(connection, "stripe", "invoice/b", '{"status": "open", "payment_error": "declined"}')  # type: ignore[arg-type]
        put(connection, "stripe", "event/x", '{"status": "open"}')  # type: ignore[arg-type]

    house.ledger.write(fill)
    house.ledger.raise_alerts([residual, leak])
    found = read(house)
    assert found["rejected_waiting"].values == {("conflict",): 2}
    assert found["rejected_open"].values == {(): 2}
    assert found["alerts"].values == {("residual", "page", "open"): 1, ("leak", "ticket", "open"): 1}
    assert found["residual_tokens"].values == {(): 70_000}
    assert found["invoices"].values == {("finalised",): 1, ("draft",): 1}
    assert found["invoice_unpushed_seconds"].values == {(): 90}
    assert found["stripe_invoices"].values == {("paid",): 1, ("open",): 1}
    assert found["stripe_payments_failed"].values == {(): 1}
    assert found["catalog_version"].values == {(): 1}
    assert found["database_bytes"].values[()] > 10_000


def test_a_delivery_that_nobody_takes_up_grows_old(house: House) -> None:
    house.ledger.raise_alerts([Alert("l", NOW_US, "leak", "page", "acme/k", "another network")])
    house.now_us += 40 * SECOND_US
    assert read(house)["delivery_overdue_seconds"].values == {(): 40}
    to_sink = {"alert": "l", "version": 1, "sink": "s1", "target": "json://…", "error": ""}
    later = house.now_us + 30 * SECOND_US
    retried = to_sink | {"state": "due", "tries": 3, "next_us": later}

    def answered(connection: object) -> None:
        connection.execute(deliveries.update().values(state="opened"))  # type: ignore[attr-defined]
        connection.execute(
            deliveries.insert(), [retried, to_sink | {"sink": "s2", "state": "sent", "tries": 1, "next_us": 0}]
        )  # type: ignore[attr-defined]

    house.ledger.write(answered)
    found = read(house)
    assert found["delivery_overdue_seconds"].values == {(): 0}  # its next try is not due yet
    assert found["deliveries"].values == {("due",): 1, ("sent",): 1}
    assert found["deliveries_retrying"].values == {(): 1}


def test_what_is_away_shows_and_no_figure_passes_for_a_new_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEEP_S", 0.0)
    house.count(house.event("e1"))
    before = values(house)
    assert before["tollhouse_database_up",] == 1
    assert before["tollhouse_events_counted",] == 1
    assert before["process_resident_memory_bytes",] > 10_000_000
    assert (before["tollhouse_broker_up",], before["tollhouse_check", "broker"], before["tollhouse_ready",]) == (
        0,
        0,
        0,
    )
    assert ("tollhouse_lag_messages", "0") not in before
    house.app.state.api.questions.clear()
    gate = threading.Event()

    def hang(*_: object) -> None:
        gate.wait(60)
        raise LedgerUnavailable("it went")

    monkeypatch.setattr(house.ledger, "read", hang)
    monkeypatch.setattr(readiness.words_of, "__defaults__", (0.05,))
    after = values(house)
    gate.set()
    assert (after["tollhouse_database_up",], after["tollhouse_check", "database"]) == (0, 0)
    assert ("tollhouse_events_counted",) not in after


def test_readiness_in_time_though_the_database_says_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(house.ledger, "read", lambda _work: gate.wait(60))
    monkeypatch.setattr(readiness.words_of, "__defaults__", (0.05,))
    answer = house.client.get("/readyz")
    gate.set()
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"].startswith("the database has not answered for")


def test_checks_that_hang_take_one_time_and_not_one_each() -> None:
    gate = threading.Event()
    hung = {name: readiness.Timely(name, lambda: str(gate.wait(60))) for name in ("database", "catalog", "third")}
    well = {"broker": readiness.Timely("broker", lambda: readiness.OK)}
    began_s = time.monotonic()
    words = readiness.words_of(hung | well, 0.4)
    took_s = time.monotonic() - began_s
    gate.set()
    assert took_s < 0.8
    assert all(words[name].startswith(f"the {name} has not answered for") for name in hung)
    assert words["broker"] == readiness.OK
