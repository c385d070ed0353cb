"""The sections about who: the seller, tenants with their plans over time, and provider keys."""

from collections.abc import Collection
from typing import Final

from pipeline.catalog.fields import At, Fields
from pipeline.catalog.plans import check_ascending, read_quotas
from pipeline.redact import redact_text
from schemas.catalog import Key, Party, PlanAssignment, RateLimit, Tenant, TenantBilling
from schemas.tokens import METERS

TIERS: Final = ("standard", "byok")
KEY_KINDS: Final = ("pooled", "byok")
COLLECTIONS: Final = ("send_invoice", "charge_automatically")

PARTY_FIELDS: Final = ("name", "address", "country", "tax_id", "email")
BILLING_FIELDS: Final = (
    "email", "address", "country", "tax_id", "stripe_customer", "collection", "days_until_due", "reverse_charge",
)  # fmt: skip
TENANT_FIELDS: Final = ("name", "tier", "plan", "timezone", "currency", "models", "billing", "quotas", "rate_limits")
KEY_FIELDS: Final = (
    "provider", "kind", "tenant", "provider_key_id", "requests_per_minute", "tokens_per_minute", "models", "quotas",
    "rate_limits",
)  # fmt: skip

RATE_LIMIT_FIELDS: Final = ("meter", "per_minute", "burst")
RATE_METERS: Final = tuple(meter for meter in METERS if meter != "cost")
RATE_MAX: Final = 10**9
"""Units a minute, and in a bucket: more than any provider allows, and no bucket takes longer than 32 years to fill."""

_NAMES_ONLY: Final = (
    "looks like a secret: a catalog names keys and never holds them; revoke it, and write the provider's id"
)

DAYS_UNTIL_DUE: Final = 30
"""Terms of payment where a tenant names none; the longest are a leap year."""
DAYS_UNTIL_DUE_MAX: Final = 366


def read_party(fields: Fields, at: At | None) -> Party:
    """The seller, as invoices name it."""
    if at is None:
        return Party()
    found = fields.mapping(at, PARTY_FIELDS)
    return Party(
        name=fields.text(found.get("name")),
        address=fields.text(found.get("address")),
        country=fields.country(found.get("country")),
        tax_id=fields.text(found.get("tax_id")),
        email=fields.text(found.get("email")),
    )


def read_tenants(fields: Fields, at: At | None, plans: Collection[str], currency: str) -> dict[str, Tenant]:
    """Tenants by id. plans: the ids they may name; currency: theirs where they name none."""
    return {key: _tenant(fields, key, place, plans, currency) for key, place in fields.entries(at).items()}


def _tenant(fields: Fields, key: str, at: At, plans: Collection[str], currency: str) -> Tenant:
    found = {} if at.node.value is None else fields.mapping(at, TENANT_FIELDS)
    timezone = fields.timezone(found.get("timezone"))
    return Tenant(
        id=key,
        name=fields.name(found.get("name"), key),
        tier=fields.choice(found.get("tier"), TIERS, "standard"),
        plans=_assignments(fields, found.get("plan"), plans, timezone),
        timezone=timezone,
        currency=fields.currency(found.get("currency"), currency),
        models=fields.globs(found.get("models")),
        billing=_billing(fields, found.get("billing")),
        quotas=read_quotas(fields, found.get("quotas")),
        rate_limits=_rate_limits(fields, found.get("rate_limits")),
    )


def _rate_limits(fields: Fields, at: At | None) -> tuple[RateLimit, ...]:
    """Token buckets, one for a meter. burst: what a bucket holds; unless told, a minute's worth."""
    limits: list[RateLimit] = []
    named: list[tuple[str, At]] = []
    for place in fields.items(at):
        found = fields.mapping(place, RATE_LIMIT_FIELDS)
        meter = fields.choice(fields.required(place, found, "meter", "requests"), RATE_METERS, "requests")
        per_minute = fields.integer(fields.required(place, found, "per_minute", "60"), least=1, most=RATE_MAX)
        burst = fields.integer(found.get("burst"), least=1, most=RATE_MAX)
        named.append((meter, place))
        if per_minute is not None:
            limits.append(RateLimit(meter, per_minute, per_minute if burst is None else burst))
    fields.unique(named, "a rate limit of this meter")
    return tuple(limits)


def _assignments(fields: Fields, at: At | None, plans: Collection[str], timezone: str) -> tuple[PlanAssignment, ...]:
    """One plan since ever, or a dated list; dates are midnights of the tenant's zone."""
    if at is None:
        return ()
    if not isinstance(at.node.value, list):
        plan = fields.reference(at, plans, "plan")
        return (PlanAssignment(plan),) if plan is not None else ()
    assignments: list[PlanAssignment] = []
    dated: list[tuple[int | None, At]] = []
    for place in fields.items(at):
        found = fields.mapping(place, ("plan", "from"))
        plan = fields.reference(fields.required(place, found, "plan", "team"), plans, "plan")
        from_us = fields.instant(found.get("from"), timezone)
        dated.append((from_us, place))
        if plan is not None:
            assignments.append(PlanAssignment(plan, from_us))
    check_ascending(fields, dated)
    return tuple(assignments)


def _billing(fields: Fields, at: At | None) -> TenantBilling:
    if at is None:
        return TenantBilling()
    found = fields.mapping(at, BILLING_FIELDS)
    days = fields.integer(found.get("days_until_due"), most=DAYS_UNTIL_DUE_MAX)
    return TenantBilling(
        email=fields.text(found.get("email")),
        address=fields.text(found.get("address")),
        country=fields.country(found.get("country")),
        tax_id=fields.text(found.get("tax_id")),
        stripe_customer=fields.name(found.get("stripe_customer")) or None,
        collection=fields.choice(found.get("collection"), COLLECTIONS, "send_invoice"),
        days_until_due=days if days is not None else DAYS_UNTIL_DUE,
        reverse_charge=fields.flag(found.get("reverse_charge")),
    )


def read_keys(fields: Fields, at: At | None, tenants: Collection[str]) -> dict[str, Key]:
    """Provider keys by id: pooled ones belong to nobody, own (byok) ones to a tenant."""
    keys: dict[str, Key] = {}
    for key, place in fields.entries(at).items():
        if _is_secret(key):
            fields.error(At(place.node, "keys"), f"the name of a key {_NAMES_ONLY}")
        else:
            keys[key] = _key(fields, key, place, tenants)
    return keys


def _is_secret(text: str) -> bool:
    """Whether the text has a form that providers give their secrets; an id of a key (key_…) is none."""
    return not text.lower().startswith("key") and redact_text(text)[1]


def _key(fields: Fields, key: str, at: At, tenants: Collection[str]) -> Key:
    found = fields.mapping(at, KEY_FIELDS)
    kind = fields.choice(fields.required(at, found, "kind", "pooled"), KEY_KINDS, "")
    tenant = fields.reference(found.get("tenant"), tenants, "tenant")
    if kind == "pooled" and "tenant" in found:
        fields.error(found["tenant"], "a pooled key belongs to no tenant: remove tenant, or make it kind: byok")
    if kind == "byok":
        fields.required(at, found, "tenant", "the id of its owner")
    key_id = fields.name(found.get("provider_key_id"))
    if _is_secret(key_id):
        fields.error(found["provider_key_id"], _NAMES_ONLY)
    return Key(
        id=key,
        provider=fields.name(fields.required(at, found, "provider", "openai")),
        kind=kind,
        tenant=tenant,
        provider_key_id=key_id or None,
        requests_per_minute=fields.integer(found.get("requests_per_minute")),
        tokens_per_minute=fields.integer(found.get("tokens_per_minute")),
        models=fields.globs(found.get("models")),
        quotas=read_quotas(fields, found.get("quotas")),
        rate_limits=_rate_limits(fields, found.get("rate_limits")),
    )
