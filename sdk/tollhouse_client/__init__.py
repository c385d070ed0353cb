"""An LLM proxy's side of Tollhouse: usage events to it, and its gate in front of calls."""

from tollhouse_client.decisions import GateDecision
from tollhouse_client.errors import (
    ClientError,
    EventTooLargeError,
    GateRefusedError,
    GateUnavailableError,
    InvalidEventError,
    PublisherClosedError,
    SpoolFullError,
    SpoolLockedError,
)
from tollhouse_client.events import new_id, usage_event, void_event
from tollhouse_client.gate import Gate
from tollhouse_client.leased_gate import LeasedGate
from tollhouse_client.local_gate import LocalGate, LocalGateStats
from tollhouse_client.publisher import PublisherStats, UsagePublisher
from tollhouse_client.slots import open_in_free_slot

__version__ = "0.1.0"
__all__ = [
    "ClientError",
    "EventTooLargeError",
    "Gate",
    "GateDecision",
    "GateRefusedError",
    "GateUnavailableError",
    "InvalidEventError",
    "LeasedGate",
    "LocalGate",
    "LocalGateStats",
    "PublisherClosedError",
    "PublisherStats",
    "SpoolFullError",
    "SpoolLockedError",
    "UsagePublisher",
    "new_id",
    "open_in_free_slot",
    "usage_event",
    "void_event",
]
