"""The demo's events: a real trace, two weeks of ordinary use, one leaked key. All of it seeded.

Times are relative to the month that is billed: the trace on its second day, the fortnight after it, the leak at the
end of that, so that the detector has learned the keys before one of them leaks.
"""

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Any, Final, NamedTuple

from schemas.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_instant, parse_instant
from schemas.usage_event import USAGE_TYPE
from tollhouse.demo.payloads import MAKERS

TRACES: Final = ("azure_llm_2023_code.csv.gz", "azure_llm_2023_conv.csv.gz")
TRACE_SOURCE: Final = "trace/azure-2023"
HISTORY_SOURCE: Final = "proxy/eu-1"
LEAK_SOURCE: Final = "proxy/us-1"
DUPLICATE_SHARE: Final = 0.01
HISTORY_DAYS: Final = 14


class Lane(NamedTuple):
    """A tenant's use of a key for a model, and its share of the trace."""

    tenant: str
    key: str
    provider: str
    model: str
    weight: int


LANES: Final = (
    Lane("acme", "openai-pool-1", "openai", "gpt-5", 20),
    Lane("acme", "openai-pool-1", "openai", "gpt-5-mini", 15),
    Lane("acme", "anthropic-pool-1", "anthropic", "claude-sonnet-4-5", 10),
    Lane("globex", "openai-pool-1", "openai", "gpt-5-mini", 20),
    Lane("globex", "anthropic-pool-1", "anthropic", "claude-sonnet-4-5", 15),
    Lane("kathmandu-labs", "openai-pool-1", "openai", "gpt-5-mini", 5),
    Lane("kathmandu-labs", "anthropic-pool-1", "anthropic", "claude-haiku-4-5", 5),
    Lane("wayne", "wayne-own-google", "google", "gemini-2.5-pro", 10),
)
LEAKED: Final = LANES[3]
"""globex's use of openai-pool-1 is what leaks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When what happens. All instants UTC microseconds."""

    month_start_us: int

    @property
    def trace_us(self) -> int:
        """Where the trace's first request is moved to."""
        return self.month_start_us + 1 * DAY_US + 10 * HOUR_US

    @property
    def history_us(self) -> int:
        """Start of the fortnight of ordinary use."""
        return self.month_start_us + 2 * DAY_US

    @property
    def leak_us(self) -> int:
        """When the leaked key is first used by others: at night in New York."""
        return self.history_us + HISTORY_DAYS * DAY_US + 7 * HOUR_US + 23 * MINUTE_US


class Call(NamedTuple):
    """One request of a trace: microseconds since its first, tokens in and out."""

    after_us: int
    input_side: int
    output_side: int


def read_trace() -> list[Call]:
    """Both traces as one, in order of time."""
    calls = []
    for name in TRACES:
        with gzip.open(files("tollhouse.demo.data").joinpath(name).open("rb"), "rt") as lines:
            calls += [
                (
                    parse_instant(row["TIMESTAMP"].replace(" ", "T") + "Z"),
                    int(row["ContextTokens"]),
                    int(row["GeneratedTokens"]),
                )
                for row in csv.DictReader(lines)
            ]
    calls.sort()
    first_us = calls[0][0]
    return [Call(at_us - first_us, taken, given) for at_us, taken, given in calls]


def _event(
    rng: Random, lane: Lane, name: str, source: str, time_us: int, tokens: tuple[int, int], agent: str, network: str
) -> dict[str, Any]:
    api, usage = rng.choice(MAKERS[lane.provider])(rng, *tokens)
    return {
        "specversion": "1.0",
        "id": name,
        "source": source,
        "type": USAGE_TYPE,
        "time": format_instant(time_us - time_us % 1000),
        "subject": lane.tenant,
        "data": {
            "key": lane.key,
            "provider": lane.provider,
            "api": api,
            "model": lane.model,
            "usage": usage,
            "status": "ok",
            "upstream_id": f"{lane.provider}-{name}",
            "network": network,
            "agent": agent,
        },
    }


def trace_events(plan: Plan, seed: int) -> tuple[list[dict[str, Any]], int]:
    """The trace as events, some of them twice and some out of order; and how many are there twice."""
    rng = Random(seed)  # noqa: S311 - a reproducible demo, no secret
    weights = [lane.weight for lane in LANES]
    events: list[tuple[float, dict[str, Any]]] = []
    duplicates = 0
    for number, call in enumerate(read_trace()):
        lane = rng.choices(LANES, weights)[0]
        time_us = plan.trace_us + call.after_us
        event = _event(
            rng, lane, f"t{number:05d}", TRACE_SOURCE, time_us, call[1:], "app/2.3", f"AS64500/{lane.tenant}"
        )
        late_us = rng.randrange(20 * SECOND_US) if rng.random() < 0.05 else 0
        events.append((time_us + late_us, event))
        if rng.random() < DUPLICATE_SHARE:
            duplicates += 1
            events.append((time_us + rng.randrange(60 * SECOND_US), event))
    events.sort(key=lambda item: item[0])
    return [event for _, event in events], duplicates


def history_events(plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Two weeks of ordinary use: more by day than by night, less at weekends, a little chance."""
    rng = Random(seed + 1)  # noqa: S311 - a reproducible demo, no secret
    number = 0
    for minute in range(HISTORY_DAYS * 24 * 60):
        start_us = plan.history_us + minute * MINUTE_US
        hour = minute / 60 % 24
        weekday = (start_us // DAY_US + 3) % 7
        level = (0.35 + 0.65 * math.sin((hour - 6) / 24 * math.tau) ** 2) * (0.4 if weekday >= 5 else 1.0)
        for lane in LANES:
            for _ in range(_poisson(rng, level * lane.weight / 40)):
                number += 1
                tokens = (rng.randrange(200, 4000), rng.randrange(20, 600))
                time_us = start_us + rng.randrange(MINUTE_US)
                yield _event(
                    rng, lane, f"h{number:06d}", HISTORY_SOURCE, time_us, tokens, "app/2.3", f"AS64500/{lane.tenant}"
                )


def leak_events(plan: Plan, seed: int, minutes: int = 40) -> Iterator[dict[str, Any]]:
    """The leaked token in other hands: many large requests from a network and an agent never seen before."""
    rng = Random(seed + 2)  # noqa: S311 - a reproducible demo, no secret
    number = 0
    for minute in range(minutes):
        for _ in range(_poisson(rng, 18.0)):
            number += 1
            time_us = plan.leak_us + minute * MINUTE_US + rng.randrange(MINUTE_US)
            tokens = (rng.randrange(4000, 30000), rng.randrange(500, 4000))
            yield _event(rng, LEAKED, f"x{number:05d}", LEAK_SOURCE, time_us, tokens, "curl/8.9", "AS64666/ZZ")


def _poisson(rng: Random, mean: float) -> int:
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        count += 1
        product *= rng.random()
    return count
