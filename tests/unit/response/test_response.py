"""What a page sets off, and that admission keeps to it: the tenant, not the key that others share."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.admission import Ask, Decision
from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.catalogs import list_key_states
from pipeline.ledger.record import MinuteSum
from pipeline.ledger.responses import list_responses, release, respond
from pipeline.ledger.tables import audit_log
from pipeline.response import Response, hourly_limits, response_to, split_subject
from pipeline.watch import LeakWatch, leak_alert
from schemas.catalog import Catalog
from schemas.instants import HOUR_US, MINUTE_US

NOW_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
FACTS = {"expected_requests_60": 1.2, "expected_tokens_60": 0}
CATALOG = """
currency: USD
seller: {name: Example Cloud Ltd, country: IE}
tenants:
  acme: {name: Acme GmbH, tier: standard, plan: team}
  bolt: {name: Bolt Inc, tier: standard, plan: team}
  owner/eu: {name: Owner, tier: byok, plan: team}
keys:
  pool-1: {provider: openai, kind: pooled}
  own/1: {provider: openai, kind: byok, tenant: owner/eu}
plans:
  team: {charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]}
alerts: {on_leak: ACTION}
"""


def catalog(on_leak: str) -> Catalog:
    found = parse_yaml(CATALOG.replace("ACTION", on_leak))
    assert isinstance(found, Catalog), found
    return found


def respond_to(on_leak: str, kind: str = "leak", subject: str = "acme/pool-1", **more: Any) -> Response | None:
    return response_to(kind, more.get("severity", "page"), subject, more.get("facts", FACTS), catalog(on_leak))


def state(on_leak: str, **more: Any) -> tuple[str, str] | None:
    found = respond_to(on_leak, **more)
    return None if found is None else (found.subject, found.state)


def test_subjects_with_slashes_are_told_apart_by_the_catalog() -> None:
    assert split_subject("owner/eu/own/1", catalog("alert")) == ("owner/eu", "own/1")
    assert split_subject("nobody/pool-1", catalog("alert")) is None


def test_which_subject_comes_to_which_state() -> None:
    assert state("suspend") == ("tenant:acme", "suspended")
    assert state("throttle") == ("tenant:acme", "throttled")
    assert state("suspend", subject="owner/eu/own/1") == ("own/1", "suspended")
    assert state("suspend", kind="residual", subject="pool-1") == ("pool-1", "suspended")


@pytest.mark.parametrize(
    ("on_leak", "more"),
    [
        ("alert", {}),
        ("suspend", {"severity": "ticket"}),
        ("suspend", {"kind": "quota", "subject": "acme"}),
        ("suspend", {"subject": "gone/pool-1"}),
        ("throttle", {"kind": "residual", "subject": "pool-1"}),
        ("throttle", {"facts": {}}),
    ],
)
def test_what_is_told_only(on_leak: str, more: dict[str, Any]) -> None:
    assert state(on_leak, **more) is None


def test_a_throttle_lets_twice_the_usual_hour_pass_and_no_meter_of_which_nothing_was_due() -> None:
    assert hourly_limits({"expected_requests_60": 10.2, "expected_tokens_60": 4001}) == {"requests": 21, "tokens": 8002}
    assert hourly_limits(FACTS) == {"requests": 3}


class House:
    """A ledger whose catalog answers leaks."""

    def __init__(self, url: str, on_leak: str) -> None:
        self.ledger = Ledger(url)
        self.ledger.create()
        self.ledger.apply(catalog(on_leak), 0, "test")
        self.on_leak, self.asks = on_leak, 0

    def leak(self, alert: str = "leak:1", **more: Any) -> str:
        response = respond_to(more.pop("on_leak", self.on_leak), **more)
        assert response is not None
        return self.ledger.write(lambda c: respond(c, alert, 1, response, NOW_US, None))

    def ask(self, tenant: str = "acme", at_us: int = NOW_US) -> Decision:
        self.asks += 1
        return self.ledger.authorize(Ask(f"a{self.asks}", tenant, "gpt-5-mini"), at_us)

    def states(self) -> dict[str, str]:
        return {row["key"]: row["state"] for row in self.ledger.read(list_key_states)}


def test_a_suspended_tenant_is_refused_and_others_on_the_key_are_not(database_url: str) -> None:
    house = House(database_url, "suspend")
    assert house.ask().reason == "ok"
    house.leak()
    assert house.ask().reason == "key_unavailable"
    assert house.ask("bolt").reason == "ok"
    assert house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "ada")) == ["tenant:acme"]
    assert house.ask().reason == "ok"
    rows = house.ledger.rows(audit_log, audit_log.c.subject == "tenant:acme", order=(audit_log.c.n,))
    assert [(row["who"], row["action"]) for row in rows] == [
        ("leak-response", "key.suspended"), ("ada", "key.active"),
    ]  # fmt: skip


def test_a_throttled_tenant_has_its_usual_hour_and_no_more(database_url: str) -> None:
    house = House(database_url, "throttle")
    house.leak()
    assert [house.ask().reason for _ in range(4)] == ["ok", "ok", "ok", "quota"]
    refused = house.ask()
    assert refused.quota == "leak-throttle:pool-1:requests"
    assert refused.retry_after_s == 3600
    assert house.ask("bolt").reason == "ok"
    assert house.ask(at_us=NOW_US + HOUR_US).reason == "ok"
    house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "ada"))
    assert house.ask().reason == "ok"


def test_the_same_incident_twice_changes_nothing(database_url: str) -> None:
    house = House(database_url, "suspend")
    first = house.leak()
    before = house.ledger.read(list_key_states)
    assert house.leak() == first
    assert house.ledger.read(list_key_states) == before


def test_two_incidents_end_when_both_are_released(database_url: str) -> None:
    house = House(database_url, "suspend")
    house.leak("leak:1")
    house.leak("leak:2")
    assert house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "ada")) == []
    assert house.states() == {"tenant:acme": "suspended"}
    assert house.ledger.write(lambda c: release(c, "leak:2", NOW_US, "ada")) == ["tenant:acme"]


def test_a_suspension_that_ends_leaves_the_throttle_of_another_incident(database_url: str) -> None:
    house = House(database_url, "throttle")
    house.leak("leak:1")
    house.leak("leak:2", on_leak="suspend")
    house.ledger.write(lambda c: release(c, "leak:2", NOW_US, "ada"))
    assert house.states() == {"tenant:acme": "throttled"}
    house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "ada"))
    assert house.states() == {"tenant:acme": "active"}


@pytest.mark.parametrize("state", ["suspended", "revoked"])
def test_what_a_person_has_set_is_neither_changed_nor_taken_back(database_url: str, state: str) -> None:
    house = House(database_url, "suspend")
    house.ledger.set_key_state("own/1", state, NOW_US, "ada")
    assert house.leak(subject="owner/eu/own/1") == f"own/1 was {state} already"
    assert house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "bob")) == []
    assert house.states() == {"own/1": state}
    assert house.ledger.read(list_responses) == []


def test_a_key_revoked_after_the_response_stays_so(database_url: str) -> None:
    house = House(database_url, "suspend")
    house.leak(subject="owner/eu/own/1")
    house.ledger.set_key_state("own/1", "revoked", NOW_US, "ada")
    assert house.ledger.write(lambda c: release(c, "leak:1", NOW_US, "bob")) == []
    assert house.states() == {"own/1": "revoked"}


def test_the_response_says_what_it_does() -> None:
    response = respond_to("throttle")
    assert response is not None
    assert response.detail == "tenant acme is held to 3 requests an hour on key pool-1"


def flood(watch: LeakWatch, minute: int, network: str, requests: int) -> list[str]:
    """A minute of use; the alerts that it raised."""
    row = MinuteSum("acme", "pool-1", NOW_US + minute * MINUTE_US, network, "m", "a", requests, requests * 1000, 0)
    return [alert.id for alert in watch.add([row])]


def test_the_detector_learns_what_was_expected() -> None:
    watch = LeakWatch()
    found: list[Any] = []
    for minute in range(0, 16 * 1440, 30):
        assert flood(watch, minute, "AS1/DE", 1) == []
    minute = 16 * 1440
    while not found and minute < 16 * 1440 + 30:
        found = watch_alerts(watch, minute)
        minute += 1
    (alert,) = found
    assert alert.facts["new"]["network"] == ["AS2/ZZ"]
    assert watch.detector("acme/pool-1").incident is not None
    watch.accept(alert.id, alert.subject, alert.facts)
    assert watch.detector("acme/pool-1").incident is None


def watch_alerts(watch: LeakWatch, minute: int) -> list[Any]:
    detector = watch.detector("acme/pool-1")
    findings = detector.observe(NOW_US + minute * MINUTE_US, [("AS2/ZZ", "m", "a", 60, 600_000, 0)])
    return [leak_alert(finding) for finding in findings]
