"""How fast usage is normalised on one core, beside genai-prices' own extraction of the same payloads in the same run.

    python bench/normalise.py [--events 1000000] [--json]

The mix is one of each typical report: chat and responses of OpenAI, messages of Anthropic, generateContent of Gemini,
Converse of Bedrock; whole, with caches and details. `line` is the whole of `tollhouse normalize`: JSON in, JSON out.
Exit 1 if the target (1,000,000 events in 15 s) is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from genai_prices.data import providers

from pipeline.normalise import Rejection, normalise
from pipeline.normalise.ndjson import answer_line

TARGET_EVENTS_PER_S: Final = 1_000_000 / 15
"""One million events in 15 s on one core: what the usage path promises."""
_THEIR_SHARE: Final = 20
"""genai-prices gets one event for this many of ours and is scaled: it is slower, and the run should end."""

MIX: Final[tuple[tuple[str, str, str, str, str, dict[str, Any]], ...]] = (
    (
        "openai",
        "chat",
        "openai",
        "chat",
        "usage",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 64,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    ),
    (
        "openai",
        "responses",
        "openai",
        "responses",
        "usage",
        {
            "input_tokens": 1529,
            "input_tokens_details": {"cached_tokens": 1408, "cache_write_tokens": 0},
            "output_tokens": 904,
            "output_tokens_details": {"reasoning_tokens": 768},
            "total_tokens": 2433,
        },
    ),
    (
        "anthropic",
        "messages",
        "anthropic",
        "default",
        "usage",
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 556,
            "cache_read_input_tokens": 188086,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 393,
            "service_tier": "standard",
        },
    ),
    (
        "google",
        "generateContent",
        "google",
        "default",
        "usageMetadata",
        {
            "promptTokenCount": 43130,
            "cachedContentTokenCount": 42000,
            "candidatesTokenCount": 120,
            "thoughtsTokenCount": 456,
            "totalTokenCount": 43706,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 43130}],
        },
    ),
    (
        "aws-bedrock",
        "converse",
        "aws",
        "default",
        "usage",
        {
            "inputTokens": 7,
            "outputTokens": 11,
            "totalTokens": 77,
            "cacheReadInputTokens": 17,
            "cacheWriteInputTokens": 42,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 23}, {"ttl": "5m", "inputTokens": 19}],
        },
    ),
)


def timed(run: Callable[[], object]) -> float:
    """Seconds of CPU time: the figure is for one core, whoever else is on the machine."""
    start = time.process_time()
    run()
    return time.process_time() - start


def run_ours(events: int) -> None:
    """Classes from decoded payloads."""
    mix = [(provider, api, raw) for provider, api, _, _, _, raw in MIX]
    for index in range(events):
        provider, api, raw = mix[index % len(mix)]
        if isinstance(normalise(provider, api, raw), Rejection):
            raise SystemExit("a payload of the mix was rejected")


def run_lines(events: int) -> None:
    """The whole of a line: decode, normalise, encode."""
    lines = [
        json.dumps({"id": f"e{index}", "provider": provider, "api": api, "raw": raw}).encode()
        for index, (provider, api, _, _, _, raw) in enumerate(MIX)
    ]
    for index in range(events):
        answer_line(lines[index % len(lines)])


def run_theirs(events: int) -> None:
    """genai-prices' extraction from decoded responses, without pricing."""
    by_id = {provider.id: provider for provider in providers}
    mix = [
        (by_id[their_id], flavor, {root: raw, "model": "m", "modelVersion": "m"})
        for _, _, their_id, flavor, root, raw in MIX
    ]
    for index in range(events):
        provider, flavor, response = mix[index % len(mix)]
        provider.extract_usage(response, api_flavor=flavor)


def main() -> int:
    """Run the three and print events a second of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="events to normalise (default 1000000)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    events: int = max(arguments.events, _THEIR_SHARE)
    counts = {"normalise": events, "line": events, "genai_prices": events // _THEIR_SHARE}
    runs = {"normalise": run_ours, "line": run_lines, "genai_prices": run_theirs}
    figures: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        run(len(MIX))  # the first call fills caches that a long run has filled already
        seconds = timed(lambda run=run, count=counts[name]: run(count))  # type: ignore[misc]
        rate = counts[name] / seconds
        figures[name] = {"events": counts[name], "cpu_s": round(seconds, 3), "events_per_s": round(rate)}
    reached = figures["normalise"]["events_per_s"] >= TARGET_EVENTS_PER_S
    if arguments.json:
        print(json.dumps({**figures, "target_events_per_s": round(TARGET_EVENTS_PER_S), "reached": reached}))
    else:
        for name, figure in figures.items():
            million_s = 1_000_000 / figure["events_per_s"]
            print(
                f"{name:13} {figure['events_per_s']:>9,} events/s  ({million_s:.1f} s a million, "
                f"{figure['events']:,} measured)"
            )
        print(f"target        {round(TARGET_EVENTS_PER_S):>9,} events/s  {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
