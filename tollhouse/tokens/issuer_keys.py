"""The keys of an external issuer (OpenID Connect Discovery 1.0, RFC 7517): fetched, checked, kept."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from tollhouse.tokens.issuer_http import IssuerHttp, IssuerUnavailable, json_object

KEYS_MAX: Final = 100
FRESH_S: Final = 600.0
"""Keys are fetched again after so long: as long as a key that the issuer took back goes on counting here."""
AGAIN_S: Final = 30.0
"""An unknown kid fetches the keys at most this often: anybody can make one up."""
RSA_BITS_MIN: Final = 2048
_BY_KIND: Final[Mapping[str, tuple[str, Any]]] = {
    "RSA": ("RS256", RSAAlgorithm),
    "EC": ("ES256", ECAlgorithm),
    "OKP": ("EdDSA", OKPAlgorithm),
}
"""The one algorithm of a key where its own `alg` does not say."""
ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256",),
    "OKP": ("EdDSA",),
}

ExternalKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Fetch = Callable[[str], bytes]


class KeySet(NamedTuple):
    """The issuer's keys by kid, each with its one algorithm, and what it says of itself; as of one fetch."""

    keys: Mapping[str, tuple[str, ExternalKey]]
    fetched_s: float
    about: Mapping[str, Any]


class IssuerKeys:
    """Thread-safe. issuer: its address, as `iss` has it; setting: where that is from. allow_local: private addresses
    too. fetch (IssuerUnavailable when there is no answer) and clock_s: for tests."""

    def __init__(
        self,
        issuer: str,
        *,
        allow_local: bool = False,
        setting: str = "oidc_issuer",
        fetch: Fetch | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.http = IssuerHttp(issuer, allow_local=allow_local, setting=setting)
        self._issuer = issuer
        self._fetch, self._clock_s = fetch or self.http.get, clock_s
        self._lock = threading.Lock()
        self._set: KeySet | None = None
        self._tried_s = float("-inf")
        self._why = ""

    def current(self) -> KeySet | None:
        """The keys that count, fetched again when they are old; with the issuer away, the ones known before."""
        known = self._set
        if known is None or self._clock_s() - known.fetched_s >= FRESH_S:
            self._refetch(wait=known is None)
        return self._set

    def find(self, kid: str) -> tuple[str, ExternalKey]:
        """The key of this name, looked for at the issuer once more where it is new; KeyError with the reason."""
        known = self.current()
        if known is None or kid not in known.keys:
            self._refetch(wait=True)
            known = self._set
        if known is None or kid not in known.keys:
            away = f", and it does not answer: {self._why}" if self._why else ""
            raise KeyError(f"kid is none of the issuer's keys that are known here{away}")
        return known.keys[kid]

    def _refetch(self, *, wait: bool) -> None:
        """Fetch, one thread at a time and at most once in AGAIN_S. wait: for a fetch that is under way."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            now_s = self._clock_s()
            if now_s - self._tried_s < AGAIN_S:
                return
            self._tried_s = now_s
            try:
                self._set, self._why = self._read(now_s), ""
            except IssuerUnavailable as error:
                self._why = str(error)
        finally:
            self._lock.release()

    def why_away(self) -> str:
        """Why the last fetch failed; empty if it did not."""
        return self._why

    def _read(self, now_s: float) -> KeySet:
        found = self._document(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self._issuer:
            raise IssuerUnavailable("its discovery document names another issuer")
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise IssuerUnavailable("its discovery document has no jwks_uri")
        listed = self._document(address).get("keys")
        if not isinstance(listed, list):
            raise IssuerUnavailable("its key set has no keys")
        read = [one for one in map(_read_key, listed[:KEYS_MAX]) if one is not None]
        return KeySet({kid: (algorithm, key) for kid, algorithm, key in read}, now_s, found)

    def _document(self, address: str) -> dict[str, Any]:
        return json_object(self._fetch(address))


def _read_key(jwk: object) -> tuple[str, str, ExternalKey] | None:
    """(kid, algorithm, key) of a signing key that we can use; None for any other, which is no fault of the set."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    kid, kind = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not kid or not isinstance(kind, str) or kind not in _BY_KIND:
        return None
    standard, reader = _BY_KIND[kind]
    algorithm = jwk.get("alg", standard)
    if algorithm not in ALGORITHMS[kind]:
        return None
    try:
        key = reader.from_jwk({name: value for name, value in jwk.items() if name not in ("d", "p", "q")})
    except (PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey):
        return (kid, algorithm, key) if key.key_size >= RSA_BITS_MIN else None
    if isinstance(key, EllipticCurvePublicKey):
        return (kid, algorithm, key) if key.curve.name == "secp256r1" else None
    return (kid, algorithm, key) if isinstance(key, Ed25519PublicKey) else None
