"""Pages of tenants and of provider keys: use, quotas, tokens; room, leak scores over time, residuals."""

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from billing.provider_reports import read_csv
from pipeline.ledger.key_history import (
    WATCH,
    Residual,
    Score,
    highest_scores,
    keep_residuals,
    keep_scores,
    residuals_of,
    scores,
)
from pipeline.watch import KeyHour
from schemas.instants import DAY_US, HOUR_US, format_instant
from tests.integration.api.kit import NOW_US, House
from tests.integration.api.test_pages import browser, csrf
from tollhouse.reconciling import reconcile

HOUR = NOW_US - NOW_US % HOUR_US


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Any:
    made = House(database_url, tmp_path)
    made.count(
        made.event("e1"),
        made.event("e2", model="claude-haiku-4-5", tokens={"input": 7, "cache_read": 11}),
        made.event("g1", "globex"),
    )
    yield made
    made.close()


def signed_in(house: House, role: str = "oncall") -> TestClient:
    return browser(house, house.token("operator", "ada", role=role))


def test_the_list_has_every_tenant_with_the_months_use_and_is_searched(house: House) -> None:
    client = signed_in(house, "viewer")
    text = client.get("/tenants").text
    for part in ("Acme GmbH", "1\u202f218", "/tenants/globex", "/tenants/a/b%20c", "2026-11"):
        assert part in text, part
    assert text.index("/tenants/acme") < text.index("/tenants/globex"), "the largest first"
    found = client.get("/tenants?q=NEEDS+quoting").text
    assert "/tenants/a/b%20c" in found
    assert "/tenants/acme" not in found
    assert "No tenant has “&lt;b&gt;”" in client.get("/tenants?q=<b>").text
    assert "/tenants/acme" in client.get("/tenants?month=1999-01").text, "an unknown month is the newest"


def test_a_tenant_has_its_use_by_model_and_class_its_quotas_and_its_picture(house: House) -> None:
    client = signed_in(house, "viewer")
    text = client.get("/tenants/acme").text
    for part in ("claude-haiku-4-5", "cache read", "daily", "burst", "plan team", "usage.svg?tenant=acme"):
        assert part in text, part
    assert "globex" not in text
    assert "cache write" not in text, "classes that do not occur take no room"
    assert 'action="/tenants/revoke"' not in text, "a viewer revokes nothing"
    picture = client.get("/plots/usage.svg?tenant=acme").text
    assert "claude-haiku-4-5" in picture
    assert client.get("/plots/usage.svg?tenant=none").status_code == 404
    assert client.get("/tenants/a/b%20c").status_code == 200
    assert client.get("/tenants/none").status_code == 404
    own = browser(house, house.token("tenant", "globex"))
    assert own.get("/plots/usage.svg?tenant=acme").text == own.get("/plots/usage.svg").text


def test_oncall_revokes_what_a_tenant_has(house: House) -> None:
    token = house.token("tenant", "acme")
    assert house.ask(token=token).json()["allowed"]
    viewer = signed_in(house, "viewer")
    form = {"csrf": csrf(viewer.get("/tenants").text), "subject": "acme"}
    assert viewer.post("/tenants/revoke", data=form).status_code == 403
    client = signed_in(house)
    form["csrf"] = csrf(client.get("/tenants/acme").text)
    assert client.post("/tenants/revoke", data=form | {"subject": "none"}).status_code == 404
    assert client.post("/tenants/revoke", data=form | {"csrf": ""}).status_code == 403
    house.now_us += 1_000_000
    assert client.post("/tenants/revoke", data=form).headers["location"] == "/tenants/acme"
    assert "revoke before" in client.get("/tenants/acme").text
    give_up_s = time.monotonic() + 30
    while house.ask(token=token).json()["reason"] != "token_revoked":  # read anew once a second
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


def test_keys_are_listed_with_use_room_and_score_and_acted_on(house: House) -> None:
    house.ledger.write(lambda c: keep_scores(c, {KeyHour("openai-pool-1", HOUR, "acme"): 12_345}))
    client = signed_in(house)
    text = client.get("/keys").text
    for part in ("2\u202f418", "12.34", "5\u202f000 of 5\u202f000 requests", "no limit"):
        assert part in text, part
    form = {"csrf": csrf(text), "action": "suspend", "subject": "openai-pool-2", "back": "/keys"}
    assert client.post("/act", data=form).headers["location"] == "/keys"
    after = client.get("/keys").text
    assert after.index("openai-pool-2") < after.index("openai-pool-1"), "what is not active comes first"
    assert "openai-pool-1" not in client.get("/keys?q=suspended").text


def test_a_key_shows_its_scores_over_time_and_its_residuals(house: House) -> None:
    peaks = {KeyHour("openai-pool-1", HOUR - n * HOUR_US, f"t{n % 8}"): 500 + n for n in range(48)}
    peaks[KeyHour("openai-pool-1", HOUR, "acme")] = 26_650
    told = [Residual(HOUR - DAY_US, HOUR - DAY_US + HOUR_US, 900, 1000)]
    watched = [Residual(HOUR - n * DAY_US, HOUR - n * DAY_US + HOUR_US, 1500, 1000, WATCH) for n in (1, 2)]
    house.ledger.write(lambda c: keep_scores(c, peaks))
    house.ledger.write(lambda c: keep_residuals(c, "openai-pool-1", [*told, *watched]))
    client = signed_in(house, "viewer")
    text = client.get("/keys/openai-pool-1").text
    for part in ("26.65", "\u2212100", "+500", "reconcile --watch"):
        assert part in text, part
    assert text.count("+500") == 1, "of one hour the reconciliation's word stands"
    picture = client.get("/plots/scores.svg?key=openai-pool-1&theme=dark").text
    for part in ("acme", "others", "its own record"):
        assert part in picture, part
    assert "No use out of the ordinary" in client.get("/plots/scores.svg?key=openai-pool-2").text
    assert client.get("/plots/scores.svg?key=none").status_code == 404
    assert client.get("/plots/scores.svg?key=openai-pool-1&theme=pink").status_code == 404
    assert "Not compared yet" in client.get("/keys/openai-pool-2").text


def test_scores_only_rise_within_an_hour_and_old_ones_go(house: House) -> None:
    write = house.ledger.write
    one, old = KeyHour("k", HOUR, "acme"), KeyHour("k", HOUR - 91 * DAY_US, "acme")
    other = KeyHour("other", HOUR - 91 * DAY_US, "acme")
    write(lambda c: keep_scores(c, {old: 100, other: 100}))
    for score in (700, 900, 800):
        write(lambda c, s=score: keep_scores(c, {one: s}))  # type: ignore[misc]
    read = house.ledger.read
    assert read(lambda c: scores(c, "k", 0, 5)) == [Score(HOUR, "acme", 900)]
    assert read(lambda c: highest_scores(c, ["k", "other", "none"], 0)) == {"k": 900, "other": 100}
    write(lambda c: keep_scores(c, {}))
    assert len(read(lambda c: scores(c, "other", 0, 5))) == 1


def test_a_reports_residual_replaces_and_a_watchs_adds_up(house: House) -> None:
    told, seen = Residual(HOUR, HOUR + HOUR_US, 10, 7), Residual(HOUR, HOUR + HOUR_US, 3, 2, WATCH)
    for _ in range(2):
        house.ledger.write(lambda c: keep_residuals(c, "k", [told, seen]))
    assert house.ledger.read(lambda c: residuals_of(c, "k", 0)) == [told, Residual(HOUR, HOUR + HOUR_US, 6, 4, WATCH)]


def test_a_reconciliation_is_kept_for_the_keys_page(house: House) -> None:
    lines = ["start,end,key,model,input,output"]
    hours = [HOUR - HOUR_US, HOUR, HOUR + HOUR_US]
    lines += [
        f"{format_instant(at)},{format_instant(at + HOUR_US)},key_1,gpt-5-mini,{2000 + n},{n}"
        for n, at in enumerate(hours)
    ]
    usage, bill, has = read_csv(iter(f"{line}\n" for line in lines))
    reconcile(house.ledger, "openai", usage, bill, {"key_1": "openai-pool-1"}, has, hours[0], hours[-1] + HOUR_US)
    kept = house.ledger.read(lambda c: residuals_of(c, "openai-pool-1", 0))
    assert [(row.start_us, row.reported, row.metered) for row in kept] == [
        (hours[0], 2000, 0), (HOUR, 2002, 2418), (hours[2], 2004, 0),
    ]  # fmt: skip
