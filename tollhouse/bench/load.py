"""Putting load on a topic: all at once, or at a steady rate with the time of each message noted."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaProducer

from tollhouse.bench.traffic import messages


@dataclass(slots=True)
class Sent:
    """What is in the topic: events and their tokens; for a steady load when each message went out, by place."""

    events: int = 0
    tokens: int = 0
    at_s: dict[tuple[int, int], float] = field(default_factory=dict)


HANDED_MAX: Final = 4_000
"""Messages without the broker's answer: made faster than it takes them, ten million events were six gigabytes here."""


def producer(broker: str) -> KafkaProducer:
    """Acknowledged by the broker, in order, packed as Kafka packs when it is busy."""
    return KafkaProducer(
        bootstrap_servers=broker,
        acks="all",
        linger_ms=5,
        batch_size=500_000,
        max_request_size=1_000_000,
    )


def fill(
    broker: str, topic: str, events: int, per_message: int, now_us: int, *, first: int = 0, tick: Callable[[int], None]
) -> Sent:
    """Put `events` events into the topic; returns when the broker has them."""
    sent, out = Sent(), producer(broker)
    handed: deque[Any] = deque()
    try:
        for owner, value, tokens in messages(events, per_message, now_us, first=first):
            handed.append(out.send(topic, value, key=owner.encode()))
            if len(handed) > HANDED_MAX:
                handed.popleft().get(timeout=60)
            sent.tokens += tokens
            sent.events = min(events, sent.events + per_message)
            tick(sent.events)
        out.flush(timeout=120)
        for future in handed:
            future.get(timeout=60)
    finally:
        out.close(timeout=10)
    return sent


def steady(
    broker: str,
    topic: str,
    rate: int,
    seconds: int,
    per_message: int,
    *,
    first: int,
    clock_us: Callable[[], int],
    poll: Callable[[], None],
) -> Sent:
    """`rate` events a second for some seconds; poll is called every few milliseconds meanwhile."""
    sent, out = Sent(), producer(broker)
    out.config["linger_ms"] = 0
    load: Iterator[tuple[str, bytes, int]] = messages(rate * seconds, per_message, clock_us(), first=first)
    gap_s, started_s = per_message / rate, time.perf_counter()
    waiting = []
    try:
        for number, (owner, value, tokens) in enumerate(load):
            while (ahead_s := started_s + number * gap_s - time.perf_counter()) > 0:
                poll()
                time.sleep(min(ahead_s, 0.003))
            waiting.append((time.perf_counter(), out.send(topic, value, key=owner.encode())))
            sent.tokens += tokens
            sent.events += per_message
            if number % 20 == 0:
                poll()
        for at_s, future in waiting:
            found = future.get(timeout=60)
            sent.at_s[found.partition, found.offset] = at_s
    finally:
        out.close(timeout=10)
    return sent
