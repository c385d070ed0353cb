"""A catalog as a flat list of entries by which two versions can be compared: since when, and the fields as text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from schemas.catalog import Allowance, Catalog, Charge, PlanVersion, ProviderPrice, Quota, Tenant
from schemas.instants import DAY_US, format_instant
from schemas.money import plain
from schemas.periods import day_start, local_date

ALWAYS: Final = "always"
"""How a path names an entry without a date: it holds since ever."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of the catalog. history: it is dated, and its past must not be rewritten, but for the `free` fields.

    since_us: from when it counts (None: since ever). advice: how to change it the right way.
    """

    path: str
    fields: Mapping[str, str]
    history: bool = False
    since_us: int | None = None
    free: frozenset[str] = frozenset()
    advice: str = ""
    owner: str = ""


def entries(catalog: Catalog) -> Iterator[Entry]:
    """Every entry of the catalog, in the order of the document's sections."""
    yield Entry("currency", {"currency": catalog.currency})
    seller = catalog.seller
    fields = _given(
        name=seller.name, address=seller.address, country=seller.country, tax_id=seller.tax_id, email=seller.email
    )
    yield Entry("seller", fields)
    for tenant in catalog.tenants.values():
        yield from _tenant(tenant)
    for key in catalog.keys.values():
        fields = _given(
            provider=key.provider,
            kind=key.kind,
            tenant=key.tenant,
            provider_key_id=key.provider_key_id,
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            models=", ".join(key.models),
        )
        yield Entry(f"keys.{key.id}", fields | _quotas(key.quotas))
    for plan in catalog.plans.values():
        for version in plan.versions:
            yield _version(plan.id, version)
    for price in catalog.provider_prices:
        yield _price(price)
    yield from _credits(catalog)
    for tax in catalog.taxes:
        fields = _given(rate=plain(tax.rate), inclusive=tax.inclusive)
        yield Entry(f"taxes.{tax.country}.{tax.name}", fields)
    for rate in catalog.exchange_rates:
        path = f"exchange_rates.{rate.source}.{rate.target}[{date_label(rate.date_us)}]"
        advice = "add a rate with a later date"
        yield Entry(path, {"rate": plain(rate.rate)}, history=True, since_us=rate.date_us, advice=advice)
    yield from _settings(catalog)


def date_label(instant_us: int | None, zone: str = "UTC") -> str:
    """The date, if the instant is its first in the zone, else the whole instant; "always" for None."""
    if instant_us is None:
        return ALWAYS
    day = local_date(instant_us, zone)
    return day.isoformat() if day_start(day, zone) == instant_us else format_instant(instant_us)


def _given(**fields: object) -> dict[str, str]:
    """Fields as text, without the empty ones."""
    return {name: _text(value) for name, value in fields.items() if value not in (None, "", ())}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tenant(tenant: Tenant) -> Iterator[Entry]:
    billing = tenant.billing
    fields = _given(
        name=tenant.name,
        tier=tenant.tier,
        timezone=tenant.timezone,
        currency=tenant.currency,
        models=", ".join(tenant.models),
    )
    fields |= {
        f"billing.{name}": text
        for name, text in _given(
            email=billing.email,
            address=billing.address,
            country=billing.country,
            tax_id=billing.tax_id,
            stripe_customer=billing.stripe_customer,
            collection=billing.collection,
            days_until_due=billing.days_until_due,
            reverse_charge=billing.reverse_charge,
        ).items()
    }
    path = f"tenants.{tenant.id}"
    yield Entry(path, fields | _quotas(tenant.quotas))
    for assignment in tenant.plans:
        yield Entry(
            f"{path}.plan[{date_label(assignment.from_us, tenant.timezone)}]",
            {"plan": assignment.plan},
            history=True,
            since_us=assignment.from_us,
            advice="keep it, and add {plan: …, from: DATE} after it",
            owner=path,
        )


def _quotas(quotas: tuple[Quota, ...]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for quota in quotas:
        limit = "no limit" if quota.limit is None else plain(quota.limit)
        shares = f", alert at {', '.join(plain(share) for share in quota.alert_at)}" if quota.alert_at else ""
        models = "" if quota.models == "*" else f" of {quota.models}"
        fields[f"quotas.{quota.name}"] = f"{limit} {quota.meter}{models} a {quota.window}, {quota.action}{shares}"
    return fields


def _version(plan: str, version: PlanVersion) -> Entry:
    fields: dict[str, str] = {}
    if version.fee is not None:
        fields["fee"] = f"{plain(version.fee.amount)} a month, proration {version.fee.proration}"
    if version.minimum is not None:
        fields["minimum"] = plain(version.minimum)
    fields |= {f"allowances[{i}]": _allowance(allowance) for i, allowance in enumerate(version.allowances)}
    fields |= {f"charges[{i}]": _charge(charge) for i, charge in enumerate(version.charges)}
    quotas = _quotas(version.quotas)
    return Entry(
        f"plans.{plan}[{date_label(version.from_us)}]",
        fields | quotas,
        history=True,
        since_us=version.from_us,
        free=frozenset(quotas),
        advice="keep it, and add a version with a later from",
    )


def _allowance(allowance: Allowance) -> str:
    return f"{allowance.amount} {allowance.meter} of {allowance.models}"


def _charge(charge: Charge) -> str:
    text = f"{charge.meter} of {charge.models}: {charge.model}"
    if charge.tiers:
        tiers = (f"{plain(t.price)} {f'to {t.up_to}' if t.up_to is not None else 'beyond'}" for t in charge.tiers)
        text += f" {', '.join(tiers)}"
    if charge.price is not None:
        text += f" {plain(charge.price)}"
    if charge.markup is not None:
        text += f" {plain(charge.markup)}"
    if charge.size is not None:
        text += f" a started {charge.size}"
    return f"{text} per {charge.per}" if charge.model in ("per_unit", "graduated", "volume") else text


def _price(price: ProviderPrice) -> Entry:
    tier = "" if price.service_tier == "standard" else f".{price.service_tier}"
    over = "" if price.over_input is None else f".over {price.over_input}"
    fields = {name: f"{plain(amount)} {price.currency} per {price.per}" for name, amount in price.prices.items()}
    return Entry(
        f"provider_prices.{price.provider}.{price.model}{tier}{over}[{date_label(price.from_us)}]",
        fields,
        history=True,
        since_us=price.from_us,
        advice="keep it, and add an entry with a later from",
    )


def _credits(catalog: Catalog) -> Iterator[Entry]:
    for credit in catalog.credits:
        tenant = catalog.tenants.get(credit.tenant)
        zone = tenant.timezone if tenant is not None else "UTC"
        fields = _given(tenant=credit.tenant, amount=plain(credit.amount), priority=credit.priority)
        fields |= {"from": date_label(credit.from_us, zone)}
        fields |= {"expires": date_label(credit.expires_us, zone) if credit.expires_us is not None else "never"}
        yield Entry(
            f"credits.{credit.id}",
            fields,
            history=True,
            since_us=credit.from_us,
            free=frozenset(("expires", "priority")),
            advice="keep it, and grant another under an id of its own",
        )


def _settings(catalog: Catalog) -> Iterator[Entry]:
    invoicing = catalog.invoicing
    hours, rest = divmod(invoicing.grace_us, DAY_US // 24)
    grace = f"{hours}h" if not rest else f"{invoicing.grace_us // 1_000_000}s"
    yield Entry("invoicing", _given(grace=grace, adjust=invoicing.adjust, auto_finalise=invoicing.auto_finalise))
    sinks = {
        f"sinks[{i}]": f"{hidden(sink.url)} for {', '.join(sink.kinds) or 'all kinds'}"
        for i, sink in enumerate(catalog.alerts.sinks)
    }
    yield Entry("alerts", {"on_leak": catalog.alerts.on_leak} | sinks)


def hidden(url: str) -> str:
    """A sink's URL without what may be a secret in it: scheme, host, and a mark that differs where the rest does."""
    scheme, _, rest = url.partition("://")
    authority = rest.split("/", 1)[0].split("?", 1)[0]
    mark = sha256(url.encode("utf-8", "replace")).hexdigest()[:6]
    return f"{scheme}://{authority.rpartition('@')[2]}/… ({mark})"
