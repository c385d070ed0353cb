"""The catalog's JSON Schema (2020-12), for editors and for checks before a catalog is sent.

It knows the form: fields, types, words, which field belongs to which pricing model. What needs more than one place of
the document (references, dates in order, ascending tiers, unique ids) is checked by the parser alone.
"""

from typing import Any, Final

from pipeline.catalog.amounts import (
    ADJUST,
    ALERT_KINDS,
    ALERTS_FIELDS,
    CREDIT_FIELDS,
    INVOICING_FIELDS,
    ON_LEAK,
    PRICE_FIELDS,
    RATE_FIELDS,
    TAX_FIELDS,
)
from pipeline.catalog.fields import INTEGER_MAX, PER_MAX, PLACES_MAX, WHOLE_DIGITS_MAX
from pipeline.catalog.parse import CATALOG_FIELDS
from pipeline.catalog.plans import (
    ACTIONS,
    CHARGE_FIELDS,
    CHARGE_NEEDS,
    CHARGE_OPTIONS,
    PRICING_MODELS,
    PRORATIONS,
    QUOTA_FIELDS,
    SHARE_MAX,
    VERSION_FIELDS,
)
from pipeline.catalog.tenants import (
    BILLING_FIELDS,
    COLLECTIONS,
    DAYS_UNTIL_DUE_MAX,
    KEY_FIELDS,
    KEY_KINDS,
    PARTY_FIELDS,
    RATE_LIMIT_FIELDS,
    RATE_MAX,
    RATE_METERS,
    TENANT_FIELDS,
    TIERS,
)
from pipeline.prices import SERVICE_TIERS
from schemas.periods import WINDOWS
from schemas.tokens import CLASSES, METERS

_Schema = dict[str, Any]

_ID: Final = "urn:tollhouse:schema:catalog"
_DATE: Final = r"^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?$"


def json_schema() -> _Schema:
    """The schema as plain data; a new dict each time."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        "title": "Tollhouse catalog",
        "$defs": _definitions(),
        **_object(CATALOG_FIELDS, _sections()),
    }


def _sections() -> dict[str, _Schema]:
    return {
        "currency": _ref("currency"),
        "seller": _ref("party"),
        "tenants": _by_id(_or_null(_ref("tenant"))),
        "keys": _by_id(_ref("key")),
        "plans": _by_id(
            {"oneOf": [{"type": "null"}, _ref("version"), {**_list(_or_null(_ref("version"))), "minItems": 1}]}
        ),
        "provider_prices": _list(_ref("provider_price")),
        "credits": _list(_ref("credit")),
        "taxes": _list(_ref("tax")),
        "exchange_rates": _list(_ref("exchange_rate")),
        "invoicing": _object(
            INVOICING_FIELDS,
            {"grace": _ref("duration"), "adjust": _words(ADJUST), "auto_finalise": {"type": "boolean"}},
        ),
        "alerts": _object(
            ALERTS_FIELDS,
            {
                "sinks": _list(
                    _object(
                        ("url", "kinds"),
                        {"url": {"type": "string", "pattern": "://"}, "kinds": _list(_words(ALERT_KINDS))},
                        ("url",),
                    )
                ),
                "on_leak": _words(ON_LEAK),
            },
        ),
    }


def _definitions() -> dict[str, _Schema]:
    return {
        "decimal": _decimal(),
        "markup": _decimal(sign="-?", least=-1),
        "text": {"type": ["string", "number"]},
        "name": {"type": ["string", "number"], "pattern": r"\S"},
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "date": {"type": "string", "pattern": _DATE, "description": "A date, or a time with its zone (RFC 3339)."},
        "duration": {
            "anyOf": [
                {"const": 0},
                {"type": "string", "pattern": r"^(?=.)(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?(\d{1,6}s)?$"},
            ]
        },
        "count": _integer(0),
        "positive": _integer(1),
        "per": _integer(1, PER_MAX),
        "models": {
            "description": "A pattern of model names like gpt-5*, or a list of patterns.",
            "anyOf": [_ref("pattern"), {**_list(_ref("pattern")), "minItems": 1}],
        },
        "pattern": {"type": ["string", "number"], "pattern": r"^\S+$"},
        "quotas": _list(_ref("quota")),
        **_who(),
        **_terms(),
        **_amounts(),
    }


def _who() -> dict[str, _Schema]:
    texts = {name: _ref("text") for name in (*PARTY_FIELDS, *BILLING_FIELDS)}
    own = {"quotas": _ref("quotas"), "models": _ref("models"), "rate_limits": _list(_ref("rate_limit"))}
    bucket = {name: _integer(1, RATE_MAX) for name in ("per_minute", "burst")}
    assignment = _object(("plan", "from"), {"plan": _ref("name"), "from": _ref("date")}, ("plan",))
    return {
        "party": _object(PARTY_FIELDS, texts | {"country": _ref("country")}),
        "billing": _object(
            BILLING_FIELDS,
            texts
            | {
                "country": _ref("country"),
                "collection": _words(COLLECTIONS),
                "days_until_due": _integer(0, DAYS_UNTIL_DUE_MAX),
                "reverse_charge": {"type": "boolean"},
            },
        ),
        "rate_limit": _object(RATE_LIMIT_FIELDS, {"meter": _words(RATE_METERS), **bucket}, ("meter", "per_minute")),
        "tenant": _object(
            TENANT_FIELDS,
            own
            | {
                "name": _ref("name"),
                "tier": _words(TIERS),
                "plan": {"anyOf": [_ref("name"), _list(assignment)]},
                "timezone": {"type": "string"},
                "currency": _ref("currency"),
                "billing": _ref("billing"),
            },
        ),
        "key": _object(
            KEY_FIELDS,
            own
            | {
                "provider": _ref("name"),
                "kind": _words(KEY_KINDS),
                "tenant": _ref("name"),
                "provider_key_id": _ref("name"),
                "requests_per_minute": _ref("count"),
                "tokens_per_minute": _ref("count"),
            },
            ("provider", "kind"),
        )
        | {
            "if": {"properties": {"kind": {"const": "byok"}}},
            "then": {"required": ["tenant"]},
            "else": {"properties": {"tenant": {"type": "null"}}},
        },
    }


def _terms() -> dict[str, _Schema]:
    models = {"models": _ref("models"), "meter": _words(METERS)}
    return {
        "quota": _object(
            QUOTA_FIELDS,
            models
            | {
                "name": _ref("name"),
                "limit": _or_null(_ref("decimal")),
                "window": _words(WINDOWS),
                "action": _words(ACTIONS),
                "alert_at": _list({**_decimal(), "maximum": SHARE_MAX}),
            },
            ("name", "meter", "window"),
        ),
        "version": _object(
            VERSION_FIELDS,
            {
                "from": _ref("date"),
                "fee": _object(
                    ("amount", "proration"),
                    {"amount": _ref("decimal"), "proration": _words(PRORATIONS)},
                    ("amount",),
                ),
                "minimum": _ref("decimal"),
                "allowances": _list(_ref("allowance")),
                "charges": _list(_ref("charge")),
                "quotas": _ref("quotas"),
            },
        ),
        "allowance": _object(
            ("meter", "models", "amount"),
            {
                "meter": _words([meter for meter in METERS if meter != "cost"]),
                "models": _ref("models"),
                "amount": _ref("count"),
            },
            ("meter", "amount"),
        ),
        "charge": {"oneOf": [_charge(model) for model in PRICING_MODELS]},
        "tiers": {
            **_list(_object(("up_to", "price"), {"up_to": _ref("positive"), "price": _ref("decimal")}, ("price",))),
            "minItems": 1,
        },
    }


def _charge(model: str) -> _Schema:
    """A charge of one pricing model: only its own fields, and all that it needs."""
    values = {
        "meter": {"const": "cost"} if model == "markup" else _words([meter for meter in METERS if meter != "cost"]),
        "models": _ref("models"),
        "model": {"const": model},
        "price": _ref("decimal"),
        "per": _ref("per"),
        "tiers": _ref("tiers"),
        "size": _ref("positive"),
        "markup": _ref("markup"),
    }
    needed = tuple(name for name, _ in CHARGE_NEEDS[model])
    allowed = ("meter", "models", "model", *needed, *CHARGE_OPTIONS.get(model, ()))
    return _object([name for name in CHARGE_FIELDS if name in allowed], values, ("meter", "model", *needed))


def _amounts() -> dict[str, _Schema]:
    prices = {name: _ref("decimal") for name in CLASSES}
    return {
        "provider_price": _object(
            PRICE_FIELDS,
            prices
            | {
                "provider": _ref("name"),
                "model": {"type": ["string", "number"], "pattern": r"^[^*?\[]+$"},
                "from": _ref("date"),
                "per": _ref("per"),
                "service_tier": _words(SERVICE_TIERS),
                "over_input": _ref("positive"),
                "currency": _ref("currency"),
            },
            ("provider", "model", "per"),
        )
        | {"anyOf": [{"required": [name]} for name in CLASSES]},
        "credit": _object(
            CREDIT_FIELDS,
            {
                "id": _ref("name"),
                "tenant": _ref("name"),
                "amount": _ref("decimal"),
                "from": _ref("date"),
                "expires": _ref("date"),
                "priority": _ref("count"),
            },
            ("id", "tenant", "amount"),
        ),
        "tax": _object(
            TAX_FIELDS,
            {
                "country": _ref("country"),
                "rate": {**_decimal(), "maximum": 1},
                "name": _ref("name"),
                "inclusive": {"type": "boolean"},
            },
            ("country", "rate"),
        ),
        "exchange_rate": _object(
            RATE_FIELDS,
            {"from": _ref("currency"), "to": _ref("currency"), "rate": _ref("decimal"), "date": _ref("date")},
            RATE_FIELDS,
        ),
    }


def _object(names: Any, values: dict[str, _Schema], required: Any = ()) -> _Schema:
    """An object with just these fields; null stands for a field that is left out, unless it is required."""
    properties = {name: values[name] if name in required else _or_null(values[name]) for name in names}
    schema: _Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _by_id(schema: _Schema) -> _Schema:
    return {"type": "object", "propertyNames": {"pattern": r"\S", "maxLength": 256}, "additionalProperties": schema}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/$defs/{name}"}


def _words(known: Any) -> _Schema:
    return {"enum": list(known)}


def _integer(least: int, most: int = INTEGER_MAX) -> _Schema:
    """A whole number; as text too, so that a document whose numbers are all text is one."""
    positive = "(?=0*[1-9])" if least else ""
    whole = {"type": "integer", "minimum": least, "maximum": most}
    return {"anyOf": [whole, {"type": "string", "pattern": rf"^{positive}\d{{1,19}}(\.0{{1,30}})?$"}]}


def _decimal(sign: str = "", least: int = 0) -> _Schema:
    """An exact decimal: text, or a number whose text the reader keeps."""
    return {
        "type": ["string", "number"],
        "pattern": rf"^\s*{sign}\d{{1,{WHOLE_DIGITS_MAX}}}(\.\d{{1,{PLACES_MAX}}})?\s*$",
        "minimum": least,
    }
