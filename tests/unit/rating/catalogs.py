"""Catalogs for tests, from the document that a user would write."""

from typing import Any

from pipeline.catalog import parse_data
from schemas.catalog import Catalog

SELLER = {"name": "Seller Ltd", "address": "1 Example Street", "country": "IE", "email": "billing@seller.example"}


def catalog_of(plans: dict[str, Any], *, tenant: dict[str, Any] | None = None, **sections: Any) -> Catalog:
    """One tenant, acme, on plan p unless it says otherwise."""
    document = {
        "currency": "USD",
        "seller": SELLER,
        "tenants": {"acme": {"name": "Acme", "plan": "p", **(tenant or {})}},
        "keys": {
            "k1": {"provider": "openai", "kind": "pooled"},
            "own": {"provider": "openai", "kind": "byok", "tenant": "acme"},
        },
        "plans": plans,
        **sections,
    }
    catalog = parse_data(document)
    assert isinstance(catalog, Catalog), catalog
    return catalog


def per_unit(meter: str, price: str, models: str = "*", per: int = 1) -> dict[str, Any]:
    """A per_unit charge."""
    return {"meter": meter, "models": models, "model": "per_unit", "price": price, "per": per}


def tiered(model: str, meter: str, *tiers: tuple[int | None, str], models: str = "*") -> dict[str, Any]:
    """A graduated or volume charge."""
    rows = [{"price": price} if up_to is None else {"up_to": up_to, "price": price} for up_to, price in tiers]
    return {"meter": meter, "models": models, "model": model, "per": 1, "tiers": rows}


def markup(share: str, models: str = "*") -> dict[str, Any]:
    """A markup on cost."""
    return {"meter": "cost", "models": models, "model": "markup", "markup": share}


def price(model: str, **fields: Any) -> dict[str, Any]:
    """A provider price a unit, unless `per` says otherwise."""
    return {"provider": "openai", "model": model, "from": "2026-01-01", "per": 1, **fields}
