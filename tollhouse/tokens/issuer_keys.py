"""The keys of an external issuer (OpenID Connect Discovery 1.0, RFC 7517): fetched, checked, kept.

The issuer's address is the operator's; what its documents name is not: they are fetched over HTTPS from public
addresses only, each name resolved once and the connection made to an address that was checked, without redirects,
within a time and a size. An issuer on a loopback address, as in tests, may name loopback addresses and speak HTTP.
"""

import ipaddress
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from tollhouse.errors import UserError
from tollhouse.webhooks import addresses_of, unsafe

TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 256 * 1024
"""Of a document: a key set of a hundred keys has 50 KiB."""
KEYS_MAX: Final = 100
FRESH_S: Final = 600.0
"""Keys are fetched again after so long: as long as a key that the issuer took back goes on counting here."""
AGAIN_S: Final = 30.0
"""An unknown kid fetches the keys at most this often: anybody can make one up."""
RSA_BITS_MIN: Final = 2048
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
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


class IssuerUnavailable(Exception):
    """The issuer did not answer, or not with what it should."""


class KeySet(NamedTuple):
    """The issuer's keys by kid, each with its one algorithm; as of one fetch."""

    keys: Mapping[str, tuple[str, ExternalKey]]
    fetched_s: float


class IssuerKeys:
    """Thread-safe. issuer: its address, as `iss` has it. allow_local: private addresses too.

    fetch (IssuerUnavailable when there is no answer) and clock_s: for tests.
    """

    def __init__(
        self,
        issuer: str,
        *,
        allow_local: bool = False,
        fetch: Fetch | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(issuer)
        self._loopback = parts.hostname in _LOOPBACK
        if not parts.hostname or parts.scheme not in (("http", "https") if self._loopback else ("https",)):
            raise UserError(f"setting oidc_issuer: {issuer!r} is no address: give https://HOST")
        self._issuer, self._allow_local = issuer, allow_local
        self._fetch, self._clock_s = fetch or self._get, clock_s
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
                self._set, self._why = KeySet(self._keys(), now_s), ""
            except IssuerUnavailable as error:
                self._why = str(error)
        finally:
            self._lock.release()

    def _keys(self) -> dict[str, tuple[str, ExternalKey]]:
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
        return {kid: (algorithm, key) for kid, algorithm, key in read}

    def _document(self, address: str) -> dict[str, Any]:
        try:
            found = json.loads(self._fetch(address))
        except (ValueError, RecursionError):
            raise IssuerUnavailable("it does not answer with JSON") from None
        if not isinstance(found, dict):
            raise IssuerUnavailable("it does not answer with a JSON object")
        return found

    def _get(self, address: str) -> bytes:
        try:
            target, host = self._checked(address)
            headers = {"host": urlsplit(address).netloc, "accept-encoding": "identity", "user-agent": "tollhouse"}
            until_s = time.monotonic() + TIMEOUT_S
            # No proxy of the environment: it would resolve the name once more.
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as answer,
            ):
                if answer.status_code != 200:
                    raise IssuerUnavailable(f"it answers {answer.status_code}")
                body = b""
                for part in answer.iter_raw():
                    body += part
                    if len(body) > BYTES_MAX or time.monotonic() > until_s:
                        raise IssuerUnavailable(f"its answer is larger than {BYTES_MAX} bytes or takes too long")
                return body
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise IssuerUnavailable(str(error) or type(error).__name__) from None

    def _checked(self, address: str) -> tuple[httpx.URL, str]:
        """The URL with a checked address in the place of its name, and the name."""
        parts = urlsplit(address)
        host = parts.hostname or ""
        if (
            parts.username is not None
            or not host
            or parts.scheme not in (("http", "https") if self._loopback else ("https",))
        ):
            raise IssuerUnavailable("it names an address that is not https://HOST")
        found = addresses_of(host, parts.port or (443 if parts.scheme == "https" else 80))
        for one in found:
            ip = ipaddress.ip_address(one.partition("%")[0])
            loopback = (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
            inside = not self._loopback if loopback else unsafe(one, named="", allow_local=self._allow_local)
            if inside:
                raise IssuerUnavailable(f"{host} is at {one}, which is not public")
        return httpx.URL(address).copy_with(host=found[0]), host


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
