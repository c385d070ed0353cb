"""Derived names of models and other names of providers."""

import pytest

from pipeline.prices import canonical_provider, model_names


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("gpt-5-mini-2026-01-01", "gpt-5-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("ft:gpt-4o-mini:org::id", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id", "gpt-4o-mini"),
        ("davinci:ft-org-2023", "davinci"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/google/models/gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-2.5-flash-preview-05-20", "gemini-2.5-flash-preview"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash-preview"),
        ("openai/gpt-5-mini", "gpt-5-mini"),
        ("openai/ft:gpt-4o-mini:org::id", "gpt-4o-mini"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        ("gpt-4-0613", "gpt-4"),
        ("command-r-08-2024", "command-r"),
        ("mistral-large-2407", "mistral-large"),
        ("GPT-5-mini", "gpt-5-mini"),
    ],
)
def test_a_derived_name_has_its_base_and_itself_comes_first(name: str, base: str) -> None:
    names = model_names(name)
    assert names[0] == name
    assert base in names


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("gpt-5-mini", "gpt-5"),
        ("gpt-4.1", "gpt-4"),
        ("gpt-4-32k", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4"),
        ("gemini-2.5-flash-preview-05-20", "gemini-2.5-flash"),
        ("deepseek-r1:free", "deepseek-r1"),
        ("o3-deep-research", "o3"),
        ("llama-3-8192", "llama-3"),
        ("claude-sonnet-4-5", "claude-sonnet-4"),
        ("qwen-7b-chat", "qwen"),
    ],
)
def test_a_different_model_is_no_base(name: str, other: str) -> None:
    assert other not in model_names(name)


@pytest.mark.parametrize("name", ["", "/", "ft:", "ft::", "a/", "-latest", "@20250101", "models/", ":ft-x"])
def test_odd_names_have_no_empty_base(name: str) -> None:
    assert "" not in model_names(name)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("OpenAI", "openai"),
        ("vertex_ai", "google"),
        ("Google Vertex", "google"),
        ("gemini", "google"),
        ("bedrock", "aws-bedrock"),
        ("x-ai", "xai"),
        ("azure-openai", "azure"),
        ("azure", "azure"),
        ("somebody", "somebody"),
    ],
)
def test_providers_have_one_name(name: str, canonical: str) -> None:
    assert canonical_provider(name) == canonical
