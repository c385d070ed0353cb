"""A whole document into a Catalog, or every error at once."""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.catalog.amounts import (
    read_alerts,
    read_credits,
    read_exchange_rates,
    read_invoicing,
    read_provider_prices,
    read_taxes,
)
from pipeline.catalog.document import CatalogError, DocumentError, Node, plain_data, read_data, read_yaml
from pipeline.catalog.fields import At, Fields
from pipeline.catalog.plans import read_plans
from pipeline.catalog.tenants import read_keys, read_party, read_tenants
from schemas.catalog import Catalog

CATALOG_FIELDS: Final = (
    "currency", "seller", "tenants", "keys", "plans", "provider_prices", "credits", "taxes", "exchange_rates",
    "invoicing", "alerts",
)  # fmt: skip
DEFAULT_CURRENCY: Final = "USD"


def parse_yaml(text: str) -> Catalog | list[CatalogError]:
    """The catalog of a YAML text, or all that is wrong with it, by line. Raises nothing, whatever the text."""
    root, errors = read_yaml(text)
    if root is None or root.value is None:
        return errors or [CatalogError(1, "", "the catalog is empty: it needs tenants, keys and plans")]
    return _catalog(root, errors)


def parse_data(data: Mapping[str, Any]) -> Catalog | list[CatalogError]:
    """The catalog of plain data (parsed JSON), or all that is wrong with it.

    Decimals are text, ints or Decimals: parse JSON with parse_float=Decimal. A float is refused, because the number
    that was written is no longer known.
    """
    try:
        root = read_data(data)
    except DocumentError as problem:
        return [problem.error]
    return _catalog(root, [])


def _catalog(root: Node, errors: list[CatalogError]) -> Catalog | list[CatalogError]:
    fields = Fields(errors)
    found = fields.mapping(At(root, ""), CATALOG_FIELDS)
    currency = fields.currency(found.get("currency"), DEFAULT_CURRENCY)
    plans = read_plans(fields, found.get("plans"))
    tenants = read_tenants(fields, found.get("tenants"), plans, currency)
    catalog = Catalog(
        currency=currency,
        seller=read_party(fields, found.get("seller")),
        tenants=tenants,
        keys=read_keys(fields, found.get("keys"), tenants),
        plans=plans,
        provider_prices=read_provider_prices(fields, found.get("provider_prices")),
        credits=read_credits(fields, found.get("credits"), tenants),
        taxes=read_taxes(fields, found.get("taxes")),
        exchange_rates=read_exchange_rates(fields, found.get("exchange_rates")),
        invoicing=read_invoicing(fields, found.get("invoicing")),
        alerts=read_alerts(fields, found.get("alerts")),
        source=plain_data(root) if not errors else {},
    )
    return sorted(errors, key=lambda error: error.line or 0) if errors else catalog
