"""Tokens of an external issuer: a local one, over HTTP, with everything that it can do wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from pipeline.ledger import Ledger
from tests.integration.api.issuers import Quiet, served
from tests.integration.api.kit import House
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.checker import TokenChecker
from tollhouse.tokens.claims import Claims, TokenRefused
from tollhouse.tokens.external import ExternalIssuer, tenant_map
from tollhouse.tokens.issuer_http import IssuerUnavailable
from tollhouse.tokens.issuer_keys import AGAIN_S, FRESH_S, IssuerKeys
from tollhouse.tokens.revoked import revoke_before, revoke_jti

NOW_S = 1_793_527_200
NOW_US = NOW_S * 1_000_000
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    reader = next(found for kind, found in kinds.items() if isinstance(key, kind))
    return {**reader.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


@dataclass
class Issuer:
    """What it publishes, and how often it was asked."""

    url: str = ""
    keys: list[Any] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer(
        keys=[
            jwk(RSA_KEY, "rsa"),
            jwk(EC_KEY, "ec"),
            jwk(ED_KEY, "ed"),
            jwk(SMALL_KEY, "small"),
            jwk(OTHER_KEY, "encryption", use="enc"),
            jwk(OTHER_KEY, "pss", alg="PS256"),
            {"kty": "oct", "kid": "hmac", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
            "no key at all",
        ]
    )

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            documents: dict[str, Any] = {
                "/.well-known/openid-configuration": {"issuer": made.url, "jwks_uri": f"{made.url}/jwks"}
                | made.discovery,
                "/jwks": {"keys": made.keys},
            }
            body = made.body if made.body is not None else json.dumps(documents[self.path]).encode()
            self.send_response(made.status)
            if made.status == 302:
                self.send_header("Location", f"{made.url}/jwks")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as made.url:
        yield made


@dataclass
class Clock:
    s: float = 1000.0

    def __call__(self) -> float:
        return self.s


def settings(issuer: Issuer, **more: Any) -> Settings:
    return Settings(**{"oidc_issuer": issuer.url, "oidc_audience": "gate", "oidc_tenant_claim": "org.id"} | more)


def external(issuer: Issuer, clock: Clock | None = None, **more: Any) -> ExternalIssuer:
    return ExternalIssuer(settings(issuer, **more), IssuerKeys(issuer.url, clock_s=clock or Clock()))


def token(
    issuer: Issuer, key: Any = RSA_KEY, kid: str | None = "rsa", algorithm: str = "RS256", drop: str = "", **claims: Any
) -> str:
    good = {
        "iss": issuer.url,
        "aud": "gate",
        "sub": "user-1",
        "iat": NOW_S - 60,
        "exp": NOW_S + 600,
        "jti": "x-1",
        "org": {"id": "acme"},
    }
    payload = {name: value for name, value in (good | claims).items() if name != drop}
    return jwt.encode(payload, key, algorithm, headers={"kid": kid} if kid is not None else {})


def test_a_token_of_the_issuer_is_the_tenants(issuer: Issuer) -> None:
    claims = external(issuer).read(token(issuer, kind="operator", role="admin")).claims
    assert claims == Claims("tenant", "acme", "x-1", (NOW_S - 60) * 1_000_000, (NOW_S + 600) * 1_000_000, "rsa")


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [(EC_KEY, "ec", "ES256"), (ED_KEY, "ed", "EdDSA"), (OTHER_KEY, "pss", "PS256")],
)
def test_each_kind_of_key_has_its_algorithm(issuer: Issuer, key: Any, kid: str, algorithm: str) -> None:
    assert external(issuer).read(token(issuer, key, kid, algorithm)).claims.subject == "acme"


REFUSED: list[tuple[str, Callable[[Issuer], str], str]] = [
    ("other key under its kid", lambda i: token(i, OTHER_KEY), "signature does not fit"),
    ("unknown kid", lambda i: token(i, OTHER_KEY, "made-up"), "none of the issuer's keys"),
    ("no kid", lambda i: token(i, kid=None), "no kid"),
    ("key too small", lambda i: token(i, SMALL_KEY, "small"), "none of the issuer's keys"),
    ("key for encryption", lambda i: token(i, OTHER_KEY, "encryption"), "none of the issuer's keys"),
    ("shared secret", lambda i: token(i, "s" * 32, "hmac", "HS256"), "none of the issuer's keys"),
    ("HMAC under an RSA key's name", lambda i: token(i, "s" * 32, "rsa", "HS256"), "not the algorithm of this key"),
    ("not signed", lambda i: token(i, None, "rsa", "none"), "not the algorithm of this key"),
    ("another algorithm of the key", lambda i: token(i, algorithm="RS512"), "not the algorithm of this key"),
    ("other audience", lambda i: token(i, aud="elsewhere"), "another audience"),
    ("no audience", lambda i: token(i, drop="aud"), "aud is missing"),
    ("no expiry", lambda i: token(i, drop="exp"), "exp is missing"),
    ("no iat", lambda i: token(i, drop="iat"), "iat is missing"),
    ("no subject", lambda i: token(i, drop="sub"), "sub is missing"),
    ("expiry a text", lambda i: token(i, exp=str(NOW_S + 60)), "exp"),
    ("expiry before iat", lambda i: token(i, exp=NOW_S - 61), "exp is not after iat"),
    ("no tenant claim", lambda i: token(i, drop="org"), "claim org.id"),
    ("tenant claim of another form", lambda i: token(i, org="acme"), "claim org.id"),
    ("tenant claim a list", lambda i: token(i, org={"id": ["acme"]}), "claim org.id"),
    ("tenant blank", lambda i: token(i, org={"id": " "}), "claim org.id"),
    ("jti a number", lambda i: token(i, jti=7), "jti"),
]


@pytest.mark.parametrize(("make", "detail"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_token_that_does_not_count_says_why(issuer: Issuer, make: Callable[[Issuer], str], detail: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        external(issuer).read(make(issuer))
    assert refused.value.reason == "token_invalid"
    assert detail in refused.value.detail


def test_one_audience_of_several_will_do_and_a_missing_jti_is_made(issuer: Issuer) -> None:
    claims = external(issuer).read(token(issuer, aud=["elsewhere", "gate"], drop="jti")).claims
    assert claims.jti.startswith("oidc:")


def test_values_can_be_mapped_to_tenants(issuer: Issuer) -> None:
    mapped = external(issuer, oidc_tenants="org-7=acme, org-8=globex")
    assert mapped.read(token(issuer, org={"id": "org-8"})).claims.subject == "globex"
    with pytest.raises(TokenRefused, match="mapped to no tenant"):
        mapped.read(token(issuer))
    with pytest.raises(UserError, match="VALUE=TENANT"):
        tenant_map("org-7")
    with pytest.raises(UserError, match="oidc_audience"):
        ExternalIssuer(settings(issuer, oidc_audience=""))


def test_keys_are_fetched_once_and_again_when_they_are_old_or_a_new_kid_comes(issuer: Issuer) -> None:
    clock = Clock()
    found = external(issuer, clock)
    for _ in range(3):
        found.read(token(issuer))
    assert len(issuer.asked) == 2
    for n in range(20):
        with pytest.raises(TokenRefused):
            found.read(token(issuer, OTHER_KEY, f"made-up-{n}"))
    assert len(issuer.asked) == 2, "whoever makes up a kid does not make us ask"
    issuer.keys.append(jwk(OTHER_KEY, "new"))
    clock.s += AGAIN_S
    assert found.read(token(issuer, OTHER_KEY, "new")).claims.kid == "new"
    assert len(issuer.asked) == 4
    issuer.keys = [jwk(OTHER_KEY, "new")]
    clock.s += FRESH_S
    with pytest.raises(TokenRefused, match="none of the issuer's keys"):
        found.read(token(issuer))


BROKEN: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 302},
    {"body": b"not json"},
    {"body": b"[]"},
    {"body": b"[" * 5000},
    {"body": b" " * (256 * 1024 + 1)},
    {"discovery": {"issuer": "https://elsewhere.example"}},
    {"discovery": {"jwks_uri": None}},
    {"discovery": {"jwks_uri": "file:///etc/passwd"}},
    {"discovery": {"jwks_uri": "http://user@127.0.0.1/jwks"}},
    {"discovery": {"jwks_uri": "http://169.254.169.254/latest/meta-data"}},
    {"discovery": {"jwks_uri": "http://10.0.0.1/jwks"}},
]


@pytest.mark.parametrize("broken", BROKEN, ids=[str(b)[:60] for b in BROKEN])
def test_with_the_issuer_away_known_keys_go_on_and_a_new_kid_is_refused(issuer: Issuer, broken: dict[str, Any]) -> None:
    clock = Clock()
    found = external(issuer, clock)
    found.read(token(issuer))
    for name, value in broken.items():
        setattr(issuer, name, value)
    clock.s += FRESH_S
    assert found.read(token(issuer)).claims.subject == "acme"
    clock.s += AGAIN_S
    with pytest.raises(TokenRefused, match="does not answer"):
        found.read(token(issuer, OTHER_KEY, "new"))


def test_with_the_issuer_never_there_its_tokens_are_refused_and_say_so() -> None:
    def away(_address: str) -> bytes:
        raise IssuerUnavailable("connection refused")

    gone = Issuer("https://id.example")
    found = ExternalIssuer(settings(gone), IssuerKeys(gone.url, fetch=away, clock_s=Clock()))
    with pytest.raises(TokenRefused, match="does not answer: connection refused"):
        found.read(token(gone))


@pytest.mark.parametrize("address", ["http://id.example", "https://", "id.example", "ftp://127.0.0.1"])
def test_an_issuer_is_reached_by_https(address: str) -> None:
    with pytest.raises(UserError, match="oidc_issuer"):
        IssuerKeys(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "::ffff:127.0.0.1"])
def test_a_public_name_that_leads_inside_is_not_followed(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tollhouse.tokens.issuer_http.addresses_of", lambda _host, _port: [address])
    keys = IssuerKeys("https://id.example", clock_s=Clock())
    with pytest.raises(KeyError, match="not public"):
        keys.find("x")


def test_the_checker_takes_both_and_judges_both(issuer: Issuer, tmp_path: Path) -> None:
    house = House(f"sqlite:///{tmp_path}/t.db", tmp_path)
    house.now_us = NOW_US
    checker = TokenChecker(house.ledger, settings(issuer))
    outside, own = token(issuer), house.token("tenant", "globex")
    for _ in range(2):
        assert checker.check(outside, NOW_US, kind="tenant").subject == "acme"
        assert checker.check(own, NOW_US, kind="tenant").subject == "globex"
    with pytest.raises(TokenRefused, match="here a proxy's is needed"):
        checker.check(outside, NOW_US, kind="proxy")
    with pytest.raises(TokenRefused) as late:
        checker.check(outside, NOW_US + 631 * 1_000_000)
    assert late.value.reason == "token_expired"
    with pytest.raises(TokenRefused, match="not valid yet"):
        checker.check(token(issuer, nbf=NOW_S + 100), NOW_US)
    with pytest.raises(TokenRefused, match="none of the signing keys"):
        checker.check(token(issuer, iss="https://elsewhere.example"), NOW_US)
    house.close()


@pytest.mark.parametrize("how", ["jti", "before"])
def test_a_token_of_the_issuer_can_be_revoked(issuer: Issuer, tmp_path: Path, how: str) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/t.db")
    ledger.create()
    if how == "jti":
        revoke_jti(ledger, "x-1", NOW_US, "test")
    else:
        revoke_before(ledger, "tenant:acme", NOW_US, NOW_US, "test")
    with pytest.raises(TokenRefused) as refused:
        TokenChecker(ledger, settings(issuer)).check(token(issuer), NOW_US)
    assert refused.value.reason == "token_revoked"
    ledger.close()


def test_the_gate_admits_a_tenant_by_the_issuers_token(issuer: Issuer, tmp_path: Path) -> None:
    outside = {"oidc_issuer": issuer.url, "oidc_audience": "gate", "oidc_tenant_claim": "org.id"}
    house = House(f"sqlite:///{tmp_path}/t.db", tmp_path, **outside)
    assert house.ask(token=token(issuer)).json()["tenant"] == "acme"
    assert house.ask(token=token(issuer, org={"id": "nobody"})).json()["reason"] == "unknown_tenant"
    usage = house.client.get("/v1/tenants/acme/usage", headers={"Authorization": f"Bearer {token(issuer)}"})
    assert usage.status_code == 200
    house.close()
