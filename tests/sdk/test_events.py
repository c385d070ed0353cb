"""Events as the contract has them: identity, time, and what a helper may not invent."""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from tollhouse_client import InvalidEventError, new_id, usage_event, void_event
from tollhouse_client.events import encode_event, format_time


def test_ids_are_uuid7_unique_and_growing() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = [
            identity for part in threads.map(lambda _: [new_id() for _ in range(5_000)], range(4)) for identity in part
        ]
    assert len(set(made)) == 20_000
    found = uuid.UUID(made[0])
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert str(found) == made[0]
    own = [new_id() for _ in range(5_000)]
    assert all(before < after for before, after in pairwise(own))


def test_an_id_holds_its_millisecond() -> None:
    far_ns = 4_000_000_000_123_456_789
    assert int(new_id(far_ns).replace("-", "")[:12], 16) == far_ns // 1_000_000


def test_times_are_utc_with_milliseconds() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", format_time())
    drift = datetime.now(UTC) - datetime.fromisoformat(format_time())
    assert abs(drift) < timedelta(seconds=2)
    nepal = datetime(2026, 10, 1, 0, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert format_time(nepal) == "2026-09-30T18:15:00.000Z"
    with pytest.raises(InvalidEventError, match="no zone"):
        format_time(datetime(2026, 10, 1))  # noqa: DTZ001


def test_usage_goes_out_verbatim() -> None:
    usage = {"prompt_tokens": 5, "strange": {"deep": [1, None, "ü"]}, "total_tokens": None}
    event = usage_event(source="p", tenant="äcme", key="k", provider="openai", model="m", usage=usage)
    key, body = encode_event(event)
    assert key == "äcme".encode()
    assert json.loads(body)["data"]["usage"] == usage


def test_a_streams_usage_is_a_list() -> None:
    parts = [{"input_tokens": 5}, {"output_tokens": 7}]
    event = usage_event(source="p", tenant="t", key="k", provider="anthropic", model="m", usage=parts)
    assert json.loads(encode_event(event)[1])["data"]["usage"] == parts


def test_what_is_not_known_is_left_out() -> None:
    event = usage_event(source="p", tenant="t", key="k", provider="openai", model="m", status="error")
    assert event["data"] == {"key": "k", "provider": "openai", "model": "m", "status": "error"}


def test_usage_and_tokens_exclude_each_other() -> None:
    with pytest.raises(InvalidEventError, match="not both"):
        usage_event(source="p", tenant="t", key="k", provider="x", model="m", usage={}, tokens={"input": 1})


def test_what_holds_itself_is_refused() -> None:
    usage: dict[str, object] = {}
    usage["again"] = usage
    with pytest.raises(InvalidEventError, match="not JSON"):
        encode_event(usage_event(source="p", tenant="t", key="k", provider="x", model="m", usage=usage))


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="aborted, error, ok"):
        usage_event(source="p", tenant="t", key="k", provider="x", model="m", status="done")


def test_a_void_names_what_it_takes_back() -> None:
    event = void_event(source="p", tenant="t", voids={"source": "p", "id": "e-1"}, reason="test traffic")
    assert event["type"] == "com.tollhouse.usage.void.v1"
    assert event["data"] == {"voids": {"source": "p", "id": "e-1"}, "reason": "test traffic"}
