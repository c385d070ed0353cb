"""Sessions of the dashboard: what the cookie is, when it ends, and that every process knows."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipeline.ledger import Ledger
from pipeline.ledger.tables import sessions
from tests.integration.api.kit import House
from tollhouse.api.app import make_app
from tollhouse.dashboard.sessions import COOKIE
from tollhouse.tokens.keys import rotate
from tollhouse.tokens.revoked import revoke_before, revoke_jti

S = 1_000_000


def browser(app: Any, cookie: str = "") -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8080", follow_redirects=False, client=("127.0.0.1", 5000))
    if cookie:
        client.cookies.set(COOKIE, cookie)
    return client


def signed_in(house: House, token: str = "") -> TestClient:
    client = browser(house.app)
    answer = client.post("/sign-in", data={"token": token or house.token("operator", "ada", role="oncall")})
    assert answer.status_code == 303
    return client


def inside(client: TestClient) -> bool:
    return bool(client.get("/").status_code == 200)


def form_of(client: TestClient) -> dict[str, str]:
    return {"csrf": re.findall(r'name="csrf" value="([0-9a-f]{64})"', client.get("/").text)[0]}


def test_the_cookie_is_random_and_neither_it_nor_the_ledger_holds_a_token(house: House) -> None:
    token = house.token("operator", "ada", role="oncall")
    one, two = signed_in(house, token), signed_in(house, token)
    cookies = one.cookies[COOKIE], two.cookies[COOKIE]
    assert cookies[0] != cookies[1]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie) for cookie in cookies)
    kept = house.ledger.rows(sessions)
    assert len(kept) == 2
    for secret in (*cookies, token, token.split(".")[2]):
        assert secret not in repr(kept)
    for row in kept:  # whoever reads the table cannot sign in by it
        assert not inside(browser(house.app, row["digest"]))
    assert form_of(one) != form_of(two)
    assert not inside(browser(house.app, token))


def test_every_process_knows_a_session_and_its_end(house: House, database_url: str) -> None:
    client = signed_in(house)
    ledger = Ledger(database_url)  # another process: nothing is shared but the database
    other = browser(make_app(house.settings, ledger, lambda: house.now_us, house.publisher), client.cookies[COOKIE])
    assert inside(other)
    assert other.post("/sign-out", data=form_of(client)).headers["location"] == "/sign-in"
    assert not inside(client)
    assert not inside(browser(house.app, client.cookies[COOKIE])), "a copy of the cookie is worth nothing"
    ledger.close()


def test_a_revoked_token_ends_its_sessions_at_once(house: House, database_url: str) -> None:
    client = signed_in(house)
    assert inside(client)
    jti = house.ledger.rows(sessions)[0]["jti"]
    other = Ledger(database_url)
    revoke_jti(other, jti, house.now_us, "test")
    assert not inside(client)
    client = signed_in(house)
    revoke_before(other, "operator:ada", house.now_us + 1, house.now_us + 1, "test")
    assert not inside(client)
    other.close()


def test_a_session_that_is_not_used_ends(house: House) -> None:
    token = house.token("operator", "ada", role="viewer")
    idle_us = house.settings.session_idle_s * S
    client, other = signed_in(house, token), signed_in(house, token)
    house.now_us += idle_us // 2
    assert inside(client)
    house.now_us += idle_us // 2
    assert not inside(other)
    before = house.ledger.rows(sessions)
    house.now_us -= 1
    assert house.ledger.rows(sessions) == before


def test_looking_is_mostly_reading(house: House) -> None:
    client = signed_in(house)
    first = house.ledger.rows(sessions)
    house.now_us += house.settings.session_idle_s * S // 20 - 1
    assert inside(client)
    assert house.ledger.rows(sessions) == first
    house.now_us += 1
    assert inside(client)
    assert house.ledger.rows(sessions)[0]["seen_us"] == house.now_us


def test_a_session_ends_at_its_limit_however_long_the_token_lives(database_url: str, tmp_path: Path) -> None:
    house = House(database_url, tmp_path, session_max_s=600)
    client = browser(house.app)
    answer = client.post("/sign-in", data={"token": house.token("operator", "ada", role="viewer")})
    assert "Max-Age=600" in answer.headers["set-cookie"]
    house.now_us += 599 * S
    assert inside(client)
    house.now_us += S
    assert not inside(client)
    assert client.post("/sign-out", data={"csrf": "0" * 64}).status_code == 403
    house.close()


def test_signing_in_again_is_a_new_session_and_ends_the_one_before(house: House) -> None:
    client = signed_in(house)
    before, form = client.cookies[COOKIE], form_of(client)
    client.post("/sign-in", data={"token": house.token("operator", "ada", role="oncall")})
    assert client.cookies[COOKIE] != before
    assert not inside(browser(house.app, before))
    assert client.post("/act", data=form | {"action": "ack", "subject": "x"}).status_code == 403, "a form of before"


def test_a_session_ends_with_the_key_that_signed_its_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(house)
    rotate(house.settings, house.ledger, house.now_us, overlap_us=60 * S, who="test")
    monkeypatch.setattr("tollhouse.tokens.checker.FRESH_S", 0)
    assert inside(client)
    house.now_us += 61 * S
    assert not inside(client)


@pytest.mark.parametrize("cookie", ["x", "x" * 43, "\x7f" * 43, "a" * 5000])
def test_a_made_up_cookie_is_nobody(house: House, cookie: str) -> None:
    assert not inside(browser(house.app, cookie))
