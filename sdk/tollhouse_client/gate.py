"""`Gate`: asks Tollhouse whether a tenant's call may go out, with which key, and holds its estimate.

    gate = Gate("http://127.0.0.1:8080", proxy_token)
    decision = gate.authorize(tenant_jwt, "gpt-5-mini", {"tokens": 5000, "cost": "0.02"})
    if not decision.allowed:
        …answer the tenant with decision.http_status and decision.reason…

A call is repeated under one id, which the gate answers alike, so a repeat never holds twice.
"""

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import jwt

from tollhouse_client.decisions import Estimate, GateDecision, decision_of, in_json, object_of, problem_of
from tollhouse_client.errors import GateRefusedError, GateUnavailableError
from tollhouse_client.gate_http import TRIES, ApiCalls

__all__ = ["Gate", "GateDecision", "GateRefusedError", "GateUnavailableError"]

DEFAULT_TTL_S: Final = 600
KNOWN_MAX: Final = 10_000
"""Admitted (token, model) pairs that an outage can go on with."""


class Gate:
    """Thread-safe. Connections are kept and shared.

    url, token
        where the API is, and the token of this proxy (`tollhouse token issue --proxy NAME`).
    fail_mode
        when the API is away: `closed` raises GateUnavailableError; `open:N` admits up to N calls a tenant in one
        outage, and only where this process saw the same token admitted for the same model before and the token has
        not expired. They use the key of that time and reserve nothing, so that a quota can be passed by at most what
        these N calls use.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 2.0,
        tries: int = TRIES,
        fail_mode: str = "closed",
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._allowance = allowance_of(fail_mode)
        self._api = ApiCalls(url, token, timeout_s=timeout_s, tries=tries, sleep=sleep)
        self._now_s = now_s
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, str], tuple[str, str | None, float]] = OrderedDict()
        self._admitted: dict[str, int] = {}

    def authorize(
        self,
        token: str,
        model: str,
        estimate: Estimate | None = None,
        *,
        ttl_s: int = DEFAULT_TTL_S,
        id: str | None = None,  # noqa: A002 - the field's name in the interface
    ) -> GateDecision:
        """Admit or refuse one call of the tenant whose JWT this is.

        id: yours, so that a repeat after your own restart answers the same; otherwise one is made here.
        GateUnavailableError as the fail mode says; GateRefusedError for a fault of this proxy.
        """
        body = {
            "token": token,
            "model": model,
            "estimate": in_json(estimate),
            "ttl_s": ttl_s,
            "id": id or f"rsv_{uuid.uuid4()}",
        }
        try:
            answer = self._api.ask("POST", "/v1/authorize", body)
        except GateUnavailableError:
            decision = self._without_gate(token, model)
            if decision is None:
                raise
            return decision
        said = object_of(answer)
        if "allowed" not in said:
            raise GateRefusedError(problem_of(answer, said))
        decision = decision_of(said)
        self._remember(token, model, decision)
        return decision

    def release(self, reservation: str, *, tenant: str | None = None) -> bool:
        """Give back what an admitted call holds, when it is not made after all; False if it had ended already."""
        where = f"?tenant={quote(tenant, safe='')}" if tenant is not None else ""
        answer = self._api.ask("DELETE", f"/v1/reservations/{quote(reservation, safe='')}{where}", None)
        if answer.status in (204, 404):
            return answer.status == 204
        raise GateRefusedError(problem_of(answer, object_of(answer)))

    def extend(self, reservation: str, ttl_s: int = DEFAULT_TTL_S, *, tenant: str | None = None) -> str | None:
        """Let a reservation live ttl_s from now, for a stream that goes on: its new end (RFC 3339).

        None: it has ended.
        """
        body = {"ttl_s": ttl_s} | ({"tenant": tenant} if tenant is not None else {})
        answer = self._api.ask("POST", f"/v1/reservations/{quote(reservation, safe='')}/extend", body)
        if answer.status == 404:
            return None
        said = object_of(answer)
        if answer.status != 200:
            raise GateRefusedError(problem_of(answer, said))
        return str(said["expires_at"])

    def close(self) -> None:
        """Close the kept connections."""
        self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- calls without the gate ---------------------------------------------------------------------------------

    def _remember(self, token: str, model: str, decision: GateDecision) -> None:
        if not self._allowance:
            return
        mark = (hashlib.sha256(token.encode()).digest(), model)
        with self._lock:
            if not decision.fail_open:
                self._admitted.clear()  # the outage is over
            self._known.pop(mark, None)
            if decision.allowed:
                self._known[mark] = (decision.tenant, decision.key, _expiry_s(token))
                if len(self._known) > KNOWN_MAX:
                    self._known.popitem(last=False)

    def _without_gate(self, token: str, model: str) -> GateDecision | None:
        with self._lock:
            known = self._known.get((hashlib.sha256(token.encode()).digest(), model))
            if known is None:
                return None
            tenant, key, expires_s = known
            if self._now_s() >= expires_s:
                return GateDecision(allowed=False, reason="token_expired", tenant=tenant)
            used = self._admitted.get(tenant, 0)
            if used >= self._allowance:
                return None
            self._admitted[tenant] = used + 1
        return GateDecision(allowed=True, reason="ok", tenant=tenant, key=key, fail_open=True)


def allowance_of(fail_mode: str) -> int:
    """Calls a tenant in one outage; 0 for closed. ValueError for a mode that does not exist."""
    mode, _, number = fail_mode.partition(":")
    if fail_mode == "closed":
        return 0
    if mode == "open" and number.isascii() and number.isdigit():
        return int(number)
    raise ValueError(f"fail_mode {fail_mode!r} is neither closed nor open:N")


def _expiry_s(token: str) -> float:
    """The end of a token that the gate has just checked."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"])
