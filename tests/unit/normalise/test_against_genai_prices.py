"""Cross-check of the golden cases against genai-prices' extraction. Each disagreement is listed with its reason.

Compared are the figures that both sides tell, as inclusive totals. Streams are left out: it has no accumulator.
"""

import json
import warnings
from pathlib import Path
from typing import Any, Final

import pytest
from genai_prices.data import providers

from pipeline.normalise import Classes, Rejection, normalise
from schemas.tokens import INPUT_SIDE, OUTPUT_SIDE, index_of

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parents[2] / "golden" / "usage.jsonl").read_text().splitlines()
]
FLAVORS: Final = {
    ("openai", "chat"): ("openai", "chat"),
    ("openai", "responses"): ("openai", "responses"),
    ("openai", "realtime"): ("openai", "realtime"),
    ("openai", "images"): ("openai", "images"),
    ("openai", "embeddings"): ("openai", "embeddings"),
    ("anthropic", "messages"): ("anthropic", "default"),
    ("anthropic", "messages-beta"): ("anthropic", "default"),
    ("google", "generateContent"): ("google", "default"),
    ("google", "live"): ("google", "default"),
    ("aws-bedrock", "converse"): ("aws", "default"),
    ("deepseek", "chat"): ("deepseek", "chat"),
    ("moonshot", "chat"): ("moonshotai", "chat"),
    ("mistral", "chat"): ("mistral", "default"),
    ("mistral", "conversations"): ("mistral", "default"),
    ("mistral", "embeddings"): ("mistral", "default"),
    ("xai", "chat"): ("x-ai", "chat"),
    ("xai", "grpc"): ("x-ai", "default"),
    ("xai", "responses"): ("x-ai", "responses"),
    ("openrouter", "chat"): ("openrouter", "chat"),
    ("groq", "chat"): ("groq", "default"),
    ("fireworks", "chat"): ("fireworks", "chat"),
    ("perplexity", "chat"): ("perplexity", "default"),
    ("cohere", "chat-v2"): ("cohere", "default"),
    ("cohere", "embed"): ("cohere", "embeddings"),
}
FIGURES: Final = {
    "input_tokens": INPUT_SIDE,
    "output_tokens": OUTPUT_SIDE,
    "cache_read_tokens": ("cache_read",),
    "cache_write_tokens": ("cache_write", "cache_write_long"),
    "cache_write_1h_tokens": ("cache_write_long",),
    "output_reasoning_tokens": ("reasoning",),
    "output_audio_tokens": ("output_audio",),
    "output_image_tokens": ("output_image",),
    "web_searches": ("web_searches",),
}
PROVIDERS: Final = {provider.id: provider for provider in providers}
DISAGREE: Final = {
    case: reason
    for reason, cases in {
        "it extracts parts that exceed their whole (and prices them); we refuse": """
            oa-chat-cached-gt-prompt oa-chat-cache-sum-gt-prompt an-split-gt-total an-thinking-gt-output
            gm-cached-gt-prompt gm-details-gt-prompt oa-chat-reasoning-gt-completion oa-chat-audio-gt-prompt
            oa-chat-audio-reasoning-gt-completion oa-chat-text-audio-gt-prompt oa-resp-write-split-gt-total
            oa-resp-cached-gt-input oa-resp-reasoning-gt-output oa-realtime-cached-audio-gt-audio
            gm-cached-split-gt-cached gm-cached-audio-gt-audio gm-candidates-details-gt gm-tool-details-gt
            br-split-gt-total xa-grpc-cached-gt-text xa-chat-folded-gt
        """,
        "it reads one of two names of a count, or neither; we ask that they agree": """
            ds-hit-miss ds-hit-miss-not-prompt ds-spellings-differ ds-hit-gt-prompt km-top-level ms-num-cached
        """,
        "it takes fractions, counts above 2^53 - 1, and passes over a wrong type in optional fields; we refuse": """
            oa-chat-float-fraction co-fraction oa-chat-too-big oa-chat-detail-string oa-chat-details-list
        """,
        "it counts no searches there": """
            oa-resp-web-search oa-resp-search-items gm-grounding gm-grounding-25 xa-responses xa-grpc-tools
            or-search
        """,
        "it does not look beside or beyond the main counts: compactions, connectors, hosted tools, svg": """
            an-compaction an-compaction-cached an-compaction-negative ms-connectors ms-web-search
            oa-resp-image-tool oa-resp-image-tool-cached oa-images-svg
        """,
        "it finds usage only at one place of a response; we unwrap batch lines": """
            oa-batch-line an-batch-result
        """,
        "its 12-hour writes have no figure; ours are long-lived": """
            oa-resp-cache-write-ttl oa-resp-write-split-remainder
        """,
        "it leaves a split without a total out of the input": """
            an-split-only
        """,
        "it takes the first entry of a lifetime; we add them up": """
            br-repeated-ttl
        """,
        "it passes over an unknown lifetime; we refuse": """
            br-unknown-ttl
        """,
        "it adds reasoning to an output that holds it already; the total tells": """
            xa-chat-inside
        """,
        "it has no image class there": """
            oa-images-no-output-details or-image-out co-embed-image
        """,
        "it does not know responseTokenCount": """
            gm-live
        """,
        "it lets a prompt be missing; we refuse": """
            gm-missing-prompt
        """,
        "it drops seconds of audio; we refuse what is billed apart": """
            ms-audio-seconds
        """,
        "it files citations under output; they are read, so input": """
            pp-deep-research
        """,
    }.items()
    for case in cases.split()
}


def wrapped(case: dict[str, Any]) -> dict[str, Any]:
    """The payload where genai-prices looks for it: under usage, usageMetadata, response.usage or meta."""
    raw = case["raw"]
    if any(key in raw for key in ("usage", "usageMetadata", "meta", "response")):
        return {"model": "m", "modelVersion": "m", **raw}
    key = "usageMetadata" if case["provider"] == "google" else "usage"
    response = {key: raw, "model": "m", "modelVersion": "m"}
    return {"response": response, "model": "m"} if case["api"] == "realtime" else response


def theirs(case: dict[str, Any]) -> dict[str, Any] | None:
    """Their figures without zeros; None where they refuse."""
    provider, flavor = FLAVORS[case["provider"], case["api"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _, usage = PROVIDERS[provider].extract_usage(wrapped(case), api_flavor=flavor)
        except ValueError:
            return None
    return {name: value for name, value in vars(usage).items() if value and name in FIGURES}


def ours(result: Classes) -> dict[str, int]:
    figures = {name: sum(result[index_of(part)] for part in parts) for name, parts in FIGURES.items()}
    return {name: value for name, value in figures.items() if value}


def agrees(case: dict[str, Any]) -> bool:
    result = normalise(case["provider"], case["api"], case["raw"])
    found = theirs(case)
    if isinstance(result, Rejection) or found is None:
        return isinstance(result, Rejection) and found is None
    return ours(result) == found


COMPARED = [case for case in CASES if isinstance(case["raw"], dict) and (case["provider"], case["api"]) in FLAVORS]


@pytest.mark.parametrize("case", COMPARED, ids=[case["id"] for case in COMPARED])
def test_agrees_or_is_listed(case: dict[str, Any]) -> None:
    assert agrees(case) is (case["id"] not in DISAGREE), DISAGREE.get(case["id"], "an unlisted disagreement")


def test_list_is_of_compared_cases() -> None:
    assert set(DISAGREE) <= {case["id"] for case in COMPARED}
    assert len(COMPARED) > 100
    assert all(DISAGREE.values())
