"""What the topics `quota.states` and `key.states` say, as a gate looks it up: tenants, keys, quotas, revoked tokens.

Every message is absolute and replaces what was known under its key; a clock says as of when all of it is known. No
input or output, no clock of its own, no lock: the gate has those. Units are whole numbers (see decisions), instants
microseconds of UTC.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from tollhouse_client.decisions import units_of

QUOTAS: Final = "quota.states"
KEYS: Final = "key.states"
CLOCK: Final = b"clock"
OPEN: Final = ("active", "throttled")
"""States of keys and tenants in which calls are admitted; a throttle's limits are quotas like others."""
TENANT: Final = "tenant:"
JTI: Final = "jti:"
SAMPLES_MAX: Final = 120
"""Looks at a quota's use that its rate is worked out from: a minute, at two in a second."""
MATCHES_MAX: Final = 100_000
SECOND_US: Final = 1_000_000
NEVER_US: Final = 2**62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True, eq=False)
class Quota:
    """A quota in its window, and what this gate has admitted in it that the ledger did not show yet (`own`).

    limit None: unlimited. key: of a throttle, the key that it is for. turn: grows when the window does.
    """

    scope: str
    name: str
    partition: int
    meter: str = ""
    models: str = "*"
    window: str = ""
    limit: int | None = None
    blocks: bool = True
    key: str | None = None
    start_us: int = 0
    end_us: int = 0
    used: int = 0
    reserved: int = 0
    version: int = -1
    told_us: int = 0
    own: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    """The part of `own` that is of ended calls, by when they ended."""
    turn: int = 0
    samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))

    def take(self, said: Mapping[str, Any]) -> None:
        """A message about it; what is older than what is known changes nothing."""
        start_us, version = micros(said["window_start"]), int(said["version"])
        if (start_us, version) < (self.start_us, self.version):
            return
        self.meter, self.models, self.window = said["meter"], said["models"], said["window"]
        self.limit = None if said["limit"] is None else units_of(self.meter, said["limit"])
        self.blocks, self.key = said["action"] == "block", said.get("key")
        if start_us > self.start_us:
            self._turn(start_us)
        self.end_us, self.version = micros(said["window_end"]), version
        self.used, self.reserved = _signed(self.meter, said["used"]), _signed(self.meter, said["reserved"])
        self.told_us = micros(said["at"])
        self.samples.append((self.told_us, self.used))

    def turn_over(self) -> None:
        """The window is over and the next was not told yet: it begins where this one ends, with nothing used."""
        self._turn(self.end_us)
        self.end_us = NEVER_US  # until it is told
        self.used = self.reserved = 0
        self.version = -1

    def _turn(self, start_us: int) -> None:
        self.start_us = start_us
        self.own = 0
        self.ended.clear()
        self.turn += 1
        self.samples.clear()

    def growth(self, over_us: int) -> int:
        """Units that this much time brings at the fastest growth of `used` that was told in this window, measured over
        a second at least."""
        most, first = 0, None
        for told_us, used in self.samples:
            if first is None:
                first = (told_us, used)
            elif told_us - first[0] >= SECOND_US:
                most = max(most, -(-(used - first[1]) * over_us // (told_us - first[0])))
                first = (told_us, used)
        return most


@dataclass(slots=True, eq=False)
class Key:
    """A provider key. quotas: its own."""

    id: str
    state: str
    provider: str
    kind: str
    tenant: str | None
    models: tuple[str, ...]
    told_us: int
    quotas: dict[str, Quota] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Tenant:
    """A tenant. quotas: its own, its plan's, and throttles. tokens_before_us: older tokens are revoked."""

    id: str
    state: str
    tier: str
    models: tuple[str, ...]
    tokens_before_us: int
    told_us: int
    quotas: dict[str, Quota] = field(default_factory=dict)


class Plan(NamedTuple):
    """What decides a tenant's call of a model. refused: the reason that needs no counter; then the rest is empty.

    quotas: of the tenant, on the use of every key. by_key: what counts on single keys besides: their own, throttles.
    """

    refused: str
    detail: str = ""
    keys: tuple[Key, ...] = ()
    quotas: tuple[Quota, ...] = ()
    by_key: Mapping[str, tuple[Quota, ...]] = {}


class StateBook:
    """Everything that was read."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.keys: dict[str, Key] = {}
        self.quotas: dict[str, dict[str, Quota]] = {}
        """By scope, then by name."""
        self.revoked: set[str] = set()
        self._expected: frozenset[tuple[str, int]] = frozenset()
        self._clocks: dict[tuple[str, int], int] = {}
        self._full: dict[tuple[str, int], int] = {}
        self._matches: dict[tuple[str, str], bool] = {}
        self._plans: dict[tuple[str, str, str | None, tuple[str, ...] | None], Plan] = {}
        self.known_us: int | None = None
        """Everything that was committed before this instant is known; None while not all was read."""

    def expect(self, places: frozenset[tuple[str, int]]) -> None:
        """All (topic, partition) that have to be read before it is complete."""
        self._expected = places
        self._know()

    def _know(self) -> None:
        complete = bool(self._expected) and self._expected <= self._clocks.keys()
        self.known_us = min(self._clocks[place] for place in self._expected) if complete else None

    # --- reading ------------------------------------------------------------------------------------------------

    def apply(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """One message. ValueError, KeyError or TypeError for what is none of ours: it changes nothing."""
        if key == CLOCK:
            if value is not None:
                self._tick(topic, partition, json.loads(value))
            return
        said = None if value is None else json.loads(value)
        if topic == QUOTAS:
            self._quota(partition, key.decode(), said)
        else:
            self._subject(key.decode(), said)

    def _tick(self, topic: str, partition: int, said: Mapping[str, Any]) -> None:
        place, full_us = (topic, partition), micros(said["full"])
        self._clocks[place] = max(micros(said["clock"]), self._clocks.get(place, 0))
        self._know()
        if full_us <= self._full.get(place, 0):
            return
        self._full[place] = full_us
        if topic == QUOTAS:
            for quota in [q for q in self._all_quotas() if q.partition == partition and q.told_us < full_us]:
                self._drop_quota(f"{quota.scope}/{quota.name}")
            return
        for tenant in [t for t in self.tenants.values() if t.told_us < full_us]:
            del self.tenants[tenant.id]
        for one in [k for k in self.keys.values() if k.told_us < full_us]:
            del self.keys[one.id]
        self._plans.clear()

    def _quota(self, partition: int, name: str, said: Mapping[str, Any] | None) -> None:
        if said is None:
            self._drop_quota(name)
            return
        scope = self.quotas.setdefault(said["scope"], {})
        known = scope.get(said["name"])
        quota = known or Quota(said["scope"], said["name"], partition)
        before = (quota.models, quota.key)
        quota.take(said)
        quota.told_us = max(quota.told_us, micros(said["at"]))
        if known is None or before != (quota.models, quota.key):
            scope[said["name"]] = quota
            self._plans.clear()

    def _drop_quota(self, name: str) -> None:
        self._plans.clear()
        for scope, quotas in self.quotas.items():
            if name.startswith(scope + "/") and quotas.pop(name[len(scope) + 1 :], None) is not None:
                return

    def _subject(self, name: str, said: Mapping[str, Any] | None) -> None:
        self._plans.clear()
        if name.startswith(JTI):
            if said is not None:
                self.revoked.add(name.removeprefix(JTI))
        elif name.startswith(TENANT):
            tenant = name.removeprefix(TENANT)
            if said is None or "tier" not in said:  # gone, or a tenant that the catalog no longer has
                self.tenants.pop(tenant, None)
                return
            before_us = micros(said["tokens_before"]) if "tokens_before" in said else 0
            self.tenants[tenant] = Tenant(
                tenant,
                said["state"],
                said["tier"],
                tuple(said["models"]),
                before_us,
                micros(said["at"]),
                self.quotas.setdefault(name, {}),
            )
        elif said is None or "kind" not in said:
            self.keys.pop(name, None)
        else:
            self.keys[name] = Key(
                name,
                said["state"],
                said["provider"],
                said["kind"],
                said.get("tenant"),
                tuple(said["models"]),
                micros(said["at"]),
                self.quotas.setdefault(f"key:{name}", {}),
            )

    def _all_quotas(self) -> Iterator[Quota]:
        for quotas in self.quotas.values():
            yield from quotas.values()

    # --- looking up ---------------------------------------------------------------------------------------------

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
        mark = (name, model, provider, models)
        found = self._plans.get(mark)
        if found is None:
            if len(self._plans) > MATCHES_MAX:
                self._plans.clear()
            found = self._plans[mark] = self._make_plan(name, model, provider, models)
        return found

    def _make_plan(self, name: str, model: str, provider: str | None, models: tuple[str, ...] | None) -> Plan:
        tenant = self.tenants.get(name)
        if tenant is None:
            return Plan("unknown_tenant")
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
        return Plan("", "", keys, tuple(quota for quota in counting if quota.key is None), by_key)

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


def micros(text: str) -> int:
    """An RFC 3339 instant in microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def _signed(meter: str, amount: str) -> int:
    """Units of a figure that corrections may have brought below zero."""
    return -units_of(meter, amount[1:]) if amount.startswith("-") else units_of(meter, amount)
