"""Pages for finance: close a month, see its evidence, preview and make the push, void; what-if."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipeline.ledger.tables import audit_log
from schemas.instants import DAY_US
from tests.integration.api.kit import House, catalog
from tests.integration.api.test_pages import browser, csrf
from tollhouse.dashboard.common import ROWS_MAX
from tollhouse.dashboard.shown import exact
from tollhouse.stripe_double.server import start

INVOICE = "/invoices/acme/2026-11"


@pytest.fixture
def stripe() -> Iterator[str]:
    with start() as handle:
        yield handle.url


@pytest.fixture
def house(database_url: str, tmp_path: Path, stripe: str) -> Iterator[House]:
    environment = {"STRIPE_SECRET_KEY": "sk_test_" + "c3" * 12}
    made = House(database_url, tmp_path, stripe_api_base=stripe, environment=environment)
    made.count(made.event("e1"), made.event("g1", "globex"), made.event("e2", tokens={"input": 900_000}))
    yield made
    made.close()


def signed_in(house: House, role: str = "finance") -> TestClient:
    return browser(house, house.token("operator", "fin", role=role))


def bill(client: TestClient, action: str, tenant: str = "", **fields: str) -> Any:
    form = {"csrf": csrf(client.get("/invoices").text), "action": action, "month": "2026-11", "tenant": tenant}
    return client.post("/bill", data=form | fields)


def test_finance_drafts_closes_previews_pushes_and_voids(house: House) -> None:
    client = signed_in(house)
    drafted = bill(client, "draft")
    assert (drafted.status_code, "0 closed, 3 drafts" in drafted.text) == (200, True)
    assert "3 draft" in client.get("/invoices?month=2026-11").text
    early = bill(client, "finalise", "acme")
    assert (early.status_code, "grace" in early.text) == (409, True)
    house.now_us += 40 * DAY_US
    client = signed_in(house)
    assert bill(client, "finalise", "acme").headers["location"] == INVOICE
    page = client.get(INVOICE).text
    assert "INV-2026-000001" in page
    assert "Preview the push" in page
    preview = client.get(f"{INVOICE}?show=push").text
    for part in ("+ customer for acme", "+ invoice acme:2026-11:r1", "= finalise, then send", "Push it"):
        assert part in preview, part
    whole = client.get("/invoices/push?month=2026-11").text
    assert "+ invoice acme:2026-11:r1" in whole
    assert "globex" not in whole, "a draft is not pushed"
    assert "finalised" in client.get(INVOICE).text, "a preview changes nothing"
    assert bill(client, "push", "acme").headers["location"] == INVOICE
    assert ">pushed<" in client.get(INVOICE).text
    assert "already" in bill(client, "push").text, "pressed again, nothing is done twice"
    assert bill(client, "void", "acme", reason="wrong buyer").headers["location"] == INVOICE
    after = client.get(INVOICE).text
    for part in (">void<", "Credit notes", "wrong buyer"):
        assert part in after, part
    again = bill(client, "void", "acme", reason="wrong buyer")
    assert (again.status_code, "Not done" in again.text) == (409, True)
    done = [row["action"] for row in house.ledger.rows(audit_log, audit_log.c.who == "operator:fin")]
    assert {"invoices.run", "invoices.push", "invoice.void"} <= set(done)


def test_without_a_key_for_stripe_the_preview_says_what_is_missing(sqlite_url: str, tmp_path: Path) -> None:
    house = House(sqlite_url, tmp_path)
    answer = signed_in(house).get("/invoices/push?month=2026-10")
    assert answer.status_code == 200
    assert "STRIPE_SECRET_KEY" in answer.text
    house.close()


def test_each_line_is_proved_from_its_events(house: House) -> None:
    client = signed_in(house)
    bill(client, "draft", "acme")
    page = client.get(f"{INVOICE}?show=evidence").text
    assert "✓ Each line was worked out again" in page
    explained = json.loads(house.client.get(f"/v1{INVOICE}", headers=house.operator("viewer")).text)
    for line in explained["lines"]:
        assert line["description"] in page
    assert "usage.events/0@" in page
    tenant = browser(house, house.token("tenant", "acme")).get(f"{INVOICE}?show=evidence").text
    assert "✓ Each line was worked out again" in tenant, "a tenant can check its own invoice"
    assert 'action="/bill"' not in tenant


def test_steps_need_the_role_the_form_and_a_month(house: House) -> None:
    for role in ("viewer", "oncall"):
        client = signed_in(house, role)
        assert 'action="/bill"' not in client.get("/invoices").text
        answer = client.post(
            "/bill", data={"csrf": csrf(client.get("/invoices").text), "action": "draft", "month": "2026-11"}
        )
        assert answer.status_code == 403, role
        assert client.get("/invoices/push?month=2026-11").status_code == 403
        assert client.get("/catalog/compare").status_code == 403
    client = signed_in(house)
    assert client.post("/bill", data={"action": "draft", "month": "2026-11"}).status_code == 403
    assert bill(client, "explode").status_code == 404
    assert bill(client, "draft", month="soon").status_code == 422
    tenant = browser(house, house.token("tenant", "acme"))
    for address in (
        "/invoices",
        "/invoices/push?month=2026-11",
        "/catalog/compare",
        "/tenants",
        "/tenants/acme",
        "/keys",
    ):
        assert tenant.get(address).status_code == 404, address


def test_the_list_is_searched_and_paged(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(house)
    bill(client, "draft")
    text = client.get("/invoices?q=glob&status=draft").text
    assert "/invoices/globex/2026-11" in text
    assert "/invoices/acme/2026-11" not in text
    assert "No invoices." in client.get("/invoices?status=paid").text
    assert client.get("/invoices?status=lost").status_code == 404
    assert client.get("/invoices?month=2026-13").status_code == 422
    monkeypatch.setattr("tollhouse.dashboard.common.paged.__defaults__", (1,))
    first, last = client.get("/invoices").text, client.get("/invoices?page=99").text
    assert "page 1 of 3, 3 in all" in first
    assert "page 3 of 3" in last
    assert 'rel="next"' not in last
    assert ROWS_MAX == 100


def test_what_if_prices_a_month_by_another_catalog_and_keeps_nothing(house: House) -> None:
    client = signed_in(house)
    page = client.get("/catalog/compare").text
    assert "What if" in client.get("/catalog").text
    assert "sinks" not in page
    source = catalog().source
    other = json.loads(json.dumps(source, default=str))
    other["plans"]["team"]["fee"]["amount"] = "59.00"
    form = {"csrf": csrf(page), "month": "2026-11", "catalog": json.dumps(other)}
    answer = client.post("/catalog/compare", data=form).text
    assert "a difference of <strong>30.00 USD</strong>" in answer
    assert "3 tenants would pay otherwise; 0 the same" in answer
    one = client.post("/catalog/compare", data=form | {"tenant": "globex"}).text
    assert "1 tenant would pay otherwise" in one
    assert client.post("/catalog/compare", data=form | {"tenant": "nobody"}).status_code == 422
    wrong = client.post("/catalog/compare", data=form | {"catalog": "plans: [1"})
    assert (wrong.status_code, "This is no catalog" in wrong.text) == (422, True)
    assert "version 1" in client.get("/catalog").text


def test_the_catalog_in_force_can_be_compared_as_it_is_shown(house: House) -> None:
    client = signed_in(house)
    page = client.get("/catalog/compare").text
    shown = page.partition("<textarea")[2].partition(">\n")[2].partition("</textarea>")[0]
    text = shown.replace("&#39;", "'").replace("&#34;", '"').replace("&amp;", "&").replace("&gt;", ">")
    answer = client.post("/catalog/compare", data={"csrf": csrf(page), "month": "2026-11", "catalog": text})
    assert answer.status_code == 200, answer.text
    assert "a difference of <strong>0.00 USD</strong>" in answer.text
    assert "3 the same" in answer.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1234.5", "1\u202f234.5"),
        ("-0.333333333333333", "\u22120.333333333333…"),
        ("0", "0"),
        ("37.90740942000", "37.90740942"),
        ("14.00", "14.00"),
        ("2.5000", "2.50"),
    ],
)
def test_exact_figures_are_cut_with_a_sign(text: str, shown: str) -> None:
    assert exact(text) == shown


def test_months_are_drawn_by_currency_and_tenant(house: House) -> None:
    client = signed_in(house)
    assert client.get("/plots/months.svg").status_code == 404
    bill(client, "draft")
    picture = client.get("/plots/months.svg?currency=USD&theme=dark")
    assert (picture.headers["content-type"], "2026-11" in picture.text) == ("image/svg+xml", True)
    assert client.get("/plots/months.svg?currency=EUR").status_code == 404
    assert client.get("/plots/months.svg?currency=USD&theme=pink").status_code == 404
    own = browser(house, house.token("tenant", "globex")).get("/plots/months.svg?tenant=acme")
    assert own.text == client.get("/plots/months.svg?tenant=globex").text, "a tenant's picture is its own"
