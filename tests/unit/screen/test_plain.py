"""Screening in bulk is screening: whatever it takes by itself comes out as the single way gives it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.normalise import normalise
from pipeline.normalise.common import common
from pipeline.plain import Batch, Plain, screen_deliveries, screen_messages
from pipeline.screen import Refused, Screened, screen
from schemas.plain_event import canonical, decode_plain
from schemas.usage_event import Delivery, Evidence, Message, content_digest, decode_document, split_message
from tests.unit.pipeline.events import ARRIVAL_US, context, event
from tests.unit.screen.shapes import APIS, PROVIDERS, batches, times, usages

CONTEXT = context(
    provider_prices=[
        {"provider": "openai", "model": "m", "from": "2026-01-01", "per": 1000000, "input": "1.00", "output": "2.00"},
        {
            "provider": "openai",
            "model": "m",
            "from": "2026-01-01",
            "per": 1000000,
            "over_input": 1000,
            "input": "3.00",
            "output": "4.00",
        },
    ]
)
LAW = settings(deadline=None, max_examples=120)


def as_screened(batch: Batch, plain: Plain) -> Screened:
    """The plain event's own facts, in the form of the single way."""
    use, message = plain.use, plain.message
    return Screened(
        identity=plain.identity,
        digest=plain.digest,
        kind="usage",
        time_us=plain.time_us,
        arrival_us=message.arrival_us,
        evidence=Evidence(message.topic, message.partition, message.offset, plain.item),
        key=use.key,
        provider=use.provider,
        api=use.api,
        model=use.model,
        service_tier=use.service_tier,
        status=use.status,
        cache_hit=use.cache_hit,
        estimated=use.estimated,
        pooled=use.pooled,
        size_band=plain.size_band,
        classes=plain.classes,
        requests=use.requests,
        upstream_id=plain.upstream[2] if plain.upstream else None,
        reservation=plain.reservation,
        user=plain.user,
        network=plain.network,
        agent=plain.agent,
        labels=plain.labels,
        target=None,
        reason="",
        late="",
        raw=batch.again(plain).raw,
    )


def in_order(batch: Batch) -> list[Screened | Refused]:
    found: dict[int, Screened | Refused] = {plain.at: as_screened(batch, plain) for plain in batch.plain}
    for at, item, _ in batch.odd:
        assert at not in found
        found[at] = item
    assert sorted(found) == list(range(len(found)))
    return [found[at] for at in range(len(found))]


@LAW
@given(batches())
def test_single_events_come_out_as_the_single_way_gives_them(raws: list[bytes]) -> None:
    deliveries = [Delivery(raw, ARRIVAL_US, Evidence("t", 1, number, 3)) for number, raw in enumerate(raws)]
    batch = screen_deliveries(deliveries, CONTEXT)
    assert in_order(batch) == [screen(delivery, CONTEXT)[0] for delivery in deliveries]
    assert [leak for _, _, leak in batch.odd if leak] == [
        leak for delivery in deliveries if (leak := screen(delivery, CONTEXT)[1])
    ]


@LAW
@given(st.lists(batches(6), min_size=1, max_size=10), st.booleans())
def test_messages_come_out_event_by_event_with_their_places(arrays: list[list[bytes]], alone: bool) -> None:
    values = [raw for raws in arrays for raw in raws] if alone else [b"[" + b",".join(raws) + b"]" for raws in arrays]
    messages = [Message(value, ARRIVAL_US + n, "t", 2, n) for n, value in enumerate(values)]
    batch = screen_messages(messages, CONTEXT)
    singly = [
        Delivery(raw, m.arrival_us, Evidence("t", 2, m.offset, item))
        for m in messages
        for item, raw in enumerate(split_message(m.value))
    ]
    assert in_order(batch) == [screen(delivery, CONTEXT)[0] for delivery in singly]
    assert batch.messages == [(m, len(split_message(m.value))) for m in messages]


@LAW
@given(times())
def test_a_time_is_read_as_the_single_way_reads_it(text: str) -> None:
    delivery = Delivery(raw_of({**event("e", input=1), "time": text}), ARRIVAL_US, Evidence("t", 0, 0, 0))
    assert in_order(screen_deliveries([delivery], CONTEXT)) == [screen(delivery, CONTEXT)[0]]


@LAW
@given(PROVIDERS, APIS, usages())
def test_the_common_shapes_count_what_normalising_counts(provider: str | None, api: str | None, usage: Any) -> None:
    found = common(provider, api, usage)
    assert found is None or found == normalise(provider, api, usage)


@pytest.mark.parametrize(
    ("provider", "api", "usage"),
    [
        ("openai", "chat", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}),
        ("azure", "responses", {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}),
        ("anthropic", "messages", {"input_tokens": 5, "output_tokens": 2, "cache_creation_input_tokens": 3}),
        ("groq", None, {"prompt_tokens": 5, "completion_tokens": 2}),
    ],
)
def test_the_common_shapes_are_taken_straight(provider: str, api: str | None, usage: dict[str, Any]) -> None:
    assert common(provider, api, usage) is not None


def test_the_usual_traffic_is_plain() -> None:
    raws = [raw_of(event(f"e{n}", input=n, labels={"a": "b"}, upstream_id=f"u{n}")) for n in range(20)]
    batch = screen_messages([Message(b"[" + b",".join(raws) + b"]", ARRIVAL_US, "t", 0, 0)], CONTEXT)
    assert (len(batch.plain), batch.odd) == (20, [])


def test_one_odd_event_leaves_the_others_of_its_message_plain() -> None:
    raws = [raw_of(event(f"e{n}", input=n, **({"surprise": 2.5} if n == 3 else {}))) for n in range(20)]
    batch = screen_messages([Message(b"[" + b",".join(raws) + b"]", ARRIVAL_US, "t", 0, 0)], CONTEXT)
    assert (len(batch.plain), [at for at, _, _ in batch.odd]) == (19, [3])


@LAW
@given(batches(4))
def test_the_canonical_text_is_what_the_digest_is_of(raws: list[bytes]) -> None:
    batch = screen_deliveries([Delivery(raw, ARRIVAL_US, Evidence("t", 0, 0, 0)) for raw in raws], CONTEXT)
    for plain in batch.plain:
        raw = plain.message.value
        assert plain.digest == content_digest(decode_document(raw), raw)
        assert decode_document(canonical(decode_plain(raw))) == decode_document(raw)


def raw_of(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
