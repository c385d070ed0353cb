"""Strict check of each request against the typed parameters that the SDK itself publishes.

The SDK sends a misspelt parameter without a word and Stripe refuses it only live; here it is refused at once. Values
arrive as strings and leave typed. Not modelled by the types and checked apart: metadata limits
(https://docs.stripe.com/metadata) and the range of `limit`.
"""

import re
import types
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tollhouse.stripe_double.errors import ApiError, invalid

METADATA_KEYS_MAX = 50
METADATA_KEY_CHARS_MAX = 40
METADATA_VALUE_CHARS_MAX = 500
PAGE_MAX = 100
_WHOLE = re.compile(r"-?\d{1,18}")


@lru_cache(maxsize=256)
def hints_of(name: str) -> tuple[dict[str, Any], frozenset[str]]:
    """(type of each parameter, required names) of a dotted class below stripe.params, without request options."""
    # Looked up by name: the double reads the SDK's types as data, only the gateway may work with the SDK.
    module, _, cls_name = f"stripe.params.{name}".rpartition(".")
    options = import_module("stripe").RequestOptions
    return _hints(getattr(import_module(module), cls_name), frozenset(options.__annotations__))


@lru_cache(maxsize=1024)
def _hints(cls: type, without: frozenset[str] = frozenset()) -> tuple[dict[str, Any], frozenset[str]]:
    # Without the request options first: their types name things that are imported for type checkers only.
    own = {key: hint for key, hint in cls.__annotations__.items() if key not in without}
    hints = get_type_hints(type(cls.__name__, (), {"__annotations__": own, "__module__": cls.__module__}))
    required = frozenset(getattr(cls, "__required_keys__", ())) - without
    return hints, required


def check(name: str, tree: dict[str, Any]) -> dict[str, Any]:
    """The typed parameters of a request; ApiError (400, not stored) names the first wrong one."""
    hints, required = hints_of(name)
    typed = _fields(hints, required, tree, "")
    limit = typed.get("limit")
    if limit is not None and not 1 <= limit <= PAGE_MAX:
        raise invalid(f"limit must be between 1 and {PAGE_MAX}", param="limit", stored=False)
    return typed


def _fields(hints: dict[str, Any], required: frozenset[str], tree: dict[str, Any], path: str) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for key, value in tree.items():
        where = f"{path}[{key}]" if path else key
        if key not in hints:
            raise invalid(f"Received unknown parameter: {where}", param=where, code="parameter_unknown", stored=False)
        typed[key] = _metadata(value, where) if key == "metadata" else _value(hints[key], value, where)
    for key in sorted(required - tree.keys()):
        where = f"{path}[{key}]" if path else key
        raise invalid(f"Missing required param: {where}.", param=where, code="parameter_missing", stored=False)
    return typed


def _metadata(value: Any, where: str) -> Any:
    if value == "":
        return ""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise invalid(f"Invalid {where}: a flat set of strings is needed", param=where, stored=False)
    if len(value) > METADATA_KEYS_MAX:
        raise invalid(f"Metadata can have up to {METADATA_KEYS_MAX} keys", param=where, stored=False)
    for key, item in value.items():
        if len(key) > METADATA_KEY_CHARS_MAX or "[" in key or "]" in key:
            raise invalid(f"Invalid metadata key: {key}", param=where, stored=False)
        if len(item) > METADATA_VALUE_CHARS_MAX:
            raise invalid(f"Metadata value of {key} is over 500 characters", param=where, stored=False)
    return dict(value)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return _union(get_args(hint), value, where)
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise invalid(f"Invalid {where}: must be one of {', '.join(get_args(hint))}", param=where, stored=False)
    if origin is list:
        return _list(get_args(hint)[0], value, where)
    if origin is dict:
        return _metadata(value, where)
    if hasattr(hint, "__required_keys__"):
        if not isinstance(value, dict):
            raise invalid(f"Invalid object: {where}", param=where, stored=False)
        return _fields(*_hints(hint), value, where)
    scalar = _SCALARS.get(hint)
    if scalar is None or not isinstance(value, str):
        raise invalid(f"Invalid {where}", param=where, stored=False)
    return scalar(value, where)


def _union(members: tuple[Any, ...], value: Any, where: str) -> Any:
    literals = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    if isinstance(value, str) and value in literals:
        return value
    # Literal[...] | str is how the SDK leaves room for later members of an enumeration: today's are the closed set.
    enumeration = any(literals)
    rest = [m for m in members if get_origin(m) is not Literal and not (enumeration and m is str)]
    problem: ApiError | None = None
    for member in rest:
        if getattr(get_origin(member) or member, "__name__", "") == "UntypedStripeObject":
            continue
        try:
            return _value(member, value, where)
        except ApiError as error:
            problem = problem or error
    raise problem or invalid(f"Invalid {where}: must be one of {', '.join(literals)}", param=where, stored=False)


def _list(item: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, dict) or set(value) != {str(index) for index in range(len(value))}:
        raise invalid(f"Invalid array: {where}", param=where, stored=False)
    return [_value(item, value[str(index)], f"{where}[{index}]") for index in range(len(value))]


def _whole(value: str, where: str) -> int:
    if _WHOLE.fullmatch(value) is None:
        raise invalid(f"Invalid integer: {value}", param=where, code="parameter_invalid_integer", stored=False)
    return int(value)


def _flag(value: str, where: str) -> bool:
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {value}", param=where, stored=False)
    return value == "true"


def _exact(value: str, where: str) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise invalid(f"Invalid decimal: {value}", param=where, stored=False) from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -12:
        raise invalid(f"At most 12 decimal places: {value}", param=where, stored=False)
    return number


def _text(value: str, _where: str) -> str:
    return value


_SCALARS: dict[Any, Callable[[str, str], Any]] = {
    str: _text,
    int: _whole,
    bool: _flag,
    float: _exact,  # the SDK's float parameters (tax percentages) are decimals on the wire
    Decimal: _exact,
}
