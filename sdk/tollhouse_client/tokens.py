"""Tenants' tokens judged without a call: signature by the published keys, claims, times; revocations by `key.states`.

The same rules as the service's: one algorithm a key, required claims, exact audience and issuer, 30 seconds of leeway.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from tollhouse_client.decisions import units_of
from tollhouse_client.gate_http import HttpPool

LEEWAY_US: Final = 30_000_000
BYTES_MAX: Final = 8192
KNOWN_MAX: Final = 10_000
KEEP_S: Final = 300.0
"""The key document may be kept so long; then no token counts until it was read again."""
UNKNOWN_S: Final = 5.0
"""And at most this often for the sake of a key that is not in it."""
ALGORITHMS: Final = ("EdDSA", "ES256")
REQUIRED: Final = ("iss", "aud", "sub", "exp", "nbf", "iat", "jti")


class TokenRefused(Exception):
    """The token does not count. reason: token_invalid, token_expired or token_revoked."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class TenantToken:
    """What a good token says. Instants in UTC microseconds; limits: units by meter, upper bounds of one call."""

    tenant: str
    jti: str
    issued_us: int
    not_before_us: int
    expires_us: int
    models: tuple[str, ...]
    limits: Mapping[str, int]
    labels: Mapping[str, str]


class Tokens:
    """Thread-safe. fetch: gives the document of /.well-known/jwks.json."""

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], *, issuer: str, audience: str) -> None:
        self._fetch, self._issuer, self._audience = fetch, issuer, audience
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s = float("-inf")
        self._known: dict[str, TenantToken] = {}

    def check(self, token: str, now_us: int) -> TenantToken:
        """The claims of a tenant's token that counts now; revocations are the caller's to judge. TokenRefused;
        ConnectionError when the keys are too old and cannot be read."""
        if time.monotonic() - self._fetched_s > KEEP_S:
            self.refresh()
        found = self._known.get(token)
        if found is None:
            found = self._read(token)
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            self._known[token] = found
        if found.not_before_us > now_us + LEEWAY_US or found.issued_us > now_us + LEEWAY_US:
            raise TokenRefused("token_invalid", "the token is not valid yet (nbf, iat)")
        if now_us >= found.expires_us + LEEWAY_US:
            raise TokenRefused("token_expired", "the token's time is over (exp): get a new one")
        return found

    def refresh(self, older_s: float = KEEP_S) -> None:
        """Read the key document again if it is older than this. A key that is no longer in it stops counting.

        ConnectionError when it cannot be had.
        """
        with self._lock:
            if time.monotonic() - self._fetched_s < older_s:
                return
            try:
                document = self._fetch()
                found = jwt.PyJWKSet.from_dict(dict(document)).keys
            except (OSError, http.client.HTTPException, ValueError, jwt.PyJWTError) as error:
                raise ConnectionError(f"the key document cannot be read: {error}") from error
            keys = {key.key_id: key for key in found if key.key_id}
            if keys.keys() != self._keys.keys():
                self._known = {}
            self._keys, self._fetched_s = keys, time.monotonic()

    def _read(self, token: str) -> TenantToken:
        key = self._key(token)
        options: Any = {
            "require": list(REQUIRED),
            "strict_aud": True,
            "verify_exp": False,  # the times are judged by `check`, each time
            "verify_nbf": False,
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                options=options,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefused("token_invalid", f"the token does not count: {error}") from None
        return _claims(claims)

    def _key(self, token: str) -> jwt.PyJWK:
        if len(token) > BYTES_MAX:
            raise TokenRefused("token_invalid", f"the token has {len(token)} bytes, more than {BYTES_MAX}")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("token_invalid", "this is no JWT") from None
        kid = str(header.get("kid"))
        if kid not in self._keys:
            self.refresh(UNKNOWN_S)
        key = self._keys.get(kid)
        if key is None or key.algorithm_name not in ALGORITHMS or header.get("alg") != key.algorithm_name:
            raise TokenRefused("token_invalid", "the token is not signed by a key that counts now, in its algorithm")
        if "crit" in header:
            raise TokenRefused("token_invalid", "the header names critical extensions (crit), of which none is known")
        return key


def _claims(claims: Mapping[str, Any]) -> TenantToken:
    try:
        times = [claims[name] for name in ("iat", "nbf", "exp")]
        if claims.get("kind") != "tenant" or not all(type(at) is int for at in times):
            raise ValueError("it is not a tenant's, or its times are not whole seconds")
        issued, not_before, expires = (at * 1_000_000 for at in times)
        return TenantToken(
            str(claims["sub"]),
            str(claims["jti"]),
            int(claims.get("issued_us", issued)),
            not_before,
            expires,
            tuple(map(str, claims.get("models", ["*"]))),
            {meter: units_of(meter, amount) for meter, amount in claims.get("limits", {}).items()},
            dict(claims.get("labels", {})),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise TokenRefused("token_invalid", f"the token does not count: {error}") from None


def fetch_keys(url: str, timeout_s: float) -> Callable[[], Mapping[str, Any]]:
    """Reads the key document of the API at the address."""
    pool = HttpPool(url, timeout_s)

    def fetch() -> Mapping[str, Any]:
        answer = pool.request("GET", "/.well-known/jwks.json", None, {})
        if answer.status != 200:
            raise ConnectionError(f"HTTP {answer.status} for the key document")
        document: Mapping[str, Any] = json.loads(answer.body)
        return document

    return fetch
