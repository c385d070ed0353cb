"""The catalog: tenants, keys, plans, prices, credits, taxes, as one immutable value (contract, section 3).

Amounts are exact Decimals, instants UTC microseconds, dates already resolved in the right zone. A catalog is applied
as a whole; prices and plans change by a later dated entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.instants import HOUR_US


@dataclass(frozen=True, slots=True)
class Party:
    """Who sells or buys, as an invoice names them."""

    name: str = ""
    address: str = ""
    country: str = ""
    tax_id: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class TenantBilling:
    """How a tenant is billed. collection: send_invoice or charge_automatically."""

    email: str = ""
    address: str = ""
    country: str = ""
    tax_id: str = ""
    stripe_customer: str | None = None
    collection: str = "send_invoice"
    days_until_due: int = 30
    reverse_charge: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on one meter over one calendar window. limit None is unlimited, 0 blocks; action: block or alert.

    alert_at: shares of the limit at which an alert is raised, 0 to 1 and above, ascending.
    """

    name: str
    meter: str
    limit: Decimal | None
    window: str
    action: str = "block"
    models: str = "*"
    alert_at: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: it holds `burst` units of the meter and fills at `per_minute`; requests, or a token meter."""

    meter: str
    per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class PlanAssignment:
    """A tenant is on the plan from this instant (local midnight; None: since ever) until its next assignment."""

    plan: str
    from_us: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer. tier: standard (pooled keys) or byok (its own). models: glob patterns of what it may call."""

    id: str
    name: str
    tier: str
    plans: tuple[PlanAssignment, ...]
    timezone: str = "UTC"
    currency: str = "USD"
    models: tuple[str, ...] = ("*",)
    billing: TenantBilling = field(default_factory=TenantBilling)
    quotas: tuple[Quota, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """A provider key by its id, never the secret. kind: pooled, or byok (then tenant names its owner)."""

    id: str
    provider: str
    kind: str
    tenant: str | None = None
    provider_key_id: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    models: tuple[str, ...] = ("*",)
    quotas: tuple[Quota, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including number `up_to` (None: all further ones) cost `price` for each `per` of the charge."""

    up_to: int | None
    price: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """One row of a rate card. model: per_unit, graduated, volume, package, flat or markup.

    price is for `per` units (per_unit, tiers), for one started package of `size` (package), or for the period (flat);
    markup is a share of the provider's cost added to it ("0.20": cost plus 20 %).
    """

    meter: str
    models: str
    model: str
    price: Decimal | None = None
    per: int = 1
    tiers: tuple[Tier, ...] = ()
    size: int | None = None
    markup: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """Units of the meter, over the matching models, that cost nothing; used up first, in event order."""

    meter: str
    models: str
    amount: int


@dataclass(frozen=True, slots=True)
class Fee:
    """Monthly, billed in arrears. proration: daily or none."""

    amount: Decimal
    proration: str = "daily"


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """A plan's terms from this instant (midnight UTC; None: since ever) until its next version."""

    from_us: int | None
    fee: Fee | None = None
    minimum: Decimal | None = None
    allowances: tuple[Allowance, ...] = ()
    charges: tuple[Charge, ...] = ()
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and its dated versions, ascending."""

    id: str
    versions: tuple[PlanVersion, ...]


@dataclass(frozen=True, slots=True)
class ProviderPrice:
    """What the provider charges us, from an instant on: prices by class, for each `per` units.

    over_input: for requests whose input side is larger than this many tokens; None: for all others.
    """

    provider: str
    model: str
    from_us: int | None
    per: int
    prices: Mapping[str, Decimal]
    service_tier: str = "standard"
    over_input: int | None = None
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Credit:
    """An amount that pays invoices of the tenant for time in [from_us, expires_us); lower priority burns first."""

    id: str
    tenant: str
    amount: Decimal
    from_us: int | None
    expires_us: int | None
    priority: int = 1


@dataclass(frozen=True, slots=True)
class Tax:
    """A rate for buyers of a country; inclusive: already within the prices."""

    country: str
    rate: Decimal
    name: str
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """1 unit of `source` is `rate` units of `target` from this instant on."""

    source: str
    target: str
    rate: Decimal
    date_us: int


@dataclass(frozen=True, slots=True)
class Invoicing:
    """When a month closes and where later usage goes (adjust: next_invoice or credit_note)."""

    grace_us: int = 48 * HOUR_US
    adjust: str = "next_invoice"
    auto_finalise: bool = False


@dataclass(frozen=True, slots=True)
class AlertSink:
    """Where alerts go (an Apprise or webhook URL) and which kinds; none: all."""

    url: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Sinks, and what a leak of page level sets off: alert, throttle or suspend."""

    sinks: tuple[AlertSink, ...] = ()
    on_leak: str = "alert"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that decides a bill and an admission, at one version."""

    currency: str
    seller: Party
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, Key]
    plans: Mapping[str, Plan]
    provider_prices: tuple[ProviderPrice, ...] = ()
    credits: tuple[Credit, ...] = ()
    taxes: tuple[Tax, ...] = ()
    exchange_rates: tuple[ExchangeRate, ...] = ()
    invoicing: Invoicing = field(default_factory=Invoicing)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    source: Mapping[str, Any] = field(default_factory=dict)
    """The document as it was given (plain data), kept with the version."""
