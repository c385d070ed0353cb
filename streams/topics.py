"""The topics: their names, partitions and settings. Everything is made before anything reads it."""

from typing import Final

from streams.topics_admin import TopicSpec

USAGE_EVENTS: Final = "usage.events"
USAGE_REJECTED: Final = "usage.rejected"
QUOTA_STATES: Final = "quota.states"
KEY_STATES: Final = "key.states"
ALERTS: Final = "alerts"
INVOICES: Final = "invoices"
KEY_MINUTES: Final = "key.minutes"
"""Internal: new usage by tenant, key and minute, from the meter to the leak detector."""

_COMPACTED: Final = {"cleanup.policy": "compact"}
# The broker's clock, not the sender's, says when an event arrived: a proxy with a wrong clock cannot make itself early.
_BROKER_TIME: Final = {"message.timestamp.type": "LogAppendTime"}


def topic_specs(partitions: int, prefix: str = "") -> dict[str, TopicSpec]:
    """Name to (partitions, configuration). What is keyed by tenant has as many partitions as the events."""
    specs: dict[str, TopicSpec] = {
        USAGE_EVENTS: (partitions, _BROKER_TIME),
        USAGE_REJECTED: (partitions, {}),
        QUOTA_STATES: (partitions, _COMPACTED),
        KEY_STATES: (1, _COMPACTED),
        ALERTS: (1, {}),
        INVOICES: (1, {}),
        KEY_MINUTES: (partitions, {}),
    }
    return {prefix + name: spec for name, spec in specs.items()}
