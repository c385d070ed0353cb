"""Aliases: the names that proxies write lead to one route."""

import pytest

from pipeline.normalise import Rejection, normalise
from pipeline.normalise.names import Route, route


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("openai", "openai"),
        ("Azure", "openai"),
        ("azure-openai", "openai"),
        ("azure_openai", "openai"),
        ("claude", "anthropic"),
        ("gemini", "google"),
        ("vertex_ai", "google"),
        ("google-vertex", "google"),
        ("aws.bedrock", "bedrock"),
        ("amazon-bedrock", "bedrock"),
        ("kimi", "moonshot"),
        ("grok", "xai"),
        ("x-ai", "xai"),
        ("voyage_ai", "voyage"),
        ("groq", "compatible"),
        ("nobody-knows", ""),
        ("", ""),
        (None, ""),
        ("x" * 10_000, ""),
    ],
)
def test_providers(name: str | None, provider: str) -> None:
    assert route(name, None) == Route(provider, "")


@pytest.mark.parametrize(
    ("name", "api"),
    [
        ("chat", "chat"),
        ("chat.completions", "chat"),
        ("chat_completions", "chat"),
        ("/v1/chat/completions", "chat"),
        ("completions", "chat"),
        ("responses", "responses"),
        ("messages-beta", "messages"),
        ("/v1/messages", "messages"),
        ("generateContent", "generate"),
        ("streamGenerateContent", "generate"),
        ("converse-stream", "converse"),
        ("InvokeModel", "invoke"),
        ("audio.transcriptions", "transcription"),
        ("rerank", "embeddings"),
        ("something", ""),
        (None, ""),
    ],
)
def test_apis(name: str | None, api: str) -> None:
    assert route(None, name).api == api


def test_alias_gives_the_same_classes() -> None:
    outside = {"prompt_tokens": 12, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 386}}
    assert normalise("grok", "chat_completions", outside) == normalise("xai", "chat", outside)
    assert isinstance(normalise("openai", "chat", outside), Rejection)
