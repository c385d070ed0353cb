"""The pages: who sees what, sessions, forms, and nothing that a page could load from elsewhere."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipeline.alerting import Alert
from tests.integration.api.kit import House
from tollhouse.api.app import make_app
from tollhouse.api.pace import Pace
from tollhouse.dashboard.sessions import COOKIE

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Any:
    made = House(sqlite_url, tmp_path)
    made.count(made.event("e1"), made.event("g1", "globex"), made.event("g2", "globex", tokens={"input": 9000}))
    made.ledger.raise_alerts([Alert("a:1", made.now_us, "leak", "page", "acme/<b>x</b>", "a <script> leak", {})])
    made.client.post("/v1/invoices/run", json={"month": "2026-11"}, headers=made.operator("finance"))
    yield made
    made.close()


def browser(house: House, token: str = "", **settings: Any) -> TestClient:
    """A browser of its own, signed in if a token is given."""
    app = house.app
    if settings:
        app = make_app(replace(house.settings, **settings), house.ledger, lambda: house.now_us, house.publisher)
    client = TestClient(app, base_url="http://127.0.0.1:8080", follow_redirects=False, client=("127.0.0.1", 5000))
    if token:
        answer = client.post("/sign-in", data={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


def csrf(text: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', text)
    assert found
    return found[1]


def test_without_a_session_there_is_only_the_form(house: House) -> None:
    client = browser(house)
    assert client.get("/").headers["location"] == "/sign-in"
    assert client.get("/sign-in").status_code == 200
    assert client.get("/plots/usage.svg").status_code == 401
    assert client.get("/invoices/acme/2026-11.pdf").status_code == 401
    refused = client.post("/sign-in", data={"token": "nonsense"})
    assert (refused.status_code, "no JWT" in refused.text, COOKIE in refused.cookies) == (401, True, False)
    assert client.post("/sign-in", data={"token": house.token("proxy")}).status_code == 401


def test_an_operator_sees_figures_alerts_quotas_and_invoices(house: House) -> None:
    client = browser(house, house.token("operator", "ada", role="viewer"))
    text = client.get("/").text
    for part in ("Events counted", "acme", "globex", "openai-pool-1", "daily", "102 % · full", "2026-11.pdf", "Margin"):
        assert part in text, part
    assert "a &lt;script&gt; leak" in text
    assert "<script" not in text
    assert 'name="action"' not in text, "a viewer has no buttons"
    assert client.get("/invoices/acme/2026-11").text.count("<table") == 1
    assert client.get("/invoices/acme/2026-11.pdf").content.startswith(b"%PDF")
    assert client.get("/plots/usage.svg?theme=dark").headers["content-type"] == "image/svg+xml"
    assert client.get("/plots/usage.svg?theme=pink").status_code == 404


def test_a_tenant_sees_itself_only_and_no_costs(house: House) -> None:
    client = browser(house, house.token("tenant", "acme"))
    text = client.get("/").text
    assert "acme" in text
    for hidden in ("globex", "Provider cost", "Margin", "openai-pool-1", "Alerts"):
        assert hidden not in text, hidden
    assert client.get("/invoices/acme/2026-11").status_code == 200
    assert client.get("/invoices/globex/2026-11").status_code == 404
    assert client.get("/invoices/globex/2026-11.csv").status_code == 404
    assert client.post("/act", data={"csrf": csrf(text), "action": "ack", "subject": "a:1"}).status_code == 403


def test_oncall_acts_by_forms_that_only_its_own_session_has(house: House) -> None:
    client = browser(house, house.token("operator", "ada", role="oncall"))
    form = {"csrf": csrf(client.get("/").text), "action": "suspend", "subject": "openai-pool-1"}
    for broken in ({"csrf": ""}, {"csrf": "0" * 64}):
        assert client.post("/act", data=form | broken).status_code == 403
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/act", data=form, headers=header).status_code == 403
    assert client.post("/act", data=form, headers={"Origin": "http://127.0.0.1:8080"}).status_code == 303
    assert "suspended" in client.get("/").text
    assert client.post("/act", data=form | {"action": "ack", "subject": "a:1"}).status_code == 303
    assert "acked" in client.get("/").text
    assert client.post("/act", data=form | {"action": "explode"}).status_code == 404


def test_the_session_cookie_is_for_this_browser_and_ends_with_the_token(house: House) -> None:
    answer = browser(house).post("/sign-in", data={"token": house.token("operator", "ada", role="viewer")})
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=3600"):
        assert part in cookie, part
    assert "Secure" not in cookie
    secure = browser(house, base_url="https://bill.example").post(
        "/sign-in", data={"token": house.token("operator", "ada", role="viewer")}
    )
    assert "Secure" in secure.headers["set-cookie"]
    client = browser(house, house.token("operator", "ada", role="viewer"))
    form = {"csrf": csrf(client.get("/").text)}
    house.now_us += 3_700_000_000
    assert client.get("/").status_code == 303
    house.now_us -= 3_700_000_000
    assert client.post("/sign-out", data=form).headers["location"] == "/sign-in"
    assert client.get("/").status_code == 303


def test_an_open_dashboard_is_open_on_this_machine_only(house: House) -> None:
    client = browser(house, open_dashboard=1)
    assert client.get("/").status_code == 200
    assert 'name="csrf"' not in client.get("/").text
    assert client.get("/", headers={"Host": "localhost:8080"}).status_code == 200
    assert client.get("/", headers={"Host": "[::1]:8080"}).status_code == 200
    for name in ("rebound.example", "127.0.0.1.evil.example", "127.0.0.1.evil.example:8080", ""):
        assert client.get("/", headers={"Host": name}).status_code == 303, name
    assert client.post("/act", data={"csrf": "", "action": "ack", "subject": "a:1"}).status_code == 403
    far = TestClient(client.app, base_url="http://127.0.0.1:8080", follow_redirects=False, client=("192.0.2.7", 5000))
    assert far.get("/").status_code == 303


def test_a_page_loads_nothing_from_elsewhere(house: House) -> None:
    client = browser(house, house.token("operator", "ada", role="admin"))
    for address in ("/", "/sign-in", "/invoices/acme/2026-11"):
        answer = client.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        links = re.findall(r'(?:src|href|srcset|action)="([^"]*)"', answer.text)
        assert links
        assert all(link.startswith(("/", "#")) for link in links), links
        assert "style=" not in answer.text, "the policy forbids it"
    assert "http" not in client.get("/assets/style.css").text


def test_sign_in_attempts_are_slowed_down(house: House) -> None:
    client = browser(house)
    house.app.state.api.pace = Pace(burst=3, per_s=0.001)  # however slow the machine is
    statuses = [client.post("/sign-in", data={"token": "x"}).status_code for _ in range(10)]
    assert statuses[0] == 401
    assert 429 in statuses
