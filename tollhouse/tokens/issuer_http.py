"""Speaking to an OpenID Connect issuer: over HTTPS, to public addresses, within a time and a size.

The issuer's address is the operator's; what its documents name is not: each name is resolved once and the connection
made to an address that was checked, without redirects. An issuer on a loopback address, as in tests, may name loopback
addresses and speak HTTP.
"""

import ipaddress
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tollhouse.errors import UserError
from tollhouse.webhooks import addresses_of, unsafe

TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 256 * 1024
"""Of a document: a key set of a hundred keys has 50 KiB."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class IssuerUnavailable(Exception):
    """The issuer did not answer, or not with what it should. status: of its answer, 0 without one."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status


class IssuerHttp:
    """Thread-safe. issuer: its address; setting: where it is from, for the UserError about one that is none.
    allow_local: private addresses too."""

    def __init__(self, issuer: str, *, allow_local: bool, setting: str = "oidc_issuer") -> None:
        self._loopback, self._allow_local = False, allow_local
        with suppress(ValueError):
            self._loopback = urlsplit(issuer).hostname in _LOOPBACK
        if not self.speaks(issuer):
            raise UserError(f"setting {setting}: {issuer!r} is no address: give https://HOST")

    def speaks(self, address: str) -> bool:
        """Whether the address is of the form that this issuer's may have."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return False
        schemes = ("http", "https") if self._loopback else ("https",)
        return bool(parts.hostname) and parts.scheme in schemes and parts.username is None

    def get(self, address: str) -> bytes:
        """The document; IssuerUnavailable."""
        return self._ask("GET", address, {}, None)

    def post(self, address: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        """The answer to a form; IssuerUnavailable."""
        return self._ask("POST", address, headers, fields)

    def _ask(self, method: str, address: str, more: Mapping[str, str], fields: Mapping[str, str] | None) -> bytes:
        try:
            target, host = self._checked(address)
            headers = {
                "host": urlsplit(address).netloc,
                "accept-encoding": "identity",
                "user-agent": "tollhouse",
                **more,
            }
            until_s = time.monotonic() + TIMEOUT_S
            # No proxy of the environment: it would resolve the name once more.
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream(
                    method, target, headers=headers, data=fields, extensions={"sni_hostname": host}
                ) as answer,
            ):
                if answer.status_code != 200:
                    raise IssuerUnavailable(f"it answers {answer.status_code}", answer.status_code)
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
        if not self.speaks(address):
            raise IssuerUnavailable("it names an address that is not https://HOST")
        found = addresses_of(host, parts.port or (443 if parts.scheme == "https" else 80))
        for one in found:
            ip = ipaddress.ip_address(one.partition("%")[0])
            loopback = (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
            inside = not self._loopback if loopback else unsafe(one, named="", allow_local=self._allow_local)
            if inside:
                raise IssuerUnavailable(f"{host} is at {one}, which is not public")
        return httpx.URL(address).copy_with(host=found[0]), host


def json_object(body: bytes) -> dict[str, Any]:
    """The object in an answer; IssuerUnavailable for any other."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise IssuerUnavailable("it does not answer with JSON") from None
    if not isinstance(found, dict):
        raise IssuerUnavailable("it does not answer with a JSON object")
    return found
