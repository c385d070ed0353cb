"""The JSON Schemas that the product publishes: event, catalog, scenario (JSON Schema 2020-12)."""

from typing import Any

import msgspec

from pipeline.catalog import json_schema
from schemas.tokens import CLASSES, COUNT_MAX
from schemas.usage_event import USAGE_TYPE, VOID_TYPE, UsageEvent

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COUNT = {"type": ["integer", "null"], "minimum": 0, "maximum": COUNT_MAX}


def event_schema() -> dict[str, Any]:
    """The usage event (contract, section 1)."""
    (reference,), components = msgspec.json.schema_components([UsageEvent], ref_template="#/$defs/{name}")
    event = components["UsageEvent"]
    event["properties"]["type"] = {"enum": [USAGE_TYPE, VOID_TYPE]}
    event["properties"]["specversion"] = {"const": "1.0"}
    event["properties"]["time"] |= {"format": "date-time"}
    for name in ("id", "source"):
        event["properties"][name] |= {"minLength": 1, "maxLength": 256, "pattern": r"\S"}
    data = components["EventData"]
    data["properties"]["tokens"] = {
        "type": ["object", "null"],
        "properties": dict.fromkeys(CLASSES, _COUNT),
        "additionalProperties": False,
    }
    data["not"] = {
        "required": ["usage", "tokens"],
        "properties": {"usage": {"not": {"type": "null"}}, "tokens": {"not": {"type": "null"}}},
    }
    return {"$schema": _DIALECT, "title": "Tollhouse usage event", **reference, "$defs": components}


def scenario_schema() -> dict[str, Any]:
    """The scenario of `tollhouse simulate` (contract, section 5)."""
    catalog = {k: v for k, v in json_schema().items() if k != "$schema"}
    catalog["$id"] = "catalog"
    instant = {"type": "string", "format": "date-time"}
    text = {"type": "string"}
    month = {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])$"}
    actions: dict[str, dict[str, Any]] = {
        "event": {"type": "object"},
        "events": {"type": "array", "items": {"type": "object"}},
        "authorize": {
            "type": "object",
            "required": ["id", "tenant", "model"],
            "properties": {
                "id": text,
                "tenant": text,
                "model": text,
                "estimate": {"type": "object"},
                "ttl_s": {"type": "integer", "minimum": 1},
            },
        },
        "settle": {"type": "object", "required": ["reservation"], "properties": {"reservation": text}},
        "authenticate": {"type": "object", "required": ["id", "token"], "properties": {"id": text, "token": text}},
        "apply": {"$ref": "#/$defs/catalog"},
        "key": {
            "type": "object",
            "required": ["id", "state"],
            "properties": {"id": text, "state": {"enum": ["active", "suspended", "revoked", "rotating"]}},
        },
        "invoice": {
            "type": "object",
            "required": ["month"],
            "properties": {"month": month, "finalise": {"type": "boolean"}, "tenant": text},
        },
        "void_invoice": {
            "type": "object",
            "required": ["tenant", "month"],
            "properties": {"tenant": text, "month": month},
        },
    }
    steps = [
        {
            "type": "object",
            "required": ["at", name],
            "additionalProperties": False,
            "properties": {"at": instant, name: action},
        }
        for name, action in actions.items()
    ]
    return {
        "$schema": _DIALECT,
        "title": "Tollhouse scenario",
        "type": "object",
        "required": ["catalog", "start", "steps"],
        "additionalProperties": False,
        "properties": {
            "catalog": {"$ref": "#/$defs/catalog"},
            "start": instant,
            "steps": {"type": "array", "items": {"oneOf": steps}},
        },
        "$defs": {"catalog": catalog},
    }


def schema_of(name: str) -> dict[str, Any]:
    """The schema by name: event, catalog or scenario."""
    return {"event": event_schema, "catalog": json_schema, "scenario": scenario_schema}[name]()
