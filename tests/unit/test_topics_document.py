"""The AsyncAPI document says what is really on the topics."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.alerting import KINDS, SEVERITIES, Alert
from pipeline.context import WindowKey
from pipeline.ledger.record import QuotaState
from pipeline.screen import Refused
from schemas.catalog import Quota
from schemas.instants import parse_instant
from schemas.usage_event import Evidence
from streams import topics
from streams.publishing import (
    alert_message,
    clock_message,
    invoice_message,
    key_state_message,
    quota_state_message,
    rejected_message,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
AT_US = parse_instant("2026-10-03T10:00:00Z")


def _faults(name: str, value: bytes) -> list[str]:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(value))]


def test_every_channel_is_a_topic_that_the_worker_makes() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses <= set(topics.topic_specs(4))
    assert {
        topics.USAGE_EVENTS,
        topics.USAGE_REJECTED,
        topics.QUOTA_STATES,
        topics.KEY_STATES,
        topics.ALERTS,
        topics.INVOICES,
    } <= addresses


def test_the_page_names_every_topic() -> None:
    page = (ROOT / "docs" / "topics.md").read_text(encoding="utf-8")
    assert [name for name in topics.topic_specs(4) if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("raw", [b'{"id": "a"}', b"\xff\xfe"])
@pytest.mark.parametrize("known", [True, False])
def test_rejected(raw: bytes, known: bool) -> None:
    name = "acme" if known else None
    refused = Refused(raw, "malformed", "no id", name, name, name, AT_US, Evidence("usage.events", 1, 7, 0))
    assert _faults("Rejected", rejected_message(refused, 1)[1]) == []


def test_what_is_too_large_for_a_message_is_told_without_its_bytes() -> None:
    refused = Refused(b"\x00" * 700_000, "malformed", "no JSON", None, None, None, AT_US, Evidence("http", 1, 7, 0))
    value = rejected_message(refused, 3)[1]
    assert len(value) < 1_000
    assert json.loads(value)["event_bytes"] == 700_000
    assert _faults("Rejected", value) == []


@pytest.mark.parametrize("limit", [None, Decimal("12.5")])
@pytest.mark.parametrize("meter", ["cost", "tokens"])
def test_quota_state(meter: str, limit: Decimal | None) -> None:
    quota = Quota(name="daily", meter=meter, limit=limit, window="day")
    window = WindowKey("tenant:acme", "daily", f"{meter}/*/day", AT_US, AT_US + 86_400_000_000)
    key, value = quota_state_message(QuotaState(window, quota, 10**12, 5 * 10**11, 3), AT_US)
    assert key == b"tenant:acme/daily"
    assert _faults("QuotaState", value) == []


@pytest.mark.parametrize("state", ["active", "suspended", "revoked", "rotating", "throttled"])
def test_key_state(state: str) -> None:
    row = {"key": "tenant:acme", "state": state, "reason": "", "changed_us": AT_US, "changed_by": "x", "version": 2}
    row |= {"catalog": 1, "tier": "standard", "models": ["*"], "tokens_before_us": AT_US}
    key, value = key_state_message(row, AT_US)
    assert key == b"tenant:acme"
    assert _faults("KeyState", value) == []


@pytest.mark.parametrize("limit", [None, 0, 600])
def test_a_keys_state_carries_what_its_provider_takes_in_a_minute(limit: int | None) -> None:
    row = {"key": "pool-1", "state": "active", "reason": "", "changed_us": AT_US, "changed_by": "x", "version": 2}
    row |= {"catalog": 1, "provider": "openai", "kind": "pooled", "tenant": None, "models": ["*"]}
    bucket = {"meter": "tokens", "per_minute": 600, "burst": 100}
    row |= {"requests_per_minute": limit, "tokens_per_minute": 10_000, "rate_limits": [bucket] if limit else []}
    value = key_state_message(row, AT_US)[1]
    assert _faults("KeyState", value) == []
    said = json.loads(value)
    assert (said.get("requests_per_minute"), said["tokens_per_minute"]) == (limit, 10_000)
    assert ("requests_per_minute" in said) == (limit is not None)
    assert ("rate_limits" in said) == bool(limit)


def test_clock() -> None:
    key, value = clock_message(AT_US, AT_US - 1, 3)
    assert key == b"clock"
    assert _faults("Clock", value) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_alert(kind: str, severity: str) -> None:
    alert = Alert("leak:acme/pool/1", AT_US, kind, severity, "acme/pool", "more than was due", {"score": "9.1"})
    assert _faults("Alert", alert_message(alert, 1)[1]) == []


def test_the_schemas_are_schemas() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_a_wrong_message_is_told_from_a_right_one() -> None:
    assert _faults("Alert", b'{"id": "a"}')
    assert _faults("QuotaState", b'{"used": 1.5}')


@pytest.mark.parametrize("number", [None, "INV-2026-000001"])
def test_invoice(number: str | None) -> None:
    document = {"currency": "USD", "subtotal": "12.30", "tax": "0.00", "total": "12.30"}
    row = {"tenant": "acme", "month": "2026-10", "revision": 1, "status": "paid", "number": number, "changed_us": AT_US}
    key, value = invoice_message({**row, "document": json.dumps(document)})
    assert key == b"acme/2026-10/r1"
    assert _faults("Invoice", value) == []
