"""The sections about amounts over time: provider prices, credits, taxes, exchange rates; and how invoices close."""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from pipeline.catalog.fields import At, Fields
from pipeline.prices import SERVICE_TIERS, canonical_provider
from schemas.catalog import AlertSettings, AlertSink, Credit, ExchangeRate, Invoicing, ProviderPrice, Tax, Tenant
from schemas.tokens import CLASSES

ADJUST: Final = ("next_invoice", "credit_note")
ON_LEAK: Final = ("alert", "throttle", "suspend")
ALERT_KINDS: Final = ("leak", "residual", "quota", "secret_in_event", "revoked_key_used", "unrated", "pipeline")

PRICE_FIELDS: Final = ("provider", "model", "from", "per", "service_tier", "over_input", "currency", *CLASSES)
CREDIT_FIELDS: Final = ("id", "tenant", "amount", "from", "expires", "priority")
TAX_FIELDS: Final = ("country", "rate", "name", "inclusive")
RATE_FIELDS: Final = ("from", "to", "rate", "date")
INVOICING_FIELDS: Final = ("grace", "adjust", "auto_finalise")
ALERTS_FIELDS: Final = ("sinks", "on_leak")


def read_provider_prices(fields: Fields, at: At | None) -> tuple[ProviderPrice, ...]:
    """Entries in the order given; those of one model and date add up, if each class stands once and in one currency."""
    places = list(fields.items(at))
    prices = [_provider_price(fields, place) for place in places]
    first: dict[object, tuple[str, str]] = {}
    for price, place in zip(prices, places, strict=True):
        if price.provider and price.model:
            _check_joined(fields, price, place, first)
    return tuple(prices)


def _check_joined(fields: Fields, price: ProviderPrice, at: At, first: dict[object, tuple[str, str]]) -> None:
    """first: path and currency of the entry that was there before, by date and by class of that date."""
    date = (canonical_provider(price.provider), price.model, price.service_tier, price.over_input, price.from_us)
    other, currency = first.setdefault(date, (at.path, price.currency))
    if currency != price.currency:
        fields.error(at, f"{other} has prices in {currency} from the same date: keep to one currency")
    for name in price.prices:
        other, _ = first.setdefault((date, name), (at.path, ""))
        if other != at.path:
            fields.error(at, f"{other} has a price for {name} from the same date: keep one, or give a later from")
            break


def _provider_price(fields: Fields, at: At) -> ProviderPrice:
    found = fields.mapping(at, PRICE_FIELDS)
    model = fields.name(fields.required(at, found, "model", "gpt-5-mini"))
    if any(character in model for character in "*?["):
        fields.error(found["model"], "is a pattern, and a provider's price needs the name of one model: list each")
    prices: dict[str, Decimal] = {}
    for name in CLASSES:
        amount = fields.amount(found.get(name))
        if amount is not None:
            prices[name] = amount
    given = at.node.value if isinstance(at.node.value, dict) else {}
    if given and set(given) <= set(PRICE_FIELDS) and not any(name in found for name in CLASSES):
        fields.error(at, 'has no price: add one for a class, like input: "0.25"')
    return ProviderPrice(
        provider=fields.name(fields.required(at, found, "provider", "openai")),
        model=model,
        from_us=fields.instant(found.get("from"), "UTC"),
        per=fields.per(fields.required(at, found, "per", "1000000"), 1_000_000),
        prices=prices,
        service_tier=fields.choice(found.get("service_tier"), SERVICE_TIERS, "standard"),
        over_input=fields.integer(found.get("over_input"), least=1),
        currency=fields.currency(found.get("currency"), "USD"),
    )


def read_credits(fields: Fields, at: At | None, tenants: Mapping[str, Tenant]) -> tuple[Credit, ...]:
    """Credits with ids of their own; dates are midnights of the tenant's zone."""
    granted: list[Credit] = []
    places: list[tuple[object, At]] = []
    for place in fields.items(at):
        found = fields.mapping(place, CREDIT_FIELDS)
        key = fields.name(fields.required(place, found, "id", "cr-1"))
        tenant = fields.reference(fields.required(place, found, "tenant", "acme"), tenants, "tenant")
        zone = tenants[tenant].timezone if tenant is not None else "UTC"
        amount = fields.amount(fields.required(place, found, "amount", '"100.00"'), above=True)
        from_us = fields.instant(found.get("from"), zone)
        expires_us = fields.instant(found.get("expires"), zone)
        if from_us is not None and expires_us is not None and expires_us <= from_us:
            fields.error(found["expires"], "is not after from: the credit would never be valid")
        priority = fields.integer(found.get("priority"))
        if key:
            places.append((key, place))
        granted.append(
            Credit(key, tenant or "", amount or Decimal(0), from_us, expires_us, 1 if priority is None else priority)
        )
    fields.unique(places, "a credit of this id")
    return tuple(granted)


def read_taxes(fields: Fields, at: At | None) -> tuple[Tax, ...]:
    """Rates by the buyer's country; a country may have several of different names."""
    taxes: list[Tax] = []
    places: list[tuple[object, At]] = []
    for place in fields.items(at):
        found = fields.mapping(place, TAX_FIELDS)
        country = fields.country(fields.required(place, found, "country", "DE"))
        rate = fields.amount(fields.required(place, found, "rate", '"0.19"'))
        if rate is not None and rate > 1:
            fields.error(found["rate"], "is a share of the amount, not a percentage: write 0.19 for 19 %")
        name = fields.name(found.get("name"), "Tax")
        taxes.append(Tax(country, rate or Decimal(0), name, fields.flag(found.get("inclusive"))))
        if country:
            places.append(((country, name), place))
    fields.unique(places, "a tax of this country and name")
    return tuple(taxes)


def read_exchange_rates(fields: Fields, at: At | None) -> tuple[ExchangeRate, ...]:
    """Dated rates, in force from midnight UTC of their date until the next of the same pair."""
    rates: list[ExchangeRate] = []
    places: list[tuple[object, At]] = []
    for place in fields.items(at):
        found = fields.mapping(place, RATE_FIELDS)
        source = fields.currency(fields.required(place, found, "from", "USD"), "USD")
        target = fields.currency(fields.required(place, found, "to", "EUR"), "EUR")
        rate = fields.amount(fields.required(place, found, "rate", '"0.92"'), above=True)
        date_us = fields.instant(fields.required(place, found, "date", "2026-10-01"), "UTC")
        if "from" in found and "to" in found and source == target:
            fields.error(found["to"], f"{target} into itself needs no rate: remove the entry")
        if date_us is not None:
            places.append(((source, target, date_us), place))
        rates.append(ExchangeRate(source, target, rate or Decimal(1), date_us or 0))
    fields.unique(places, "a rate of this pair and date")
    return tuple(rates)


def read_invoicing(fields: Fields, at: At | None) -> Invoicing:
    """When a month closes, and where later usage goes."""
    if at is None:
        return Invoicing()
    found = fields.mapping(at, INVOICING_FIELDS)
    return Invoicing(
        grace_us=fields.duration(found.get("grace"), Invoicing().grace_us),
        adjust=fields.choice(found.get("adjust"), ADJUST, "next_invoice"),
        auto_finalise=fields.flag(found.get("auto_finalise")),
    )


def read_alerts(fields: Fields, at: At | None) -> AlertSettings:
    """Sinks for alerts, and the response to a leak."""
    if at is None:
        return AlertSettings()
    found = fields.mapping(at, ALERTS_FIELDS)
    sinks = tuple(_sink(fields, place) for place in fields.items(found.get("sinks")))
    return AlertSettings(sinks, fields.choice(found.get("on_leak"), ON_LEAK, "alert"))


def _sink(fields: Fields, at: At) -> AlertSink:
    found = fields.mapping(at, ("url", "kinds"))
    url = fields.name(fields.required(at, found, "url", '"json://127.0.0.1:9000/alerts"'))
    if url and "://" not in url:
        fields.error(found["url"], "is not a URL: write it with its scheme, like json://127.0.0.1:9000/alerts")
    kinds: Collection[str] = [fields.choice(place, ALERT_KINDS, "") for place in fields.items(found.get("kinds"))]
    return AlertSink(url, tuple(kinds))
