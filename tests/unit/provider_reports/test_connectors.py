"""The connectors against faithful pages: paging, nulls, empty and missing buckets, cache splits, exact amounts, 429."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from billing.provider_reports import Anthropic, AnthropicLegacy, Client, OpenAI, OpenRouter, ReportError, read_csv
from billing.provider_reports.openai import openai_counts
from schemas.instants import DAY_US, parse_instant
from schemas.money import Money
from tests.unit.provider_reports.provider import Answer, Asked, Provider, paged

START_US = parse_instant("2026-10-01T00:00:00Z")
START_S = START_US // 1_000_000
ADMIN_KEY = "admin-key-of-a-test"
# The example of the provider's API description: every identity between the parts holds.
EXAMPLE = {
    "object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
    "num_model_requests": 5, "input_cached_tokens": 400, "input_cache_write_tokens": 100,
    "input_uncached_tokens": 500, "input_text_tokens": 400, "input_audio_tokens": 50, "input_image_tokens": 50,
    "input_cached_text_tokens": 300, "input_cached_audio_tokens": 50, "input_cached_image_tokens": 50,
    "output_text_tokens": 400, "output_audio_tokens": 50, "output_image_tokens": 50, "project_id": None,
    "user_id": None, "api_key_id": "key_abc", "model": "gpt-5-mini-2026-01-01", "batch": None, "service_tier": None,
}  # fmt: skip


def client(provider: Provider, sleeps: list[float] | None = None, headers: dict[str, str] | None = None) -> Client:
    waits = [] if sleeps is None else sleeps
    return Client("the provider", provider.base, headers or OpenAI.headers(ADMIN_KEY), sleep=waits.append)


def bucket(hour: int, *results: dict[str, Any]) -> dict[str, Any]:
    start = START_S + 3600 * hour
    return {"object": "bucket", "start_time": start, "end_time": start + 3600, "results": list(results)}


def test_openai_pages_buckets_and_keys() -> None:
    keyless = EXAMPLE | {"api_key_id": None}
    deleted = {"input_tokens": 7, "output_tokens": 1, "num_model_requests": 1, "api_key_id": "key_gone", "model": "m"}
    pages = [[bucket(0, EXAMPLE), bucket(1)], [bucket(2, keyless, deleted)]]
    with Provider(paged(pages)) as provider:
        rows = OpenAI(client(provider)).usage(START_US, START_US + DAY_US, 3600, [])
    assert [(row.key, row.model, row.requests) for row in rows] == [
        ("key_abc", "gpt-5-mini-2026-01-01", 5),
        (None, "gpt-5-mini-2026-01-01", 5),
        ("key_gone", "m", 1),
    ]
    assert rows[1].start_us == START_US + 2 * 3600 * 1_000_000
    first, second = provider.asked
    assert first.path == "/organization/usage/completions"
    assert first.headers["authorization"] == f"Bearer {ADMIN_KEY}"
    assert first.query["start_time"] == [str(START_S)]
    assert first.query["group_by[]"] == ["api_key_id", "model"]
    assert second.query["page"] == ["page_1"]


def test_openai_counts_no_token_twice() -> None:
    counts = openai_counts(EXAMPLE)
    assert counts == {
        "input": 400, "cache_read": 400, "cache_write": 100, "cache_write_long": 0, "output": 400, "input_audio": 50,
        "output_audio": 50, "input_image": 50, "output_image": 50,
    }  # fmt: skip
    assert sum(counts.values()) == EXAMPLE["input_tokens"] + EXAMPLE["output_tokens"]  # type: ignore[operator]


def test_openai_cache_writes_by_their_time() -> None:
    row = {
        "input_tokens": 100,
        "output_tokens": 0,
        "input_cache_write_30m_tokens": 30,
        "input_cache_write_12h_tokens": 20,
    }
    assert {k: v for k, v in openai_counts(row).items() if v} == {
        "input": 50,
        "cache_write": 30,
        "cache_write_long": 20,
    }


def test_openai_audio_of_the_older_meaning_is_not_counted_twice() -> None:
    row = {
        "input_tokens": 100, "output_tokens": 0, "input_cached_tokens": 60, "input_audio_tokens": 70,
        "input_cached_audio_tokens": 40,
    }  # fmt: skip
    assert {k: v for k, v in openai_counts(row).items() if v} == {"input": 10, "cache_read": 60, "input_audio": 30}


def test_parts_beyond_their_whole_are_refused() -> None:
    with pytest.raises(ReportError, match="parts"):
        openai_counts({"input_tokens": 10, "output_tokens": 0, "input_cached_tokens": 11})
    with pytest.raises(ReportError, match="lacks input_tokens"):
        openai_counts({"output_tokens": 1})
    with pytest.raises(ReportError, match="not a count"):
        openai_counts({"input_tokens": True, "output_tokens": 1})


def test_openai_costs_are_exact_whatever_their_form_and_unit() -> None:
    results = (
        '[{"amount": {"value": 0.1000000000000000055511151, "currency": "usd"}, "api_key_id": "key_abc",'
        ' "line_item": "gpt-5-mini, input_tokens", "quantity": 12.5, "quantity_unit": "hogsheads"},'
        '{"amount": {"value": "2.50", "currency": "usd"}, "line_item": null},'
        '{"object": "organization.costs.result"}]'
    )
    day = f'"start_time": {START_S}, "end_time": {START_S + 86_400}'
    body = f'{{"data": [{{{day}, "results": {results}}}], "has_more": false, "next_page": null}}'
    with Provider(lambda _a, _n: Answer(200, body)) as provider:
        rows = OpenAI(client(provider)).costs(START_US, START_US + DAY_US)
    assert [(r.line, r.model, r.amount.amount, r.quantity) for r in rows] == [
        ("gpt-5-mini, input_tokens", "gpt-5-mini", Decimal("0.1000000000000000055511151"), "12.5 hogsheads"),
        ("(no line item)", None, Decimal("2.50"), ""),
    ]


def anthropic_row(hour: int, key: str | None, **usage: Any) -> dict[str, Any]:
    return {
        "starting_at": f"2026-10-01T{hour:02}:00:00Z", "ending_at": f"2026-10-01T{hour + 1:02}:00:00Z",
        "group": {"api_key_id": key, "model": "claude-sonnet-5", "workspace_id": None},
        "usage": {
            "uncached_input_tokens": 100, "cache_read_input_tokens": 20,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7}, "output_tokens": 30,
            "total_tokens": 162, "requests": None, "server_tool_use": {"web_search_requests": 2}, **usage,
        },
    }  # fmt: skip


def test_anthropic_rows_are_sparse_and_split_the_cache() -> None:
    pages = [[anthropic_row(0, "apikey_1")], [anthropic_row(5, None, requests=4, cache_creation=None)]]
    with Provider(paged(pages)) as provider:
        connector = Anthropic(client(provider, headers=Anthropic.headers(ADMIN_KEY)))
        rows = connector.usage(START_US, START_US + DAY_US, 3600, [])
    assert [(row.key, row.requests) for row in rows] == [("apikey_1", None), (None, 4)]
    assert rows[0].counts == {
        "input": 100, "cache_read": 20, "cache_write": 5, "cache_write_long": 7, "output": 30, "web_searches": 2,
    }  # fmt: skip
    assert rows[1].counts["cache_write"] == 0
    asked = provider.asked[0]
    assert asked.headers["x-api-key"] == ADMIN_KEY
    assert asked.headers["anthropic-beta"] == "analytics-usage-cost-2026-08-24"
    assert asked.query["starting_at"] == ["2026-10-01T00:00:00Z"]


def test_anthropic_is_asked_in_spans_it_allows() -> None:
    with Provider(paged([[]])) as provider:
        Anthropic(client(provider)).usage(START_US, START_US + 2 * DAY_US + 60_000_000, 60, [])
    assert [asked.query["ending_at"][0] for asked in provider.asked] == [
        "2026-10-02T00:00:00Z", "2026-10-03T00:00:00Z", "2026-10-03T00:01:00Z",
    ]  # fmt: skip


def test_anthropic_costs_are_fractional_cents_and_may_exceed_the_limit_of_a_page() -> None:
    def row(amount: str, token_type: str) -> dict[str, Any]:
        group = {"api_key_id": "apikey_1", "model": "claude-sonnet-5", "cost_type": "tokens", "token_type": token_type}
        cost = {"amount": amount, "list_amount": "9", "currency": "USD", "requests": None}
        return {
            "starting_at": "2026-10-01T00:00:00Z",
            "ending_at": "2026-10-02T00:00:00Z",
            "group": group,
            "cost": cost,
        }

    data = [row("123.4567", "output_tokens")] + [row("0.0001", "uncached_input_tokens")] * 1500
    with Provider(paged([data])) as provider:
        rows = Anthropic(client(provider)).costs(START_US, START_US + DAY_US)
    assert len(rows) == 1501
    assert rows[0].amount == Money(Decimal("1.234567"), "USD")
    assert rows[0].line == "claude-sonnet-5, tokens, output_tokens"
    assert sum((r.amount.amount for r in rows), Decimal(0)) == Decimal("1.234567") + 1500 * Decimal("0.000001")


def test_anthropics_legacy_report_has_buckets_and_no_requests() -> None:
    usage = anthropic_row(0, "x")["usage"]
    results = [{**usage, "api_key_id": None, "model": "claude-sonnet-5"}]
    empty = {"starting_at": "2026-10-01T01:00:00Z", "ending_at": "2026-10-01T02:00:00Z", "results": []}
    full = {"starting_at": "2026-10-01T00:00:00Z", "ending_at": "2026-10-01T01:00:00Z", "results": results}
    with Provider(paged([[full, empty]])) as provider:
        (row,) = AnthropicLegacy(client(provider)).usage(START_US, START_US + DAY_US, 3600, [])
    assert (row.key, row.requests, row.counts["input"]) == (None, None, 100)
    assert provider.asked[0].path == "/v1/organizations/usage_report/messages"


def test_openrouter_is_asked_by_day_and_key() -> None:
    def answer(asked: Asked, _n: int) -> Answer:
        row = {
            "date": f"{asked.query['date'][0]} 00:00:00", "model": "openai/gpt-5-mini", "provider_name": "OpenAI",
            "usage": 0.25, "requests": 3, "prompt_tokens": 1000, "completion_tokens": 200, "reasoning_tokens": 50,
        }  # fmt: skip
        return Answer(200, json.dumps({"data": [row] if asked.query["api_key_hash"] == ["h1"] else []}))

    with Provider(answer) as provider:
        connector = OpenRouter(client(provider))
        rows = connector.usage(START_US, START_US + 2 * DAY_US, 86_400, ["h1", "h2"])
        bill = connector.costs(START_US, START_US + 2 * DAY_US)
    assert len(provider.asked) == 4
    assert [(row.start_us, row.key, dict(row.counts)) for row in rows] == [
        (START_US, "h1", {"input": 1000, "output": 200}),
        (START_US + DAY_US, "h1", {"input": 1000, "output": 200}),
    ]
    assert [row.amount for row in bill] == [Money(Decimal("0.25"), "USD")] * 2


def test_429_waits_as_long_as_it_is_told() -> None:
    def answer(asked: Asked, number: int) -> Answer:
        if number < 2:
            return Answer(429, "{}", {"retry-after": "7"})
        return paged([[bucket(0, EXAMPLE)]])(asked, number)

    sleeps: list[float] = []
    with Provider(answer) as provider:
        rows = OpenAI(client(provider, sleeps)).usage(START_US, START_US + DAY_US, 3600, [])
    assert len(rows) == 1
    assert sleeps == [7.0, 7.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(429, "{}", {"retry-after": "900"}), "wait 900 s"),
        (Answer(503, "oops"), "503, 6 times"),
        (Answer(401, "{}"), "admin key"),
        (Answer(404, "{}"), "does not know"),
        (Answer(200, "<html>"), "no JSON"),
        (Answer(200, "[1]"), "no JSON object"),
        (Answer(200, '{"data": null}'), "no list"),
        (Answer(200, '{"data": [], "has_more": true, "next_page": null}'), "not where"),
        (Answer(200, '{"data": [], "has_more": true, "next_page": "p"}'), "do not end"),
    ],
)
def test_what_cannot_be_had_is_one_line_without_the_key(answer: Answer, words: str) -> None:
    with Provider(lambda _a, _n: answer) as provider, pytest.raises(ReportError, match=words) as caught:
        OpenAI(client(provider)).usage(START_US, START_US + DAY_US, 3600, [])
    assert ADMIN_KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_has_the_classes_that_its_columns_name() -> None:
    text = [
        "start,end,key,model,input,output,requests,cost,line\n",
        "2026-10-01,2026-10-02,k1,gemini-x,1000,20,3,0.30,Gemini input\n",
        "2026-10-01T10:00:00Z,2026-10-01T11:00:00Z,,gemini-x,5,,,,\n",
    ]
    usage, bill, has = read_csv(text)
    assert has == ("input", "output")
    assert [(row.key, dict(row.counts), row.requests) for row in usage] == [
        ("k1", {"input": 1000, "output": 20}, 3), (None, {"input": 5, "output": 0}, None),
    ]  # fmt: skip
    assert [(row.line, row.amount) for row in bill] == [("Gemini input", Money(Decimal("0.30"), "USD"))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start,end,key\n", "line 1: it lacks model"),
        ("start,end,key,model,tokens\n", "tokens, which are no columns"),
        ("start,end,key,model,input\n2026-10-01,2026-10-01,k,m,1\n", "line 2: end is not after start"),
        ("start,end,key,model,input\n2026-10-01,2026-10-02,k,m,1.5\n", "line 2: input is '1.5'"),
        ("start,end,key,model,input\nyesterday,2026-10-02,k,m,1\n", "line 2"),
        ("start,end,key,model,cost\n2026-10-01,2026-10-02,k,m,much\n", "line 2: cost"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        read_csv(text.splitlines(keepends=True))
