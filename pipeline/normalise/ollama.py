"""Ollama's own API: counts at the top level, only with the last part of an answer. Source: ollama 0.6.3 _types."""

from pipeline.normalise.counts import Fields, Reading
from pipeline.normalise.result import NO_USAGE, NOTHING, Classes


def generate(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """chat, generate and embed. The server leaves zero counts out, so one of the two may be missing."""
    del holder
    if usage.get("done") is False:
        reading.reject(NO_USAGE, "done is false: the answer was cut short before its counts")
    prompt = reading.count(usage, "prompt_eval_count")
    cached = reading.count(usage, "prompt_eval_cached_count")  # since 0.33.3, inside the prompt's count
    if not reading.within(cached, prompt, "prompt_eval_cached_count in prompt_eval_count"):
        return NOTHING
    return prompt - cached, cached, 0, 0, reading.count(usage, "eval_count"), 0, 0, 0, 0, 0, 0
