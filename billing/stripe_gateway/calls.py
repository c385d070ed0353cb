"""The one way to Stripe: pace, retries, and what an answer means.

The SDK's own retries are switched off: it re-sends a request under one key, and Stripe replays a stored 500 under that
key for 24 hours. So each write here has a numbered key. After no answer or a 500: a look-up, then the same key again.
Only an error that Stripe replays is known to be settled; if the look-up finds nothing, the next number does the work.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import SystemRandom
from threading import Lock
from typing import Any, Final, TypeVar

import stripe

from billing.stripe_gateway.store import PushStore

T = TypeVar("T")

TRIES_MAX: Final = 8
"""With the longest waits about two minutes: beyond that a person should know."""
PAGE: Final = 100
"""The largest page that Stripe gives."""
_WAIT_FIRST_MS: Final = 500
_WAIT_MAX_MS: Final = 30_000


class Refused(Exception):
    """Stripe, or we, will not do it; trying again changes nothing. reason is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Declined(Refused):
    """The customer's payment method was declined: reported, never retried here."""


class Unreachable(Exception):
    """No usable answer after all tries. What exists is looked up by the next run."""


class Gone(Refused):
    """The object does not exist (any more)."""


class _NoAnswer(Exception):
    """Nobody knows whether it was done."""


class _Busy(Exception):
    """Not done: asked too fast, or a request with the same key is still in work. wait_ms: what Stripe asks for."""

    def __init__(self, message: str, wait_ms: int = 0) -> None:
        super().__init__(message)
        self.wait_ms = wait_ms


class _Settled(Exception):
    """The key is used up: it replays an error. The request is over; the work may have been done or not."""


@dataclass(slots=True)
class Pace:
    """At most per_s requests a second over all threads; sleep and monotonic are the process's own unless given."""

    per_s: int = 20
    sleep: Callable[[float], None] = time.sleep
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    random: Callable[[], float] = SystemRandom().random
    _next_ns: int = 0
    _lock: Lock = field(default_factory=Lock)

    def turn(self) -> None:
        """Wait for the next free slot."""
        with self._lock:
            now = self.monotonic_ns()
            at = max(now, self._next_ns)
            self._next_ns = at + 1_000_000_000 // self.per_s
        if at > now:
            self.sleep((at - now) / 1e9)

    def back_off(self, tries: int, at_least_ms: int = 0) -> None:
        """Wait between half and all of 0.5 s, 1 s, 2 s, ... 30 s: spread, so that many clients do not come at once."""
        full = min(_WAIT_MAX_MS, _WAIT_FIRST_MS << tries)
        self.sleep(max(at_least_ms, full * (0.5 + self.random() / 2)) / 1000)


class Caller:
    """Makes requests for the gateway and counts them."""

    def __init__(self, store: PushStore, pace: Pace) -> None:
        self.store = store
        self.pace = pace
        self.requests = 0

    def read(self, call: Callable[[stripe.RequestOptions], T]) -> T:
        """A request that changes nothing, tried until it is answered. Gone, Refused, Unreachable."""
        for tries in range(TRIES_MAX):
            try:
                return self._call(call, None)
            except (_NoAnswer, _Settled) as error:
                problem: Exception = error
                self.pace.back_off(tries)
            except _Busy as error:
                problem = error
                self.pace.back_off(tries, error.wait_ms)
        raise Unreachable(f"Stripe did not answer in {TRIES_MAX} tries: {problem}")

    def pages(self, fetch: Callable[[Any, stripe.RequestOptions], Any]) -> Iterator[Any]:
        """All objects of a list, page by page of the largest size. fetch: (paging parameters, options) -> page."""
        paging: dict[str, Any] = {"limit": PAGE}
        while True:
            now = paging
            page = self.read(lambda options: fetch(now, options))  # noqa: B023 - called before the loop goes on
            yield from page.data
            if not page.has_more or not page.data:
                return
            paging = {"limit": PAGE, "starting_after": page.data[-1].id}

    def once(
        self,
        step: str,
        find: Callable[[], T | None],
        make: Callable[[stripe.RequestOptions], T],
        *,
        can_look: bool = True,
    ) -> T:
        """A request that must happen once: mark the attempt, make it, and after any doubt look up before going on.

        step: the idempotency key without its number, and the key of the mark. find gives what exists, or None.
        can_look off: Stripe does not show whether it was done, so find says nothing, and a replayed success is one.
        """
        mark = f"step/{step}"
        kept = self.store.get(mark)
        number = int(kept["attempt"]) if kept else 1
        if kept:
            found = find()  # an earlier run tried, and may have been cut off after Stripe had done it
            if found is not None:
                return found
        else:
            self.store.put(mark, {"attempt": str(number)})
        for tries in range(TRIES_MAX):
            wait_ms = 0
            try:
                made = self._call(make, f"{step}:a{number}")
                if not (can_look and _replayed(made)):
                    return made
                # A success of before, told again: what it made may since have been deleted by somebody.
                problem: Exception = _Settled("made before, and gone since")
                number += 1
            except _Settled as error:
                problem = error
                number += 1
            except _Busy as error:
                problem, wait_ms = error, error.wait_ms
            except _NoAnswer as error:
                problem = error
            self.pace.back_off(tries, wait_ms)
            found = find()
            if found is not None:
                return found
            self.store.put(mark, {"attempt": str(number)})
        raise Unreachable(f"Stripe did not do it in {TRIES_MAX} tries: {problem}")

    def _call(self, call: Callable[[stripe.RequestOptions], T], key: str | None) -> T:
        self.pace.turn()
        self.requests += 1
        options: stripe.RequestOptions = {"max_network_retries": 0}
        if key is not None:
            options["idempotency_key"] = key
        try:
            return call(options)
        except stripe.StripeError as error:
            raise _meaning(error) from error


def _replayed(made: Any) -> bool:
    """Whether a success came out of the idempotency store."""
    answer = getattr(made, "last_response", None)
    headers = {} if answer is None else {str(name).lower(): str(value) for name, value in answer.headers.items()}
    return headers.get("idempotent-replayed") == "true"


def _meaning(error: stripe.StripeError) -> Exception:
    """What an error of the SDK means for the next step."""
    headers = {str(name).lower(): str(value) for name, value in dict(error.headers or {}).items()}
    replayed = headers.get("idempotent-replayed") == "true"
    message = error.user_message or str(error)
    status = error.http_status
    if isinstance(error, stripe.CardError):
        return Declined(str(error.code or "card_error"), message)
    if replayed or isinstance(error, stripe.IdempotencyError):
        return _Settled(message)
    if status in (409, 429):
        after = headers.get("retry-after", "")
        return _Busy(message, int(after) * 1000 if after.isdigit() else 0)
    if isinstance(error, stripe.APIConnectionError) or status is None or status >= 500:
        return _NoAnswer(message)  # an answer from a machine in between says nothing about the work itself
    if status in (401, 403):
        return Refused("credentials", f"{message} (check STRIPE_SECRET_KEY and the permissions of a restricted key)")
    if status == 404:
        return Gone("not_found", message)
    return Refused(str(error.code or "invalid_request"), message)


def metadata_of(found: stripe.Invoice | stripe.InvoiceLineItem | stripe.CreditNote) -> dict[str, str]:
    """The metadata as a plain dict."""
    return found.metadata.to_dict() if found.metadata else {}
