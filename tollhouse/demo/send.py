"""Sending the demo's traffic by the client's publisher, as a proxy would."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tollhouse.cli.shared import progress
from tollhouse.demo.traffic import LEAK_SOURCE, Plan, history_events, leak_events, trace_events
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse_client import UsagePublisher


@dataclass(frozen=True, slots=True)
class Sent:
    """deliveries: events sent, repeated ones included."""

    deliveries: int
    duplicates: int


def send_all(settings: Settings, plan: Plan, seed: int, check: Callable[[], None]) -> Sent:
    """The trace, the fortnight, the leak: published to Kafka; returns when the broker has all of it."""
    trace, duplicates = trace_events(plan, seed)
    ordinary = list(history_events(plan, seed))
    leaked = list(leak_events(plan, seed))
    # The leak happens in the midst of ordinary use: both in order of time.
    later = sorted([*ordinary, *leaked], key=lambda event: str(event["time"]))
    total = len(trace) + len(later)
    publisher = UsagePublisher(
        settings.broker, source=LEAK_SOURCE, spool_dir=settings.dir / "spool-proxy", batch_events=100
    )
    with contextlib.ExitStack() as stack:
        stack.callback(publisher.close, 1.0)
        bar = stack.enter_context(progress(total, "sending"))
        for event in _watched([*trace, *later], check):
            publisher.publish(event)
            bar.advance(bar.task_ids[0])
        while not publisher.flush(0.5):
            check()
            error = publisher.stats().last_error
            if error and not publisher.stats().acked:
                raise UserError(f"the broker does not take events: {error} (see broker.log)")
    return Sent(total, duplicates)


def _watched(events: Iterable[dict[str, Any]], check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events):
        if number % 5000 == 0:
            check()
        yield event
