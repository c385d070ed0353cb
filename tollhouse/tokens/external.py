"""Tokens of an external issuer (OpenID Connect), mapped to tenants by one of their claims.

Such a token is a tenant's, whatever it says of itself: proxies and operators have tokens of this installation only. It
is checked by the same rules (one algorithm a key, required claims, times, revocation), with the issuer's keys.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import jwt

from schemas.instants import SECOND_US
from schemas.usage_event import is_identifier
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.claims import Claims, TokenRefused
from tollhouse.tokens.issuer_keys import IssuerKeys
from tollhouse.tokens.verify import BYTES_MAX, SECONDS_MAX, Signed, looks_like_token, signed_payload

REQUIRED: Final = ("iss", "aud", "sub", "exp", "iat")


def tenant_map(text: str) -> dict[str, str]:
    """`value=tenant,value=tenant` as a mapping; UserError for anything else."""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if any(not value or not equals or not tenant for value, equals, tenant in pairs):
        raise UserError("setting oidc_tenants: write VALUE=TENANT,VALUE=TENANT")
    return {value.strip(): tenant.strip() for value, _, tenant in pairs}


class ExternalIssuer:
    """One issuer, by the settings oidc_issuer, oidc_audience, oidc_tenant_claim and oidc_tenants."""

    def __init__(self, settings: Settings, keys: IssuerKeys | None = None) -> None:
        if not settings.oidc_audience:
            raise UserError("setting oidc_audience is empty: without it, a token for anybody else would count here")
        self.issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        self._claim, self._tenants = settings.oidc_tenant_claim, tenant_map(settings.oidc_tenants)
        self.keys = keys or IssuerKeys(self.issuer, allow_local=bool(settings.oidc_allow_local))

    def issued(self, token: str) -> bool:
        """Whether the token says that it is of this issuer; that it is, `read` finds out."""
        if len(token) > BYTES_MAX or not looks_like_token(token):
            return False
        body = token.split(".")[1]
        try:
            payload = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, RecursionError):
            return False
        return isinstance(payload, dict) and payload.get("iss") == self.issuer

    def read(self, token: str) -> Signed:
        """What the token says, if its form, signature, audience and claims are right; TokenRefused otherwise."""
        payload, kid = issuer_payload(self.keys, token, issuer=self.issuer, audience=self._audience)
        seconds = {name: seconds_of(payload.get(name, 0), name) for name in ("iat", "nbf", "exp")}
        if seconds["exp"] <= seconds["iat"]:
            raise _invalid("claim exp is not after iat")
        jti = payload.get("jti", f"oidc:{sha256(token.encode()).hexdigest()[:32]}")
        if not isinstance(jti, str) or not is_identifier(jti):
            raise _invalid("claim jti is not a name of 1 to 256 printable characters")
        claims = Claims(
            kind="tenant",
            subject=self._tenant(payload),
            jti=jti,
            issued_us=seconds["iat"] * SECOND_US,
            expires_us=seconds["exp"] * SECOND_US,
            kid=kid,
        )
        return Signed(claims, seconds["nbf"] * SECOND_US)

    def _tenant(self, payload: Mapping[str, Any]) -> str:
        value, shown = claim_at(payload, self._claim), self._claim
        if not isinstance(value, str) or not is_identifier(value):
            raise _invalid(f"claim {shown}, which names the tenant, is missing or no name")
        if not self._tenants:
            return value
        if value not in self._tenants:
            raise _invalid(f"claim {shown} has a value that is mapped to no tenant (setting oidc_tenants)")
        return self._tenants[value]


def issuer_payload(keys: IssuerKeys, token: str, *, issuer: str, audience: str) -> tuple[dict[str, Any], str]:
    """What the issuer has signed for the audience, and the name of its key; TokenRefused. Times are for `judge`."""
    if len(token) > BYTES_MAX or not looks_like_token(token):
        raise _invalid("this is no JWT: three parts in base64url, with a dot between them")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _invalid(f"the token cannot be read: {error}") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if "crit" in header:
        raise _invalid("the header names critical extensions (crit), of which none is known here")
    if not isinstance(kid, str) or not kid:
        raise _invalid("the header has no kid: which key of the issuer signed the token?")
    try:
        expected, key = keys.find(kid)
    except KeyError as error:
        raise _invalid(str(error.args[0])) from None
    if algorithm != expected:
        raise _invalid(f"alg {str(algorithm)[:20]!r} is not the algorithm of this key, {expected}")
    payload = signed_payload(
        token,
        key,
        expected,
        issuer=issuer,
        audience=audience,
        required=REQUIRED,
        whose="issuer's key",
        strict_audience=False,
    )
    return payload, kid


def claim_at(payload: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or `a.b` for a member of an object; None where it is missing."""
    if name in payload:  # names that are addresses have dots of their own
        return payload[name]
    value: Any = payload
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def seconds_of(value: object, name: str) -> int:
    """A time in whole seconds; TokenRefused for anything else."""
    if type(value) is not int or not 0 <= value <= SECONDS_MAX:
        raise _invalid(f"claim {name} is not a time in whole seconds")
    return value


def _invalid(detail: str) -> TokenRefused:
    return TokenRefused("token_invalid", detail)
