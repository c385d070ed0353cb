"""OpenAI and what speaks its dialects: chat completions, responses, embeddings, images, audio, realtime.

Whole counts include their parts: `prompt_tokens` holds cached, written, audio and image tokens, `completion_tokens`
holds reasoning, audio and rejected predictions. Sources: the types of openai 3.57.0 (completion_usage, response_usage,
realtime_response_usage, images_response, audio/transcription). Azure OpenAI reports alike.
"""

from typing import Final

from pipeline.normalise.counts import EMPTY, Fields, Modalities, Reading, split_input, split_write
from pipeline.normalise.result import Classes

_MODALITIES: Final = ("text_tokens", "audio_tokens", "image_tokens")
_OTHER_READS: Final = frozenset(
    ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
)
"""Top-level names of cached prompt tokens: Kimi and Together, Mistral, DeepSeek, LiteLLM and Databricks."""
_SHORT_WRITES: Final = ("ttl_30m_tokens", "ttl_5m_tokens", "ephemeral_5m_input_tokens")
_LONG_WRITES: Final = ("ttl_12h_tokens", "ttl_1h_tokens", "ephemeral_1h_input_tokens")
_INPUT_DETAILS: Final = ("input_tokens_details", "input_token_details", "prompt_tokens_details")
_OUTPUT_DETAILS: Final = ("output_tokens_details", "output_token_details", "completion_tokens_details")


def chat(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Chat completions, legacy completions, and the generic OpenAI-compatible fallback."""
    del holder
    prompt = reading.required(usage, "prompt_tokens")
    completion = reading.required(usage, "completion_tokens")
    return chat_classes(reading, usage, prompt, completion)


def chat_classes(
    reading: Reading, usage: Fields, prompt: int, completion: int, *, outside: int | None = None, extra_input: int = 0
) -> Classes:
    """Classes of a chat usage. `outside`: reasoning tokens that the completion does not hold (then its own are not
    looked up); `extra_input`: tokens outside the prompt that the provider feeds back as input."""
    details = reading.section(usage, "prompt_tokens_details")
    read = cached_read(reading, usage, details, "prompt_tokens_details.")
    write, write_long = cache_writes(reading, usage, details, "prompt_tokens_details.")
    text, audio, image = input_side(reading, details, prompt, read + write + write_long, "prompt_tokens")
    out = reading.section(usage, "completion_tokens_details")
    if outside is None:
        reasoning = inner_reasoning(reading, usage, out, "completion_tokens_details.")
        held = completion - reasoning
    else:
        reasoning, held = outside, completion
    visible, out_audio, out_image = output_side(reading, out, held, completion, "completion_tokens")
    searches = chat_searches(reading, usage, details)
    text += extra_input
    return text, read, write, write_long, visible, reasoning, audio, out_audio, image, out_image, searches


def cached_read(reading: Reading, usage: Fields, details: Fields, where: str) -> int:
    """Cached prompt tokens under whatever name the server gives them; several names must agree."""
    if _OTHER_READS.isdisjoint(usage) and "cache_read_input_tokens" not in details:
        return reading.count(details, "cached_tokens", where)
    found = reading.one_of(
        (details, "cached_tokens", where),
        (details, "cache_read_input_tokens", where),
        *((usage, name, "") for name in sorted(_OTHER_READS)),
    )
    return found or 0


def cache_writes(reading: Reading, usage: Fields, details: Fields, where: str) -> tuple[int, int]:
    """(short-lived, long-lived) cache writes inside the prompt; 12 hours and 1 hour are long-lived."""
    if details is EMPTY and "cache_creation_input_tokens" not in usage:
        return 0, 0
    total = reading.one_of(
        (details, "cache_write_tokens", where),
        (details, "cache_creation_tokens", where),
        (details, "cache_creation_input_tokens", where),
        (usage, "cache_creation_input_tokens", ""),
    )
    short = long = 0
    for name in ("cache_write_tokens_details", "cache_creation_token_details", "cache_creation"):
        if details.get(name) is None:
            continue
        split, path = reading.section(details, name, where), f"{where}{name}."
        short = sum(reading.count(split, key, path) for key in _SHORT_WRITES)
        long = sum(reading.count(split, key, path) for key in _LONG_WRITES)
        break
    return split_write(reading, total, short, long, f"{where}cache_write_tokens")


def input_side(reading: Reading, details: Fields, whole: int, cached: int, what: str) -> Modalities:
    """Uncached input by modality, from the details of the prompt."""
    if details is EMPTY:
        return split_input(reading, whole, 0, 0, cached, None, what)
    text = reading.optional(details, "text_tokens", "details.")
    audio = reading.optional(details, "audio_tokens", "details.")
    image = reading.optional(details, "image_tokens", "details.")
    if text is not None:
        reading.within(text + (audio or 0) + (image or 0), whole, f"text, audio and image in {what}")
    known = None
    if details.get("cached_tokens_details") is not None and not (text is audio is image is None):
        cached_details = reading.section(details, "cached_tokens_details", "details.")
        known = Modalities(*(reading.count(cached_details, k, "cached_tokens_details.") for k in _MODALITIES))
    return split_input(reading, whole, audio or 0, image or 0, cached, known, what)


def inner_reasoning(reading: Reading, usage: Fields, out: Fields, where: str) -> int:
    """Reasoning tokens inside the output, from its details or from the top level (Databricks, Modal)."""
    if "reasoning_tokens" not in usage:
        return reading.count(out, "reasoning_tokens", where)
    return reading.one_of((out, "reasoning_tokens", where), (usage, "reasoning_tokens", "")) or 0


def output_side(reading: Reading, out: Fields, held: int, whole: int, what: str) -> Modalities:
    """Visible output by modality: `held` is the output without its reasoning, `whole` the figure reported."""
    audio = image = 0
    if out is not EMPTY:
        text = reading.count(out, "text_tokens", "details.")
        audio = reading.count(out, "audio_tokens", "details.")
        image = reading.count(out, "image_tokens", "details.")
        reading.within(text + audio + image, whole, f"text, audio and image in {what}")
        if "rejected_prediction_tokens" in out:  # inside the completion and billed as output: nothing to add or drop
            rejected = reading.count(out, "rejected_prediction_tokens", "details.")
            reading.within(rejected, whole, f"rejected_prediction_tokens in {what}")
    if audio + image > held:
        reading.within(whole - held + audio + image, whole, f"reasoning, audio and image in {what}")
        return Modalities(0, 0, 0)
    return Modalities(held - audio - image, audio, image)


def chat_searches(reading: Reading, usage: Fields, details: Fields) -> int:
    """Web searches of a chat usage (OpenRouter, LiteLLM); OpenAI's chat reports none."""
    if "server_tool_use" not in usage and "web_search_requests" not in details:
        return 0
    tools = reading.section(usage, "server_tool_use")
    found = reading.one_of(
        (tools, "web_search_requests", "server_tool_use."),
        (details, "web_search_requests", "prompt_tokens_details."),
    )
    return found or 0


def embeddings(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Embeddings: the prompt is all there is. A completion count is normally 0 and is output if it is not."""
    del holder
    prompt = reading.required(usage, "prompt_tokens")
    return chat_classes(reading, usage, prompt, reading.count(usage, "completion_tokens"))


def total_only(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Embeddings and rerankers that report one figure, the total: it is the input.

    Voyage's multimodal models beside it tell the text's part; the rest is what images were turned into.
    """
    del holder
    total = reading.required(usage, "total_tokens")
    image = 0
    if reading.count(usage, "image_pixels") and not reading.count(usage, "video_pixels"):
        text = reading.count(usage, "text_tokens")
        image = total - text if reading.within(text, total, "text_tokens in total_tokens") else 0
    return total - image, 0, 0, 0, 0, 0, 0, 0, image, 0, 0


def responses(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Responses API, realtime, transcription and images: `input_tokens` and `output_tokens` with their details."""
    return _add_tools(reading, _input_output(reading, usage), holder)


def images(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Images API: output without details is the rendered image; an SVG's authoring tokens come beside it."""
    counted = _input_output(reading, usage)
    if usage.get("output_tokens_details") is None and usage.get("output_token_details") is None:
        counted = (*counted[:4], 0, *counted[5:9], counted[4] + counted[9], counted[10])
    if holder.get("svg_usage") is not None:
        svg = reading.section(holder, "svg_usage")
        made = reading.required(svg, "output_tokens", "svg_usage.")
        thought = reading.count(svg, "reasoning_tokens", "svg_usage.")
        reading.within(thought, made, "svg_usage.reasoning_tokens in svg_usage.output_tokens")
        asked = reading.required(svg, "input_tokens", "svg_usage.")
        counted = _plus(counted, (asked, 0, 0, 0, made - thought, thought))
    return counted


def speech(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Text to speech: everything that comes out is audio."""
    del holder
    counted = _input_output(reading, usage)
    return (*counted[:4], 0, *counted[5:7], counted[4] + counted[7], *counted[8:])


def _input_output(reading: Reading, usage: Fields) -> Classes:
    whole_in = reading.required(usage, "input_tokens")
    whole_out = reading.required(usage, "output_tokens")
    details, where = _details(reading, usage, _INPUT_DETAILS)
    out, out_where = _details(reading, usage, _OUTPUT_DETAILS)
    read = reading.one_of((details, "cached_tokens", where), (details, "cache_read_input_tokens", where)) or 0
    write, write_long = cache_writes(reading, EMPTY, details, where)
    text, audio, image = input_side(reading, details, whole_in, read + write + write_long, "input_tokens")
    reasoning = reading.count(out, "reasoning_tokens", out_where)
    visible, out_audio, out_image = output_side(reading, out, whole_out - reasoning, whole_out, "output_tokens")
    return text, read, write, write_long, visible, reasoning, audio, out_audio, image, out_image, 0


def _details(reading: Reading, usage: Fields, names: tuple[str, ...]) -> tuple[Fields, str]:
    """The first details object that is there: plural in responses, singular in realtime and transcription."""
    for name in names:
        if usage.get(name) is not None:
            return reading.section(usage, name), f"{name}."
    return EMPTY, f"{names[0]}."


def _add_tools(reading: Reading, counted: Classes, holder: Fields) -> Classes:
    """Hosted tools, reported beside `usage` and not inside it: searches, and tokens of image generation."""
    if holder.get("tool_usage") is None:
        return (*counted[:10], counted[10] + _search_calls(holder))
    tools = reading.section(holder, "tool_usage")
    search = reading.section(tools, "web_search", "tool_usage.")
    searches = reading.count(search, "num_requests", "tool_usage.web_search.")
    if tools.get("image_gen") is not None:
        counted = _plus(counted, _image_tool(reading, reading.section(tools, "image_gen", "tool_usage.")))
    return (*counted[:10], counted[10] + searches)


def _search_calls(holder: Fields) -> int:
    """Searches in the output of a response without tool_usage; opening a page or finding in it is not a search."""
    items = holder.get("output")
    found = 0
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") == "web_search_call" and item.get("status") == "completed":
            action = item.get("action")
            found += not isinstance(action, dict) or action.get("type", "search") == "search"
    return found


def _image_tool(reading: Reading, usage: Fields) -> Classes:
    """The image tool's own tokens; its cached split has names of its own."""
    split = reading.section(usage, "cached_tokens_details", "image_gen.")
    renamed = {k.removeprefix("cached_"): v for k, v in split.items()}
    details = {
        **reading.section(usage, "input_tokens_details", "image_gen."),
        "cached_tokens": usage.get("cached_tokens"),
        "cached_tokens_details": renamed or None,
    }
    return images(reading, {**usage, "input_tokens_details": details}, EMPTY)


def _plus(one: Classes, other: Classes) -> Classes:
    return tuple(a + (other[i] if i < len(other) else 0) for i, a in enumerate(one))
