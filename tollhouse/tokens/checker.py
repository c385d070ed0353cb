"""Checking tokens against the ledger's keys and revocations, read anew at most once a second."""

import threading
import time
from collections.abc import Collection
from typing import Any, Final

from pipeline.ledger import Ledger, LedgerUnavailable
from tollhouse.settings import Settings
from tollhouse.tokens import keys, revoked
from tollhouse.tokens.claims import Claims, TokenRefused
from tollhouse.tokens.external import ExternalIssuer
from tollhouse.tokens.issuer_keys import KeySet
from tollhouse.tokens.verify import PublicKey, Signed, judge, read

FRESH_S: Final = 1.0
"""A revocation must be in force everywhere within two seconds."""
KNOWN_MAX: Final = 10_000
"""Tokens whose signature was checked and is not checked again while the keys stay the same: 0.7 ms a call."""


class TokenChecker:
    """Thread-safe. stale_ok: with the database away, go on with what was read last instead of raising."""

    def __init__(self, ledger: Ledger, settings: Settings, *, stale_ok: bool = False) -> None:
        self._ledger, self._settings, self._stale_ok = ledger, settings, stale_ok
        self._lock = threading.Lock()
        self._read_at_s = float("-inf")
        self._rows: list[dict[str, Any]] = []
        self._live: dict[str, tuple[str, PublicKey]] = {}
        self._live_until_us = -1
        self._revoked = revoked.Revocations()
        self._known: dict[str, Signed] = {}
        self._external = ExternalIssuer(settings) if settings.oidc_issuer else None
        self._external_known: tuple[KeySet | None, dict[str, Signed]] = (None, {})

    def _refresh(self, now_us: int) -> None:
        with self._lock:
            if time.monotonic() - self._read_at_s >= FRESH_S:
                try:
                    rows, gone = keys.rows(self._ledger), revoked.load(self._ledger)
                except LedgerUnavailable:
                    if not self._stale_ok or not self._rows:
                        raise
                else:
                    if rows != self._rows:
                        self._live_until_us = -1
                    self._rows, self._revoked = rows, gone
                self._read_at_s = time.monotonic()
            if now_us >= self._live_until_us:
                self._live = keys.live(self._rows, now_us)
                self._known = {}
                ends = [row["retired_us"] for row in self._rows if (row["retired_us"] or 0) > now_us]
                self._live_until_us = min(ends, default=2**62)

    def check(self, token: str, now_us: int, kind: str | None = None) -> Claims:
        """The claims; TokenRefused, or LedgerUnavailable."""
        self._refresh(now_us)
        known = self._known  # of the keys that count now: a change of keys puts a new one in its place
        signed = known.get(token)
        if signed is None and self._external is not None:
            signed = self._of_issuer(self._external, token)
        if signed is None:
            signed = read(token, self._live, issuer=self._settings.issuer, audience=self._settings.audience)
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[token] = signed
        return judge(signed, now_us, kind=kind, revoked=self._revoked.why)

    def check_session(self, claims: Claims, now_us: int, issuer: str) -> None:
        """TokenRefused where what a session began with counts no more: its key is gone, or it was taken back.

        issuer: who signed it; empty for us. An operator's id token counted once, so its key may change.
        """
        self._refresh(now_us)
        if not issuer:
            known: Collection[str] = self._live
        elif claims.kind == "operator":
            known = (claims.kid,) if issuer == self._settings.sign_in_issuer else ()
        else:
            current = self._external.keys.current() if self._external and issuer == self._external.issuer else None
            known = current.keys if current is not None else ()
        if claims.kid not in known:
            raise TokenRefused("token_invalid", "the key or issuer that the session began with counts no more")
        if (why := self._revoked.why(claims)) is not None:
            raise TokenRefused("token_revoked", why)

    def issuer_of(self, token: str) -> str:
        """The external issuer that a checked token is of; empty for ours."""
        external = self._external
        return external.issuer if external is not None and external.issued(token) else ""

    def _of_issuer(self, external: ExternalIssuer, token: str) -> Signed | None:
        """The token as the external issuer's; None if it does not say that it is."""
        keys_now = external.keys.current() if self._external_known[1] else None
        if self._external_known[0] is not keys_now:
            self._external_known = (keys_now, {})  # its keys were fetched again: a token of one that is gone is over
        known = self._external_known[1]
        signed = known.get(token)
        if signed is None and external.issued(token):
            signed = external.read(token)
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[token] = signed
            self._external_known = (external.keys.current(), known)
        return signed

    def jwks(self, now_us: int) -> dict[str, Any]:
        """The document for /.well-known/jwks.json."""
        self._refresh(now_us)
        return keys.jwks_document(self._rows, now_us)
