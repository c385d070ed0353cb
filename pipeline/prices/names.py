"""Names of providers and models, as far as prices care: aliases of a provider, and the base of a derived model name."""

import re
from functools import lru_cache
from typing import Final

_ALIASES: Final = {
    "azure": "azure-openai azure-ai azure-foundry azureopenai microsoft-azure",
    "anthropic": "claude",
    "google": (
        "gemini google-ai google-ai-studio google-cloud google-gemini google-genai google-vertex google-vertex-ai "
        "googleai vertex vertex-ai vertexai"
    ),
    "aws-bedrock": "amazon amazon-bedrock aws bedrock bedrock-converse",
    "xai": "grok x-ai x.ai",
    "moonshot": "kimi moonshot-ai moonshotai",
    "mistral": "mistral-ai mistralai",
    "together": "together-ai togetherai",
    "fireworks": "fireworks-ai",
    "voyage": "voyage-ai voyageai",
    "deepseek": "deepseek-ai",
    "cohere": "cohere-ai",
    "openrouter": "open-router",
}
_CANONICAL: Final = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}

_MONTH: Final = r"(?:0[1-9]|1[0-2])"
_DAY: Final = r"(?:0[1-9]|[12]\d|3[01])"
# Each step makes a derived name plainer; they are tried in this order, one after the other. Only marks of a release, a
# region or a tuning go: never a word like mini, preview or high, which is another model at another price.
_STEPS: Final = (
    re.compile(r"^.*/(?=[^/])"),  # openai/gpt-5-mini, models/gemini-x, publishers/google/models/gemini-x, an ARN
    re.compile(r"^ft:(?=[^:])|(?<=[^:]):ft-.*$|\.ft-[0-9a-z]+$"),  # ft:BASE:org:name:id, BASE:ft-org, BASE.ft-id
    re.compile(r"^(?:us|us-gov|eu|apac|global|jp|au|ca)\.(?=[a-z])"),  # Bedrock's inference profiles
    re.compile(r"^(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|moonshotai?|openai|qwen)\.(?=[a-z])"),
    re.compile(r"-v\d+(?::\d+)?$"),  # Bedrock's own version of a release
    re.compile(
        rf"[-@]20\d\d-{_MONTH}-{_DAY}$|[-@]20\d\d{_MONTH}{_DAY}$|-{_MONTH}-20\d\d$|(?<=preview)-{_MONTH}-{_DAY}$"
        rf"|-{_MONTH}{_DAY}$|-2[3-9]{_MONTH}$"
    ),  # release dates: -2025-08-07, -20250929, @20250929, -08-2024, -preview-05-20, -0613, -2407
    re.compile(r"[-@](?:latest|default)$|-00\d$"),  # moving names, Gemini's -001
)
_TUNED: Final = re.compile(r"^ft:([^:]+):.*$")


@lru_cache(maxsize=4096)
def canonical_provider(provider: str) -> str:
    """One spelling for each provider: Vertex AI and gemini are google, x-ai is xai, unknown ones stay as they are."""
    name = provider.strip().lower().replace("_", "-").replace(" ", "-")
    return _CANONICAL.get(name, name)


@lru_cache(maxsize=65_536)
def model_names(model: str) -> tuple[str, ...]:
    """The name itself, then plainer and plainer bases of it: gpt-5-mini-2026-01-01 is also gpt-5-mini.

    An exact name comes first, so that a price of its own always wins.
    """
    names = [model]
    current = model.strip()
    if (tuned := _TUNED.match(current.rpartition("/")[2])) is not None:
        current = tuned[1]
        names.append(current)
    for step in _STEPS:
        plainer = step.sub("", current, count=1)
        if plainer and plainer != current:
            current = plainer
            names.append(current)
    names.extend(name.lower() for name in tuple(names))
    return tuple(dict.fromkeys(name for name in names if name))
