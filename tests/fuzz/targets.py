"""What the fuzzers call: any bytes in, an AssertionError (or any other) for a fault of ours, nothing otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.catalog import parse_data, parse_yaml
from pipeline.plain import screen_messages
from pipeline.screen import Refused, screen, unstorable
from schemas.catalog import Catalog
from schemas.tokens import COUNT_MAX
from schemas.usage_event import Delivery, Evidence, Message, content_digest, decode_document, split_message
from tests.unit.pipeline.events import ARRIVAL_US, context
from tests.unit.screen.test_plain import in_order

CONTEXT = context()
KEPT = Path(__file__).parent / "kept"
REASONS = {
    "malformed", "unknown_tenant", "unknown_key", "foreign_key", "no_usage", "inconsistent_usage", "negative_usage",
    "conflict", "duplicate_upstream", "from_future", "too_old", "unknown_event",
}  # fmt: skip


def message(value: bytes) -> None:
    """A message of `usage.events`: each of its events is judged, alike in bulk and singly, with a reason or with counts
    that can be stored; its content has one digest, however its members are ordered."""
    singly = [Delivery(raw, ARRIVAL_US, Evidence("t", 0, 1, item)) for item, raw in enumerate(split_message(value))]
    judged = [screen(delivery, CONTEXT)[0] for delivery in singly]
    assert in_order(screen_messages([Message(value, ARRIVAL_US, "t", 0, 1)], CONTEXT)) == judged
    for verdict in judged:
        if isinstance(verdict, Refused):
            assert verdict.reason in REASONS, verdict.reason
            assert verdict.detail
            assert verdict.detail.isprintable(), verdict.detail
            continue
        assert all(type(count) is int and 0 <= count <= COUNT_MAX for count in verdict.classes)
        kept = (verdict.user, verdict.network, verdict.agent, verdict.model, verdict.upstream_id, verdict.labels)
        assert unstorable([*kept, *verdict.identity]) is None
        document = decode_document(verdict.raw)
        turned = dict(reversed(document.items()))
        again = json.dumps(turned, ensure_ascii=False).encode()
        assert content_digest(turned, again) == content_digest(document, verdict.raw)


def catalog(value: bytes) -> None:
    """A catalog's text: read, and then the same from what it says it read; or errors of one line each."""
    found = parse_yaml(value.decode("utf-8", "replace"))
    if isinstance(found, Catalog):
        json.dumps(found.source)
        assert parse_data(found.source) == found
    else:
        assert found
        assert all("\n" not in str(error) for error in found)


TARGETS: dict[str, Callable[[bytes], None]] = {"message": message, "catalog": catalog}


def kept(target: str) -> list[Path]:
    """What a fuzzer once found, and a few of each kind to begin with; every test run goes through all of them."""
    return sorted(path for path in (KEPT / target).iterdir() if path.is_file())
