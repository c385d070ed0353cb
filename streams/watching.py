"""What the meter tells those who watch it: once a batch, after its commit, so that an event costs nothing."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from pipeline.ledger.record import Recorded

log = structlog.get_logger()


class CountedBatch(NamedTuple):
    """A batch that the ledger has. messages: as the meter got them, in order.

    began_ns, ended_ns: of its transaction, tries and waits for the database included; the wall clock, since the epoch.
    """

    messages: Sequence[Any]
    recorded: Recorded
    began_ns: int
    ended_ns: int


class Watch:
    """Does nothing; those who watch override what they want to hear. Called on the event loop, so nothing may wait."""

    def counted(self, batch: CountedBatch) -> None:
        """The ledger has the batch, and its messages are acknowledged."""

    def retried(self, reason: str) -> None:
        """The batch in hand could not be counted and will be tried again. reason: for people."""

    def unpublished(self) -> None:
        """What follows from a batch could not be sent to its topics."""


class Watches(Watch):
    """Several as one. A fault of one of them is written down, and costs neither the others nor the meter anything."""

    def __init__(self, *watches: Watch) -> None:
        self._watches = watches

    def counted(self, batch: CountedBatch) -> None:
        """To each of them."""
        self._tell(lambda watch: watch.counted(batch))

    def retried(self, reason: str) -> None:
        """To each of them."""
        self._tell(lambda watch: watch.retried(reason))

    def unpublished(self) -> None:
        """To each of them."""
        self._tell(lambda watch: watch.unpublished())

    def _tell(self, what: Callable[[Watch], None]) -> None:
        for watch in self._watches:
            try:
                what(watch)
            except Exception:
                log.exception("watch.failed", watch=type(watch).__name__)
