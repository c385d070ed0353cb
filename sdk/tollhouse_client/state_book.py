"""What the topics `quota.states` and `key.states` say, as a gate looks it up: tenants, keys, quotas, revoked tokens.

Every message is absolute and replaces what was known under its key; a clock says as of when all of it is known. No
input or output, no clock of its own, no lock: the gate has those. Units are whole numbers (see decisions), instants
microseconds of UTC. What a decision looks at is worked out when it is told: a decision reads few objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, Final, NamedTuple

from tollhouse_client.bucket import Bucket, buckets_of
from tollhouse_client.quota_window import Quota
from tollhouse_client.state_reading import (
    QUOTAS,
    TENANT,
    ClockSaid,
    GoneSaid,
    KeySaid,
    QuotaSaid,
    RateLimit,
    RevokedSaid,
    Said,
    TenantSaid,
)

OPEN: Final = ("active", "throttled")
"""States of keys and tenants in which calls are admitted; a throttle's limits are quotas like others."""
MATCHES_MAX: Final = 100_000
PLANS_MAX: Final = 256
"""Models of one tenant whose plans are kept: a tenant that makes up names only loses its own."""
MINUTE_US: Final = 60_000_000
_SHARE: Final = attrgetter("share")


@dataclass(slots=True, eq=False)
class Key:
    """A provider key, its own quotas and buckets, and what this gate has sent by it in the current minute.

    requests_limit, tokens_limit: this gate's part of what the provider takes in a minute; None: anything. share: of
    the fuller limit, what was sent, in parts of a million.
    """

    id: str
    quotas: dict[str, Quota]
    state: str = ""
    provider: str = ""
    kind: str = ""
    tenant: str | None = None
    models: tuple[str, ...] = ()
    told_us: int = 0
    limits: tuple[Any, ...] = ()
    """Of the provider, and of the buckets, as they were told."""
    buckets: tuple[Bucket, ...] = ()
    requests_limit: int | None = None
    tokens_limit: int | None = None
    requests: int = 0
    tokens: int = 0
    share: int = 0

    def send(self, requests: int, tokens: int) -> str | None:
        """A call goes by it, which is not given back: at the provider the minute passes by itself. Or the name of the
        provider's limit that has no room for it."""
        by_requests, by_tokens = self.requests_limit, self.tokens_limit
        requests, tokens = self.requests + requests, self.tokens + tokens
        if by_requests is not None and requests > by_requests:
            return "provider-requests"
        if by_tokens is not None and tokens > by_tokens:
            return "provider-tokens"
        self.requests, self.tokens = requests, tokens
        self.weigh()
        return None

    def weigh(self) -> None:
        """Work out `share` anew."""
        by_requests, by_tokens = self.requests_limit, self.tokens_limit
        share = 0 if by_requests is None else self.requests * 1_000_000 // max(1, by_requests)
        self.share = share if by_tokens is None else max(share, self.tokens * 1_000_000 // max(1, by_tokens))


@dataclass(slots=True, eq=False)
class Tenant:
    """A tenant. quotas: its own, its plan's, and throttles. tokens_before_us: older tokens are revoked. limits: of its
    buckets, as they were told."""

    id: str
    quotas: dict[str, Quota]
    state: str = ""
    tier: str = ""
    models: tuple[str, ...] = ()
    tokens_before_us: int = 0
    told_us: int = 0
    limits: tuple[RateLimit, ...] = ()
    buckets: tuple[Bucket, ...] = ()


class Plan(NamedTuple):
    """What decides a tenant's call of a model. refused: the reason that needs no counter; then the rest is empty.

    quotas: of the tenant, on the use of every key. by_key: what counts on single keys besides: their own, throttles.
    limited: some key has limits of its provider. buckets: of the tenant. plain: whichever key is next may carry it.
    """

    refused: str
    detail: str = ""
    keys: tuple[Key, ...] = ()
    quotas: tuple[Quota, ...] = ()
    by_key: Mapping[str, tuple[Quota, ...]] = {}
    limited: bool = False
    buckets: tuple[Bucket, ...] = ()
    plain: bool = True

    def in_order(self, turn: int) -> Sequence[Key]:
        """Keys: the one with most of its minute left first; without limits, another one with each turn."""
        if self.limited:
            return sorted(self.keys, key=_SHARE)
        first = turn % len(self.keys)
        return (*self.keys[first:], *self.keys[:first])


Mark = tuple[str, str | None, tuple[str, ...] | None]
"""Model, provider, and what the tenant's token allows."""


class StateBook:
    """Everything that was read. proxies: how many gates share the provider keys' limits."""

    def __init__(self, proxies: int = 1) -> None:
        self._proxies = proxies
        self.tenants: dict[str, Tenant] = {}
        self.keys: dict[str, Key] = {}
        self.quotas: dict[str, dict[str, Quota]] = {}
        """By scope, then by name."""
        self.revoked: set[str] = set()
        self.minute_end_us = 0
        """Of the minute in which keys count what was sent."""
        self._expected: frozenset[tuple[str, int]] = frozenset()
        self._clocks: dict[tuple[str, int], int] = {}
        self._full: dict[tuple[str, int], int] = {}
        self._matches: dict[tuple[str, str], bool] = {}
        self._plans: dict[str, dict[Mark, Plan]] = {}
        """By tenant."""
        self.known_us: int | None = None
        """Everything that was committed before this instant is known; None while not all was read."""

    def expect(self, places: frozenset[tuple[str, int]]) -> None:
        """All (topic, partition) that have to be read before it is complete."""
        self._expected = places
        self._know()

    def _know(self) -> None:
        complete = bool(self._expected) and self._expected <= self._clocks.keys()
        self.known_us = min(self._clocks[place] for place in self._expected) if complete else None

    # --- taking in ----------------------------------------------------------------------------------------------

    def apply(self, topic: str, partition: int, said: Said) -> None:
        """One message, read."""
        if isinstance(said, ClockSaid):
            self._tick(topic, partition, said)
        elif isinstance(said, QuotaSaid):
            self._quota(partition, said)
        elif isinstance(said, TenantSaid):
            self._tenant(said)
        elif isinstance(said, KeySaid):
            self._key(said)
        elif isinstance(said, RevokedSaid):
            self.revoked.add(said.jti)
        elif isinstance(said, GoneSaid):
            self._gone(topic, said.name)

    def _tick(self, topic: str, partition: int, said: ClockSaid) -> None:
        place = (topic, partition)
        self._clocks[place] = max(said.clock_us, self._clocks.get(place, 0))
        self._know()
        if said.full_us <= self._full.get(place, 0):
            return
        self._full[place] = said.full_us
        if topic == QUOTAS:
            for quota in [q for q in self._all_quotas() if q.partition == partition and q.told_us < said.full_us]:
                self._drop_quota(f"{quota.scope}/{quota.name}")
            return
        for tenant in [t for t in self.tenants.values() if t.told_us < said.full_us]:
            self._gone(topic, TENANT + tenant.id)
        for one in [k for k in self.keys.values() if k.told_us < said.full_us]:
            self._gone(topic, one.id)

    def _quota(self, partition: int, said: QuotaSaid) -> None:
        scope = self.quotas.setdefault(said.scope, {})
        known = scope.get(said.name)
        quota = known or Quota(said.scope, said.name, partition)
        before = (quota.models, quota.key)
        quota.take(said)
        quota.told_us = max(quota.told_us, said.told_us)
        if known is None or before != (quota.models, quota.key):
            scope[said.name] = quota
            self._replan(said.scope)

    def _gone(self, topic: str, name: str) -> None:
        if topic == QUOTAS:
            self._drop_quota(name)
        elif name.startswith(TENANT):
            self.tenants.pop(name.removeprefix(TENANT), None)
            self._replan(name)
        elif self.keys.pop(name, None) is not None:
            self._plans.clear()

    def _drop_quota(self, name: str) -> None:
        for scope, quotas in self.quotas.items():
            if name.startswith(scope + "/") and quotas.pop(name[len(scope) + 1 :], None) is not None:
                self._replan(scope)
                return

    def _replan(self, scope: str) -> None:
        """What is told again and again changes no plan; what changes one tenant leaves the others theirs."""
        if scope.startswith(TENANT):
            self._plans.pop(scope.removeprefix(TENANT), None)
        else:
            self._plans.clear()

    def _tenant(self, said: TenantSaid) -> None:
        name = TENANT + said.id
        tenant = self.tenants.get(said.id)
        if tenant is None:
            tenant = self.tenants[said.id] = Tenant(said.id, self.quotas.setdefault(name, {}))
        if (tenant.state, tenant.tier, tenant.models) != said.facts:
            tenant.state, tenant.tier, tenant.models = said.facts
            self._replan(name)
        if tenant.limits != said.limits:
            tenant.limits, tenant.buckets = said.limits, buckets_of(said.limits, tenant.buckets, self._proxies)
            self._replan(name)
        tenant.tokens_before_us, tenant.told_us = said.tokens_before_us, said.told_us

    def _key(self, said: KeySaid) -> None:
        key = self.keys.get(said.id)
        if key is None:
            key = self.keys[said.id] = Key(said.id, self.quotas.setdefault(f"key:{said.id}", {}))
        if (key.state, key.provider, key.kind, key.tenant, key.models) != said.facts:
            key.state, key.provider, key.kind, key.tenant, key.models = said.facts
            self._plans.clear()
        if key.limits != said.limits:
            key.limits = said.limits
            key.requests_limit, key.tokens_limit = (self._part(limit) for limit in said.limits[:2])
            key.buckets = buckets_of(said.limits[2], key.buckets, self._proxies)
            key.weigh()
            self._plans.clear()
        key.told_us = said.told_us

    def _part(self, limit: int | None) -> int | None:
        """Of a limit of 0, with which nothing passes, also no call that estimates nothing: -1."""
        if limit is None:
            return None
        return max(1, limit // self._proxies) if limit else -1

    def _all_quotas(self) -> Iterator[Quota]:
        for quotas in self.quotas.values():
            yield from quotas.values()

    # --- looking up ---------------------------------------------------------------------------------------------

    def turn_minute(self, now_us: int) -> None:
        """Another minute: nothing was sent in it yet by any key."""
        self.minute_end_us = now_us - now_us % MINUTE_US + MINUTE_US
        for key in self.keys.values():
            key.requests = key.tokens = key.share = 0

    def matches(self, pattern: str, model: str) -> bool:
        """Whether a pattern of model names (gpt-5*, alternatives divided by |) means the model."""
        found = self._matches.get((pattern, model))
        if found is None:
            if len(self._matches) > MATCHES_MAX:
                self._matches.clear()
            found = any(fnmatchcase(model, one) for one in pattern.split("|"))
            self._matches[pattern, model] = found
        return found

    def allows(self, patterns: tuple[str, ...], model: str) -> bool:
        """Whether one of the patterns means the model."""
        return any(self.matches(pattern, model) for pattern in patterns)

    def plan(self, name: str, model: str, provider: str | None, models: tuple[str, ...] | None) -> Plan:
        """What decides this call. models: what the tenant's token allows, over and above the catalog; None: all."""
        mark = (model, provider, models)
        plans = self._plans.get(name)
        found = plans.get(mark) if plans is not None else None
        if found is None:
            tenant = self.tenants.get(name)
            if tenant is None:
                return _UNKNOWN
            if plans is None or len(plans) >= PLANS_MAX:
                plans = self._plans[name] = {}
            found = plans[mark] = self._make_plan(tenant, model, provider, models)
        return found

    def _make_plan(self, tenant: Tenant, model: str, provider: str | None, models: tuple[str, ...] | None) -> Plan:
        if not self.allows(tenant.models, model) or (models is not None and not self.allows(models, model)):
            return Plan("model_not_allowed")
        keys = self._candidates(tenant, model, provider) if tenant.state in OPEN else ()
        if not keys:
            return Plan("key_unavailable")
        if keys[0].provider != keys[-1].provider:
            return Plan("key_unavailable", "keys of several providers may carry this model: say which provider")
        counting = [quota for quota in tenant.quotas.values() if self.matches(quota.models, model)]
        by_key = {}
        for key in keys:
            own = [quota for quota in key.quotas.values() if self.matches(quota.models, model)]
            own += [quota for quota in counting if quota.key == key.id]
            if own:
                by_key[key.id] = tuple(own)
        limited = any(key.requests_limit is not None or key.tokens_limit is not None for key in keys)
        quotas = tuple(quota for quota in counting if quota.key is None)
        plain = not (limited or by_key or tenant.buckets or any(key.buckets for key in keys))
        return Plan("", "", keys, quotas, by_key, limited, tenant.buckets, plain)

    def _candidates(self, tenant: Tenant, model: str, provider: str | None) -> tuple[Key, ...]:
        """Open keys that may carry the tenant's call, by provider and name: pooled for a standard tenant, its own for a
        BYOK one."""
        return tuple(
            key
            for key in sorted(self.keys.values(), key=lambda key: (key.provider, key.id))
            if key.state in OPEN
            and (provider is None or key.provider == provider)
            and self.allows(key.models, model)
            and (key.kind == "pooled" if tenant.tier == "standard" else key.tenant == tenant.id)
        )


_UNKNOWN: Final = Plan("unknown_tenant")
