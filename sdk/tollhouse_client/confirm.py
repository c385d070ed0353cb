"""Keeping events until the ledger has them, for a broker that forgets when it stops.

An acknowledgement from a broker that keeps its log in memory is worth as much as its process. With a `confirm`
function the spool holds a segment until each event of it is settled, and sends again what stays unsettled.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

from tollhouse_client.redacting import as_sent
from tollhouse_client.segment import Record, Segment
from tollhouse_client.spool import Spool

Identity: TypeAlias = tuple[str, str, str]
"""(tenant, source, id)"""
Confirm: TypeAlias = Callable[[Sequence[Identity]], Collection[Identity]]
"""Which of these the ledger has settled: recorded, or rejected for good."""

_log = logging.getLogger("tollhouse_client")
ASK_EVERY_S: Final = 1.0
"""How soon the same segment is asked about again; doubles each time, up to `ASK_EVERY_MAX_S`."""
ASK_EVERY_MAX_S: Final = 10.0
SAME_SESSION_FACTOR: Final = 10
"""A broker that was replaced while nothing was sent is not noticed; it is made up for, but later."""
ASK_SHARE: Final = 0.2
"""Reading a segment back and asking takes about 0.1 s. It takes this share of the sending thread's time at most, so
that a ledger which is hours behind does not keep new events from the broker."""


def identity_of(record: Record) -> Identity:
    """The identity of a spooled event, as the ledger knows it."""
    event = json.loads(as_sent(record.body))
    return event["subject"], event["source"], event["id"]


class ConfirmingTidy:
    """`Spool.tidy` that deletes a segment only when `confirm` knows all of it. Called by the sending thread.

    What is missing is late or lost. A broker in memory loses only with its process, which ends our session; so what
    was acknowledged in an earlier session is sent again after `after_s`, and what was acknowledged in this one only
    after `SAME_SESSION_FACTOR` times that. Each repetition doubles the wait: a ledger that is behind is not buried.
    """

    def __init__(self, spool: Spool, confirm: Confirm, after_s: float, session: Callable[[], int]) -> None:
        self._spool = spool
        self._confirm = confirm
        self._after_s = after_s
        self._session = session
        self._repeats: dict[Segment, int] = {}
        self._free_at_s = 0.0
        self._asked: dict[Segment, tuple[float, float]] = {}  # when to ask again, and how long to wait after that

    def __call__(self) -> None:
        self._spool.tidy(self._may_delete)

    def _may_delete(self, segment: Segment) -> bool:
        started_s = time.monotonic()
        due_s, pause_s = self._asked.get(segment, (0.0, ASK_EVERY_S))
        if started_s < max(due_s, self._free_at_s):
            return False
        unsettled = self._unsettled(segment)
        ended_s = time.monotonic()
        self._free_at_s = ended_s + (ended_s - started_s) * (1 / ASK_SHARE - 1)
        if unsettled == []:
            self._asked.pop(segment, None)
            self._repeats.pop(segment, None)
            return True
        self._asked[segment] = (ended_s + pause_s, min(2 * pause_s, ASK_EVERY_MAX_S))
        if unsettled and ended_s - (segment.settled_at_s or ended_s) > self._patience_s(segment):
            _log.warning("%d events were acknowledged but are not in the ledger; they are sent again", len(unsettled))
            self._repeats[segment] = self._repeats.get(segment, 0) + 1
            self._spool.send_again(segment, unsettled)
        return False

    def _patience_s(self, segment: Segment) -> float:
        same = segment.session == self._session()
        doubled = min(self._repeats.get(segment, 0), 6)
        return float(self._after_s * (SAME_SESSION_FACTOR if same else 1) * 2**doubled)

    def _unsettled(self, segment: Segment) -> list[Record] | None:
        """The records that the ledger does not have; None when it cannot be asked now."""
        records = self._spool.reread(segment)
        identities = {identity_of(record): record for record in records}
        try:
            settled = set(self._confirm(list(identities)))
        except Exception as error:  # noqa: BLE001  the ledger is away: keep everything and ask later
            _log.warning("the ledger cannot be asked what it has: %s", error)
            return None
        return [record for identity, record in identities.items() if identity not in settled]
