"""`LeasedGate`: leases blocks of a tenant's quotas from the API and admits calls on them without asking.

    gate = LeasedGate("http://127.0.0.1:8080", proxy_token)
    decision = gate.authorize(tenant_jwt, "gpt-5-mini", {"tokens": 5000, "cost": "0.02"})
    …make the call with decision.key, publish its usage with reservation=decision.reservation…
    gate.settle(decision, {"tokens": 1500, "cost": "0.004"})

A block is held in the ledger while it is out, so that a quota is never passed where estimates are upper bounds; what is
out and not used is what other proxies cannot have meanwhile.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import jwt

from tollhouse_client.decisions import Estimate, GateDecision, amount_of, decision_of, object_of, problem_of, units_of
from tollhouse_client.errors import GateRefusedError, GateUnavailableError
from tollhouse_client.gate_http import TRIES, ApiCalls
from tollhouse_client.lease_book import Lease, LeaseBook

__all__ = ["LeasedGate"]

BLOCK: Final[Estimate] = {"tokens": 100_000, "requests": 50, "cost": "1.00"}
CALLS: Final = 10
"""Where a single call is larger than the block, the block is for so many of its size."""
UNITS_MAX: Final = 10**15
"""A block of several calls is no larger: some thousands of the currency, or 10**15 tokens."""
LEASING_MAX: Final = 10_000
"""Pairs of tenant and model for which callers wait for one another; beyond it they are forgotten, and may ask twice."""
TTL_S: Final = 60
CALL_S: Final = 600
RENEW_S: Final = 1.0
"""Tokens in use are checked this often: with one more period a revocation is in force within two seconds."""
IDLE_S: Final = 10.0
"""A block that admitted nothing for this long goes back."""

_log = logging.getLogger("tollhouse_client")


@dataclass(slots=True)
class _Known:
    """A token that the API took for this model. checked_s, used_s: monotonic."""

    tenant: str
    expires_s: float
    limits: Mapping[str, int]
    labels: Mapping[str, str]
    checked_s: float
    used_s: float
    estimate: dict[str, int]
    """Of the last call: what the next block has to have room for."""


class LeasedGate:
    """Thread-safe. The first call of a tenant and model waits for a lease; after that a call waits only when the block
    is used up faster than the next one comes.

    url, token
        where the API is, and the token of this proxy.
    block
        what is leased at a time, by meter; more where single calls are large, less near a quota's limit.
    ttl_s, call_s
        a block admits calls for ttl_s unless it is renewed, and is held call_s longer for the calls on it. A crashed
        proxy's blocks go back by themselves after both.
    renew_s
        how often tokens and keys in use are checked again, in the background.

    With the API away, blocks that are out go on until their ttl_s is over; then GateUnavailableError.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        block: Estimate = BLOCK,
        ttl_s: int = TTL_S,
        call_s: int = CALL_S,
        renew_s: float = RENEW_S,
        timeout_s: float = 2.0,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.time,
        background: bool = True,
    ) -> None:
        self._api = ApiCalls(url, token, timeout_s=timeout_s, tries=tries, sleep=sleep)
        self._block = {meter: units_of(meter, amount) for meter, amount in block.items()}
        self._ttl_s, self._call_s, self._renew_s, self._now_s = ttl_s, call_s, renew_s, now_s
        self._lock = threading.Lock()
        self._leasing: dict[tuple[str, str], threading.Lock] = {}
        self._book = LeaseBook()
        self._known: dict[tuple[str, str], _Known] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tollhouse-leases", daemon=True)
        if background:
            self._thread.start()

    # --- calls --------------------------------------------------------------------------------------------------

    def authorize(self, token: str, model: str, estimate: Estimate | None = None) -> GateDecision:
        """Admit or refuse one call of the tenant whose JWT this is. A refusal is always the API's own answer.

        estimate: an upper bound by meter; what is left out counts as 0, requests as 1.
        """
        units = {"requests": 1} | {meter: units_of(meter, amount) for meter, amount in (estimate or {}).items()}
        decision = self._on_a_block(token, model, units)
        if decision is not None:
            return decision
        with self._lock:
            if len(self._leasing) > LEASING_MAX:
                self._leasing.clear()
            leasing = self._leasing.setdefault((_subject(token), model), threading.Lock())
        with leasing:  # one asks, the others find what it brought
            return self._on_a_block(token, model, units) or self._ask(token, model, units)

    def settle(self, decision: GateDecision, used: Estimate | None = None) -> None:
        """The call has ended and its usage was published: what of the estimate it did not use admits others.

        used: what it used by meter, as the provider reported it; a meter left out counts with its whole estimate. A
        call that is never settled counts with its whole estimate.
        """
        units = {meter: units_of(meter, amount) for meter, amount in (used or {}).items()}
        with self._lock:
            self._book.end(decision.ticket, units)

    def release(self, decision: GateDecision) -> None:
        """The call was not made, and no usage of it will come."""
        with self._lock:
            self._book.end(decision.ticket, None)

    @property
    def outstanding(self) -> dict[str, dict[str, Decimal | int]]:
        """By tenant and meter what is leased and given to no call: what others cannot have because of this gate."""
        found: dict[str, dict[str, int]] = {}
        with self._lock:
            for lease in self._book.leases():
                meters = found.setdefault(lease.tenant, {})
                for meter, units in lease.left.items():
                    meters[meter] = meters.get(meter, 0) + units
        return {
            tenant: {m: Decimal(amount_of(m, n)) if m == "cost" else n for m, n in meters.items()}
            for tenant, meters in found.items()
        }

    def close(self) -> None:
        """Give back what is left of every block. Calls that still run stay held, until their usage arrives."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            leases = list(self._book.leases())
        for lease in leases:
            self._give_back(lease)
        self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- deciding -----------------------------------------------------------------------------------------------

    def _on_a_block(self, token: str, model: str, units: dict[str, int]) -> GateDecision | None:
        known = self._known.get((token, model))
        if known is None:
            return None
        now_s = time.monotonic()
        if now_s - known.checked_s > 2 * self._renew_s or self._now_s() >= known.expires_s:
            return None
        if any(units.get(meter, 0) > most for meter, most in known.limits.items()):
            return None  # the API says so, with its reason
        with self._lock:
            known.used_s, known.estimate = now_s, units
            taken = self._book.take(known.tenant, model, units, self._now_s(), self._call_s)
        if taken is None:
            return None
        ticket, lease = taken
        return GateDecision(
            allowed=True,
            reason="ok",
            tenant=known.tenant,
            key=lease.key,
            reservation=lease.id,
            expires_at=lease.expires_at,
            labels=known.labels,
            ticket=ticket,
        )

    def _ask(self, token: str, model: str, units: dict[str, int]) -> GateDecision:
        """By way of the API: a token that it has not seen here, or a block that is used up."""
        if self._check(token, model) and (decision := self._on_a_block(token, model, units)) is not None:
            return decision
        refused = self._lease(token, model, units)
        if refused is not None and refused.reason in ("quota", "rate_limit") and self._give_up(refused.tenant, model):
            refused = self._lease(token, model, units)  # what was left of smaller blocks went back for this one
        if refused is not None:
            return refused
        decision = self._on_a_block(token, model, units)
        if decision is None:
            raise GateUnavailableError("a block was leased and is over already: are the clocks of gate and API right?")
        return decision

    def _check(self, token: str, model: str) -> bool:
        """Have a token checked on a block that is out for its tenant; whether it counts."""
        with self._lock:
            pool = self._book.pools.get((_subject(token), model))
            lease = pool[0] if pool else None
        return lease is not None and self._renew(token, lease)

    def _lease(self, token: str, model: str, units: dict[str, int]) -> GateDecision | None:
        """Lease a block that has room for the call; None when it is there, else the refusal."""
        most = {**self._block, **{m: _several(n) for m, n in units.items() if n > self._block.get(m, 0)}}
        body = {
            "token": token,
            "model": model,
            "amount": {meter: amount_of(meter, number) for meter, number in most.items()},
            "at_least": {meter: amount_of(meter, number) for meter, number in units.items()},
            "ttl_s": self._ttl_s,
            "call_s": self._call_s,
            "id": f"lease_{uuid.uuid4()}",
        }
        answer = self._api.ask("POST", "/v1/leases", body)
        said = object_of(answer)
        if "allowed" not in said:
            raise GateRefusedError(problem_of(answer, said))
        if said["allowed"] is not True:
            with self._lock:
                if said["reason"].startswith("token_"):
                    self._known.pop((token, model), None)
            return decision_of(said)
        lease = _lease_of(said, model)
        lease.used_s = self._now_s()
        with self._lock:
            self._book.add(lease)
            self._remember(token, model, said, units)
        return None

    def _remember(self, token: str, model: str, said: Mapping[str, Any], units: dict[str, int] | None = None) -> None:
        now_s = time.monotonic()
        before = self._known.get((token, model))
        used_s = now_s if before is None else before.used_s
        estimate = units or (before.estimate if before is not None else {"requests": 1})
        limits = {meter: units_of(meter, amount) for meter, amount in (said.get("limits") or {}).items()}
        self._known[token, model] = _Known(
            str(said["tenant"]), _expiry_s(token), limits, said.get("labels") or {}, now_s, used_s, estimate
        )

    # --- in the background --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(self._renew_s):
            try:
                self.tend()
            except Exception:  # noqa: BLE001 - the thread must not die with blocks out
                _log.exception("the gate's background thread met an unforeseen error, and goes on")

    def tend(self) -> None:
        """One round of what the background thread does: check tokens in use, lease ahead, give back what is idle."""
        now_s, wall_s = time.monotonic(), self._now_s()
        with self._lock:
            for ticket in self._book.overdue(wall_s):
                self._book.end(ticket, {})
            for mark in [m for m, k in self._known.items() if now_s - k.used_s > 2 * self._renew_s]:
                del self._known[mark]  # it is checked when it comes again
            used = [(token, model, known) for (token, model), known in self._known.items()]
        for token, model, known in used:
            with self._lock:
                pool = [lease for lease in self._book.pools.get((known.tenant, model), ()) if wall_s < lease.until_s]
            for number, lease in enumerate(pool):  # the first for the token's sake, the others for their own
                if number == 0 or lease.until_s - wall_s < self._ttl_s / 2:
                    self._in_background(partial(self._renew, token, lease), known)
            if pool and all(lease.low for lease in pool) and (token, model) in self._known:
                self._in_background(partial(self._lease, token, model, known.estimate))
        for lease in list(self._book.leases()):
            idle = not lease.calls and wall_s - lease.used_s > IDLE_S
            if idle or wall_s >= lease.until_s:
                self._in_background(partial(self._give_back, lease))

    def _in_background(self, work: Callable[[], object], known: _Known | None = None) -> None:
        try:
            work()
        except GateUnavailableError as error:
            _log.warning("leases cannot be tended: %s", error)
            if known is not None:
                known.checked_s = time.monotonic()  # nobody can say otherwise; the block's own time bounds it
        except GateRefusedError as error:
            _log.warning("leases cannot be tended: %s", error)

    def _renew(self, token: str, lease: Lease) -> bool:
        """Check the token and the block's key, and let calls begin for longer; False if they may not."""
        answer = self._api.ask(
            "POST", f"/v1/leases/{quote(lease.id, safe='')}/renew", {"token": token, "ttl_s": self._ttl_s}
        )
        said = object_of(answer)
        if "allowed" not in said and answer.status != 404:
            raise GateRefusedError(problem_of(answer, said))
        with self._lock:
            if said.get("allowed") is True:
                lease.until_s, lease.expires_s = _instant_s(said["until"]), _instant_s(said["expires_at"])
                lease.expires_at = str(said["expires_at"])
                self._remember(token, lease.model, said)
                return True
            self._known.pop((token, lease.model), None)
            if answer.status == 404 or said.get("reason") in ("key_unavailable", "unknown_tenant"):
                lease.until_s = 0.0  # it has ended, or its key may carry no more calls: they ask anew
            return False

    def _give_up(self, tenant: str, model: str) -> bool:
        """Give back the blocks of this tenant and model; whether there were any."""
        with self._lock:
            pool = list(self._book.pools.get((tenant, model), ()))
        for lease in pool:
            self._give_back(lease)
        return bool(pool)

    def _give_back(self, lease: Lease) -> None:
        """End a block: what its calls cannot use goes back to the quotas at once."""
        with self._lock:
            self._book.remove(lease)
            lease.until_s = 0.0
            spent = {meter: amount_of(meter, units) for meter, units in lease.spent.items()}
        body = {"tenant": lease.tenant, "spent": spent}
        try:
            answer = self._api.ask("POST", f"/v1/leases/{quote(lease.id, safe='')}/close", body)
        except GateUnavailableError as error:
            _log.warning("a block stays held until its time to live is over: %s", error)
            return
        if answer.status not in (204, 404):
            _log.warning("a block stays held until its time to live is over: %s", problem_of(answer, object_of(answer)))


def _several(units: int) -> int:
    return max(units, min(CALLS * units, UNITS_MAX))


def _lease_of(said: Mapping[str, Any], model: str) -> Lease:
    return Lease(
        id=str(said["reservation"]),
        tenant=str(said["tenant"]),
        key=said.get("key"),
        model=model,
        granted={meter: units_of(meter, amount) for meter, amount in said["granted"].items()},
        until_s=_instant_s(said["until"]),
        expires_s=_instant_s(said["expires_at"]),
        expires_at=str(said["expires_at"]),
    )


def _instant_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _claims(token: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return {}  # what it is, the API says
    return found


def _subject(token: str) -> str:
    """Whose token it says it is; only to find a block on which the API then checks it."""
    return str(_claims(token).get("sub") or "")


def _expiry_s(token: str) -> float:
    return float(_claims(token).get("exp") or 0)
