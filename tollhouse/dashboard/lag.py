"""How far the ledger is behind the broker, partition by partition."""

import asyncio
from typing import Final

from aiokafka.errors import KafkaError

from streams import offsets
from streams.topics import USAGE_EVENTS
from streams.transport import TransportError
from tollhouse.api.health import broker_answers
from tollhouse.brokers import security_of
from tollhouse.settings import Settings

WAIT_S: Final = 3.0
"""A page does not wait longer for a broker that has trouble."""


def end_offsets(settings: Settings) -> dict[int, int] | None:
    """Partition of usage.events to the offset that its next message gets; None where no broker answers in time."""
    if not broker_answers(settings.broker):
        return None
    topic = settings.topic_prefix + USAGE_EVENTS
    try:
        client = security_of(settings).client()
        asked = offsets.end_offsets(settings.broker, topic, timeout_s=WAIT_S, client=client)
        return asyncio.run(asyncio.wait_for(asked, WAIT_S))
    except (KafkaError, OSError, TimeoutError, TransportError):
        return None
