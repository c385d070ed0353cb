"""A worker under watch: progress, figures, and the port on which they are asked for."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from socket import socket
from typing import Any, Final

import structlog

from pipeline.ledger.catalogs import newest_version
from pipeline.ledger.tables import intake
from streams.app import Streams
from streams.figures import WorkerFigures, WorkerState
from streams.offsets import end_offsets
from streams.progress import Progress
from streams.serving import serve
from streams.topics import USAGE_EVENTS
from streams.watching import CountedBatch, Watch, Watches

log = structlog.get_logger()

LOGGED_MAX: Final = 20
"""Rejected events of one batch that are logged each; all of them are in the rejected list."""


class _Acknowledged(Watch):
    """Tells the progress how far the meter acknowledged."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def counted(self, batch: CountedBatch) -> None:
        """The last offset of each partition in the batch, which is in order."""
        self._progress.acked({m.message.partition: m.message.offset + 1 for m in batch.messages})


class LogWatch(Watch):
    """Writes down what was rejected, by its identity, and at level debug each batch."""

    def counted(self, batch: CountedBatch) -> None:
        """Some rejected events by name, so that a sender gone wrong does not fill the disk, and how many more."""
        rejected = batch.recorded.rejected
        for refused in rejected[:LOGGED_MAX]:
            log.info(
                "event.rejected", tenant=refused.tenant, source=refused.source, id=refused.id, reason=refused.reason,
                topic=refused.evidence.topic, partition=refused.evidence.partition, offset=refused.evidence.offset,
            )  # fmt: skip
        if len(rejected) > LOGGED_MAX:
            log.info("event.rejected_more", events=len(rejected) - LOGGED_MAX)
        log.debug(
            "batch.counted", messages=len(batch.messages), counted=batch.recorded.counted,
            duplicates=batch.recorded.duplicates, held=batch.recorded.held, rejected=len(rejected),
            milliseconds=(batch.ended_ns - batch.began_ns) // 1_000_000,
        )  # fmt: skip


def watch_over(
    streams: Streams, loop: asyncio.AbstractEventLoop, listener: socket | None = None, *more: Watch
) -> Callable[[], None]:
    """Watch from now on, and answer on the listening socket if there is one; the result ends both.

    more: others that want to be told of each batch.
    """
    progress = progress_of(streams, loop)
    figures = WorkerFigures()
    figures.registry.register(
        WorkerState(
            progress, lambda: streams.meter.queued, lambda: streams.meter.state.committed_at_s, streams.deliverer
        )
    )
    streams.meter.watch = Watches(figures, _Acknowledged(progress), *more)
    threading.Thread(target=progress.run, name="progress", daemon=True).start()
    stop_serving = serve(listener, progress, figures.text) if listener is not None else None

    def end() -> None:
        progress.stop()
        if stop_serving is not None:
            stop_serving()

    return end


def progress_of(streams: Streams, loop: asyncio.AbstractEventLoop) -> Progress:
    """Progress that asks the worker's own broker and ledger."""
    settings, topic = streams.settings, streams.settings.topic_prefix + USAGE_EVENTS
    known = streams.generation.name if streams.generation is not None else topic
    assigned: list[set[int] | None] = [None]

    async def joined(*arguments: Any, **_more: Any) -> None:
        _app, partitions = arguments
        assigned[0] = {tp.partition for tp in partitions if tp.topic == topic}

    async def left(*_arguments: Any, **_more: Any) -> None:
        assigned[0] = None

    streams.app.on_partitions_assigned.connect(joined, weak=False)
    streams.app.on_partitions_revoked.connect(left, weak=False)

    def taken() -> Mapping[int, int]:
        return {row["partition"]: row["next_offset"] for row in streams.ledger.rows(intake, intake.c.topic == known)}

    def committed() -> Mapping[int, int]:
        offsets = dict(streams.app.monitor.tp_committed_offsets)
        return {tp.partition: offset for tp, offset in offsets.items() if tp.topic == topic}

    def mine() -> list[int] | None:
        return None if assigned[0] is None else sorted(assigned[0])

    return Progress(
        ends=lambda: asyncio.run(end_offsets(settings.broker, topic, client=settings.security.client())),
        taken=taken,
        catalog=lambda: streams.ledger.read(newest_version),
        assigned=mine,
        committed=committed,
        call_soon=loop.call_soon_threadsafe,
        trouble=lambda: streams.meter.state.trouble,
    )
