"""The double behind any transport: one request in, one answer out, all of it under a lock."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from tollhouse.stripe_double import credit_notes, forms, invoices, params, routes
from tollhouse.stripe_double.account import API_VERSION, Account, Obj, StoredAnswer
from tollhouse.stripe_double.errors import ApiError, ConnectionDropped, invalid
from tollhouse.stripe_double.events import delivery
from tollhouse.stripe_double.faults import Fault, Faults
from tollhouse.stripe_double.wire import encode

KEY_CHARS_MAX = 255
KEY_KEPT_S = 86_400


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON body, extra headers."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it was answered; status 0: the connection was dropped."""

    method: str
    path: str
    status: int
    key: str | None
    replayed: bool = False


class StripeDouble:
    """A stateful stand-in for Stripe's API. clock_s: whole Unix seconds.

    rate_per_s limits all requests together, as a sandbox does; None: no limit.
    """

    def __init__(self, clock_s: Callable[[], int] = lambda: int(time.time()), rate_per_s: int | None = None) -> None:
        self.account = Account(clock_s)
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.rate_per_s = rate_per_s
        self._window: tuple[int, int] = (0, 0)
        self._lock = RLock()

    # -- what tests and demonstrations do from outside ---------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        """Let time pass; keys and events age with it."""
        with self._lock:
            self.account.skew_s += seconds

    def prune_keys(self) -> None:
        """Forget all idempotency keys, as Stripe may after 24 hours."""
        with self._lock:
            self.account.keys.clear()

    def pay(self, invoice_id: str) -> None:
        """The customer pays on the hosted page."""
        with self._lock:
            invoices.pay(self.account, (invoice_id,), {"payment_method": "pm_card_visa"})

    def dispute(self, invoice_id: str) -> Obj:
        """The customer's bank disputes the payment."""
        with self._lock:
            return credit_notes.dispute(self.account, invoice_id)

    def deliveries(self, secret: str, since: int = 0) -> list[tuple[bytes, str]]:
        """(raw body, signature header) of each event from number `since` on, signed now."""
        with self._lock:
            return [delivery(event, secret, self.account.now_s()) for event in self.account.events[since:]]

    def invoices(self) -> list[Obj]:
        """All invoices, oldest first."""
        with self._lock:
            return list(self.account.objects.get("invoice", {}).values())

    def lines(self, invoice_id: str) -> list[Obj]:
        """The lines of an invoice."""
        with self._lock:
            return list(self.account.lines[invoice_id])

    # -- the API -----------------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, query: str, body: str, headers: Mapping[str, str]) -> Answer:
        """Answer one request; headers by lower-case name. ConnectionDropped: end the connection without an answer."""
        key = headers.get("idempotency-key") if method == "POST" else None
        with self._lock:
            try:
                answer = self._answer(method, path, query, body, headers, key)
            except ConnectionDropped:
                self.requests.append(Seen(method, path, 0, key))
                raise
            replayed = answer.headers.get("Idempotent-Replayed") == "true"
            self.requests.append(Seen(method, path, answer.status, key, replayed))
        return Answer(answer.status, answer.body, {**answer.headers, "Stripe-Version": API_VERSION})

    def _answer(
        self, method: str, path: str, query: str, body: str, headers: Mapping[str, str], key: str | None
    ) -> Answer:
        fault: Fault | None = None
        fingerprint = hashlib.sha256(f"{method} {path}\n{query}\n{body}".encode()).hexdigest()
        try:
            _authorise(headers)
            self._rate()
            fault = self.faults.draw(method, path)
            if fault is not None and fault.kind == "drop_before":
                raise ConnectionDropped
            replay = self._replay(key, fingerprint)
            if replay is not None:
                return replay
            if fault is not None and fault.kind == "status":
                raise _ordered(fault)
            answer = self._run(method, path, forms.decode(query or body))
        except ApiError as error:
            answer = Answer(error.status, encode(error.body), error.headers)
            if not error.stored:
                return answer
        if fault is not None and fault.kind == "status_after":
            late = _ordered(fault)
            answer = Answer(late.status, encode(late.body))
        stored = fault is None or fault.kind == "drop_after" or fault.stored
        if key is not None and stored:
            self.account.keys[key] = StoredAnswer(fingerprint, answer.status, answer.body, self.account.now_s())
        if fault is not None and fault.kind == "drop_after":
            raise ConnectionDropped
        return answer

    def _rate(self) -> None:
        if self.rate_per_s is None:
            return
        now_s = self.account.now_s()
        count = self._window[1] + 1 if self._window[0] == now_s else 1
        self._window = (now_s, count)
        if count > self.rate_per_s:
            limited = {"Stripe-Rate-Limited-Reason": "global-rate"}
            raise ApiError(
                429, "invalid_request_error", "Request rate limit exceeded.",
                code="rate_limit", stored=False, headers=limited,
            )  # fmt: skip

    def _replay(self, key: str | None, fingerprint: str) -> Answer | None:
        if key is None:
            return None
        if len(key) > KEY_CHARS_MAX:
            raise invalid("Idempotency keys have at most 255 characters.", stored=False)
        kept = self.account.keys.get(key)
        if kept is None or kept.at_s <= self.account.now_s() - KEY_KEPT_S:
            return None
        if kept.fingerprint != fingerprint:
            raise ApiError(
                400, "idempotency_error", "Keys for idempotent requests can only be used with the same parameters "
                "they were first used with.", stored=False,
            )  # fmt: skip
        return Answer(kept.status, kept.body, {"Idempotent-Replayed": "true"})

    def _run(self, method: str, path: str, tree: dict[str, Any]) -> Answer:
        found = routes.find(method, path)
        if found is None:
            raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).", stored=False)
        route, ids = found
        typed = params.check(route.params, tree)
        return Answer(200, encode(route.handler(self.account, ids, typed)))


def _authorise(headers: Mapping[str, str]) -> None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not token.startswith(("sk_test_", "rk_test_")):
        raise ApiError(401, "invalid_request_error", "The double takes sk_test_ and rk_test_ keys only.", stored=False)


def _ordered(fault: Fault) -> ApiError:
    kind = "invalid_request_error" if fault.status == 429 else "api_error"
    code = {429: "lock_timeout", 409: "idempotency_key_in_use"}.get(fault.status)
    return ApiError(fault.status, kind, f"Ordered fault {fault.status}.", code=code, stored=fault.stored)
