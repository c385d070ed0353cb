"""Signed webhooks by the Standard Webhooks specification, to public addresses only unless told otherwise.

The name is resolved once, every address it has is checked, and the connection goes to a checked address, so that a name
cannot point elsewhere in between. Redirects are not followed.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from pipeline.alerting import alert_json
from schemas.instants import format_instant
from streams.delivery import Notice, Refused, public

TIMEOUT_S: Final = 10.0
SECRET: Final = "TOLLHOUSE_WEBHOOK_SECRET"  # noqa: S105 - its name
PREFIX: Final = "whsec_"
SECRET_BYTES: Final = (24, 64)
"""The specification's bounds."""
GONE: Final = 410
"""The receiver wants no more of these: the specification says to stop."""

Resolve = Callable[[str, int], list[str]]


class Webhooks:
    """Posts notices. secret: whsec_ and base64, or empty (then nothing is sent: an unsigned alert proves nothing).

    allow_local: private and loopback addresses too. resolve, now_s: for tests.
    """

    def __init__(
        self,
        secret: str,
        *,
        allow_local: bool = False,
        resolve: Resolve | None = None,
        now_s: Callable[[], float] = time.time,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._secret, self._allow_local = secret, allow_local
        self._resolve, self._now_s, self._timeout_s = resolve or addresses_of, now_s, timeout_s

    def post(self, url: str, notice: Notice, *, text: str, cost: str = "", link: str = "") -> None:
        """Send; an exception, worded for people, if the receiver did not answer with 2xx."""
        key = secret_key(self._secret)
        body = webhook_body(notice, text=text, cost=cost, link=link)
        sent_s = int(self._now_s())  # the wall clock, whatever clock events are judged by: receivers compare it
        headers = {
            "content-type": "application/json",
            "user-agent": "tollhouse",
            "webhook-id": notice.id,
            "webhook-timestamp": str(sent_s),
            "webhook-signature": sign(key, notice.id, sent_s, body),
        }
        try:
            status = self._send(url, headers, body)
        except httpx.HTTPError as error:
            raise OSError(f"{public(url)}: {str(error) or type(error).__name__}") from None
        if status == GONE:
            raise Refused(f"{public(url)} answered 410: it wants no more alerts, take it out of the catalog")
        if not 200 <= status < 300:
            raise OSError(f"{public(url)} answered {status}")

    def _send(self, url: str, headers: dict[str, str], body: bytes) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        address = self._checked(host, port)
        target = httpx.URL(url).copy_with(host=address)
        sent = headers | {"host": parts.netloc.rpartition("@")[2]}
        # No proxy of the environment either: it would resolve the name once more.
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client:
            extensions = {"sni_hostname": host}
            with client.stream("POST", target, headers=sent, content=body, extensions=extensions) as answer:
                return answer.status_code

    def _checked(self, host: str, port: int) -> str:
        """An address of the host; PermissionError if one of its addresses is none to send to."""
        try:
            found = self._resolve(host, port)
        except OSError as error:
            raise OSError(f"{host} has no address: {error}") from None
        for address in found:
            if why := unsafe(address, named=host, allow_local=self._allow_local):
                raise PermissionError(f"{host} is at {address}, {why}")
        return found[0]


def unsafe(address: str, *, named: str, allow_local: bool) -> str:
    """Why an address is none to send to; empty if it is. Loopback written out in the catalog is meant as it stands."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "which no webhook goes to"
    if ip.is_loopback and (named in ("localhost", address) or _literal(named)):
        return ""
    if not ip.is_global and not allow_local:
        return "which is not public: set TOLLHOUSE_ALLOW_LOCAL_SINKS=1 if that is meant"
    return ""


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host name; OSError where it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The order of the resolver, each address once; IPv4 first where both are there, as most receivers listen on it.
    addresses = dict.fromkeys(str(entry[4][0]) for entry in sorted(found, key=lambda e: e[0] != socket.AF_INET))
    return list(addresses)


def secret_key(secret: str) -> bytes:
    """The key's bytes; Refused, worded for people, for what is no secret of the specification."""
    if not secret:
        raise PermissionError(f"{SECRET} is not set: webhooks are signed, or not sent")
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise PermissionError(f"{SECRET} is not base64: write whsec_ and the base64 of 24 to 64 bytes") from None
    if not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
        raise PermissionError(f"{SECRET} has {len(key)} bytes: it must have {SECRET_BYTES[0]} to {SECRET_BYTES[1]}")
    return key


def sign(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The webhook-signature header: v1, HMAC-SHA256 over "id.timestamp.body", base64."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()


def webhook_body(notice: Notice, *, text: str, cost: str = "", link: str = "") -> bytes:
    """{"type", "timestamp", "data"}: the alert as the `alerts` topic has it, with its state, text and what was done."""
    data: dict[str, Any] = {
        **alert_json(notice.alert),
        "version": notice.version,
        "state": notice.state,
        "since": format_instant(notice.since_us),
        "count": notice.count,
        "done": list(notice.done),
        "cost": cost,
        "text": text,
        "link": link,
    }
    whole = {"type": f"alert.{notice.alert.kind}", "timestamp": format_instant(notice.alert.at_us), "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
