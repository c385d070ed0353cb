"""The AsyncAPI document holds together: what it refers to is there, and what is there is referred to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))


def references(node: Any) -> Iterator[str]:
    """Every $ref, wherever it stands."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere_and_every_part_is_used() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        if not reference.startswith("#/"):
            assert reference == "reference/event.schema.json", "which make docs writes"
            continue
        node: Any = DOCUMENT
        for name in reference[2:].split("/"):
            assert name in node, reference
            node = node[name]
    for kind, parts in DOCUMENT["components"].items():
        for name in parts:
            assert f"#/components/{kind}/{name}" in found, f"{name} is used by nothing"


def test_every_channel_has_an_operation_and_messages_with_a_payload() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    operations = DOCUMENT["operations"].values()
    assert {one["action"] for one in operations} == {"send", "receive"}
    assert {one["channel"]["$ref"] for one in operations} == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    for name, channel in DOCUMENT["channels"].items():
        assert channel["address"], name
        assert channel["messages"], name
    for name, message in DOCUMENT["components"]["messages"].items():
        assert message["name"], name
        assert message["payload"], name


def test_it_is_for_the_interface_that_holds() -> None:
    major, minor, patch = DOCUMENT["info"]["version"].split(".")
    assert all(part.isdigit() for part in (major, minor, patch))
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["defaultContentType"] == "application/json"
