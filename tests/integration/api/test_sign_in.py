"""Operators sign in at an OpenID Connect issuer, which is a real server on this machine; and what is refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from pipeline.ledger.tables import audit_log, sessions, sign_ins
from tests.integration.api.issuers import CLIENT, OTHER_KEY, OperatorIssuer, operator_issuer
from tests.integration.api.kit import NOW_US, House
from tollhouse.checkup import examine
from tollhouse.dashboard.sessions import COOKIE
from tollhouse.dashboard.signing_in import BROWSER, WAY_S
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.issuer_http import IssuerUnavailable
from tollhouse.tokens.issuer_keys import IssuerKeys
from tollhouse.tokens.revoked import revoke_before
from tollhouse.tokens.sign_in import BACK, OperatorSignIn, role_map

BASE = "http://127.0.0.1:8080"
ROLES = "billing=finance,ops=oncall,root=admin,staff=viewer"
S = 1_000_000


@pytest.fixture
def issuer() -> Iterator[OperatorIssuer]:
    clock = {"house": NOW_US}
    with operator_issuer(lambda: clock["house"] // S) as made:
        yield made


def settings_of(issuer: OperatorIssuer, **more: Any) -> dict[str, Any]:
    given = {"sign_in_issuer": issuer.url, "sign_in_client_id": CLIENT, "sign_in_roles": ROLES, "base_url": BASE}
    return given | more


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path, issuer: OperatorIssuer) -> Iterator[House]:
    made = House(sqlite_url, tmp_path, **settings_of(issuer))
    yield made
    made.close()


def browser(house: House) -> TestClient:
    return TestClient(house.app, base_url=BASE, follow_redirects=False, client=("127.0.0.1", 5000))


def begin(client: TestClient) -> str:
    """To the issuer and through it; the address it sends the browser back to."""
    there = client.get("/sign-in/oidc")
    assert there.status_code == 303, there.text
    return httpx.get(there.headers["location"]).headers["location"]


def walk(client: TestClient) -> Any:
    return client.get(begin(client))


def refused(answer: Any, why: str, status: int = 403) -> None:
    assert (answer.status_code, COOKIE in answer.cookies) == (status, False), answer.text
    said = re.search(r'role="alert">([^<]*)<', answer.text)
    assert said
    assert why in said[1]


@pytest.mark.parametrize(
    ("groups", "role", "sees"),
    [
        (["staff"], "viewer", "/tenants"),
        (["staff", "billing"], "finance", "/invoices/push?month=2026-10"),
        (["ops"], "oncall", "/alerts"),
        ("root", "admin", "/catalog/compare"),
    ],
)
def test_the_whole_walk_of_each_role(house: House, issuer: OperatorIssuer, groups: Any, role: str, sees: str) -> None:
    issuer.person["groups"] = groups
    client = browser(house)
    assert urlsplit(issuer.url).netloc in client.get("/sign-in").text
    done = walk(client)
    assert (done.status_code, 'content="0;url=/"' in done.text) == (200, True)
    text = client.get("/").text
    assert f"ada · {role}" in text
    assert ('name="action"' in client.get("/keys").text) == (role in ("oncall", "admin"))
    assert client.get(sees).status_code in (200, 422)
    form = {"csrf": re.findall(r'name="csrf" value="([0-9a-f]{64})"', text)[0]}
    assert client.post("/sign-out", data=form).headers["location"] == "/sign-in"
    assert client.get("/").status_code == 303
    assert house.ledger.rows(sessions) == house.ledger.rows(sign_ins) == []
    log = [(row["who"], row["action"], row["detail"]) for row in house.ledger.rows(audit_log)]
    assert log[-2:] == [("operator:ada", "sign_in", f"by {issuer.url}"), ("operator:ada", "sign_out", "")]


def test_what_is_asked_is_of_this_sign_in_alone(house: House, issuer: OperatorIssuer) -> None:
    client, asked = browser(house), []
    for _ in range(2):
        answer = client.get("/sign-in/oidc")
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        asked.append(query)
        assert query["redirect_uri"] == [BASE + BACK]
        cookie = answer.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", f"Path={BACK}", f"Max-Age={WAY_S}"))
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) >= 43
    kept = repr(house.ledger.rows(sign_ins))
    assert asked[0]["state"][0] not in kept
    assert client.cookies[BROWSER] not in kept


def test_an_answer_with_another_state_or_of_another_browser_is_refused(house: House) -> None:
    client, other = browser(house), browser(house)
    address = begin(client)
    refused(client.get(re.sub("state=[^&]*", "state=made-up", address)), "not begun in this browser")
    client, other = browser(house), browser(house)
    address = begin(client)
    refused(other.get(address), "not begun in this browser")
    begin(other)
    refused(other.get(address), "not begun in this browser")
    assert client.get(address).status_code == 200, "it is still good in its own"


def test_an_answer_counts_once(house: House, issuer: OperatorIssuer) -> None:
    client = browser(house)
    address, cookie = begin(client), client.cookies[BROWSER]
    assert client.get(address).status_code == 200
    assert BROWSER not in client.cookies
    again = browser(house)
    again.cookies.set(BROWSER, cookie)
    refused(again.get(address), "not begun in this browser, or is over")
    assert len(issuer.asked) == 1, "the issuer is not asked again"


def test_a_code_that_was_used_is_refused_with_a_state_of_its_own(house: House, issuer: OperatorIssuer) -> None:
    first, second = browser(house), browser(house)
    used = begin(first)
    assert first.get(used).status_code == 200
    code = parse_qs(urlsplit(used).query)["code"][0]
    fresh = begin(second)
    refused(second.get(re.sub("code=[^&]*", f"code={code}", fresh)), "it was used")


def test_a_code_of_another_sign_in_does_not_fit_the_verifier(house: House) -> None:
    victim, thief = browser(house), browser(house)
    stolen = parse_qs(urlsplit(begin(victim)).query)["code"][0]
    refused(thief.get(re.sub("code=[^&]*", f"code={stolen}", begin(thief))), "does not take the code")


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"nonce": "another"}, "of another sign-in (nonce)"),
        ({"nonce": None}, "of another sign-in (nonce)"),
        ({"aud": "another-client"}, "another audience"),
        ({"aud": [CLIENT, "another-client"]}, "another client (azp)"),
        ({"azp": "another-client"}, "another client (azp)"),
        ({"iss": "https://another.example"}, "another issuer"),
        ({"iat": NOW_US // S - 600, "exp": NOW_US // S - 31}, "time is over"),
        ({"iat": NOW_US // S + 60, "exp": NOW_US // S + 600}, "in the future"),
        ({"exp": "soon"}, "exp is not a time in whole seconds"),
        ({"exp": None}, "claim exp is missing"),
        ({"groups": ["guests"]}, "no value that is a role"),
        ({"groups": ["admin"]}, "no value that is a role"),
        ({"groups": None}, "no value that is a role"),
        ({"groups": [["root"], {"root": 1}]}, "no value that is a role"),
        ({"sub": ""}, "names the operator"),
        ({"sub": None}, "sub"),
    ],
)
def test_an_id_token_that_does_not_fit_is_refused(
    house: House, issuer: OperatorIssuer, over: dict[str, Any], why: str
) -> None:
    issuer.over = over
    client = browser(house)
    refused(walk(client), why)
    assert client.get("/").status_code == 303
    assert house.ledger.rows(sessions) == []


def test_an_id_token_that_somebody_else_signed_is_refused(house: House, issuer: OperatorIssuer) -> None:
    issuer.key = OTHER_KEY
    refused(walk(browser(house)), "the signature does not fit")
    issuer.key, issuer.algorithm = "c2VjcmV0" * 8, "HS256"
    refused(walk(browser(house)), "is not the algorithm of this key")
    issuer.key, issuer.algorithm = None, "none"
    refused(walk(browser(house)), "is not the algorithm of this key")


def test_who_waits_too_long_or_says_no_begins_again(house: House) -> None:
    client = browser(house)
    address = begin(client)
    house.now_us += WAY_S * S
    refused(client.get(address), "took too long")
    address = begin(client)
    state = parse_qs(urlsplit(address).query)["state"][0]
    refused(client.get(f"{BACK}?error=access_denied&state={state}"), "the issuer says access_denied")
    refused(client.get(f"{BACK}?error=%3Cscript%3E&state=x"), "not begun")


def test_an_answer_that_names_another_issuer_is_refused(house: House, issuer: OperatorIssuer) -> None:
    client = browser(house)
    refused(client.get(begin(client) + "&iss=https%3A%2F%2Fevil.example"), "another issuer (iss)")
    assert client.get(f"{begin(client)}&iss={issuer.url}").status_code == 200


def test_an_issuer_that_says_it_names_itself_has_to(house: House, issuer: OperatorIssuer) -> None:
    issuer.about = {"authorization_response_iss_parameter_supported": True}
    refused(walk(browser(house)), "another issuer (iss)")


@pytest.mark.parametrize(
    "about",
    [
        {"token_endpoint": "http://192.0.2.1/token"},
        {"token_endpoint": "https://10.0.0.1/token"},
        {"token_endpoint": 7},
        {"issuer": "https://another.example"},
    ],
)
def test_an_issuer_that_names_odd_places_is_not_followed(
    house: House, issuer: OperatorIssuer, about: dict[str, Any]
) -> None:
    issuer.about = about
    client = browser(house)
    answer = client.get("/sign-in/oidc")
    if answer.status_code == 303:
        answer = client.get(httpx.get(answer.headers["location"]).headers["location"])
    refused(answer, "does not answer as it should", 502)
    assert client.post("/sign-in", data={"token": house.token("operator", "ada", role="viewer")}).status_code == 303


@pytest.mark.parametrize("address", ["javascript:alert(1)", "ftp://192.0.2.1/authorize", None])
def test_nobody_is_sent_to_an_odd_place(house: House, issuer: OperatorIssuer, address: Any) -> None:
    issuer.about = {"authorization_endpoint": address}
    refused(browser(house).get("/sign-in/oidc"), "does not answer as it should", 502)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
def test_an_issuer_elsewhere_is_spoken_to_by_https_only(name: str) -> None:
    url = "https://id.example"
    about = {n: f"{url}/{n}" for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    given = {"sign_in_issuer": url, "sign_in_client_id": CLIENT, "sign_in_roles": ROLES, "base_url": BASE}
    documents = {"issuer": url, "keys": [], **about, name: f"http://id.example/{name}"}
    sign_in = OperatorSignIn(Settings(**given), IssuerKeys(url, fetch=lambda _: json.dumps(documents).encode()))
    with pytest.raises(IssuerUnavailable, match=f"no {name} at https"):
        (sign_in.begin if name == "authorization_endpoint" else lambda: sign_in.finish("c", "v", "n", NOW_US))()


def test_doctor_says_whether_the_issuer_answers(issuer: OperatorIssuer, tmp_path: Path) -> None:
    settings = Settings(dir=tmp_path, database_url="sqlite://", broker="127.0.0.1:9", **settings_of(issuer))
    found = {finding.name: finding for finding in examine(settings)}["sign-in"]
    assert (found.ok, BASE + BACK in found.detail) == (True, True)
    issuer.about = {"token_endpoint": None}
    found = {finding.name: finding for finding in examine(settings)}["sign-in"]
    assert (found.ok, "has no token_endpoint" in found.detail) == (False, True)


def test_an_issuer_that_is_away_is_one_line_and_the_token_still_works(house: House, issuer: OperatorIssuer) -> None:
    issuer.status = 500
    client = browser(house)
    refused(client.get("/sign-in/oidc"), "does not answer", 502)
    assert client.post("/sign-in", data={"token": house.token("operator", "ada", role="viewer")}).status_code == 303


@pytest.mark.parametrize("methods", [None, ["client_secret_post"]])
def test_the_client_shows_its_secret_as_the_issuer_wants_it(
    sqlite_url: str, tmp_path: Path, issuer: OperatorIssuer, methods: Any
) -> None:
    issuer.secret = "s:e/c%r t"
    issuer.about = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
    secret = {"TOLLHOUSE_SIGN_IN_CLIENT_SECRET": issuer.secret}
    for environment, status in ((secret, 200), ({}, 502), ({"TOLLHOUSE_SIGN_IN_CLIENT_SECRET": "guess"}, 502)):
        house = House(sqlite_url, tmp_path, **settings_of(issuer, environment=environment))
        assert walk(browser(house)).status_code == status
        house.close()
    assert ("client_secret" in issuer.asked[0]) == (methods is not None)


def test_a_session_by_the_issuer_outlives_the_id_token_and_ends_with_its_operator(
    house: House, issuer: OperatorIssuer
) -> None:
    client = browser(house)
    assert walk(client).status_code == 200
    house.now_us += 3000 * S
    assert client.get("/").status_code == 200
    revoke_before(house.ledger, "operator:ada", house.now_us, house.now_us, "test")
    assert client.get("/").status_code == 303
    assert client.get("/sign-in/oidc").status_code == 303


def test_without_the_setting_its_sessions_count_no_more(
    house: House, issuer: OperatorIssuer, sqlite_url: str, tmp_path: Path
) -> None:
    client = browser(house)
    walk(client)
    plain = House(sqlite_url, tmp_path)
    other = browser(plain)
    other.cookies.set(COOKIE, client.cookies[COOKIE])
    assert (client.get("/").status_code, other.get("/").status_code) == (200, 303)
    assert other.get("/sign-in/oidc").status_code == other.get(BACK).status_code == 404
    plain.close()


def test_operators_may_be_named_by_a_verified_address_and_roles_be_deep_in_the_token(
    sqlite_url: str, tmp_path: Path, issuer: OperatorIssuer
) -> None:
    more = {"sign_in_name_claim": "email", "sign_in_role_claim": "https://x.example/app.roles"}
    house = House(sqlite_url, tmp_path, **settings_of(issuer, **more))
    issuer.person = {"sub": "u1", "email": "ada@acme.example", "https://x.example/app.roles": ["ops"]}
    refused(walk(browser(house)), "email_verified")
    issuer.person["email_verified"] = True
    client = browser(house)
    walk(client)
    assert "ada@acme.example · oncall" in client.get("/").text
    house.close()
    house = House(sqlite_url, tmp_path, **settings_of(issuer, sign_in_role_claim="realm_access.roles"))
    issuer.person = {"sub": "u1", "realm_access": {"roles": ["x", "root"]}}
    client = browser(house)
    walk(client)
    assert "u1 · admin" in client.get("/").text
    house.close()


@pytest.mark.parametrize("text", ["billing", "billing=boss", "=admin", "a=viewer,a=admin", "billing=finance,x"])
def test_roles_that_are_none_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match="write VALUE=ROLE"):
        role_map(text)


def test_roles_are_read_in_their_order() -> None:
    text = "cn=bill=finance, ops = oncall"
    assert list(role_map(text).items()) == [("cn=bill", "finance"), ("ops", "oncall")]


@pytest.mark.parametrize("missing", ["sign_in_client_id", "sign_in_roles", "base_url"])
def test_settings_that_are_not_whole_are_named(missing: str) -> None:
    given = {"sign_in_issuer": "https://id.example", "sign_in_client_id": "c", "sign_in_roles": "a=admin"}
    with pytest.raises(UserError, match=f"setting {missing} is empty"):
        OperatorSignIn(Settings(**(given | {"base_url": BASE} | {missing: ""})))
    for odd in ("http://id.example", "id.example", "https://[", "https://u:p@id.example"):
        with pytest.raises(UserError, match="setting sign_in_issuer"):
            OperatorSignIn(Settings(**(given | {"base_url": BASE, "sign_in_issuer": odd})))
