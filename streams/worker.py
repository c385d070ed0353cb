"""Running the Faust worker in this process until it is told to stop."""

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from socket import socket

import structlog
from aiokafka.errors import KafkaError

from pipeline.ledger import Ledger
from streams.app import Streams
from streams.delivery import Sender
from streams.generation import NoTopicId, generation_of
from streams.heap import few_heaps
from streams.rewind import rewind
from streams.settings import StreamSettings
from streams.stopping import PunctualWorker
from streams.topics import USAGE_EVENTS, topic_specs
from streams.topics_admin import TopicsError, ensure_topics
from streams.watched import LogWatch, watch_over
from streams.watching import Watch

log = structlog.get_logger()


def run(
    settings: StreamSettings,
    ledger: Ledger,
    now_us: Callable[[], int],
    send: Sender | None = None,
    release_after_us: int = 0,
    listener: socket | None = None,
    watches: Sequence[Watch] = (),
) -> int:
    """Make the topics, then work until SIGTERM or SIGINT: in-flight batches end, offsets are committed, the group is
    left. TopicsError when the broker does not answer or its topics do not fit. The exit code.

    send: brings alerts to sinks; without it they stay in the ledger and on their topic.
    release_after_us: see Deliverer. listener: where /healthz, /readyz and /metrics are asked for; None: nowhere.
    watches: more who want to be told of each batch.
    """
    specs = topic_specs(settings.partitions, settings.topic_prefix)
    asyncio.run(ensure_topics(settings.broker, specs, security=settings.security))
    topic = settings.topic_prefix + USAGE_EVENTS
    try:
        generation = generation_of(settings.broker, topic, ledger, now_us, settings.security.client())
    except NoTopicId as error:
        raise TopicsError(str(error)) from None
    try:
        asyncio.run(
            rewind(settings.broker, topic, generation.name, settings.app_id, ledger, settings.security.client())
        )
    except KafkaError as error:
        raise TopicsError(f"the broker at {settings.broker}: {error}") from None
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    streams = Streams(settings, ledger, now_us, send, release_after_us, generation)
    end_watch = watch_over(streams, loop, listener, LogWatch(), *watches)
    worker = PunctualWorker(streams.app, loop=loop, loglevel="WARN", override_logging=False, redirect_stdouts=False)
    worker.quiet, worker.spinner = True, None  # its signs for a terminal would stand among the log's lines
    # A batch is some hundred thousand objects without a cycle; looking for cycles every 700 of them cost a third of it.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    few_heaps()
    log.info("worker.starting", broker=settings.broker, partitions=settings.partitions)
    try:
        worker.execute_from_commandline()
    except SystemExit as done:  # how a Faust worker always ends
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    finally:
        end_watch()
        streams.meter.close()
        ledger.close()
        sys.stderr.flush()
