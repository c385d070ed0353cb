"""`LocalGate`: follows the state of quotas, keys and tenants and decides without asking anybody.

    gate = LocalGate("kafka.example:9092", url="http://127.0.0.1:8080")
    gate.wait_ready(30)
    decision = gate.authorize(tenant_jwt, "gpt-5-mini", {"tokens": 5000})
    …make the call with decision.key, publish its usage…
    gate.settle(decision, {"tokens": 1500})

What other proxies have admitted is known only once its usage is in the ledger. So a quota can be passed, by what the
others bring in that time: `bound` says how much that is at the fastest growth that was seen. Where a quota must not be
passed, take `LeasedGate` or `Gate`.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from tollhouse_client.bucket import MICROSECOND_NS, SECOND_NS, first_empty
from tollhouse_client.decisions import Estimate, GateDecision, admitted, amount_of, in_units, units_of
from tollhouse_client.errors import GateRefusedError, GateUnavailableError
from tollhouse_client.follower import Follower
from tollhouse_client.gate import allowance_of
from tollhouse_client.local_stats import LocalGateStats
from tollhouse_client.own_spend import OwnSpend
from tollhouse_client.quota_window import NEVER_US, SECOND_US, Quota, first_full
from tollhouse_client.state_book import Key, Plan, StateBook
from tollhouse_client.state_reading import KEYS, QUOTAS, ClockSaid, read_message
from tollhouse_client.tokens import TenantToken, TokenRefused, Tokens, fetch_keys

__all__ = ["LocalGate", "LocalGateStats"]

STALE_AFTER_S: Final = 10.0
"""The worker tells the time each second; a worker that starts again is there within this."""
SETTLE_S: Final = 5.0
"""From a call's end until its usage is in the ledger; usually below one second."""
CALL_S: Final = 600.0
SHORT: Final = ("minute", "hour")
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

_log = logging.getLogger("tollhouse_client")

KEYS_S: Final = 30.0
"""How often the tokens' keys are read anew."""


class LocalGate:
    """Thread-safe.

    bootstrap_servers, topic_prefix, kafka
        where the states are, and more settings for kafka-python's KafkaConsumer.
    url
        the API, from which the keys that tenants' tokens are signed with are read; None: only `decide` is used.
    stale_after_s, fail_mode
        when the last clock is older: `closed` raises GateUnavailableError; `open:N` admits up to N calls a tenant, by
        what was known last, until there is news again.
    settle_s
        a call that has ended counts here until a clock is this much younger than its end: by then its usage must be
        in the ledger. Choose it above the lag of worker and spool.
    call_s
        a call that is never settled counts as ended after this time.
    proxies
        how many gates share keys and tenants: of a key's requests and tokens a minute, and of `rate_limits`, each takes
        its part, and counts only its own calls.
    """

    def __init__(
        self,
        bootstrap_servers: str | None,
        *,
        topic_prefix: str = "",
        kafka: Mapping[str, Any] | None = None,
        url: str | None = None,
        issuer: str = "tollhouse",
        audience: str = "tollhouse",
        stale_after_s: float = STALE_AFTER_S,
        fail_mode: str = "closed",
        settle_s: float = SETTLE_S,
        call_s: float = CALL_S,
        proxies: int = 1,
        timeout_s: float = 2.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if proxies < 1:
            raise ValueError(f"proxies is {proxies}: give how many gates share keys and tenants, at least 1")
        self._allowance = allowance_of(fail_mode)
        self._prefix, self._now_us = topic_prefix, now_us
        self._stale_us = round(stale_after_s * SECOND_US)
        self._spend = OwnSpend(round(settle_s * SECOND_US), round(call_s * SECOND_US))
        self._book = StateBook(proxies)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._turns = itertools.count()
        self._opened: dict[str, int] = {}
        self._admitted = self._refused = self._fail_open = 0
        self._closing = threading.Event()
        self._tokens = Tokens(fetch_keys(url, timeout_s), issuer=issuer, audience=audience) if url is not None else None
        if self._tokens is not None:
            threading.Thread(target=self._keep_keys, name="tollhouse-keys", daemon=True).start()
        self._follower: Follower | None = None
        if bootstrap_servers is not None:
            names = [topic_prefix + QUOTAS, topic_prefix + KEYS]
            self._follower = Follower(bootstrap_servers, names, self.expect, self.take, kafka or {})
            self._thread = threading.Thread(target=self._follower.run, name="tollhouse-states", daemon=True)
            self._thread.start()

    # --- the follower's -----------------------------------------------------------------------------------------

    def expect(self, places: frozenset[tuple[str, int]]) -> None:
        """All (topic, partition) that have to be read before the gate is ready. For a follower of another kind."""
        with self._lock:
            self._book.expect(frozenset((topic.removeprefix(self._prefix), number) for topic, number in places))

    def take(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """One message of a topic, in its order; None: what was under the key is gone."""
        topic = topic.removeprefix(self._prefix)
        said = read_message(topic, key, value)  # before the lock: nobody waits for JSON
        with self._news:
            self._book.apply(topic, partition, said)
            known_us = self._book.known_us
            if known_us is not None:
                if self._opened and self._now_us() - known_us <= self._stale_us:
                    self._opened.clear()  # there is news: the allowance is full again
                self._news.notify_all()
        if known_us is not None and isinstance(said, ClockSaid):
            while self._piece_of_news(known_us):
                time.sleep(0)  # a caller who waits for the lock goes first

    def _piece_of_news(self, known_us: int) -> bool:
        with self._lock:
            return self._spend.news(known_us)

    # --- calls --------------------------------------------------------------------------------------------------

    def authorize(
        self, token: str, model: str, estimate: Estimate | None = None, *, provider: str | None = None
    ) -> GateDecision:
        """Admit or refuse one call of the tenant whose JWT this is; see `decide`."""
        if self._tokens is None:
            raise GateRefusedError("this gate has no url to read the tokens' keys from: give one, or use decide")
        try:
            claims = self._tokens.check(token, self._now_us())
            self._judge(claims)
        except TokenRefused as no:
            self._refused += 1
            return GateDecision(allowed=False, reason=no.reason, detail=no.detail)
        except ConnectionError as error:
            raise GateUnavailableError(f"{error}: is the API up?") from None
        units = in_units(estimate)
        for meter, most in claims.limits.items():
            if units.get(meter, 0) > most:
                self._refused += 1
                detail = f"the token allows {meter} up to a lower bound a call"
                return GateDecision(
                    allowed=False,
                    reason="quota",
                    tenant=claims.tenant,
                    quota=f"token:{meter}",
                    kind="budget",
                    detail=detail,
                )
        return self._decide(claims.tenant, model, units, provider, claims.models, claims.labels)

    def decide(
        self, tenant: str, model: str, estimate: Estimate | None = None, *, provider: str | None = None
    ) -> GateDecision:
        """Admit or refuse one call of a tenant that the proxy has made sure of itself.

        estimate: an upper bound by meter; what is left out counts as 0, requests as 1. provider: of the model; only
        needed where keys of several providers may carry it. GateUnavailableError as the fail mode says.
        """
        return self._decide(tenant, model, in_units(estimate), provider, None, _NO_LABELS)

    def settle(self, decision: GateDecision, used: Estimate | None = None) -> None:
        """The call has ended and its usage was published. used: what it used by meter; else its estimate counts on."""
        units = {meter: units_of(meter, amount) for meter, amount in (used or {}).items()}
        with self._lock:
            self._spend.end(decision.ticket, units, self._now_us())

    def release(self, decision: GateDecision) -> None:
        """The call was not made, and no usage of it will come."""
        with self._lock:
            self._spend.release(decision.ticket)

    # --- deciding -----------------------------------------------------------------------------------------------

    def _judge(self, claims: TenantToken) -> None:
        tenant = self._book.tenants.get(claims.tenant)
        revoked = tenant is not None and claims.issued_us < tenant.tokens_before_us
        if revoked or claims.jti in self._book.revoked:
            raise TokenRefused("token_revoked", "the token was revoked: get a new one")

    def _decide(
        self,
        name: str,
        model: str,
        units: dict[str, int],
        provider: str | None,
        models: tuple[str, ...] | None,
        labels: Mapping[str, str],
    ) -> GateDecision:
        now_us = self._now_us()
        with self._lock:
            book = self._book
            known_us = book.known_us
            stale = known_us is None or now_us - known_us > self._stale_us
            if stale:
                self._may_go_on(name, known_us)
            plan = book.plan(name, model, provider, models)
            if plan.refused:
                return self._no(plan.refused, name, plan.detail)
            full = first_full(plan.quotas, units, now_us)
            if full is not None:
                return self._spent(full, name, now_us)
            if not plan.plain:
                return self._on_some_key(name, plan, units, now_us, labels, stale=stale)
            key = plan.keys[next(self._turns) % len(plan.keys)]
            return self._yes(name, key, plan.quotas, units, now_us, labels, stale=stale)

    def _may_go_on(self, tenant: str, known_us: int | None) -> None:
        used = self._opened.get(tenant, 0)
        if known_us is None or used >= self._allowance:
            what = "not everything was read yet" if known_us is None else "the last news are too old"
            error = self._follower.last_error if self._follower is not None else None
            why = f" ({error})" if error else ""
            raise GateUnavailableError(f"{what}{why}: are broker and worker up?")
        self._opened[tenant] = used + 1

    def _on_some_key(
        self, name: str, plan: Plan, units: Mapping[str, int], now_us: int, labels: Mapping[str, str], *, stale: bool
    ) -> GateDecision:
        """The key that has most of its minute left, and of those without limits the next in turn, if it has room."""
        if now_us >= self._book.minute_end_us:
            self._book.turn_minute(now_us)
        empty = first_empty(plan.buckets, units, now_us) if plan.buckets else None
        if empty is not None:
            return self._too_fast(name, empty.name, empty.wait_ns(units, now_us))
        requests, tokens = units.get("requests", 0), units.get("tokens", 0)
        spent: Quota | None = None
        limit, wait_ns = "", 0
        for key in plan.in_order(next(self._turns)):
            own = plan.by_key.get(key.id, ())
            full = first_full(own, units, now_us) if own else None
            if full is not None:
                spent = full
                continue
            empty = first_empty(key.buckets, units, now_us) if key.buckets else None
            if empty is not None:
                limit, wait_ns = limit or empty.name, wait_ns or empty.wait_ns(units, now_us)
                continue
            too_fast = key.send(requests, tokens)
            if too_fast is None:
                for bucket in (*plan.buckets, *key.buckets):
                    bucket.draw(units, now_us)
                quotas = plan.quotas + own if own else plan.quotas
                return self._yes(name, key, quotas, units, now_us, labels, stale=stale)
            limit = limit or too_fast
            wait_ns = wait_ns or (self._book.minute_end_us - now_us) * MICROSECOND_NS
        if spent is not None:  # it lasts longer than a full minute
            return self._spent(spent, name, now_us)
        return self._too_fast(name, limit, wait_ns)

    def _too_fast(self, tenant: str, limit: str, wait_ns: int) -> GateDecision:
        self._refused += 1
        wait_s = max(1, -(-wait_ns // SECOND_NS))
        return GateDecision(
            allowed=False, reason="rate_limit", tenant=tenant, quota=limit, kind="rate", retry_after_s=wait_s
        )

    def _yes(
        self,
        name: str,
        key: Key,
        quotas: Sequence[Quota],
        units: Mapping[str, int],
        now_us: int,
        labels: Mapping[str, str],
        *,
        stale: bool,
    ) -> GateDecision:
        ticket = self._spend.begin(quotas, units, now_us)
        self._admitted += 1
        self._fail_open += stale
        return admitted(name, key.id, labels, ticket, fail_open=stale)

    def _no(self, reason: str, tenant: str, detail: str = "") -> GateDecision:
        self._refused += 1
        return GateDecision(allowed=False, reason=reason, tenant=tenant, detail=detail)

    def _spent(self, quota: Quota, tenant: str, now_us: int) -> GateDecision:
        self._refused += 1
        left_us = quota.end_us - now_us if quota.end_us != NEVER_US else SECOND_US
        return GateDecision(
            allowed=False,
            reason="quota",
            tenant=tenant,
            quota=quota.name,
            kind="rate" if quota.window in SHORT else "budget",
            retry_after_s=max(1, -(-left_us // SECOND_US)),
        )

    # --- figures ------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout_s: float) -> bool:
        """Until everything was read and is not stale; False when the time is over first. Reads the tokens' keys too."""
        with self._news:
            ready = self._news.wait_for(lambda: self._staleness_us() <= self._stale_us, timeout_s)
        if ready and self._tokens is not None:
            try:
                self._tokens.refresh()
            except ConnectionError:
                return False
        return ready

    @property
    def staleness_s(self) -> float:
        """How old the news are: everything committed before that is known. Infinite while not all was read."""
        with self._lock:
            stale_us = self._staleness_us()
        return float("inf") if stale_us >= NEVER_US else stale_us / SECOND_US

    def bound(self, tenant: str) -> dict[str, int | Decimal]:
        """By quota of the tenant: what it can be passed by, at most, if it does not grow faster than it did so far.

        That is the fastest growth that was told in its window, by all proxies together, times the lag (`stats`).
        """
        with self._lock:
            lag_us = self._lag_us()
            quotas = self._book.tenants[tenant].quotas.values() if tenant in self._book.tenants else ()
            found = {quota.name: (quota.meter, quota.growth(lag_us)) for quota in quotas}
        return {
            name: Decimal(amount_of(meter, units)) if meter == "cost" else units
            for name, (meter, units) in found.items()
        }

    @property
    def bound_tokens(self) -> int:
        """The largest bound of any quota on tokens."""
        with self._lock:
            lag_us = self._lag_us()
            tenants = self._book.tenants.values()
            quotas = [
                q for t in tenants for q in t.quotas.values() if q.meter not in ("cost", "requests") and q.samples
            ]
            return max((quota.growth(lag_us) for quota in quotas), default=0)

    def stats(self) -> LocalGateStats:
        """The figures of now."""
        bound = self.bound_tokens
        with self._lock:
            stale_us, lag_us = self._staleness_us(), self._lag_us()
            return LocalGateStats(
                ready=stale_us <= self._stale_us,
                staleness_s=float("inf") if stale_us >= NEVER_US else stale_us / SECOND_US,
                lag_s=float("inf") if lag_us >= NEVER_US else lag_us / SECOND_US,
                bound_tokens=bound,
                tenants=len(self._book.tenants),
                keys=len(self._book.keys),
                in_flight=self._spend.running,
                admitted=self._admitted,
                refused=self._refused,
                fail_open=self._fail_open,
                last_error=self._follower.last_error if self._follower is not None else None,
            )

    def _staleness_us(self) -> int:
        known_us = self._book.known_us
        return NEVER_US if known_us is None else max(0, self._now_us() - known_us)

    def _lag_us(self) -> int:
        """From an admission elsewhere until it is known here: a call's length, its settling, the age of the news."""
        return min(NEVER_US, self._spend.longest_us + self._spend.settle_us + self._staleness_us())

    def _keep_keys(self) -> None:
        assert self._tokens is not None  # the thread is only started with them
        while not self._closing.wait(KEYS_S):
            try:
                self._tokens.refresh(0.0)
            except ConnectionError as error:
                _log.warning("tokens are judged by the keys read last: %s", error)

    def close(self) -> None:
        """End the threads."""
        self._closing.set()
        if self._follower is not None:
            self._follower.stop()
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
