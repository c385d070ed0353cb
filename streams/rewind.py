"""A group that acknowledged more than the ledger has goes back to where the ledger stands.

The broker keeps what was acknowledged, the ledger what was counted, and the first never runs ahead of the second,
unless the ledger is an older one, restored from a backup. What came after the backup is then still in the topic, and
has to be read again. The ledger is right, so a worker looks at it before it joins its group.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.ledger import Ledger
from pipeline.ledger.tables import intake
from streams.offsets import REQUEST_MS, group_offsets

log = structlog.get_logger()

EMPTY_S: Final = 20.0
"""Longer than a killed worker's session, so that a worker that is started after it need not be started twice."""
RETRY_S: Final = 1.0


async def rewind(
    bootstrap: str, topic: str, name: str, group: str, ledger: Ledger, client: Mapping[str, Any] | None = None
) -> dict[int, tuple[int, int]]:
    """Set the group back where it is ahead of the ledger: by partition, (acknowledged, where it is now).

    name: the topic's in the ledger (its generation). What the topic no longer has is lost to this ledger; the log says
    so. KafkaError when the broker does not answer, or other workers hold the group: stop them first.
    """
    more = {"bootstrap_servers": bootstrap, "request_timeout_ms": REQUEST_MS, **(client or {})}
    found = await group_offsets(bootstrap, topic, group, client=client)
    if found is None:
        return {}
    acknowledged, begins = found
    # After what was acknowledged: another worker may be at work, and counts before it acknowledges.
    taken = {row["partition"]: int(row["next_offset"]) for row in ledger.rows(intake, intake.c.topic == name)}
    back = {}
    for partition, offset in acknowledged.items():
        wanted = max(taken.get(partition, 0), begins[partition])
        if offset > wanted:
            back[partition] = (offset, wanted)
    if back:
        await _commit(group, {TopicPartition(topic, p): wanted for p, (_, wanted) in back.items()}, more)
    for partition, (offset, wanted) in back.items():
        lost = max(0, wanted - taken.get(partition, 0))
        log.warning("worker.rewound", partition=partition, acknowledged=offset, begins_at=wanted, gone=lost)
    return back


async def _commit(group: str, back: dict[TopicPartition, int], more: dict[str, Any]) -> None:
    """From outside the group, which Kafka allows while it has no members. One that was killed is gone after 6 s.

    The embedded broker does not allow it once a group has been at work; it forgets groups when it is started again.
    """
    consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **more)
    deadline_s = time.monotonic() + EMPTY_S
    try:
        await consumer.start()
        consumer.assign(list(back))
        while True:
            try:
                await consumer.commit(back)
            except KafkaError as error:
                if time.monotonic() > deadline_s:
                    raise KafkaError(
                        f"group {group} acknowledged more than the ledger has and cannot be set back while it has "
                        "members: stop every worker (and an embedded broker), then start one"
                    ) from error
            else:
                return
            await asyncio.sleep(RETRY_S)
    finally:
        await consumer.stop()
