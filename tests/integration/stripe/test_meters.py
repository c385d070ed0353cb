"""Usage as meter events: sent once, corrected, compared with Stripe's own sums."""

from collections.abc import Iterator

import pytest

from billing.stripe_gateway import (
    MemoryStore,
    MeterReading,
    Settings,
    StripeGateway,
    hourly_readings,
    make_client,
    meter_drift,
    push_meter_events,
)
from schemas.instants import HOUR_US
from tests.integration.stripe.kit import NOW_S, Killed, Switch, gateway_on, no_wait_pace
from tollhouse.stripe_double import Fault, Handle, StripeDouble, start

HOUR = (NOW_S // 3600 - 5) * HOUR_US


@pytest.fixture
def wire() -> Iterator[Handle]:
    with start(double=StripeDouble(lambda: NOW_S)) as handle:
        yield handle


@pytest.fixture
def gateway(wire: Handle) -> StripeGateway:
    client = make_client("sk_test_double", api_base=wire.url, timeout_s=5)
    return StripeGateway(client, MemoryStore(), Settings(), no_wait_pace())


def prepare(gateway: StripeGateway) -> str:
    """A meter and a customer; the customer's id."""
    gateway.client.v1.billing.meters.create({
        "display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "value_settings": {"event_payload_key": "value"},
    })  # fmt: skip
    return gateway.client.v1.customers.create({"name": "Acme"}).id


def reading(customer: str, value: int, hour: int = 0) -> MeterReading:
    return MeterReading("acme", customer, "tokens", HOUR + hour * HOUR_US, value)


def outcomes(gateway: StripeGateway, readings: list[MeterReading], now_s: int = NOW_S) -> list[str]:
    return [result.outcome for result in push_meter_events(gateway, readings, now_s)]


def test_readings_are_sent_once_and_the_sums_agree(gateway: StripeGateway, wire: Handle) -> None:
    customer = prepare(gateway)
    readings = [reading(customer, 100 + hour, hour) for hour in range(5)]
    assert outcomes(gateway, readings) == ["sent"] * 5
    assert outcomes(gateway, readings) == ["unchanged"] * 5
    assert len(wire.double.account.all("billing.meter_event")) == 5
    assert meter_drift(gateway, readings) == []


def test_quarters_become_hours_that_are_over() -> None:
    quarter = HOUR_US // 4
    rollups = [("acme", HOUR + n * quarter, 10 + n) for n in range(6)] + [("nobody", HOUR, 5)]
    found = hourly_readings(rollups, {"acme": "cus_1"}, "tokens", HOUR + HOUR_US + quarter)
    assert found == [MeterReading("acme", "cus_1", "tokens", HOUR, 10 + 11 + 12 + 13)]


def test_a_store_that_was_lost_finds_the_events_delivered(gateway: StripeGateway, wire: Handle) -> None:
    customer = prepare(gateway)
    outcomes(gateway, [reading(customer, 100)])
    fresh = StripeGateway(gateway.client, MemoryStore(), Settings(), no_wait_pace())
    assert outcomes(fresh, [reading(customer, 100)]) == ["already"]
    assert meter_drift(fresh, [reading(customer, 100)]) == []


def test_a_correction_within_a_day_cancels_and_later_adjusts(gateway: StripeGateway, wire: Handle) -> None:
    customer = prepare(gateway)
    outcomes(gateway, [reading(customer, 100)])
    assert outcomes(gateway, [reading(customer, 140)]) == ["cancelled_and_sent"]
    assert meter_drift(gateway, [reading(customer, 140)]) == []
    wire.double.advance(2 * 86_400)
    assert outcomes(gateway, [reading(customer, 90)], NOW_S + 2 * 86_400) == ["adjusted"]
    assert meter_drift(gateway, [reading(customer, 90)]) == []
    values = [event["_value"] for event in reversed(wire.double.account.all("billing.meter_event"))]
    assert values == [100, 140, -50]
    assert outcomes(gateway, [reading(customer, 0)], NOW_S + 2 * 86_400) == ["adjusted"]
    assert outcomes(gateway, [reading(customer, 7)], NOW_S + 2 * 86_400) == ["cancelled_and_sent"]
    assert meter_drift(gateway, [reading(customer, 7)]) == []


def test_what_stripe_does_not_take_is_refused_with_a_reason(gateway: StripeGateway, wire: Handle) -> None:
    customer = prepare(gateway)
    late = MeterReading("acme", customer, "tokens", HOUR - 36 * 24 * HOUR_US, 1)
    early = MeterReading("acme", customer, "tokens", HOUR + 24 * HOUR_US, 1)
    crooked = MeterReading("acme", customer, "tokens", HOUR + 1_000_000, 1)
    nameless = MeterReading("acme", customer, "words", HOUR, 1)
    results = push_meter_events(gateway, [late, early, crooked, nameless, reading(customer, 0)], NOW_S)
    assert [(r.outcome, r.reason) for r in results] == [
        ("refused", "out_of_window"), ("refused", "out_of_window"), ("refused", "not_an_hour"),
        ("refused", "invalid_request"), ("unchanged", ""),
    ]  # fmt: skip
    assert wire.double.account.all("billing.meter_event") == []


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "status", "status_after"])
def test_a_fault_counts_nothing_twice(gateway: StripeGateway, wire: Handle, kind: str) -> None:
    customer = prepare(gateway)
    wire.double.faults.add(Fault(kind, lambda _method, path: path.endswith("/meter_events")))
    assert outcomes(gateway, [reading(customer, 100)])[0] in ("sent", "already")
    assert meter_drift(gateway, [reading(customer, 100)]) == []


def history(double: StripeDouble, store: MemoryStore, switch: Switch | None, customer: str) -> None:
    """Sent, corrected within a day."""
    for value in (100, 140):
        assert push_meter_events(gateway_on(double, store, switch), [reading(customer, value)], NOW_S)


@pytest.mark.parametrize("pause_s", [0, 3 * 86_400], ids=["at once", "three days later"])
def test_killed_at_every_boundary_counts_right(pause_s: int) -> None:
    at = 0
    while True:
        at += 1
        double, store = StripeDouble(lambda: NOW_S), MemoryStore()
        customer = prepare(gateway_on(double))
        try:
            history(double, store, Switch(at), customer)
        except Killed:
            double.advance(pause_s)
            gateway = gateway_on(double, store)
            results = push_meter_events(gateway, [reading(customer, 140)], NOW_S + pause_s)
            assert results[0].outcome not in ("refused", "failed"), (at, results)
            assert meter_drift(gateway, [reading(customer, 140)]) == [], at
        else:
            break
    assert at > 10
