"""The intake against the broker: nothing acknowledged that was not taken, nothing taken that was never there."""

import asyncio
import logging

from aiokafka.errors import KafkaError

from pipeline.ledger import Ledger
from pipeline.ledger.generations import newest
from pipeline.ledger.tables import intake
from streams.generation import NoTopicId, topic_id
from streams.offsets import end_offsets, group_offsets
from streams.topics import USAGE_EVENTS
from streams.transport import TransportError
from tollhouse.brokers import security_of
from tollhouse.settings import Settings


class BrokerAway(Exception):
    """The broker cannot be asked now; the message says why."""


async def broker_differences(settings: Settings, ledger: Ledger) -> list[str]:
    """A line for each partition of the events' topic where broker and intake contradict one another.

    BrokerAway, or UserError for settings that cannot be used. What is read first can only be smaller than what is read
    after it, so a worker that works meanwhile makes no difference: acknowledged, taken, end.
    """
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # the caller says it
    topic = settings.topic_prefix + USAGE_EVENTS
    try:
        client = security_of(settings).client()
        group = await group_offsets(settings.broker, topic, settings.app_id, client=client)
        if group is None:
            raise BrokerAway(f"{settings.broker} has no topic {topic}")
        acknowledged, begins = group
        found = await asyncio.to_thread(topic_id, settings.broker, topic, client)
        known = ledger.read(lambda connection: newest(connection, topic))
        name = known.name if known.topic_id in ("", found) else None  # made anew, and not read yet
        taken = {row["partition"]: row for row in ledger.rows(intake, intake.c.topic == name)}
        ends = await end_offsets(settings.broker, topic, client=client)
    except (KafkaError, OSError, NoTopicId, TransportError) as error:
        raise BrokerAway(f"{settings.broker} does not answer: {error}") from error
    return compare(
        topic,
        {partition: (row["next_offset"], row["received"]) for partition, row in taken.items()},
        acknowledged if name is not None else {},
        begins,
        ends,
    )


def compare(
    topic: str,
    taken: dict[int, tuple[int, int]],
    acknowledged: dict[int, int],
    begins: dict[int, int],
    ends: dict[int, int],
) -> list[str]:
    """Lines for partitions. taken: (next offset, events received); the others are offsets."""
    lines = []
    for partition in sorted(set(taken) | set(acknowledged)):
        place = f"{topic}/{partition}"
        following, received = taken.get(partition, (0, 0))
        if partition not in ends:
            lines.append(f"{place}: the ledger has taken from it, the broker does not have it")
            continue
        if following > ends[partition]:
            lines.append(f"{place}: the ledger has taken up to {following}, the topic ends at {ends[partition]}")
        if acknowledged.get(partition, 0) > max(following, begins.get(partition, 0)):
            lines.append(
                f"{place}: acknowledged up to {acknowledged[partition]}, the ledger has taken up to {following}: "
                "start a worker again, it goes back to there"
            )
        there = min(following, ends[partition]) - begins.get(partition, 0)
        if received < there:
            lines.append(f"{place}: received {received} events, of messages that are still there {there}")
    return lines
