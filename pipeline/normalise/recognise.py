"""Chooses the parser: by the fields that are there, with provider and API where the fields alone do not tell."""

from collections.abc import Callable
from typing import Final

from pipeline.normalise import anthropic, bedrock, cohere, compatible, gateways, google, ollama, openai
from pipeline.normalise.counts import Fields, Reading
from pipeline.normalise.locate import FOREIGN
from pipeline.normalise.names import Route
from pipeline.normalise.result import Classes

Parser = Callable[[Reading, Fields, Fields], Classes]
"""(reading, usage, holder) to classes; what is wrong is in the reading."""

_CHAT: Final[dict[str, Parser]] = {
    "deepseek": compatible.deepseek,
    "mistral": compatible.mistral,
    "xai": compatible.xai,
    "perplexity": compatible.perplexity,
}
_RESPONSES: Final[dict[str, Parser]] = {
    "xai": compatible.xai_responses,
    "perplexity": compatible.perplexity_responses,
}
_INPUT_OUTPUT: Final[dict[str, Parser]] = {
    "messages": anthropic.messages,
    "images": openai.images,
    "speech": openai.speech,
    "responses": openai.responses,
    "realtime": openai.responses,
    "transcription": openai.responses,
}
_BY_FIELD: Final[tuple[tuple[str, Parser], ...]] = (
    ("promptTokenCount", google.generate_content),
    ("candidatesTokenCount", google.generate_content),
    ("responseTokenCount", google.generate_content),
    ("thoughtsTokenCount", google.generate_content),
    ("prompt_eval_count", ollama.generate),
    ("eval_count", ollama.generate),
    ("billed_units", cohere.billed),
    ("total_input_tokens", google.interactions),
    ("total_output_tokens", google.interactions),
    ("inputTextTokenCount", bedrock.titan),
    ("totalOutputTextTokenCount", bedrock.titan),
    ("generation_token_count", bedrock.llama),
    ("prompt_token_count", google.generate_content_snake),
    ("candidates_token_count", google.generate_content_snake),
    ("inputTokenCount", bedrock.metrics),
    ("outputTokenCount", bedrock.metrics),
    ("predictions", google.vertex_embeddings),
)
"""Fields that belong to one shape only, in the order in which they decide."""
_CAMEL: Final = frozenset(("promptTokens", "completionTokens", "billedUnits"))
"""Fields that SDKs spell in camel case where the API does not."""


def choose(route: Route, usage: Fields) -> Parser | None:
    """The parser for this usage; None if it holds no count that is known."""
    chat = usage.get("prompt_tokens") is not None or usage.get("completion_tokens") is not None
    if chat and (route.api not in _INPUT_OUTPUT or usage.get("input_tokens") is None):
        return _chat(route, usage)
    if usage.get("input_tokens") is not None or usage.get("output_tokens") is not None:
        return _input_output(route, usage)
    if usage.get("inputTokens") is not None or usage.get("outputTokens") is not None:
        return gateways.ai_sdk if gateways.is_ai_sdk(route.provider, usage) else bedrock.converse
    if not _CAMEL.isdisjoint(usage):
        return _camel(route)
    for field, parser in _BY_FIELD:
        if usage.get(field) is not None:
            return parser
    return _last(route, usage)


def _camel(route: Route) -> Parser:
    """Chat or Cohere's usage under the camel-case names of SDKs."""

    def parse(reading: Reading, usage: Fields, holder: Fields) -> Classes:
        renamed = gateways.snake(usage)
        parser = choose(route, renamed)
        return parser(reading, renamed, holder) if parser else compatible.unknown(reading, renamed, holder)

    return parse


def _chat(route: Route, usage: Fields) -> Parser:
    prompt = usage.get("prompt_tokens")
    if usage.get("completion_tokens") is None and prompt is not None:
        total_is_prompt = route.api == "" and usage.get("total_tokens") == prompt
        if route.api == "embeddings" or total_is_prompt:
            return openai.embeddings
    return _CHAT.get(route.provider, openai.chat)


def _input_output(route: Route, usage: Fields) -> Parser:
    """Messages (cache beside the input) or responses (cache inside it): the API's name, else telling fields."""
    parser = _INPUT_OUTPUT.get(route.api)
    if parser is not None:
        return _RESPONSES.get(route.provider, parser) if parser is openai.responses else parser
    if gateways.is_langchain(usage):
        return gateways.langchain
    if "cache_creation_input_tokens" in usage or "cache_read_input_tokens" in usage or "cache_creation" in usage:
        return anthropic.messages
    if any(name in usage for name in ("input_tokens_details", "input_token_details", "output_token_details")):
        return _RESPONSES.get(route.provider, openai.responses)
    if route.provider in ("anthropic", "bedrock") or "server_tool_use" in usage or "iterations" in usage:
        return anthropic.messages
    details = usage.get("output_tokens_details")
    if isinstance(details, dict) and "thinking_tokens" in details:
        return anthropic.messages
    if route.api == "embeddings" and usage.get("output_tokens") is None:
        return gateways.input_only
    return _RESPONSES.get(route.provider, openai.responses)


def _last(route: Route, usage: Fields) -> Parser | None:
    """What is left: one total, or units that are not tokens."""
    if usage.get("total_tokens") is not None and (route.api == "embeddings" or route.provider == "voyage"):
        return compatible.missing_prompt if route.provider == "openai" else openai.total_only
    if usage.get("type") == "duration" or not FOREIGN.isdisjoint(usage):
        return compatible.foreign
    if isinstance(usage.get("tokens"), dict):
        return cohere.unbilled
    return None
