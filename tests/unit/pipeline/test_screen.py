"""Each delivery judged by itself: every reason, which of two comes first, and the edges of what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.screen import FUTURE_US, LOOK_BACK_US, Refused, Screened, screen, unstorable
from schemas.tokens import COUNT_MAX, ZERO, as_dict
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, context, event, ref

CONTEXT = context()


def judged(document: object, arrival_us: int = ARRIVAL_US) -> Screened | Refused:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return screen(Delivery(raw, arrival_us, Evidence("t", 0, 7, 1)), CONTEXT)[0]


def refused(document: object, reason: str) -> Refused:
    verdict = judged(document)
    assert isinstance(verdict, Refused), verdict
    assert verdict.reason == reason, verdict.detail
    assert verdict.detail
    assert "\n" not in verdict.detail
    return verdict


def accepted(document: object, arrival_us: int = ARRIVAL_US) -> Screened:
    verdict = judged(document, arrival_us)
    assert isinstance(verdict, Screened), verdict
    return verdict


def without(name: str) -> dict[str, Any]:
    document = event("e1", input=1)
    del document[name]
    return document


def with_data(**data: Any) -> dict[str, Any]:
    document = event("e1", input=1)
    document["data"].update(data)
    return document


def test_an_event_is_taken_apart() -> None:
    found = accepted(with_data(tokens={"input": 5, "output": 3}, reservation="r", user="u", labels={"b": 1, "a": 2}))
    assert found.identity == ("acme", "proxy/eu-1", "e1")
    assert found.time_us == TIME_US
    assert as_dict(found.classes) == {"input": 5, "output": 3}
    assert (found.requests, found.status, found.service_tier, found.pooled) == (1, "ok", "standard", True)
    assert found.labels == '{"a":2,"b":1}'
    assert found.reservation == "r"
    assert found.late == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b'{"id": "a\xff"}',
        b'{"a":' * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"id": NaN}',
        b'{"id": 1e999}',
        b'{"a": 1}trailing',
    ],
)
def test_what_is_no_event_is_malformed_and_kept_whole(raw: bytes) -> None:
    assert refused(raw, "malformed").raw == raw


@pytest.mark.parametrize("name", ["id", "source", "type", "time", "subject", "data"])
def test_a_missing_part_is_malformed(name: str) -> None:
    assert name in refused(without(name), "malformed").detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", 1.0),
        ("type", "com.tollhouse.usage.v2"),
        ("type", None),
        ("time", "2026-10-03"),
        ("time", "2026-10-03T10:11:12"),
        ("time", "2026-02-30T10:11:12Z"),
        ("time", 1791022272),
        ("id", ""),
        ("id", "  "),
        ("id", "x" * 257),
        ("id", "a\tb"),
        ("id", "a\u0007"),
        ("id", "a\u200b\u2028b"),
        ("id", 7),
        ("source", ""),
        ("source", "\u00a0"),
        ("source", "x" * 257),
        ("subject", 5),
        ("data", []),
        ("data", None),
    ],
)
def test_an_envelope_with_a_wrong_part_is_malformed(name: str, value: object) -> None:
    document = event("e1", input=1)
    document[name] = value
    refused(document, "malformed")


@pytest.mark.parametrize("name", ["x" * 256, " a ", "a b", "é", "日本", "\U0001f600", "-", "0"])
def test_ids_of_printable_characters_are_kept_as_they_are(name: str) -> None:
    document = event("e1", input=1)
    document["id"] = document["source"] = name
    assert accepted(document).identity == ("acme", name, name)


@pytest.mark.parametrize(
    "data",
    [
        {"key": None},
        {"key": ""},
        {"key": 1},
        {"model": None},
        {"model": ""},
        {"status": "failed"},
        {"service_tier": "gold"},
        {"cache_hit": "yes"},
        {"labels": ["a"]},
        {"user": 17},
        {"replaces": {"id": "x"}},
        {"replaces": "x"},
        {"replaces": {"source": "proxy/eu-1", "id": "e1"}},
        {"usage": {"input_tokens": 1, "output_tokens": 1}},
        {"tokens": [1]},
        {"tokens": "5"},
    ],
)
def test_data_with_a_wrong_part_is_refused(data: dict[str, Any]) -> None:
    verdict = judged(with_data(**data))
    assert isinstance(verdict, Refused)
    assert verdict.reason == "malformed" or (verdict.reason == "inconsistent_usage" and "tokens" in data)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff", "\udc00\ud800"])
def test_text_that_no_database_stores_is_malformed(text: str) -> None:
    for path in ({"user": text}, {"labels": {"a": [text]}}, {"labels": {text: 1}}):
        refused(json.dumps(with_data(**path)).encode(), "malformed")
    assert unstorable({"a": ["x", {"b": text}]}) == "event.a[1].b"


def test_a_surrogate_pair_is_a_letter() -> None:
    document = with_data(user="\U0001f600")
    assert b"\\ud83d\\ude00" in json.dumps(document).encode()
    assert accepted(json.dumps(document).encode()).user == "\U0001f600"


def test_unknown_fields_are_ignored_but_belong_to_the_content() -> None:
    plain, more = event("e1", input=1), event("e1", input=1)
    more["traceparent"], more["data"]["future"] = "00-1", {"x": 1}
    assert accepted(more).classes == accepted(plain).classes
    assert accepted(more).digest != accepted(plain).digest


def test_content_is_compared_as_json() -> None:
    base = accepted(with_data(tokens={"input": 5, "output": 3})).digest
    assert accepted(json.dumps(with_data(tokens={"output": 3, "input": 5}), indent=3).encode()).digest == base
    assert accepted(with_data(tokens={"input": 5.0, "output": 3})).digest == base
    assert (
        accepted(json.dumps(with_data(tokens={"input": 5, "output": 3})).replace("5}", "5 }").encode()).digest == base
    )
    assert (
        accepted(json.dumps(with_data(tokens={"output": 3, "input": 5})).replace(": 5}", ": 0.5e1}").encode()).digest
        == base
    )
    assert (
        accepted(json.dumps(with_data(tokens={"input": 5, "output": 3})).replace("acme", "\\u0061cme").encode()).digest
        == base
    )
    assert accepted(with_data(tokens={"input": 5, "output": 4})).digest != base
    assert accepted(with_data(tokens={"input": 5, "output": 3}, user="5")).digest != base


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ({"input": -1}, "negative_usage"),
        ({"input": COUNT_MAX + 1}, "inconsistent_usage"),
        ({"input": 1.5}, "inconsistent_usage"),
        ({"input": "5"}, "inconsistent_usage"),
        ({"input": True}, "inconsistent_usage"),
        ({"tokens": 5}, "inconsistent_usage"),
    ],
)
def test_counts_that_are_none_are_refused(tokens: dict[str, Any], reason: str) -> None:
    verdict = judged(with_data(tokens=tokens))
    assert isinstance(verdict, Refused)
    assert verdict.reason in {reason, "malformed"}
    assert (verdict.reason == "negative_usage") == (reason == "negative_usage")


def test_the_largest_count_counts() -> None:
    assert accepted(with_data(tokens={"input": COUNT_MAX})).classes[0] == COUNT_MAX
    assert (
        accepted(json.dumps(with_data(tokens={"input": 9})).replace("9", "9007199254740991.0").encode()).classes[0]
        == COUNT_MAX
    )


@pytest.mark.parametrize("given", [{}, {"usage": None}, {"usage": {}}, {"usage": []}, {"tokens": {}}, {"tokens": None}])
def test_nothing_said_is_no_usage(given: dict[str, Any]) -> None:
    document = event("e1", **given)
    refused(document, "no_usage")
    document["data"]["status"] = "error"
    found = accepted(document)
    assert (found.classes, found.requests) == (ZERO, 0)


def test_billable_leaves_errors_and_cache_answers_out() -> None:
    for data in ({"status": "error"}, {"cache_hit": True}):
        found = accepted(with_data(tokens={"input": 5}, **data))
        assert as_dict(found.classes) == {"input": 5}
        assert found.billable == ZERO
    assert accepted(with_data(tokens={"input": 5}, status="aborted")).billable[0] == 5


def test_who_calls_with_what() -> None:
    refused(event("e1", subject="nobody", input=1), "unknown_tenant")
    refused(event("e1", subject="ACME", input=1), "unknown_tenant")
    refused(event("e1", key="k9", input=1), "unknown_key")
    refused(event("e1", key="mine", input=1), "foreign_key")
    assert not accepted(event("e1", subject="own", key="mine", input=1)).pooled
    assert accepted(event("e1", subject="own", key="k1", input=1)).pooled
    assert accepted(event("e1", provider=None, input=1)).provider == "openai"


def test_the_first_reason_is_the_nearest_to_the_envelope() -> None:
    refused(event("", subject="nobody", key="k9"), "malformed")
    refused(event("e1", subject="nobody", key="k9"), "unknown_tenant")
    refused(event("e1", key="k9"), "unknown_key")
    refused(event("e1", key="mine"), "foreign_key")
    refused(event("e1"), "no_usage")
    refused(event("e1", subject="nobody", usage={"a": 1}, tokens={"input": 1}), "malformed")


@pytest.mark.parametrize(
    ("ahead_us", "late"),
    [
        (0, ""),
        (FUTURE_US, ""),
        (FUTURE_US + 1, "from_future"),
        (-LOOK_BACK_US, ""),
        (-LOOK_BACK_US - 1, "too_old"),
    ],
)
def test_the_edges_of_time(ahead_us: int, late: str) -> None:
    assert accepted(event("e1", input=1), arrival_us=TIME_US - ahead_us).late == late
    assert accepted(event("v1", kind="void", voids=ref("e1")), arrival_us=TIME_US - ahead_us).late == late


def test_a_void_needs_a_target_and_a_tenant() -> None:
    document = event("v1", kind="void", voids=ref("e1"), reason="sent twice")
    del document["data"]["key"], document["data"]["model"]
    found = accepted(document)
    assert (found.kind, found.target, found.reason, found.requests) == (
        "void",
        ("acme", "proxy/eu-1", "e1"),
        "sent twice",
        0,
    )
    refused(event("v1", kind="void"), "malformed")
    refused(event("v1", kind="void", voids=ref("v1")), "malformed")
    refused(event("v1", kind="void", voids=ref("e1"), subject="nobody"), "unknown_tenant")


def test_the_rejection_names_what_it_can() -> None:
    found = refused(event("e1", subject="nobody", input=1), "unknown_tenant")
    assert (found.tenant, found.source, found.id) == ("nobody", "proxy/eu-1", "e1")
    assert found.evidence == Evidence("t", 0, 7, 1)
    assert json.loads(found.raw)["id"] == "e1"
