"""Google Gemini: generateContent, Live, embeddings, interactions; the Gemini API and Vertex AI alike.

The prompt includes cached content; thoughts and tool results lie outside candidates and prompt. Source: google-genai
3.6.1, types GenerateContentResponseUsageMetadata, UsageMetadata (Live), interactions Usage.
"""

from typing import Final, NamedTuple

from pipeline.normalise.counts import Fields, Modalities, Reading, split_input
from pipeline.normalise.result import MALFORMED, Classes


class _Names(NamedTuple):
    """The same figures under the names of one API."""

    prompt: str
    cached: str
    output: tuple[str, ...]
    thoughts: str
    tools: str
    total: str
    prompt_parts: str
    cached_parts: str
    output_parts: tuple[str, ...]
    tool_parts: str
    amount: str


_CAMEL: Final = _Names(
    "promptTokenCount",
    "cachedContentTokenCount",
    ("candidatesTokenCount", "responseTokenCount"),
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "totalTokenCount",
    "promptTokensDetails",
    "cacheTokensDetails",
    ("candidatesTokensDetails", "responseTokensDetails"),
    "toolUsePromptTokensDetails",
    "tokenCount",
)
_SNAKE: Final = _Names(  # what the Python SDK's objects give when dumped
    "prompt_token_count",
    "cached_content_token_count",
    ("candidates_token_count", "response_token_count"),
    "thoughts_token_count",
    "tool_use_prompt_token_count",
    "total_token_count",
    "prompt_tokens_details",
    "cache_tokens_details",
    ("candidates_tokens_details", "response_tokens_details"),
    "tool_use_prompt_tokens_details",
    "token_count",
)
_INTERACTIONS: Final = _Names(
    "total_input_tokens",
    "total_cached_tokens",
    ("total_output_tokens",),
    "total_thought_tokens",
    "total_tool_use_tokens",
    "total_tokens",
    "input_tokens_by_modality",
    "cached_tokens_by_modality",
    ("output_tokens_by_modality",),
    "tool_use_tokens_by_modality",
    "tokens",
)


def generate_content(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """usageMetadata of generateContent, streamGenerateContent, Live and embedContent."""
    counted = _counts(reading, usage, _CAMEL)
    searches = _grounding(reading, holder)
    return (*counted[:10], searches) if searches else counted


def generate_content_snake(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """The same from the SDK's snake_case dump."""
    del holder
    return _counts(reading, usage, _SNAKE)


def interactions(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Usage of the Interactions API, which also counts its search calls."""
    del holder
    counted = _counts(reading, usage, _INTERACTIONS)
    searches = sum(
        reading.count(tool, "count", "grounding_tool_count[].")
        for tool in reading.entries(usage, "grounding_tool_count")
        if tool.get("type") == "google_search"
    )
    return (*counted[:10], searches)


def _counts(reading: Reading, usage: Fields, names: _Names) -> Classes:
    prompt = reading.optional(usage, names.prompt)
    thoughts = reading.count(usage, names.thoughts)
    tools = reading.count(usage, names.tools)
    output, out_audio, out_image = _output(reading, usage, names)
    if prompt is None:
        prompt = _absent_prompt(reading, usage, names, output + out_audio + out_image + thoughts + tools)
    read, known = _cached(reading, usage, names)
    parts = _modalities(reading, usage, names.prompt_parts, names.amount)
    if parts is None:
        parts, known = Modalities(0, 0, 0), None  # without the prompt's own split, the cached one says nothing
    elif not reading.within(sum(parts), prompt, f"{names.prompt_parts} in {names.prompt}"):
        parts = Modalities(0, 0, 0)
    text, audio, image = split_input(reading, prompt, parts.audio, parts.image, read, known, names.prompt)
    if usage.get(names.tool_parts) is not None:
        tool_parts = _modalities(reading, usage, names.tool_parts, names.amount)
        reading.within(sum(tool_parts or ()), tools, f"{names.tool_parts} in {names.tools}")
    return text + tools, read, 0, 0, output, thoughts, audio, out_audio, image, out_image, 0


def _absent_prompt(reading: Reading, usage: Fields, names: _Names, rest: int) -> int:
    """Zeros are left out of this API's JSON. A missing prompt is 0 only where the total says so."""
    if reading.optional(usage, names.total) != rest:
        reading.reject(MALFORMED, f"{names.prompt} is missing beside other counts")
    return 0


def _output(reading: Reading, usage: Fields, names: _Names) -> Modalities:
    whole = reading.one_of(*((usage, name, "") for name in names.output))
    parts = None
    for name in names.output_parts:
        parts = parts or _modalities(reading, usage, name, names.amount)
    if parts is None:
        return Modalities(whole or 0, 0, 0)
    if whole is None:
        return parts
    if not reading.within(sum(parts), whole, f"{names.output_parts[0]} in {names.output[0]}"):
        return Modalities(0, 0, 0)
    return Modalities(whole - parts.audio - parts.image, parts.audio, parts.image)


def _cached(reading: Reading, usage: Fields, names: _Names) -> tuple[int, Modalities | None]:
    read = reading.optional(usage, names.cached)
    known = _modalities(reading, usage, names.cached_parts, names.amount)
    if read is None:
        return (sum(known), known) if known is not None else (0, None)
    return read, known


def _modalities(reading: Reading, usage: Fields, key: str, amount: str) -> Modalities | None:
    """A list of {modality, count} summed up. Video, documents and unnamed modalities are text here: they have no class
    of their own (an unspecified modality is text by the API's own words)."""
    if usage.get(key) is None:
        return None
    entries = reading.entries(usage, key)
    if not entries:
        return None
    sums = {"AUDIO": 0, "IMAGE": 0, "": 0}
    for entry in entries:
        name = str(entry.get("modality")).upper()
        sums[name if name in sums else ""] += reading.count(entry, amount, f"{key}[].")
    return Modalities(sums[""], sums["AUDIO"], sums["IMAGE"])


def _grounding(reading: Reading, holder: Fields) -> int:
    """Searches of Grounding with Google Search in a whole response.

    Gemini 3 and later bill each distinct query, the models before it one fee a grounded answer.
    """
    candidates = holder.get("candidates")
    if not isinstance(candidates, list):
        return 0
    queries: set[str] = set()
    for candidate in candidates:
        grounding = candidate.get("groundingMetadata") if isinstance(candidate, dict) else None
        found = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
        if isinstance(found, list):
            queries.update(query for query in found if isinstance(query, str) and query)
    version = holder.get("modelVersion")
    per_answer = isinstance(version, str) and version.startswith(("gemini-1", "gemini-2"))
    del reading
    return min(1, len(queries)) if per_answer else len(queries)


def vertex_embeddings(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Vertex AI predict of a text embedding model: tokens of each input under its statistics."""
    del holder
    tokens = 0
    for prediction in reading.entries(usage, "predictions"):
        embedded = reading.section(prediction, "embeddings", "predictions[].")
        statistics = reading.section(embedded, "statistics", "predictions[].embeddings.")
        tokens += reading.required(statistics, "token_count", "predictions[].embeddings.statistics.")
    return (tokens, *(0,) * 10)
