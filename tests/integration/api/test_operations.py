"""Health, metrics, keys, the description, and Stripe's deliveries."""

import hmac
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient

from pipeline.ledger import Ledger
from tests.integration.api.kit import House
from tollhouse.api.app import make_app
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.keys import rotate, signing_key


def test_health_and_readiness(house: House) -> None:
    assert house.client.get("/healthz").json() == {"status": "ok"}
    answer = house.client.get("/readyz")
    assert answer.json()["checks"]["database"] == "ok"
    assert answer.json()["checks"]["catalog"] == "ok"


def test_readiness_says_what_is_missing(sqlite_url: str, tmp_path: Path) -> None:
    house = House(sqlite_url, tmp_path, broker="127.0.0.1:1")
    answer = house.client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["broker"]) == (503, "no broker answers at 127.0.0.1:1")
    house.ledger.engine.dispose()
    house.close()


def test_metrics_count_and_name_no_tenant(house: House) -> None:
    house.ask("acme")
    house.client.get("/v1/keys", headers=house.operator("viewer"))
    text = house.client.get("/metrics").text
    assert 'tollhouse_authorize_decisions_total{reason="ok"} 1.0' in text
    assert 'tollhouse_http_requests_total{method="GET",route="/v1/keys",status="200"} 1.0' in text
    assert "tollhouse_database_up 1.0" in text
    assert "acme" not in text


def test_the_published_keys_check_our_tokens_and_survive_a_rotation(house: House) -> None:
    token = house.token("tenant", "acme")
    old_kid = jwt.get_unverified_header(token)["kid"]
    document = house.client.get("/.well-known/jwks.json").json()
    (key,) = [jwt.PyJWK(jwk) for jwk in document["keys"]]
    assert key.key_id == old_kid
    assert jwt.decode(token, key, ["EdDSA"], {"verify_exp": False, "verify_iat": False, "verify_nbf": False},
                      audience="tollhouse")["sub"] == "acme"  # fmt: skip
    made, retired = rotate(house.settings, house.ledger, house.now_us, algorithm="ES256", overlap_us=60_000_000)
    assert retired == [old_kid]
    time.sleep(1.1)
    assert {jwk["kid"] for jwk in house.client.get("/.well-known/jwks.json").json()["keys"]} == {old_kid, made.kid}
    assert house.ask(token=token).status_code == 200
    assert jwt.get_unverified_header(house.token("tenant", "acme"))["alg"] == "ES256"
    house.now_us += 60_000_000
    answer = house.ask(token=token)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_invalid")
    assert [jwk["kid"] for jwk in house.client.get("/.well-known/jwks.json").json()["keys"]] == [made.kid]


def test_private_keys_are_for_their_owner_only(house: House) -> None:

    key = signing_key(house.settings, house.ledger, house.now_us)
    path = house.settings.dir / "keys" / f"{key.kid}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert signing_key(house.settings, house.ledger, house.now_us).kid == key.kid
    path.chmod(0o644)
    with pytest.raises(UserError, match="can be read by others"):
        signing_key(house.settings, house.ledger, house.now_us)


def test_the_description_is_openapi_31_and_names_every_address(house: House) -> None:
    document = house.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path in ("/v1/events", "/v1/authorize", "/v1/reservations/{reservation}", "/v1/invoices", "/v1/alerts",
                 "/v1/keys", "/v1/tenants/{tenant}/usage", "/v1/stripe/webhook", "/healthz"):  # fmt: skip
        assert path in document["paths"], path
    body = document["paths"]["/v1/authorize"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["token", "model"]
    assert body["additionalProperties"] is False


def test_an_unknown_address_and_method_are_problems(house: House) -> None:
    for answer, status in (
        (house.client.get("/v1/nothing"), 404),
        (house.client.put("/v1/events"), 405),
        (house.client.get("/v1/authorize"), 405),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def _signed(body: bytes, secret: str, at_s: int) -> dict[str, str]:
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
    return {"Stripe-Signature": f"t={at_s},v1={mac}"}


EVENT: dict[str, Any] = {"id": "evt_1", "type": "customer.created", "data": {"object": {}}}


def test_the_webhook_takes_signed_deliveries_only(sqlite_url: str, tmp_path: Path) -> None:
    secret = "whsec_" + "a1" * 16
    house = House(
        sqlite_url, tmp_path, environment={"STRIPE_SECRET_KEY": "sk_test_" + "b2" * 12, "STRIPE_WEBHOOK_SECRET": secret}
    )
    body, now_s = json.dumps(EVENT).encode(), house.now_us // 1_000_000
    post = lambda raw, headers: house.client.post("/v1/stripe/webhook", content=raw, headers=headers)  # noqa: E731
    good = post(body, _signed(body, secret, now_s))
    assert (good.status_code, good.json()) == (200, {"outcome": "ignored", "event": "evt_1"})
    refused = {
        "no_signature": post(body, {}),
        "bad_signature": post(body + b" ", _signed(body, secret, now_s)),
        "not_now": post(body, _signed(body, secret, now_s - 301)),
        "malformed": post(b"[]", _signed(b"[]", secret, now_s)),
    }
    for kind, answer in refused.items():
        assert (answer.status_code, answer.json()["type"]) == (400, f"urn:tollhouse:problem:{kind}")
    assert post(body, _signed(body, "whsec_other", now_s)).status_code == 400
    house.close()


def test_without_stripe_settings_the_webhook_says_so(house: House) -> None:
    answer = house.client.post("/v1/stripe/webhook", content=b"{}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tollhouse:problem:stripe_not_configured")


def test_before_the_first_catalog_answers_say_so(sqlite_url: str, tmp_path: Path) -> None:

    ledger = Ledger(sqlite_url)
    ledger.create()
    settings = Settings(dir=tmp_path, database_url=sqlite_url, open_dashboard=1)
    client = TestClient(make_app(settings, ledger, lambda: 1), base_url="http://127.0.0.1", client=("127.0.0.1", 5))
    assert "tollhouse apply" in client.get("/").text
    assert client.get("/readyz").status_code == 503
    ledger.close()
