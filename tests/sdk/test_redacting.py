"""Secrets leave the proxy's process in no message: cut on the sending thread, told to the service, alike on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Ledger
from pipeline.ledger.tables import alerts
from schemas.usage_event import Delivery, Evidence
from tests.integration.api.kit import NOW_US, House
from tests.sdk.fakes import FakeBroker, event
from tests.unit.pipeline.test_redact import KINDS, PLACES
from tollhouse_client import InvalidEventError, UsagePublisher
from tollhouse_client.confirm import identity_of
from tollhouse_client.redacting import as_sent
from tollhouse_redaction import Scan, suspicious

SECRET = "sk-" + "proj-" + "A1b2C3d4" * 6


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


def published(broker: FakeBroker, spool: Path, *events: dict[str, Any]) -> list[tuple[bytes, dict[str, Any]]]:
    """(Kafka key, event) of all that the broker has then."""
    with UsagePublisher("fake", source="proxy/test", spool_dir=spool, connect=broker.connect) as publisher:
        for one in events:
            publisher.publish(one)
        assert publisher.flush(30)
    return [(key, one) for key, batch in broker.messages for one in batch]


def test_no_kind_of_secret_in_any_place_reaches_the_broker(broker: FakeBroker, tmp_path: Path) -> None:
    with UsagePublisher("fake", source="proxy/test", spool_dir=tmp_path, connect=broker.connect) as publisher:
        sent = 0
        for kind, (secret, _) in KINDS.items():
            for place, put in PLACES.items():
                one = event(1, id=f"{kind}-{place}")
                put(one, secret)
                try:
                    publisher.publish(one)
                except InvalidEventError:
                    continue  # a name of several lines
                sent += 1
        assert publisher.flush(60)
        stats = publisher.stats()
    everything = b"".join(key + json.dumps(batch).encode() for key, batch in broker.messages).decode()
    plain = json.dumps([batch for _, batch in broker.messages], ensure_ascii=False)
    leaked = [kind for kind, (_, body) in KINDS.items() if body in everything or body in plain]
    assert leaked == []
    assert stats.redacted == stats.acked == sent
    assert sent > 300


def test_what_was_cut_is_told_and_the_rest_is_as_it_was(broker: FakeBroker, tmp_path: Path) -> None:
    leaky = event(1, user=SECRET, labels={"note": f"key {SECRET}", "team": "blue"})
    ((_, found),) = published(broker, tmp_path, leaky)
    assert found["redacted"] == "data.user,data.labels.note"
    assert found["data"]["labels"] == {"note": "key [redacted]", "team": "blue"}
    assert {**found["data"], "user": 0, "labels": 0} == {**leaky["data"], "user": 0, "labels": 0}


def test_a_clean_event_goes_out_byte_for_byte(broker: FakeBroker, tmp_path: Path) -> None:
    clean = event(1, model="task-sk-eleton", labels={"tökens": "5.0"})
    ((_, found),) = published(broker, tmp_path, clean)
    assert found == clean


def test_a_tenant_that_is_a_secret_is_in_no_key_of_a_message(broker: FakeBroker, tmp_path: Path) -> None:
    ((key, found),) = published(broker, tmp_path, event(1, tenant=SECRET))
    assert SECRET not in key.decode()
    assert key == found["subject"].encode()


def test_an_event_too_large_for_the_broker_is_kept_without_its_secret(broker: FakeBroker, tmp_path: Path) -> None:
    broker.message_bytes_max = 10
    published(broker, tmp_path, event(1, user=SECRET))
    kept = (tmp_path / "undeliverable.ndjson").read_text()
    assert "[redacted]" in kept
    assert SECRET not in kept


def test_the_ledger_is_asked_for_the_identity_that_it_knows() -> None:
    class Record:
        body = json.dumps(event(1, tenant="acme") | {"id": f"call-{SECRET}"}).encode()

    tenant, _, name = identity_of(Record())  # type: ignore[arg-type]
    assert tenant == "acme"
    assert name == json.loads(as_sent(Record.body))["id"]
    assert SECRET not in name


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[House]:
    made = House(sqlite_url, tmp_path)
    yield made
    made.close()


def take(ledger: Ledger, body: dict[str, Any], offset: int) -> Any:
    delivery = Delivery(json.dumps(body).encode(), NOW_US, Evidence("usage.events", 0, offset, 0))
    return ledger.take([delivery], NOW_US)


def test_the_service_raises_the_alert_and_counts_what_it_cut_itself_as_the_same_event(
    house: House, broker: FakeBroker, tmp_path: Path
) -> None:
    raw = house.event("e1", user=SECRET)
    ((_, cut),) = published(broker, tmp_path / "spool", raw)
    assert take(house.ledger, cut, 0).counted == 1
    (alert,) = house.ledger.rows(alerts)
    assert (alert["kind"], json.loads(alert["facts"])["fields"]) == ("secret_in_event", ["data.user"])
    again = take(house.ledger, raw, 1)  # the same from an older client, which did not cut
    assert (again.duplicates, again.rejected) == (1, [])


@given(
    st.lists(
        st.lists(
            st.one_of(st.sampled_from([*(s for s, _ in KINDS.values()), "tokens", "input", "a"]), st.text(max_size=12)),
            max_size=5,
        ),
        max_size=8,
    )
)
def test_the_fast_look_finds_whatever_the_single_look_finds(batches: list[list[str]]) -> None:
    scan = Scan()
    for batch in batches:
        raws = [json.dumps({"a": text, text: 1}, ensure_ascii=False).encode("utf-8", "surrogatepass") for text in batch]
        assert scan.suspects(raws) == [place for place, raw in enumerate(raws) if suspicious(raw)]
