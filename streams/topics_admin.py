"""Create the topics before anything reads or writes them, and refuse those that do not fit.

Topics are made first because brokers that create them on demand choose their own partition counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from streams.transport import PLAINTEXT, BrokerSecurity, TransportError, why_not

REPLICATION_FACTOR: Final = 1
REQUEST_TIMEOUT_MS: Final = 10_000
# A topic is created by the controller; the broker that we ask hears of it a moment later (under 0.1 s when idle).
VISIBLE_TIMEOUT_S: Final = 15.0
POLL_INTERVAL_S: Final = 0.05
_OK: Final = 0
_TOPIC_ALREADY_EXISTS: Final = 36

TopicSpec = tuple[int, Mapping[str, str]]
"""Partition count and topic configuration (`{"cleanup.policy": "compact"}`)."""


class TopicsError(RuntimeError):
    """The topics cannot be made, or exist in a form that does not fit; one line that says what to do."""


async def ensure_topics(
    bootstrap: str,
    topics: Mapping[str, TopicSpec],
    *,
    replication_factor: int = REPLICATION_FACTOR,
    security: BrokerSecurity = PLAINTEXT,
) -> list[str]:
    """Create the missing `topics` (name to partitions and configuration); the names that were created, sorted.

    Idempotent, and safe when several processes do it at once. A topic that exists with fewer partitions, or with
    another value of a setting that the broker reports, is left alone and refused with `TopicsError`: both change where
    or how long messages live, which is for an operator to decide. More partitions are an operator's doing, and are
    read. Settings that a broker does not report
    (the embedded one keeps no retention) are passed on and not compared.
    """
    try:
        how = security.client()
    except TransportError as error:
        raise TopicsError(str(error)) from None
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, **how)
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise TopicsError(await asyncio.to_thread(why_not, bootstrap, security)) from error
    try:
        created = await _create_missing(admin, topics, replication_factor)
        # Only names that exist by now: the embedded broker creates a topic that somebody merely asks about.
        _check_partitions(bootstrap, topics, await _read_back(admin, bootstrap, sorted(topics)))
        await _check_configs(admin, bootstrap, {name: spec[1] for name, spec in topics.items() if name not in created})
    except (KafkaError, OSError) as error:
        raise TopicsError(f"the broker at {bootstrap} refused the topics: {error}") from error
    finally:
        await admin.close()
    return created


async def _create_missing(
    admin: AIOKafkaAdminClient, topics: Mapping[str, TopicSpec], replication_factor: int
) -> list[str]:
    present = set(await admin.list_topics())
    missing = sorted(set(topics) - present)
    if not missing:
        return []
    wanted = [
        NewTopic(name, topics[name][0], replication_factor, topic_configs=dict(topics[name][1])) for name in missing
    ]
    response = await admin.create_topics(wanted, timeout_ms=REQUEST_TIMEOUT_MS)
    created: list[str] = []
    for name, code, *detail in response.topic_errors:
        if code == _OK:
            created.append(name)
        elif code != _TOPIC_ALREADY_EXISTS:  # another process was faster: checked like any existing topic
            raise TopicsError(
                f"topic {name} cannot be created: {detail[0] if detail and detail[0] else f'code {code}'}"
            )
    return sorted(created)


async def _read_back(admin: AIOKafkaAdminClient, bootstrap: str, names: list[str]) -> dict[str, int]:
    """Partition counts by name, as soon as the broker that answers knows every topic."""
    deadline_s = time.monotonic() + VISIBLE_TIMEOUT_S
    while True:
        described = await admin.describe_topics(names)
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == _OK}
        hidden = [name for name in names if name not in counts]
        if not hidden:
            return counts
        if time.monotonic() > deadline_s:
            raise TopicsError(
                f"topic {hidden[0]} at {bootstrap} cannot be read back: try again, or look at the broker's log"
            )
        await asyncio.sleep(POLL_INTERVAL_S)


def _check_partitions(bootstrap: str, topics: Mapping[str, TopicSpec], counts: Mapping[str, int]) -> None:
    for name in sorted(topics):
        if counts[name] < topics[name][0]:
            raise TopicsError(
                f"topic {name} at {bootstrap} has {counts[name]} partitions, {topics[name][0]} are configured: "
                "set the configured count to that of the topic, or add partitions (kafka-topics --alter)"
            )


async def _check_configs(admin: AIOKafkaAdminClient, bootstrap: str, wanted: Mapping[str, Mapping[str, str]]) -> None:
    names = sorted(name for name, config in wanted.items() if config)
    if not names:
        return
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    for response in responses:
        for _code, _message, _kind, name, entries in (resource[:5] for resource in response.resources):
            found = {entry[0]: entry[1] for entry in entries}
            for key, value in sorted(wanted.get(name, {}).items()):
                if key in found and found[key] != value:
                    raise TopicsError(
                        f"topic {name} at {bootstrap} has {key}={found[key]}, {value} is needed: "
                        f"change it there (kafka-configs --alter) or make the topic anew"
                    )
