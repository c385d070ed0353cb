"""Forged, odd and old tokens: each is refused with the right reason and says what is wrong."""

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.tokens import Claims, TokenRefused, verify
from tollhouse.tokens.issue import issue
from tollhouse.tokens.keys import SigningKey, generate, public_jwk, public_of, thumbprint
from tollhouse.tokens.revoked import Revocations

NOW_S = 1_790_000_000
NOW_US = NOW_S * 1_000_000
ED, EC, OTHER = generate("EdDSA"), generate("ES256"), generate("EdDSA")
JWKS = {key.kid: (key.algorithm, key.private.public_key()) for key in (ED, EC)}
GOOD: dict[str, Any] = {
    "iss": "tollhouse",
    "aud": "tollhouse",
    "sub": "acme",
    "kind": "tenant",
    "jti": "j-1",
    "iat": NOW_S - 60,
    "nbf": NOW_S - 60,
    "exp": NOW_S + 3600,
}


def b64(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def made(key: SigningKey = ED, headers: dict[str, Any] | None = None, drop: str = "", **claims: Any) -> str:
    payload = {name: value for name, value in (GOOD | claims).items() if name != drop}
    return jwt.encode(payload, key.private, algorithm=key.algorithm, headers={"kid": key.kid} | (headers or {}))


def by_hand(header: dict[str, Any], payload: dict[str, Any] | bytes = b"", signature: bytes = b"") -> str:
    return f"{b64(header)}.{b64(payload or GOOD)}.{b64(signature)}"


def hmac_with_public_key(form: str) -> str:
    """The old trick: HMAC, keyed with what everybody may know."""
    public = ED.private.public_key()
    if form == "pem":
        secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    elif form == "raw":
        secret = public.public_bytes_raw()  # type: ignore[union-attr]
    else:
        secret = json.dumps(public_jwk(public)).encode()
    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': ED.kid})}.{b64(GOOD)}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def tampered() -> str:
    head, _, signature = made().split(".")
    return f"{head}.{b64(GOOD | {'sub': 'globex'})}.{signature}"


def moved_signature() -> str:
    return ".".join([*made(sub="globex").split(".")[:2], made().split(".")[2]])


def der_signature() -> str:

    signed = f"{b64({'alg': 'ES256', 'kid': EC.kid})}.{b64(GOOD)}"
    return f"{signed}.{b64(EC.private.sign(signed.encode(), ECDSA(SHA256())))}"  # type: ignore[call-arg, arg-type]


INVALID: list[tuple[str, Callable[[], str], str]] = [
    ("empty", lambda: "", "empty"),
    ("blank", lambda: "   ", "no JWT"),
    ("word", lambda: "secret", "no JWT"),
    ("provider key", lambda: "sk-proj-" + "a" * 40, "no JWT"),
    ("two parts", lambda: "abc.def", "no JWT"),
    ("four parts", lambda: made() + ".abc", "no JWT"),
    ("five parts (encrypted)", lambda: "a.b.c.d.e", "no JWT"),
    ("oversize", lambda: made(labels={"x": "y" * 9000}), "more than 8192"),
    ("newline", lambda: made() + "\n", "no JWT"),
    ("not ASCII", lambda: made()[:-2] + "é", "no JWT"),
    ("header no JSON", lambda: f"{b64(b'hello')}.{b64(GOOD)}.{b64(b'x' * 64)}", "cannot be read"),
    ("header a list", lambda: f"{b64(b'[1]')}.{b64(GOOD)}.{b64(b'x' * 64)}", "cannot be read"),
    ("alg none", lambda: by_hand({"alg": "none", "kid": ED.kid}), "alg none"),
    ("alg NoNe", lambda: by_hand({"alg": "NoNe", "kid": ED.kid}), "alg none"),
    ("alg none with signature", lambda: by_hand({"alg": "none", "kid": ED.kid}, GOOD, b"x" * 64), "alg none"),
    ("alg missing", lambda: by_hand({"kid": ED.kid}, GOOD, b"x" * 64), "alg none"),
    ("alg a number", lambda: by_hand({"alg": 5, "kid": ED.kid}, GOOD, b"x" * 64), "alg none"),
    ("HMAC with the public key as PEM", lambda: hmac_with_public_key("pem"), "not the algorithm"),
    ("HMAC with the public key's bytes", lambda: hmac_with_public_key("raw"), "not the algorithm"),
    ("HMAC with the JWK", lambda: hmac_with_public_key("jwk"), "not the algorithm"),
    ("RS256 named", lambda: by_hand({"alg": "RS256", "kid": ED.kid}, GOOD, b"x" * 256), "not the algorithm"),
    ("ES256 named for the EdDSA key", lambda: made(EC, {"kid": ED.kid}), "not the algorithm"),
    ("EdDSA named for the ES256 key", lambda: made(ED, {"kid": EC.kid}), "not the algorithm"),
    ("no kid", lambda: by_hand({"alg": "EdDSA"}, GOOD, b"x" * 64), "no kid"),
    ("empty kid", lambda: by_hand({"alg": "EdDSA", "kid": ""}, GOOD, b"x" * 64), "no kid"),
    ("kid a list", lambda: by_hand({"alg": "EdDSA", "kid": [ED.kid]}, GOOD, b"x" * 64), "cannot be read"),
    ("unknown kid", lambda: made(OTHER), "none of the signing keys"),
    ("kid a path", lambda: made(ED, {"kid": "../../dev/null"}), "none of the signing keys"),
    ("foreign key under our kid", lambda: made(OTHER, {"kid": ED.kid}), "signature does not fit"),
    (
        "own key brought along (jwk)",
        lambda: made(OTHER, {"jwk": public_jwk(OTHER.private.public_key())}),
        "none of the",
    ),
    (
        "key address brought along (jku)",
        lambda: made(OTHER, {"kid": ED.kid, "jku": "http://x.example"}),
        "does not fit",
    ),
    ("crit", lambda: made(headers={"crit": ["exp"]}), "crit"),
    ("signature missing", lambda: by_hand({"alg": "EdDSA", "kid": ED.kid}), "signature is missing"),
    ("signature cut by whole bytes", lambda: made()[:-18], "does not fit"),
    ("signature cut in a byte", lambda: made()[:-1], "cannot be read"),
    ("payload changed", tampered, "does not fit"),
    ("signature of another token", moved_signature, "does not fit"),
    ("signature in DER", der_signature, "does not fit"),
    ("payload no JSON", lambda: by_hand({"alg": "EdDSA", "kid": ED.kid}, b"hello", b"x" * 64), "does not fit"),
    ("other audience", lambda: made(aud="elsewhere"), "another audience"),
    ("audience a list with us in it", lambda: made(aud=["tollhouse", "elsewhere"]), "another audience"),
    ("other issuer", lambda: made(iss="elsewhere"), "another issuer"),
    *[
        (f"no {name}", lambda name=name: made(drop=name), name)
        for name in ("iss", "aud", "sub", "exp", "nbf", "iat", "jti")
    ],
    ("no kind", lambda: made(drop="kind"), "kind"),
    ("unknown kind", lambda: made(kind="root"), "kind"),
    ("operator without role", lambda: made(kind="operator"), "role"),
    ("operator with unknown role", lambda: made(kind="operator", role="root"), "role"),
    ("tenant with a role", lambda: made(role="admin"), "role"),
    ("subject a number", lambda: made(sub=7), "sub"),
    ("subject blank", lambda: made(sub=" "), "sub"),
    ("subject with a NUL", lambda: made(sub="acme\0"), "sub"),
    ("jti empty", lambda: made(jti=""), "jti"),
    ("exp a text", lambda: made(exp=str(NOW_S + 60)), "exp"),
    ("exp a fraction", lambda: made(exp=NOW_S + 60.5), "exp"),
    ("exp true", lambda: made(exp=True), "exp"),
    ("exp null", lambda: made(exp=None), "exp"),
    ("exp beyond time", lambda: made(exp=10**20), "exp"),
    ("exp negative", lambda: made(exp=-1), "exp"),
    ("exp before iat", lambda: made(exp=NOW_S - 61), "exp"),
    ("not yet valid", lambda: made(nbf=NOW_S + 31), "not valid yet"),
    ("from the future", lambda: made(iat=NOW_S + 31, exp=NOW_S + 90), "future"),
    ("issued_us of another second", lambda: made(issued_us=NOW_US), "issued_us"),
    ("models a text", lambda: made(models="*"), "models"),
    ("models empty", lambda: made(models=[]), "models"),
    ("limits of no meter", lambda: made(limits={"dollars": "1"}), "limits"),
    ("limits a float", lambda: made(limits={"cost": 1.5}), "limits"),
    ("limits negative", lambda: made(limits={"cost": "-1"}), "limits"),
    ("labels of numbers", lambda: made(labels={"a": 1}), "labels"),
]


@pytest.mark.parametrize(("make", "detail"), [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
def test_a_forged_or_odd_token_is_invalid_and_says_why(make: Callable[[], str], detail: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        verify(make(), JWKS, NOW_US)
    assert refused.value.reason == "token_invalid"
    assert detail in refused.value.detail


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(INVALID) >= 40


@pytest.mark.parametrize("key", [ED, EC], ids=["EdDSA", "ES256"])
def test_a_good_token_says_what_was_put_in(key: SigningKey) -> None:
    claims = Claims("tenant", "acme", "j-1", NOW_US + 7, NOW_US + 60_000_000, key.kid, models=("gpt-5*",))
    assert verify(issue(key, claims), JWKS, NOW_US, kind="tenant") == claims
    assert claims.tenant == "acme"


@pytest.mark.parametrize("kind", ["proxy", "operator"])
def test_another_kind_of_caller_is_refused(kind: str) -> None:
    with pytest.raises(TokenRefused, match="token of a tenant"):
        verify(made(), JWKS, NOW_US, kind=kind)


def test_expiry_is_exact_with_its_leeway_of_thirty_seconds() -> None:
    token = made(exp=NOW_S)
    assert verify(token, JWKS, NOW_US + 29_999_999).subject == "acme"
    with pytest.raises(TokenRefused) as refused:
        verify(token, JWKS, NOW_US + 30_000_000)
    assert refused.value.reason == "token_expired"


def test_a_forged_token_that_is_also_expired_is_forged() -> None:
    with pytest.raises(TokenRefused) as refused:
        verify(made(OTHER, {"kid": ED.kid}, exp=NOW_S - 50, iat=NOW_S - 90), JWKS, NOW_US)
    assert refused.value.reason == "token_invalid"


def test_the_process_clock_does_not_matter() -> None:
    """PyJWT reads it by itself; a token of 2001 is good in 2001."""
    year_2001 = 1_000_000_000
    token = made(iat=year_2001, nbf=year_2001, exp=year_2001 + 60)
    assert verify(token, JWKS, year_2001 * 1_000_000).jti == "j-1"


def test_without_keys_nothing_is_good() -> None:
    with pytest.raises(TokenRefused) as refused:
        verify(made(), {}, NOW_US)
    assert refused.value.reason == "token_invalid"


def test_revocation_by_id_and_by_instant() -> None:
    by_id = Revocations(jtis=frozenset({"j-1"}))
    with pytest.raises(TokenRefused) as refused:
        verify(made(), JWKS, NOW_US, revoked=by_id.why)
    assert refused.value.reason == "token_revoked"
    issued_us = (NOW_S - 60) * 1_000_000 + 500
    token = made(issued_us=issued_us)
    assert verify(token, JWKS, NOW_US, revoked=Revocations(before_us={"tenant:acme": issued_us}).why).jti == "j-1"
    with pytest.raises(TokenRefused, match="issued before"):
        verify(token, JWKS, NOW_US, revoked=Revocations(before_us={"tenant:acme": issued_us + 1}).why)
    assert verify(token, JWKS, NOW_US, revoked=Revocations(before_us={"proxy:acme": NOW_US}).why).jti == "j-1"


def test_a_key_is_named_by_its_thumbprint() -> None:
    """The example of RFC 8037, appendix A.3."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("key", [ED, EC], ids=["EdDSA", "ES256"])
def test_a_public_key_survives_its_jwk(key: SigningKey) -> None:
    jwk = public_jwk(key.private.public_key())
    assert "d" not in jwk
    assert public_jwk(public_of(jwk)) == jwk


@given(st.text(max_size=300))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(TokenRefused):
        verify(text, JWKS, NOW_US)


@given(st.dictionaries(st.sampled_from([*GOOD, "role", "models", "limits", "labels", "issued_us"]), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=3), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
), max_size=4))  # fmt: skip
def test_any_claims_under_a_good_signature_are_judged(claims: dict[str, Any]) -> None:
    """Whoever holds the key can sign anything: it is still a value or a refusal."""
    payload = GOOD | claims
    signed = f"{b64({'alg': 'EdDSA', 'kid': ED.kid})}.{b64(payload)}"
    token = f"{signed}.{b64(ED.private.sign(signed.encode()))}"  # type: ignore[call-arg]
    with contextlib.suppress(TokenRefused):
        assert verify(token, JWKS, NOW_US).subject == payload["sub"]
