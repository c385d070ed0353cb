"""Checking a token: form, key, algorithm, signature, audience, times, revocation, in this order.

PyJWT checks the signature; everything that depends on the clock is done here, with the clock as an argument.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.instants import SECOND_US
from schemas.money import decimal
from schemas.tokens import METERS
from schemas.usage_event import is_identifier
from tollhouse.tokens.claims import KINDS, ROLES, Claims, TokenRefused

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

ALGORITHMS: Final = ("EdDSA", "ES256")
LEEWAY_US: Final = 30 * SECOND_US
"""Clocks of two machines with NTP differ by milliseconds, without it by seconds; more than this is a fault to mend."""
BYTES_MAX: Final = 8192
"""Header lines of common proxies end at 8 KiB; ours are about 500 bytes."""
REQUIRED: Final = ("iss", "aud", "sub", "exp", "nbf", "iat", "jti")
SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

Revoked = Callable[[Claims], str | None]
"""The reason why a token that is otherwise good was taken back, or None."""


def looks_like_token(text: str) -> bool:
    """Whether the text has the form of a JWT: three parts in base64url."""
    return _FORM.fullmatch(text) is not None


def verify(
    token: str,
    jwks: Mapping[str, tuple[str, PublicKey]],
    now_us: int,
    *,
    kind: str | None = None,
    issuer: str = "tollhouse",
    audience: str = "tollhouse",
    revoked: Revoked | None = None,
) -> Claims:
    """The claims of a good token; TokenRefused with reason and detail for any other.

    jwks: the public keys that count now, by key id, each with its one algorithm. kind: what the caller has to be.
    """
    return judge(read(token, jwks, issuer=issuer, audience=audience), now_us, kind=kind, revoked=revoked)


class Signed(NamedTuple):
    """A token whose form, signature, audience and claims are right; whether it counts now is for `judge`."""

    claims: Claims
    not_before_us: int


def read(token: str, jwks: Mapping[str, tuple[str, PublicKey]], *, issuer: str, audience: str) -> Signed:
    """What does not depend on time and caller; the same token gives the same answer while the keys are the same."""
    kid, algorithm, key = _key_for(token, jwks)
    payload = signed_payload(token, key, algorithm, issuer=issuer, audience=audience, required=REQUIRED)
    return Signed(_claims(payload, kid), payload["nbf"] * SECOND_US)


def judge(signed: Signed, now_us: int, *, kind: str | None = None, revoked: Revoked | None = None) -> Claims:
    """The claims, if the token is of the kind, is in force at the instant and was not taken back."""
    claims = signed.claims
    if kind is not None and claims.kind != kind:
        raise _invalid(f"this is a token of a {claims.kind}, here a {kind}'s is needed")
    if signed.not_before_us > now_us + LEEWAY_US:
        raise _invalid("the token is not valid yet (nbf)")
    if claims.issued_us > now_us + LEEWAY_US:
        raise _invalid("the token was issued in the future (iat): a clock is wrong")
    if now_us >= claims.expires_us + LEEWAY_US:
        raise TokenRefused("token_expired", "the token's time is over (exp): get a new one")
    if revoked is not None and (why := revoked(claims)) is not None:
        raise TokenRefused("token_revoked", why)
    return claims


def _invalid(detail: str) -> TokenRefused:
    return TokenRefused("token_invalid", detail)


def _key_for(token: str, jwks: Mapping[str, tuple[str, PublicKey]]) -> tuple[str, str, PublicKey]:
    """The key that must have signed the token, by its header alone."""
    if not token:
        raise _invalid("the token is empty")
    if len(token) > BYTES_MAX:
        raise _invalid(f"the token has {len(token)} bytes, more than {BYTES_MAX}")
    if not looks_like_token(token):
        raise _invalid("this is no JWT: three parts in base64url, with a dot between them")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _invalid(f"the token cannot be read: {error}") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        raise _invalid("the token is not signed (alg none)")
    if "crit" in header:
        raise _invalid("the header names critical extensions (crit), of which none is known here")
    if not isinstance(kid, str) or not kid:
        raise _invalid("the header has no kid: which key signed the token?")
    if kid not in jwks:
        raise _invalid("the header's kid is none of the signing keys that count now")
    expected, key = jwks[kid]
    if expected not in ALGORITHMS or algorithm != expected:
        raise _invalid(f"alg {algorithm[:20]!r} is not the algorithm of this key, {expected}")
    if token.endswith("."):
        raise _invalid("the signature is missing")
    return kid, expected, key


def signed_payload(
    token: str,
    key: Any,
    algorithm: str,
    *,
    issuer: str,
    audience: str,
    required: Sequence[str],
    whose: str = "key",
    strict_audience: bool = True,
) -> dict[str, Any]:
    """What the key has signed, for us and by the issuer; TokenRefused otherwise. Its times are for `judge`.

    strict_audience: one audience as text; a list may name us beside somebody else. whose: what the key is called.
    """
    options: Any = {
        "require": list(required),
        "verify_signature": True,
        "verify_aud": True,
        "verify_iss": True,
        "strict_aud": strict_audience,
        "verify_exp": False,  # these three read the process's clock; see judge
        "verify_nbf": False,
        "verify_iat": False,
        "verify_sub": False,  # see _claims, which knows what a subject is here
        "verify_jti": False,
    }
    try:
        payload: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], audience=audience, issuer=issuer, options=options
        )
    except jwt.MissingRequiredClaimError as error:
        raise _invalid(f"claim {error.claim} is missing") from None
    except jwt.InvalidSignatureError:
        raise _invalid(f"the signature does not fit the token and the {whose}") from None
    except jwt.InvalidAudienceError:
        raise _invalid("the token is for another audience (aud)") from None
    except jwt.InvalidIssuerError:
        raise _invalid("the token is from another issuer (iss)") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _invalid(f"the token cannot be read: {error}") from None
    return payload


def _claims(payload: dict[str, Any], kid: str) -> Claims:
    kind, role = payload.get("kind"), payload.get("role", "")
    if kind not in KINDS:
        raise _invalid(f"claim kind is not one of {', '.join(KINDS)}")
    if kind == "operator" and role not in ROLES:
        raise _invalid(f"claim role of an operator is not one of {', '.join(ROLES)}")
    if kind != "operator" and role != "":
        raise _invalid("claim role is for operators only")
    for name in ("sub", "jti"):
        if not isinstance(payload[name], str) or not is_identifier(payload[name]):
            raise _invalid(f"claim {name} is not a name of 1 to 256 printable characters")
    seconds = {name: _seconds(payload[name], name) for name in ("iat", "nbf", "exp")}
    if seconds["exp"] <= seconds["iat"]:
        raise _invalid("claim exp is not after iat")
    issued_us = payload.get("issued_us", seconds["iat"] * SECOND_US)
    if type(issued_us) is not int or issued_us // SECOND_US != seconds["iat"]:
        raise _invalid("claim issued_us is not within the second of iat")
    return Claims(
        kind=str(kind),
        subject=payload["sub"],
        jti=payload["jti"],
        issued_us=issued_us,
        expires_us=seconds["exp"] * SECOND_US,
        kid=kid,
        role=str(role),
        models=_models(payload.get("models", ["*"])),
        limits=_limits(payload.get("limits", {})),
        labels=_labels(payload.get("labels", {})),
    )


def _seconds(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= SECONDS_MAX:
        raise _invalid(f"claim {name} is not a time in whole seconds")
    return value


def _models(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise _invalid("claim models is not a list of model patterns")
    return tuple(value)


def _limits(value: object) -> dict[str, Decimal]:
    if not isinstance(value, dict) or not all(name in METERS for name in value):
        raise _invalid(f"claim limits is not an object with meters ({', '.join(METERS)})")
    try:
        limits = {name: decimal(amount) for name, amount in value.items()}
    except ValueError as error:
        raise _invalid(f"claim limits: {error}") from None
    if any(amount < 0 for amount in limits.values()):
        raise _invalid("claim limits: a limit is negative")
    return limits


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _invalid("claim labels is not an object with texts")
    return dict(value)
