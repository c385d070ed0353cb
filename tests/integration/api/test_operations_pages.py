"""Pages of alerts, pipeline, keys and catalog: what they show to whom, and what their forms do."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from pipeline.alerting import Alert
from pipeline.ledger.alerts import find_alert
from pipeline.ledger.responses import list_responses, respond
from pipeline.ledger.tables import rejected
from pipeline.response import Response
from schemas.usage_event import Delivery, Evidence
from tests.integration.api.kit import CATALOG, NOW_US, House, catalog
from tests.integration.api.test_pages import browser, csrf

MINUTE_US = 60_000_000
LEAK = "leak:acme/openai-pool-1/29892120"
PAGES = ("/alerts", f"/alerts/{LEAK}", "/pipeline", "/keys/openai-pool-1", "/catalog")


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Any:
    made = House(database_url, tmp_path, broker="127.0.0.1:9")
    made.count(made.event("e1"), made.event("g1", "globex"))
    facts = {"rule": "rate", "since_us": NOW_US - 10 * MINUTE_US, "expected_tokens_60": 600, "new": {"network": ["x"]}}
    alert = Alert(LEAK, NOW_US, "leak", "page", "acme/openai-pool-1", "far over <its> level", facts)
    other = Alert("quota:1", NOW_US, "quota", "ticket", "globex/monthly", "80 % are used", {})
    made.ledger.raise_alerts([alert, other])
    yield made
    made.close()


def signed_in(house: House, role: str = "oncall") -> TestClient:
    return browser(house, house.token("operator", "ada", role=role))


def alert_of(house: House) -> dict[str, Any]:
    found = house.ledger.read(lambda c: find_alert(c, LEAK))
    assert found is not None
    return found


def reject(house: House, id_: str, tenant: str = "nobody") -> int:
    """An event of a tenant that the catalog does not have; its number in the rejected list."""
    raw = json.dumps(house.event(id_, tenant)).encode()
    house.ledger.take([Delivery(raw, house.now_us, Evidence("usage.events", 0, 10_000_000, 0))], house.now_us)
    return int(house.ledger.rows(rejected, rejected.c.id == id_)[0]["n"])


def test_an_incident_has_its_picture_its_facts_and_its_cost(house: House) -> None:
    client = signed_in(house, "viewer")
    text = client.get(f"/alerts/{LEAK}").text
    for part in ("far over &lt;its&gt; level", "expected tokens 60", "2026-11-01 09:50 UTC", "network: x", "rate"):
        assert part in text, part
    assert f"/plots/incident.svg?alert={quote(LEAK)}" in text
    assert 'action="/act"' not in text, "a viewer has no forms"
    picture = client.get("/plots/incident.svg", params={"alert": LEAK, "theme": "dark"})
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "acme/openai-pool-1: tokens a minute" in picture.text
    assert "expected" in picture.text


def test_an_alert_without_minutes_has_no_picture(house: House) -> None:
    client = signed_in(house)
    assert "incident.svg" not in client.get("/alerts/quota:1").text
    assert client.get("/plots/incident.svg?alert=quota:1").status_code == 404
    assert client.get("/plots/incident.svg?alert=none").status_code == 404
    assert client.get(f"/plots/incident.svg?alert={LEAK}&theme=pink").status_code == 404
    assert client.get("/alerts/none").status_code == 404


def test_the_list_has_every_incident_and_those_of_a_state(house: House) -> None:
    client = signed_in(house)
    text = client.get("/alerts").text
    assert "acme/openai-pool-1" in text
    assert "globex/monthly" in text
    assert f'href="/alerts/{quote(LEAK)}"' in client.get("/").text, "the overview leads there"
    assert "No alerts that are acked" in client.get("/alerts?state=acked").text
    assert client.get("/alerts?state=lost").status_code == 404


def test_oncall_acks_mutes_and_resolves_on_the_page(house: House) -> None:
    client = signed_in(house)
    page = f"/alerts/{LEAK}"
    form = {"csrf": csrf(client.get(page).text), "subject": LEAK, "back": page}
    answer = client.post("/act", data=form | {"action": "ack", "feedback": "leak"})
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert (alert_of(house)["state"], alert_of(house)["feedback"]) == ("acked", "leak")
    client.post("/act", data=form | {"action": "mute", "for_s": "3600"})
    assert alert_of(house)["muted_until_us"] == NOW_US + 3_600_000_000
    client.post("/act", data=form | {"action": "mute", "for_s": "0"})
    assert alert_of(house)["muted_until_us"] is None
    assert client.post("/act", data=form | {"action": "mute", "for_s": "1e9"}).status_code == 422
    assert client.post("/act", data=form | {"action": "ack", "feedback": "so so"}).status_code == 422
    client.post("/act", data=form | {"action": "resolve"})
    assert (alert_of(house)["state"], alert_of(house)["feedback"]) == ("resolved", "leak")
    text = client.get(page).text
    for done in ("alert.ack", "alert.mute", "alert.resolve", "operator"):
        assert done in text, done


def test_called_expected_an_incident_lets_go_of_what_it_set_off(house: House) -> None:
    throttle = Response("openai-pool-1", "throttle", "acme", "openai-pool-1", "throttled to twice", {"requests": 5})
    house.ledger.write(lambda c: respond(c, LEAK, 1, throttle, NOW_US, None))
    client = signed_in(house)
    assert "throttled" in client.get("/").text, "a throttled key does not break the overview"
    text = client.get(f"/alerts/{LEAK}").text
    assert "throttled to twice" in text
    client.post("/act", data={"csrf": csrf(text), "action": "ack", "subject": LEAK, "feedback": "expected"})
    (row,) = house.ledger.read(lambda c: list_responses(c, LEAK))
    assert row["released_us"] == NOW_US
    assert "active" in client.get("/keys/openai-pool-1").text


@pytest.mark.parametrize(("action", "feedback"), [("ack", "expected"), ("resolve", ""), ("resolve", "leak")])
def test_the_api_lets_go_of_what_an_incident_set_off_as_the_page_does(house: House, action: str, feedback: str) -> None:
    suspend = Response("tenant:acme", "suspend", "acme", "openai-pool-1", "tenant acme is suspended", {})
    house.ledger.write(lambda c: respond(c, LEAK, 1, suspend, NOW_US, None))
    assert house.ask("acme").json()["reason"] == "key_unavailable"
    address = f"/v1/alerts/{quote(LEAK, safe='')}/{action}"
    assert house.client.post(address, json={}, headers=house.operator("viewer")).status_code == 403
    answer = house.client.post(address, json={"feedback": feedback}, headers=house.operator("oncall")).json()
    assert (answer["state"], answer["feedback"]) == ({"ack": "acked", "resolve": "resolved"}[action], feedback)
    (row,) = house.ledger.read(lambda c: list_responses(c, LEAK))
    assert row["released_us"] == NOW_US
    assert house.ask("acme").json()["reason"] == "ok"


def test_an_ack_without_words_keeps_what_was_said_before_and_keeps_the_response(house: House) -> None:
    suspend = Response("tenant:acme", "suspend", "acme", "openai-pool-1", "tenant acme is suspended", {})
    house.ledger.write(lambda c: respond(c, LEAK, 1, suspend, NOW_US, None))
    address = f"/v1/alerts/{quote(LEAK, safe='')}/ack"
    house.client.post(address, json={"feedback": "leak"}, headers=house.operator("oncall"))
    assert house.client.post(address, headers=house.operator("oncall")).json()["feedback"] == "leak"
    assert house.ask("acme").json()["reason"] == "key_unavailable"
    assert house.client.post("/v1/alerts/none/resolve", headers=house.operator("oncall")).status_code == 404


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "/alerts\r\nX: y", ""])
def test_a_form_leads_back_into_the_dashboard_only(house: House, back: str) -> None:
    client = signed_in(house)
    form = {"csrf": csrf(client.get("/").text), "action": "ack", "subject": LEAK, "back": back}
    assert client.post("/act", data=form).headers["location"] == "/"


def test_the_pipeline_adds_up_and_replays(house: House) -> None:
    number = reject(house, "lost-1")
    client = signed_in(house)
    text = client.get("/pipeline").text
    for part in ("✓ yes", "unknown_tenant", "lost-1", "The broker does not answer"):
        assert part in text, part
    assert "✗ no" not in text
    form = {"csrf": csrf(text), "action": "replay", "subject": str(number), "back": "/pipeline"}
    assert client.post("/act", data=form).headers["location"] == "/pipeline"
    assert "lost-1" in client.get("/pipeline").text, "still no such tenant"
    tenants = {**CATALOG["tenants"], "nobody": {"plan": "team"}}
    house.ledger.apply(catalog(tenants=tenants), NOW_US, "test")
    assert client.post("/act", data=form).status_code == 303
    assert "lost-1" not in client.get("/pipeline").text
    assert client.post("/act", data=form).status_code == 409
    for nonsense in ("x", "", "9" * 30, "\u0661"):
        assert client.post("/act", data=form | {"subject": nonsense}).status_code == 404


def test_a_key_shows_its_use_its_alerts_and_its_past(house: House) -> None:
    client = signed_in(house)
    text = client.get("/keys/openai-pool-1").text
    for part in ("acme", "globex", "1\u202f200", f'href="/alerts/{quote(LEAK)}"', "2026-11-01"):
        assert part in text, part
    assert quote(LEAK) not in client.get("/keys/openai-pool-2").text
    form = {"csrf": csrf(text), "action": "suspend", "subject": "openai-pool-1", "reason": "seen in public"}
    answer = client.post("/act", data=form | {"back": "/keys/openai-pool-1"})
    assert answer.headers["location"] == "/keys/openai-pool-1"
    after = client.get("/keys/openai-pool-1").text
    for part in ("suspended", "seen in public", "Resume", "key.suspended"):
        assert part in after, part
    picture = client.get("/plots/key.svg", params={"key": "openai-pool-1"})
    assert "acme" in picture.text
    assert client.get("/keys/none").status_code == 404
    assert client.get("/plots/key.svg?key=none").status_code == 404
    assert client.get("/plots/key.svg?key=openai-pool-1&theme=pink").status_code == 404


def test_the_catalog_tells_what_holds_from_what_is_planned(house: House) -> None:
    team = CATALOG["plans"]["team"]
    later = {"from": "2027-01-01", **team, "fee": {"amount": "59.00"}}
    plans = {"team": [team, later]}
    client = signed_in(house, "viewer")
    assert "Nothing is planned" in client.get("/catalog").text
    house.ledger.apply(catalog(plans=plans), NOW_US, "ada@example.com")
    text = client.get("/catalog").text
    planned, _, rest = text.partition("Plans</h2>")
    assert "59 a month" in planned
    assert "2027-01-01" in planned
    assert "49 a month" in rest
    assert "59 a month" not in rest
    assert "ada@example.com" in rest
    assert "version 2" in text


def test_these_pages_are_for_operators(house: House) -> None:
    nobody, tenant = browser(house), browser(house, house.token("tenant", "acme"))
    for address in (*PAGES, f"/plots/incident.svg?alert={LEAK}", "/plots/key.svg?key=openai-pool-1"):
        assert nobody.get(address).status_code in (303, 401), address
        assert tenant.get(address).status_code == 404, address
    viewer = signed_in(house, "viewer")
    form = {"csrf": csrf(viewer.get("/alerts").text), "action": "ack", "subject": LEAK}
    assert viewer.post("/act", data=form).status_code == 403
    assert alert_of(house)["state"] == "open"
    for address in PAGES:
        answer = viewer.get(address)
        assert answer.status_code == 200, address
        assert "style=" not in answer.text
        assert "<script" not in answer.text
        assert "form-action 'self'" in answer.headers["content-security-policy"]


def test_what_takes_long_is_kept_longer(house: House) -> None:
    made: list[int] = []

    def slow() -> int:
        time.sleep(0.1)
        made.append(1)
        return len(made)

    api = house.app.state.api
    assert [api.cached("slow", 0.0, slow) for _ in range(3)] == [1, 1, 1], "kept for two seconds, not for none"
