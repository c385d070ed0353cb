"""Publishing lines of NDJSON by way of the client's disk spool: what was read is sent, or its place is told."""

import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.topics import USAGE_EVENTS
from tollhouse.errors import UserError
from tollhouse_client import InvalidEventError, UsagePublisher
from tollhouse_client.errors import ClientError

TEMPORARY: Final = "tollhouse-spool-"
INTERRUPTED_WAIT_S: Final = 3.0
"""How long Ctrl-C waits for the broker: whoever pressed it is still there."""
CLOSE_S: Final = 2.0


@dataclass(slots=True)
class Published:
    """What became of the lines. published: with the broker, those that waited in the spool before included. waiting: in
    the spool. refused: (line number, why). trouble: what a person must do, empty if nothing.
    """

    published: int = 0
    waiting: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    trouble: str = ""
    interrupted: bool = False


def publish_lines(
    lines: Iterable[bytes],
    broker: str,
    spool_dir: Path | None,
    *,
    rate: int | None,
    wait_s: float,
    tell: Callable[[str], None],
    step: Callable[[], None],
    topic: str = USAGE_EVENTS,
    kafka: Mapping[str, Any] | None = None,
) -> Published:
    """Publish every line that is an event. spool_dir None: a temporary one, removed only when all of it was sent.

    rate: events a second at most. wait_s: for a broker that does not answer. tell: a line for a person. step: called
    for each event. kafka: how the broker is reached. Interrupting it (SIGINT, SIGTERM) ends the reading, and what was
    read is sent.
    """
    logging.getLogger("tollhouse_client").addHandler(logging.NullHandler())  # we tell it ourselves
    place = spool_dir if spool_dir is not None else Path(tempfile.mkdtemp(prefix=TEMPORARY))
    done = Published()
    try:
        publisher = UsagePublisher(broker, source="tollhouse-publish", spool_dir=place, topic=topic, kafka=kafka)
    except ClientError as error:
        raise UserError(str(error)) from None
    try:
        with _sigterm_interrupts():
            sent = _send(publisher, lines, done, rate, place, step)
            left = _drain(
                publisher, min(wait_s, INTERRUPTED_WAIT_S) if done.interrupted else wait_s, tell, broker, place
            )
    finally:
        publisher.close(0.0)  # whatever ends this, what was accepted stays in the spool
    done.published, done.waiting = publisher.stats().replayed + sent - left, left
    if left:
        done.trouble = (
            f"{left:,} events wait in {place}: the broker at {broker} does not take them; {_how_to_go_on(place)}"
        )
    elif spool_dir is None:
        _remove_temporary(place)
    return done


def _send(
    publisher: UsagePublisher,
    lines: Iterable[bytes],
    done: Published,
    rate: int | None,
    place: Path,
    step: Callable[[], None],
) -> int:
    sent, started_s = 0, time.monotonic()
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                publisher.publish(_event(line))
            except (InvalidEventError, ValueError) as error:
                done.refused.append((number, str(error)))
                continue
            except ClientError as error:
                raise UserError(f"line {number}: {error} ({_how_to_go_on(place)})") from None
            sent += 1
            step()
            if rate is not None:
                time.sleep(max(0.0, started_s + sent / rate - time.monotonic()))
    except KeyboardInterrupt:  # a stream has no other end
        done.interrupted = True
    return sent


def _drain(publisher: UsagePublisher, wait_s: float, tell: Callable[[str], None], broker: str, place: Path) -> int:
    """Wait until the broker has everything, told once when it keeps us waiting; how many events are left."""
    deadline_s = time.monotonic() + wait_s
    told = False
    try:
        while not publisher.flush(max(0.0, min(1.0, deadline_s - time.monotonic()))):
            if time.monotonic() >= deadline_s:
                break
            if not told and not publisher.stats().connected:
                reason = publisher.stats().last_error or "no answer yet"
                tell(f"waiting for the broker at {broker} ({reason}); events are safe in {place}")
                told = True
    except KeyboardInterrupt:
        tell("interrupted")
    return publisher.close(CLOSE_S)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise ValueError("an event is a JSON object")
    return event


def _how_to_go_on(place: Path) -> str:
    return f"once it does, `tollhouse publish /dev/null --spool {place}` sends what waits"


def _remove_temporary(place: Path) -> None:
    """Only where nothing but the lock is left: anything else is somebody's events."""
    if all(left.name == "lock" or left.name.endswith(".tmp") for left in place.iterdir()):
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends the reading as Ctrl-C does, instead of the process."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
