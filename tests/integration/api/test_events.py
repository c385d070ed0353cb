"""Events over HTTP: three modes, a result for each event, and what a broker that is away means."""

import json
from typing import Any

import pytest

from pipeline.ledger.tables import alerts, rejected
from tests.integration.api.kit import House
from tollhouse_client import EventTooLargeError, PublisherClosedError, SpoolFullError

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def post(house: House, body: Any, content_type: str = SINGLE, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return house.client.post(
        "/v1/events", content=raw, headers=house.proxy() | {"Content-Type": content_type} | headers
    )


def test_a_single_event_is_accepted_once_the_broker_has_it(house: House) -> None:
    answer = post(house, house.event())
    assert (answer.status_code, answer.json()) == (
        202,
        {"results": [{"source": "proxy/eu-1", "id": "e1", "status": "accepted"}]},
    )
    assert house.publisher.events == [house.event()]


def test_a_batch_has_a_result_for_each_event_in_order(house: House) -> None:
    events = [house.event("a"), house.event("b", "nobody"), 5, house.event("c", key="other"), house.event("d")]
    answer = post(house, events, BATCH)
    results = answer.json()["results"]
    assert [r["status"] for r in results] == ["accepted", "rejected", "rejected", "rejected", "accepted"]
    assert [r.get("reason") for r in results] == [None, "unknown_tenant", "malformed", "unknown_key", None]
    assert [event["id"] for event in house.publisher.events] == ["a", "d"]
    kept = house.ledger.rows(rejected, order=[rejected.c.n])
    assert [(row["id"], row["reason"]) for row in kept] == [
        ("b", "unknown_tenant"), (None, "malformed"), ("c", "unknown_key"),
    ]  # fmt: skip
    assert json.loads(kept[0]["raw"]) == events[1]
    assert post(house, [], BATCH).json() == {"results": []}


def test_binary_mode_puts_the_event_together(house: House) -> None:
    event = house.event()
    headers = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
    headers["ce-source"] = "proxy%2Feu-1"
    answer = post(house, event["data"], "application/json", **headers)
    assert answer.json()["results"][0]["status"] == "accepted"
    assert house.publisher.events == [event]


def test_late_and_early_events_are_told_at_once_unless_the_ledger_has_them(house: House) -> None:
    event = house.event("old")
    house.count(event)
    house.now_us += 36 * 86_400_000_000
    early = house.event("early") | {"time": "2027-12-01T00:00:00Z"}
    answer = post(house, [event, event | {"id": "other"}, early], BATCH)
    assert [r.get("reason", r["status"]) for r in answer.json()["results"]] == ["accepted", "too_old", "from_future"]


def test_a_secret_is_cut_out_before_the_event_goes_on(house: House) -> None:
    secret = "sk-ant-" + "x9Y" * 12
    answer = post(house, house.event(labels={"note": f"key {secret}"}))
    assert answer.json()["results"][0]["status"] == "accepted"
    assert house.publisher.events[0]["data"]["labels"] == {"note": "key [redacted]"}
    assert [row["kind"] for row in house.ledger.rows(alerts)] == ["secret_in_event"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", BATCH, 400),
        (b"[{]", BATCH, 400),
        (b"[" + b"1," * 10_000 + b"1]", BATCH, 400),
        (b" " * (4 * 1024 * 1024 + 1), SINGLE, 413),
    ],
)
def test_what_is_no_event_at_all_is_a_problem(house: House, body: bytes, content_type: str, status: int) -> None:
    answer = post(house, body, content_type)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert house.publisher.events == []


def test_a_body_without_length_is_bounded_too(house: House) -> None:
    headers = house.proxy() | {"Content-Type": SINGLE}
    answer = house.client.post("/v1/events", content=(b" " * 65536 for _ in range(80)), headers=headers)
    assert answer.status_code == 413


def test_a_compressed_body_is_refused(house: House) -> None:
    assert post(house, b"\x1f\x8b", SINGLE, **{"Content-Encoding": "gzip"}).status_code == 415


def test_broken_json_is_a_rejected_event(house: House) -> None:
    answer = post(house, b'{"specversion": ')
    assert (answer.status_code, answer.json()["results"][0]["reason"]) == (202, "malformed")


def test_without_the_broker_nothing_is_called_accepted(house: House) -> None:
    house.publisher.answers = False
    answer = post(house, house.event())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tollhouse:problem:broker_unavailable")
    assert "retry-after" in answer.headers
    assert len(house.publisher.events) == 1, "it stays in the spool, and a repeat counts once"


@pytest.mark.parametrize("error", [SpoolFullError("full"), PublisherClosedError("closed"), OSError(28, "no space")])
def test_a_spool_that_takes_nothing_is_a_503(house: House, error: Exception) -> None:
    house.publisher.error = error
    events = [house.event("bad", "nobody"), house.event()]
    assert post(house, events, BATCH).status_code == 503
    assert [row["id"] for row in house.ledger.rows(rejected)] == ["bad"]


def test_an_event_larger_than_a_message_is_rejected_by_itself(house: House) -> None:
    house.publisher.error = EventTooLargeError("1,000,000 bytes")
    result = post(house, house.event()).json()["results"][0]
    assert (result["status"], result["reason"], result["detail"]) == ("rejected", "malformed", "1,000,000 bytes")


@pytest.mark.parametrize("who", ["nobody", "tenant", "operator"])
def test_only_a_proxy_may_send_events(house: House, who: str) -> None:
    headers = {"nobody": {}, "tenant": house.tenant("acme"), "operator": house.operator("admin")}[who]
    answer = house.client.post("/v1/events", json=house.event(), headers={**headers, "Content-Type": SINGLE})
    assert answer.status_code == (401 if who == "nobody" else 403)
    assert house.publisher.events == []
