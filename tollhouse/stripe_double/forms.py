"""Stripe's request encoding: form fields with bracketed names, such as lines[0][period][start]."""

import re
from typing import Any
from urllib.parse import parse_qsl

from tollhouse.stripe_double.errors import invalid

_PART = re.compile(r"\[([^\[\]]*)\]")


def decode(text: str) -> dict[str, Any]:
    """The tree of a query string or form body. Leaves are strings; lists are dicts of "0", "1", ... until typed."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, bracket, _ = name.partition("[")
        path = [head, *_PART.findall(name[len(head) :])] if bracket else [head]
        _put(tree, path, value, name)
    return tree


def _put(tree: dict[str, Any], path: list[str], value: str, name: str) -> None:
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part or str(len(node)), {})
        if not isinstance(node, dict):
            raise invalid(f"Invalid parameter name: {name}", param=name, stored=False)
    last = path[-1] or str(len(node))
    if last in node:
        raise invalid(f"Parameter given twice: {name}", param=name, stored=False)
    node[last] = value
