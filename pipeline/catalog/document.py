"""A catalog document as a tree of nodes that know their line: from YAML text, or from data that was parsed elsewhere.

YAML is read from parser events, not by a loader: every scalar keeps its own text, so 0.30 is exactly 0.30, a country NO
is Norway (YAML 1.2 booleans only), a date stays text, a key that stands twice is an error with both lines, and no
document, however nested or aliased, costs more than the bounds below.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 64
"""The deepest path of a real catalog is 6; far below the interpreter's recursion limit."""
MAX_NODES: Final = 2_000_000
"""Nodes, aliases followed: 1,000 tenants with plans of their own are some 100,000; a "billion laughs" is 10**9."""

Scalar = str | int | Decimal | bool | None

_INT: Final = re.compile(r"[-+]?\d{1,3}(_\d{3})+|[-+]?(0|[1-9]\d*)")
_REAL: Final = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d{1,3})?")
_TAG: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = frozenset(_TAG + name for name in ("int", "float", "bool", "null", "timestamp"))
_SOME_DIGITS: Final = 60  # as many as money arithmetic keeps; a longer number is a mistake, and costs square time


@dataclass(frozen=True, slots=True)
class CatalogError:
    """What is wrong, where, and what to do. line counts from 1 (None: the document had no lines)."""

    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        text = f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)  # one line, always


@dataclass(slots=True)
class Node:
    """A value and its line: a scalar, a list of nodes, or a dict of nodes by key. size: nodes, aliases followed."""

    line: int | None
    value: "Scalar | list[Node] | dict[str, Node]"
    size: int = 1


class DocumentError(Exception):
    """The text is not a document at all; carries what to report."""

    def __init__(self, line: int | None, message: str, path: str = "") -> None:
        super().__init__(message)
        self.error = CatalogError(line, path, message)


def scalar(text: str) -> Scalar:
    """The value of an unquoted scalar: null, true, false, a whole number, a decimal, else text."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) <= _SOME_DIGITS and text.isascii():
        if _INT.fullmatch(text):
            return int(text.replace("_", ""))
        if _REAL.fullmatch(text) and not re.fullmatch(r"[-+]?0\d+", text):
            value = Decimal(text)
            return value if abs(value.adjusted()) < _SOME_DIGITS else text
    return text


class _Builder:
    """Nodes from parser events; the recursion is bounded by MAX_DEPTH, the size by MAX_NODES."""

    def __init__(self, events: Iterator[yaml.Event], errors: list[CatalogError]) -> None:
        self.events = events
        self.errors = errors
        self.anchors: dict[str, Node | None] = {}
        self.total = 0

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise DocumentError(_line(event), "a second document starts here: keep one catalog in one file")
                root = self.node(next(self.events), "", 0)
        return root

    def node(self, event: yaml.Event, path: str, depth: int) -> Node:
        line = _line(event)
        if depth > MAX_DEPTH:
            raise DocumentError(line, f"nested deeper than {MAX_DEPTH} levels: a catalog needs 6", path)
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(event.anchor or "")
            if known is None:
                raise DocumentError(
                    line, f"the alias *{event.anchor} has no anchor before it, or contains itself", path
                )
            self.count(known.size, line)
            return Node(line, known.value, known.size)
        assert isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent)
        self.count(1, line)
        if event.anchor:
            self.anchors[event.anchor] = None  # until it is complete: an anchor cannot contain itself
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, self.scalar_value(event, path))
        elif isinstance(event, yaml.SequenceStartEvent):
            self.check_tag(event.tag, "seq", line, path)
            node = self.sequence(line, path, depth)
        else:
            self.check_tag(event.tag, "map", line, path)
            node = self.mapping(line, path, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def count(self, size: int, line: int | None) -> None:
        self.total += size
        if self.total > MAX_NODES:
            raise DocumentError(line, f"more than {MAX_NODES} values, aliases followed: split or shorten the document")

    def check_tag(self, tag: str | None, expected: str, line: int | None, path: str) -> None:
        if tag not in (None, "!", _TAG + expected):
            self.errors.append(CatalogError(line, path, f"the tag {tag} is not supported: write plain YAML"))

    def scalar_value(self, event: yaml.ScalarEvent, path: str) -> Scalar:
        text: str = event.value
        if event.tag in (_TAG + "str", "!"):
            return text
        if event.tag is not None and event.tag not in _SCALAR_TAGS:
            self.check_tag(event.tag, "str", _line(event), path)
        return text if event.style and event.tag is None else scalar(text)

    def sequence(self, line: int | None, path: str, depth: int) -> Node:
        items: list[Node] = []
        size = 1
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self.node(event, f"{path}[{len(items)}]", depth + 1)
            size += item.size
            items.append(item)
        return Node(line, items, size)

    def mapping(self, line: int | None, path: str, depth: int) -> Node:
        entries: dict[str, Node] = {}
        merges: list[Node] = []
        size = 1
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key_line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                self.node(event, path, depth + 1)
                key = None
                self.errors.append(
                    CatalogError(key_line, path, "a key must be plain text, not a list, mapping or alias")
                )
            else:
                key = event.value
                if event.anchor:
                    self.anchors[event.anchor] = Node(key_line, self.scalar_value(event, path))
            place = path if key is None else f"{path}.{key}" if path else key
            value = self.node(next(self.events), place, depth + 1)
            size += value.size
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                merges.append(value)
            elif key is not None:
                self.enter(entries, key, Node(key_line, value.value, value.size), place)
        for merge in merges:
            self.merge(entries, merge, path)
        return Node(line, entries, size)

    def enter(self, entries: dict[str, Node], key: str, value: Node, path: str) -> None:
        if key in entries:
            first = entries[key].line
            message = f"the key {key!r} already stands on line {first}: keep one of the two"
            self.errors.append(CatalogError(value.line, path, message))
            return
        entries[key] = value

    def merge(self, entries: dict[str, Node], merge: Node, path: str) -> None:
        """YAML's merge key: entries of another mapping, or of several, the first of a name winning."""
        for source in merge.value if isinstance(merge.value, list) else [merge]:
            if not isinstance(source.value, dict):
                self.errors.append(CatalogError(merge.line, path, "a merge key needs a mapping, like <<: *defaults"))
                continue
            for key, value in source.value.items():
                entries.setdefault(key, value)


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark is not None else None


_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> tuple[Node | None, list[CatalogError]]:
    """The document of a YAML text and what is wrong with its form. None: no document could be read."""
    errors: list[CatalogError] = []
    try:
        builder = _Builder(iter(yaml.parse(text, Loader=_LOADER)), errors)
        return builder.document(), errors
    except DocumentError as problem:
        errors.append(problem.error)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        what = " ".join(part for part in (problem.context, problem.problem) if part)
        errors.append(CatalogError(mark.line + 1 if mark else None, "", f"not valid YAML: {what}"))
    except (yaml.YAMLError, UnicodeError) as problem:
        errors.append(CatalogError(None, "", f"not valid YAML: {' '.join(str(problem).split())}"))
    return None, errors


def read_data(data: object) -> Node:
    """The document of plain data: dicts with text keys, lists, text, ints, Decimals, booleans, None.

    Raises DocumentError for anything else; a float above all: its text is gone, and with it the exact number.
    """
    return _Reader().node(data, "", 0)


class _Reader:
    def __init__(self) -> None:
        self.total = 0

    def node(self, data: object, path: str, depth: int) -> Node:
        self.total += 1
        if depth > MAX_DEPTH or self.total > MAX_NODES:
            raise DocumentError(None, f"nested deeper than {MAX_DEPTH} levels or more than {MAX_NODES} values", path)
        if isinstance(data, Mapping):
            entries: dict[str, Node] = {}
            for key, value in data.items():
                if not isinstance(key, str):
                    raise DocumentError(None, f"the key {key!r} must be text", path)
                entries[key] = self.node(value, f"{path}.{key}" if path else key, depth + 1)
            return Node(None, entries)
        if isinstance(data, (list, tuple)):
            return Node(None, [self.node(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(data)])
        if isinstance(data, int) and abs(data) >= 10**_SOME_DIGITS:
            raise DocumentError(None, f"a number of more than {_SOME_DIGITS} digits", path)
        if isinstance(data, Decimal) and not (data.is_finite() and abs(data.adjusted()) < _SOME_DIGITS):
            raise DocumentError(None, f"{data} is not a finite number of at most {_SOME_DIGITS} digits", path)
        if data is None or isinstance(data, (str, int, Decimal)):
            return Node(None, data)
        if isinstance(data, float):
            raise DocumentError(None, f"{data!r} is a float, not exact: parse numbers as Decimal, or quote them", path)
        raise DocumentError(None, f"a value of type {type(data).__name__} is not plain data", path)


def plain_data(node: Node) -> Any:
    """The document as plain data that JSON can hold: decimals as text, everything else as it is."""
    if isinstance(node.value, dict):
        return {key: plain_data(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain_data(item) for item in node.value]
    return format(node.value, "f") if isinstance(node.value, Decimal) else node.value
