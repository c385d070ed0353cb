"""Issuing tokens."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import jwt

from schemas.instants import SECOND_US
from schemas.money import plain
from tollhouse.tokens.claims import Claims
from tollhouse.tokens.keys import SigningKey

TTL_S: Final = {"tenant": 3600, "proxy": 90 * 86_400, "operator": 12 * 3600}
"""Unless told: a tenant's an hour, an operator's a working day, a proxy's a quarter of a year."""
TTL_MAX_S: Final = 366 * 86_400


def issue(
    key: SigningKey,
    claims: Claims,
    *,
    issuer: str = "tollhouse",
    audience: str = "tollhouse",
) -> str:
    """The signed token of the claims."""
    iat = claims.issued_us // SECOND_US
    payload: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": claims.subject,
        "kind": claims.kind,
        "jti": claims.jti,
        "iat": iat,
        "nbf": iat,
        "exp": claims.expires_us // SECOND_US,
        "issued_us": claims.issued_us,
    }
    if claims.role:
        payload["role"] = claims.role
    if claims.models != ("*",):
        payload["models"] = list(claims.models)
    if claims.limits:
        payload["limits"] = limits_json(claims.limits)
    if claims.labels:
        payload["labels"] = dict(claims.labels)
    return jwt.encode(payload, key.private, algorithm=key.algorithm, headers={"kid": key.kid, "typ": "JWT"})


def limits_json(limits: Mapping[str, Decimal]) -> dict[str, str]:
    """Limits as the claim shows them: decimal text."""
    return {name: plain(amount) for name, amount in limits.items()}
