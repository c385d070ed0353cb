"""The leaks agent: new usage by minute from the meter, detector states in the ledger, alerts out.

The kept state is a cache. A subject that this worker sees for the first time starts from it and catches up from the
ledger's events, so that a lost or old state costs time and never a blind spot. It is no Faust table: the recovery of
one waits for the changelog's end, which the embedded broker states wrongly (it counts record batches), and hangs for
other reasons elsewhere (faust#176, #432, #158).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from pipeline.alerting import Alert
from pipeline.ledger import Connection, Ledger, LedgerUnavailable
from pipeline.ledger.alerts import expected_leaks
from pipeline.ledger.detectors import KeptState, keep_states, load_states
from pipeline.ledger.key_history import keep_scores
from pipeline.ledger.minutes import minutes_of
from pipeline.watch import KeyHour, LeakWatch, subject_of
from schemas.instants import DAY_US, MINUTE_US
from streams.publishing import decode_minutes

log = structlog.get_logger()

KEEP_EVERY_US: Final = 30 * MINUTE_US
"""Event time between two writes of a subject's state: what a restarted worker reads again at most."""
CATCH_UP_US: Final = 15 * DAY_US
"""How far back a subject without a state learns from the ledger: two weeks of hours, and a day."""


class LeakAgent:
    """Feeds the watch and notes what it finds in the ledger. raised: told what is new there."""

    def __init__(
        self, ledger: Ledger, now_us: Callable[[], int], raised: Callable[[Sequence[Alert]], None] = lambda _new: None
    ) -> None:
        self.found = 0
        self._ledger, self._now_us, self._raised = ledger, now_us, raised
        self._watch = LeakWatch(self._stored)
        self._loaded: dict[str, KeptState] = {}
        self._caught_up_at_s: dict[str, float] = {}
        self._kept_us: dict[str, int] = {}
        self._due: dict[str, int] = {}
        self._heeded: set[str] = set()

    def _stored(self, subject: str) -> dict[str, Any] | None:
        kept = self._loaded.pop(subject, None)
        return dict(kept.state) if kept else None

    async def observe(self, value: bytes, sent_at_s: float) -> None:
        """Take a message of new usage. sent_at_s: when it was sent; what a catch-up has seen already is left out."""
        minutes = decode_minutes(value)
        unknown: dict[str, dict[str, int]] = {}
        for m in minutes:
            if subject_of(m.tenant, m.key) not in self._caught_up_at_s:
                known = unknown.setdefault(m.tenant, {})
                known[m.key] = min(m.minute_us, known.get(m.key, m.minute_us))
        alerts: list[Alert] = []
        if unknown:
            alerts += await self._catch_up(unknown)
        fresh = [m for m in minutes if sent_at_s >= self._caught_up_at_s.get(subject_of(m.tenant, m.key), 0.0)]
        alerts += self._watch.add(fresh)
        await self._raise(alerts)
        self._note_due({subject_of(m.tenant, m.key): m.minute_us for m in fresh})

    async def _catch_up(self, unknown: Mapping[str, Mapping[str, int]]) -> list[Alert]:
        """What the ledger knows of tenants' use of keys. unknown: tenant to key to the first minute that is at hand."""
        started_s = _wall_s()
        first_us = {subject_of(tenant, key): us for tenant, keys in unknown.items() for key, us in keys.items()}
        new_us = self._now_us() - CATCH_UP_US
        try:
            kept = await asyncio.to_thread(self._ledger.read, lambda c: load_states(c, list(first_us)))
            since_us = {
                tenant: {
                    key: kept[s].minute_us + MINUTE_US if (s := subject_of(tenant, key)) in kept else new_us
                    for key in keys
                }
                for tenant, keys in unknown.items()
            }
            missed = await asyncio.to_thread(self._ledger.read, lambda c: minutes_of(c, since_us))
        except LedgerUnavailable as error:
            log.warning("leaks.no_catch_up", subjects=len(first_us), error=str(error))
            kept, missed = {}, []
        self._loaded |= kept
        for subject, us in first_us.items():
            self._watch.detector(subject)
            self._caught_up_at_s[subject] = started_s
            self._kept_us.setdefault(subject, kept[subject].minute_us if subject in kept else us)
        return self._watch.add(missed)

    def _note_due(self, latest_us: Mapping[str, int]) -> None:
        self._due |= {s: us for s, us in latest_us.items() if us - self._kept_us.get(s, 0) >= KEEP_EVERY_US}

    async def keep(self) -> None:
        """Write the states and the scores that are due, all in one transaction; called every few seconds."""
        due, self._due = self._due, {}
        peaks = self._watch.take_peaks(due)
        if not due and not peaks:
            return
        states = {s: KeptState(us, self._watch.detector(s).state()) for s, us in due.items()}
        try:
            await asyncio.to_thread(self._ledger.write, lambda c: _keep(c, states, peaks))
        except LedgerUnavailable as error:
            log.warning("leaks.not_kept", error=str(error))
            self._due = due | self._due
            self._watch.put_back(peaks)
            return
        self._kept_us |= due

    async def heed_feedback(self) -> None:
        """Let the detectors learn what a person called expected; one that is not here learns it when it is."""
        for row in await asyncio.to_thread(self._ledger.read, expected_leaks):
            if row["id"] not in self._heeded and row["subject"] in self._caught_up_at_s:
                self._watch.accept(row["id"], row["subject"], row["facts"])
                self._heeded.add(row["id"])
                self._kept_us.pop(row["subject"], None)  # kept with the next minute of use

    async def _raise(self, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        while True:
            try:
                new = await asyncio.to_thread(self._ledger.raise_alerts, alerts)
                break
            except LedgerUnavailable as error:
                log.warning("leaks.waiting", reason=str(error))
                await asyncio.sleep(1.0)
        self.found += len(new)
        self._raised(new)

    def reassigned(self) -> None:
        """Partitions moved: start again from what the ledger has."""
        self._watch.forget()
        self._caught_up_at_s.clear()
        self._kept_us.clear()
        self._due.clear()
        self._heeded.clear()


def _keep(connection: Connection, states: Mapping[str, KeptState], peaks: Mapping[KeyHour, int]) -> None:
    keep_states(connection, states)
    keep_scores(connection, peaks)


def _wall_s() -> float:
    import time  # noqa: PLC0415 - message times are the wall clock's, whatever clock events are judged by

    return time.time()
