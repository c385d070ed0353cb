"""Meters, meter events, their cancelling and their summaries.

https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api
"""

from tollhouse.stripe_double.account import DAY_S, Account, Obj, Params, page
from tollhouse.stripe_double.errors import invalid

WINDOW_BACK_S = 35 * DAY_S
WINDOW_AHEAD_S = 300
IDENTIFIER_KEPT_S = DAY_S
_GRAIN_S = {"hour": 3600, "day": DAY_S}


def create(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/billing/meters"""
    if any(m["event_name"] == params["event_name"] for m in account.all("billing.meter")):
        raise invalid(f"A meter with event name {params['event_name']} exists already.", param="event_name")
    mapping = params.get("customer_mapping") or {"type": "by_id", "event_payload_key": "stripe_customer_id"}
    meter = {
        "id": account.new_id("mtr"),
        "object": "billing.meter",
        "created": account.now_s(),
        "customer_mapping": mapping,
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "livemode": False,
        "status": "active",
        "updated": account.now_s(),
        "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
    }
    return account.add("billing.meter", meter)


def list_(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/billing/meters"""
    return page(account.all("billing.meter"), params, "/v1/billing/meters")


def _meter(account: Account, event_name: str) -> Obj:
    for meter in account.all("billing.meter"):
        if meter["event_name"] == event_name:
            return meter
    raise invalid(f"No active meter found for event name {event_name}", param="event_name")


def record(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/billing/meter_events: whole values (negative ones too), the time window, unique identifiers for 24 h."""
    meter = _meter(account, params["event_name"])
    now_s = account.now_s()
    at_s = params.get("timestamp", now_s)
    if not now_s - WINDOW_BACK_S <= at_s <= now_s + WINDOW_AHEAD_S:
        raise invalid("The timestamp must be within the past 35 days or up to 5 minutes ahead.", param="timestamp")
    payload = params["payload"]
    customer = payload.get(meter["customer_mapping"]["event_payload_key"])
    value = payload.get(meter["value_settings"]["event_payload_key"], "")
    if customer not in account.objects.get("customer", {}):
        raise invalid("The payload names no known customer.", param="payload")
    if not value.lstrip("-").isdigit():
        raise invalid("The value must be a whole number.", param="payload")
    identifier = params.get("identifier") or account.new_id("mev")
    for event in account.all("billing.meter_event"):
        if event["identifier"] == identifier and event["created"] > now_s - IDENTIFIER_KEPT_S:
            raise invalid(f"An event already exists with identifier {identifier}.", param="identifier")
    event = {
        "id": account.new_id("mev"),
        "object": "billing.meter_event",
        "created": now_s,
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": dict(payload),
        "timestamp": at_s,
        "_cancelled": False,
        "_customer": customer,
        "_meter": meter["id"],
        "_value": int(value),
    }
    return account.add("billing.meter_event", event)


def adjust(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/billing/meter_event_adjustments: cancel, within 24 hours of receipt."""
    _meter(account, params["event_name"])
    wanted = (params.get("cancel") or {}).get("identifier")
    for event in account.all("billing.meter_event"):
        if event["identifier"] == wanted and event["event_name"] == params["event_name"]:
            if event["created"] <= account.now_s() - IDENTIFIER_KEPT_S:
                raise invalid("Only events of the last 24 hours can be cancelled.", param="cancel[identifier]")
            if event["_cancelled"]:
                raise invalid("The event is cancelled already.", param="cancel[identifier]")
            event["_cancelled"] = True
            return {
                "object": "billing.meter_event_adjustment",
                "cancel": {"identifier": wanted},
                "event_name": params["event_name"],
                "livemode": False,
                "status": "pending",
                "type": "cancel",
            }
    raise invalid(f"No event found with identifier {wanted}", param="cancel[identifier]", code="resource_missing")


def summaries(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/billing/meters/:id/event_summaries, by hour, day, or in one."""
    meter = account.get("billing.meter", ids[0])
    start, end = params["start_time"], params["end_time"]
    if start % 60 or end % 60 or end <= start:
        raise invalid("The times must be aligned with minutes, the end after the start.", param="start_time")
    grain = _GRAIN_S.get(params.get("value_grouping_window", ""), end - start)
    sums: dict[int, int] = {}
    for event in account.all("billing.meter_event"):
        mine = event["_meter"] == meter["id"] and event["_customer"] == params["customer"]
        if mine and not event["_cancelled"] and start <= event["timestamp"] < end:
            window = start + (event["timestamp"] - start) // grain * grain
            sums[window] = sums.get(window, 0) + event["_value"]
    rows = [
        {
            "id": f"mtrusg_{meter['id']}_{params['customer']}_{window}",
            "object": "billing.meter_event_summary",
            "aggregated_value": value,
            "end_time": min(window + grain, end),
            "livemode": False,
            "meter": meter["id"],
            "start_time": window,
        }
        for window, value in sorted(sums.items(), reverse=True)
    ]
    return page(rows, params, f"/v1/billing/meters/{meter['id']}/event_summaries")
