"""Events and a catalog for tests of the pipeline's first steps."""

from __future__ import annotations

from typing import Any

from pipeline.catalog import parse_data
from pipeline.context import Context
from schemas.catalog import Catalog
from schemas.instants import format_instant, parse_instant
from schemas.tokens import CLASSES

TIME_US = parse_instant("2026-10-03T10:11:12Z")
ARRIVAL_US = TIME_US + 2_000_000
SOURCE = "proxy/eu-1"


def catalog(**more: Any) -> Catalog:
    """Two standard tenants, one with its own key, two pooled keys, one priced model."""
    data = {
        "currency": "USD",
        "tenants": {
            "acme": {"plan": "p"},
            "beta": {"plan": "p", "timezone": "Asia/Kathmandu"},
            "own": {"plan": "p", "tier": "byok"},
        },
        "keys": {
            "k1": {"provider": "openai", "kind": "pooled"},
            "k2": {"provider": "openai", "kind": "pooled"},
            "mine": {"provider": "openai", "kind": "byok", "tenant": "own"},
        },
        "plans": {"p": {"charges": [{"meter": "tokens", "models": "*", "model": "per_unit", "price": "0.01"}]}},
        "provider_prices": [
            {"provider": "openai", "model": "m", "from": "2026-01-01", "per": 1000000, "input": "1.00",
             "output": "2.00", "cache_read": "0.10"},
        ],
        **more,
    }  # fmt: skip
    parsed = parse_data(data)
    assert not isinstance(parsed, list), parsed
    return parsed


def context(**more: Any) -> Context:
    """The catalog, compiled."""
    return Context(1, catalog(**more), {})


def event(
    name: str, *, subject: str = "acme", time_us: int = TIME_US, source: str = SOURCE, kind: str = "usage", **data: Any
) -> dict[str, Any]:
    """A usage event as plain data; counts by class, everything else goes into data as it is."""
    tokens = {key: data.pop(key) for key in list(data) if key in CLASSES}
    body: dict[str, Any] = {"key": "k1", "provider": "openai", "model": "m"}
    if tokens:
        body["tokens"] = tokens
    return {
        "specversion": "1.0",
        "id": name,
        "source": source,
        "type": f"com.tollhouse.{'usage.void' if kind == 'void' else 'usage'}.v1",
        "time": format_instant(time_us),
        "subject": subject,
        "data": {**body, **data},
    }


def ref(name: str, source: str = SOURCE) -> dict[str, str]:
    """A reference to an event."""
    return {"source": source, "id": name}
