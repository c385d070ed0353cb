"""The second way: usage as Stripe's meter events, for those who let Stripe price.

One event an hour, customer and meter, its identifier derived from these: sending it again changes nothing within 24
hours (Stripe's window), and beyond that our own record knows what was sent. An hour whose count changed later is
corrected: within 24 hours the old event is cancelled and the whole value sent anew, after that an event carries the
difference (negative ones count). https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import stripe

from billing.stripe_gateway.calls import Caller, Refused, Unreachable
from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.lines import short
from schemas.instants import HOUR_US, SECOND_US

BACK_S: Final = 35 * 86_400
AHEAD_S: Final = 300
CANCEL_S: Final = 23 * 3600
"""Stripe cancels within 24 hours; an hour is kept for clocks and retries."""
_IDENTIFIER_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class MeterReading:
    """Whole units of one hour. event_name: the meter's. hour_us: its start, on the hour. customer: Stripe's id."""

    tenant: str
    customer: str
    event_name: str
    hour_us: int
    value: int


@dataclass(frozen=True, slots=True)
class MeterResult:
    """outcome: sent, already, cancelled_and_sent, adjusted, unchanged, refused or failed."""

    reading: MeterReading
    outcome: str
    identifier: str = ""
    reason: str = ""
    detail: str = ""


def hourly_readings(
    rollups: Iterable[tuple[str, int, int]], customers: Mapping[str, str], event_name: str, until_us: int
) -> list[MeterReading]:
    """Readings of the hours that ended by until_us, from rollups (tenant, start of the quarter hour, whole units).

    customers: Stripe's customer by tenant; tenants without one are left out. In order of tenant and hour.
    """
    sums: dict[tuple[str, int], int] = {}
    for tenant, quarter_us, units in rollups:
        hour_us = quarter_us - quarter_us % HOUR_US
        if tenant in customers and hour_us + HOUR_US <= until_us:
            sums[tenant, hour_us] = sums.get((tenant, hour_us), 0) + units
    return [
        MeterReading(tenant, customers[tenant], event_name, hour_us, units)
        for (tenant, hour_us), units in sorted(sums.items())
    ]


def push_meter_events(
    gateway: StripeGateway,
    readings: Sequence[MeterReading],
    now_s: int,
    *,
    progress: Callable[[int, int, MeterResult], None] = lambda _done, _of, _result: None,
) -> list[MeterResult]:
    """Bring Stripe's meters to these values; a result for each. now_s: Unix seconds."""
    caller = gateway.caller()
    results: list[MeterResult] = []
    for reading in readings:
        try:
            result = _push(gateway, caller, reading, now_s)
        except Refused as error:
            result = MeterResult(reading, "refused", reason=error.reason, detail=str(error))
        except Unreachable as error:
            result = MeterResult(reading, "failed", reason="unreachable", detail=str(error))
        results.append(result)
        progress(len(results), len(readings), result)
    return results


def _push(gateway: StripeGateway, caller: Caller, reading: MeterReading, now_s: int) -> MeterResult:
    at_s = reading.hour_us // SECOND_US
    if reading.hour_us % HOUR_US:
        raise Refused("not_an_hour", f"{at_s} is not the start of an hour")
    if not now_s - BACK_S <= at_s <= now_s + AHEAD_S:
        raise Refused("out_of_window", "Stripe takes events of the last 35 days and up to 5 minutes ahead")
    base = short(f"{reading.tenant}:{reading.event_name}:{at_s}", _IDENTIFIER_MAX)
    record = dict(gateway.store.get(f"meter/{base}") or {})
    # An event that a killed run may have sent comes first: the same identifier, so it counts once.
    if record.get("state") == "sending":
        record = _send(gateway, caller, reading, base, record, now_s)
    sent, version = int(record.get("sent", "0")), int(record.get("version", "0"))
    identifier = f"{base}:v{version}"
    if record.get("state") == "cancelling":
        sent = _cancel(gateway, caller, reading, base, record)
    elif version and sent == reading.value:
        return MeterResult(reading, "unchanged", identifier)
    elif not version and not reading.value:
        return MeterResult(reading, "unchanged")
    elif sent and record.get("whole") == "1" and now_s - int(record["at_s"]) < CANCEL_S:
        record = {**record, "state": "cancelling"}
        gateway.store.put(f"meter/{base}", record)
        sent = _cancel(gateway, caller, reading, base, record)
    whole = sent == 0
    following = {
        "state": "sending",
        "version": str(version + 1),
        "value": str(reading.value - sent),
        "before": str(sent),
        "whole": "1" if whole else "0",
        "at_s": str(now_s),
    }
    gateway.store.put(f"meter/{base}", following)
    done = _send(gateway, caller, reading, base, following, now_s)
    outcome = "sent" if not version else "cancelled_and_sent" if whole else "adjusted"
    if done["found"] == "1" and outcome == "sent":
        outcome = "already"
    return MeterResult(reading, outcome, f"{base}:v{version + 1}")


def _send(
    gateway: StripeGateway, caller: Caller, reading: MeterReading, base: str, record: dict[str, str], now_s: int
) -> dict[str, str]:
    """Send the event of the record; "already exists" is delivered. The record as sent, with found for that case."""
    identifier = f"{base}:v{record['version']}"
    late = now_s - int(record["at_s"]) >= CANCEL_S
    found = late and _counted(gateway, caller, reading) == int(record["before"]) + int(record["value"])
    if not found and int(record["value"]):
        event: Any = {
            "event_name": reading.event_name,
            "identifier": identifier,
            "payload": {"stripe_customer_id": reading.customer, "value": record["value"]},
            "timestamp": reading.hour_us // SECOND_US,
        }
        service = gateway.client.v1.billing.meter_events
        try:
            caller.read(lambda options: service.create(event, options))  # the identifier makes it safe to repeat
        except Refused as error:
            if "already exists" not in str(error):
                raise
            found = True
    total = int(record["before"]) + int(record["value"])
    done = {**record, "state": "sent", "sent": str(total), "found": "1" if found else "0"}
    gateway.store.put(f"meter/{base}", done)
    return done


def _cancel(gateway: StripeGateway, caller: Caller, reading: MeterReading, base: str, record: dict[str, str]) -> int:
    """Cancel the record's event; what still counts for the hour: 0, or all of it when the time for it ran out."""
    params: Any = {
        "event_name": reading.event_name,
        "type": "cancel",
        "cancel": {"identifier": f"{base}:v{record['version']}"},
    }
    service = gateway.client.v1.billing.meter_event_adjustments
    try:
        caller.read(lambda options: service.create(params, options))
    except Refused as error:
        if "cancelled already" not in str(error) and "already been cancel" not in str(error):
            return _counted(gateway, caller, reading)  # a run was killed here, and a day went by
    return 0


def _counted(gateway: StripeGateway, caller: Caller, reading: MeterReading) -> int:
    """What Stripe counts for the reading's hour now."""
    start_s = reading.hour_us // SECOND_US
    return meter_total(gateway, caller, reading.event_name, reading.customer, start_s, start_s + 3600)


def meter_total(
    gateway: StripeGateway, caller: Caller, event_name: str, customer: str, start_s: int, end_s: int
) -> int:
    """Stripe's own sum over [start_s, end_s), from the meter's summaries. They may lag by minutes."""
    meter_id = next(
        (
            meter.id
            for meter in caller.pages(gateway.client.v1.billing.meters.list)
            if isinstance(meter, stripe.billing.Meter) and meter.event_name == event_name
        ),
        None,
    )
    if meter_id is None:
        raise Refused("no_meter", f"Stripe has no meter with event name {event_name}")
    span: Any = {"customer": customer, "start_time": start_s, "end_time": end_s}
    service = gateway.client.v1.billing.meters.event_summaries
    total = 0
    for row in caller.pages(lambda paging, options: service.list(meter_id, paging | span, options)):
        if row.aggregated_value != int(row.aggregated_value):
            raise Refused("not_whole", f"a summary of {event_name} is {row.aggregated_value}: only we send, and whole")
        total += int(row.aggregated_value)
    return total


@dataclass(frozen=True, slots=True)
class MeterDrift:
    """Ours against the meter's sum for one customer over the span of its readings."""

    tenant: str
    customer: str
    event_name: str
    ours: int
    theirs: int


def meter_drift(gateway: StripeGateway, readings: Iterable[MeterReading]) -> list[MeterDrift]:
    """Where our totals and the summaries of Stripe differ; empty when they agree. Refused and Unreachable pass."""
    caller = gateway.caller()
    sums: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    for reading in readings:
        key = (reading.tenant, reading.customer, reading.event_name)
        start_s = reading.hour_us // SECOND_US
        low, high, total = sums.get(key, (start_s, start_s + 3600, 0))
        sums[key] = (min(low, start_s), max(high, start_s + 3600), total + reading.value)
    found = []
    for (tenant, customer, event_name), (low, high, total) in sums.items():
        theirs = meter_total(gateway, caller, event_name, customer, low, high)
        if theirs != total:
            found.append(MeterDrift(tenant, customer, event_name, total, theirs))
    return found
