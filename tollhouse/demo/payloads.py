"""Raw usage payloads of three providers for given token counts: what a proxy would send on, verbatim.

The split of a request's tokens (cached, reasoning, …) is chance from a seeded source; the sums are the trace's.
"""

from random import Random
from typing import Any


def openai_responses(rng: Random, input_side: int, output_side: int) -> tuple[str, dict[str, Any]]:
    """The usage object of OpenAI's Responses API: cached inside input, reasoning inside output."""
    cached = input_side // 2 // 128 * 128 if rng.random() < 0.4 else 0
    reasoning = rng.randrange(output_side + 1) if rng.random() < 0.3 else 0
    return "responses", {
        "input_tokens": input_side,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output_side,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input_side + output_side,
    }


def openai_chat(rng: Random, input_side: int, output_side: int) -> tuple[str, dict[str, Any]]:
    """The usage object of OpenAI's Chat Completions API."""
    cached = input_side // 2 // 128 * 128 if rng.random() < 0.3 else 0
    return "chat", {
        "prompt_tokens": input_side,
        "completion_tokens": output_side,
        "total_tokens": input_side + output_side,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def anthropic_message(rng: Random, input_side: int, output_side: int) -> tuple[str, dict[str, Any]]:
    """The usage object of Anthropic's Messages API: cache reads and writes outside of input_tokens."""
    read = input_side // 3 if rng.random() < 0.4 else 0
    short = input_side // 6 if rng.random() < 0.2 else 0
    long = input_side // 8 if short and rng.random() < 0.3 else 0
    return "messages", {
        "input_tokens": input_side - read - short - long,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": output_side,
        "service_tier": "standard",
    }


def anthropic_stream(rng: Random, input_side: int, output_side: int) -> tuple[str, list[dict[str, Any]]]:
    """The usage-bearing events of a streamed message: cumulative, so the last output figure is the whole."""
    read = input_side // 3 if rng.random() < 0.4 else 0
    start = {"input_tokens": input_side - read, "cache_read_input_tokens": read, "output_tokens": min(1, output_side)}
    return "messages", [
        {"type": "message_start", "message": {"usage": start}},
        {"type": "message_delta", "usage": {"output_tokens": output_side}},
    ]


def google_generate(rng: Random, input_side: int, output_side: int) -> tuple[str, dict[str, Any]]:
    """The usageMetadata of Gemini: cached inside the prompt, thoughts outside the candidates."""
    cached = input_side // 4 if rng.random() < 0.3 else 0
    thoughts = rng.randrange(output_side + 1) if rng.random() < 0.5 else 0
    return "generateContent", {
        "promptTokenCount": input_side,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": output_side - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": input_side + output_side,
    }


MAKERS = {
    "openai": (openai_responses, openai_chat),
    "anthropic": (anthropic_message, anthropic_stream),
    "google": (google_generate,),
}
