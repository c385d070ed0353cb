"""Objects as JSON on the wire: what the double keeps for itself (names with a leading underscore) stays inside."""

import json
from decimal import Decimal
from typing import Any


def encode(value: dict[str, Any], indent: int | None = None) -> bytes:
    """UTF-8 JSON; compact unless indented."""
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(_public(value), default=_plain, indent=indent, separators=separators).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):  # only tax percentages, which are JSON numbers at Stripe
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"cannot send {value!r}")


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(item) for key, item in value.items() if not key.startswith("_")}
    return [_public(item) for item in value] if isinstance(value, list) else value
