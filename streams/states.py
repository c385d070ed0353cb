"""What proxies decide by, on the compacted topics: every quota window, key, tenant and revoked token, absolute.

One worker tells (the one that has partition 0 of the events): all of it when it begins and when the catalog changes,
then what has changed, whoever changed it. After a look it sends a clock to every partition: whoever has read it knows
all that was committed before that instant. What was last told before the clock's `full` is gone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.context import Context
from pipeline.ledger import Ledger
from pipeline.ledger.record import QuotaState
from pipeline.ledger.states import Listed, listed, make_missing, quota_states, revocations_mark, subjects
from schemas.catalog import Quota
from streams import topics
from streams.publishing import clock_message, key_state_message, quota_state_key, quota_state_message
from streams.topics import topic_specs

LOOK_S: Final = 0.5
"""How often changed keys and revoked tokens are looked for: gates are to know of one within two seconds."""
CLOCK_S: Final = 1.0
"""How often quota windows are looked at, and clocks sent: what a gate's knowledge is late by, at best."""
SHARE: Final = 20
"""Windows that take long to read are read less often: looking takes a twentieth of the time at most."""
LIST_US: Final = 60_000_000
"""The list of windows is made anew this often: a dated plan comes into force by itself."""
ALL_US: Final = 600_000_000
"""Everything is told again this often: what a worker with an old catalog told meanwhile is put right."""
CHUNK: Final = 500
"""Messages handed over at a time; the meter's go between them."""

Message = tuple[bytes, bytes | None, int | None]
"""key, value (None: it is gone), partition (None: the key's own)."""
Send = Callable[[str, Sequence[Message]], Awaitable[None]]
"""Sends messages to a topic; done when the broker has them."""
Found = list[tuple[bytes, bytes, tuple[Any, ...]]]
"""key, value, and a mark that is another one when there is something to tell."""


@dataclass(slots=True)
class _Topic:
    """What was told on a topic. seen: by what it was decided that there is something new."""

    name: str
    partitions: int
    told: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)
    seen: tuple[Any, ...] = ()
    full_us: int = 0
    next_s: float = 0.0


class States:
    """One worker's. partitions: of the events, as the topics were made."""

    def __init__(self, ledger: Ledger, now_us: Callable[[], int], send: Send, partitions: int) -> None:
        self._ledger, self._now_us, self._send, self._partitions = ledger, now_us, send, partitions
        self._listed: list[Listed] = []
        self._list_until_us = 0
        self.stop()

    def stop(self) -> None:
        """Another worker tells now: begin with everything when this one is to tell again."""
        specs = topic_specs(self._partitions)
        self._keys = _Topic(topics.KEY_STATES, specs[topics.KEY_STATES][0])
        self._quotas = _Topic(topics.QUOTA_STATES, specs[topics.QUOTA_STATES][0])

    def note(self, states: Iterable[QuotaState]) -> None:
        """What the meter has told of windows that are told here too need not be told again."""
        told = self._quotas.told
        for state in states:
            key = quota_state_key(state.window)
            if key in told:
                told[key] = _mark(state)

    async def look(self) -> None:
        """Tell what has changed since the last look. LedgerUnavailable, NoCatalog."""
        now_us = self._now_us()
        context = await asyncio.to_thread(self._ledger.context)
        revoked = await asyncio.to_thread(self._ledger.read, revocations_mark)
        await self._look_at_keys(context, revoked, now_us)
        await self._look_at_quotas(context, now_us)

    async def _look_at_keys(self, context: Context, revoked: tuple[int, int], now_us: int) -> None:
        topic, seen = self._keys, (id(context), context.version, revoked)
        whole = now_us - topic.full_us >= ALL_US or topic.seen[1:2] != seen[1:2]
        if whole or topic.seen != seen:
            rows = await asyncio.to_thread(self._ledger.read, lambda c: subjects(c, context))
            marked = [(*key_state_message(row, now_us), (row["version"], row.get("tokens_before_us"))) for row in rows]
            await self._tell(topic, marked, now_us, whole=whole)
            topic.seen = seen
        if time.monotonic() >= topic.next_s:
            topic.next_s = time.monotonic() + CLOCK_S
            await self._clock(topic, now_us, context)

    async def _look_at_quotas(self, context: Context, now_us: int) -> None:
        topic, began_s = self._quotas, time.monotonic()
        seen = (context.version, tuple(context.throttles.values()))
        whole = now_us - topic.full_us >= ALL_US or topic.seen != seen
        if not whole and began_s < topic.next_s:
            return
        found = await asyncio.to_thread(self._windows, context, now_us, anew=whole)
        await self._tell(topic, found, now_us, whole=whole)
        await self._clock(topic, now_us, context)
        topic.seen = seen
        done_s = time.monotonic()
        topic.next_s = max(began_s + CLOCK_S, done_s + SHARE * (done_s - began_s) if not whole else done_s)

    def _windows(self, context: Context, now_us: int, *, anew: bool) -> Found:
        if anew or now_us >= self._list_until_us:
            self._listed = listed(context, now_us)
            turns_us = min((one.window.end_us for one in self._listed), default=now_us + LIST_US)
            self._list_until_us = min(turns_us, now_us + LIST_US)
        states = self._ledger.read(lambda c: quota_states(c, self._listed, now_us))
        if anew and self._ledger.write(lambda c: make_missing(c, states, context)):
            states = self._ledger.read(lambda c: quota_states(c, self._listed, now_us))
        return [(*quota_state_message(one, now_us), _mark(one)) for one in states]

    async def _tell(self, topic: _Topic, found: Found, now_us: int, *, whole: bool) -> None:
        new = [(key, value, None) for key, value, mark in found if whole or topic.told.get(key) != mark]
        for start in range(0, len(new), CHUNK):
            await self._send(topic.name, new[start : start + CHUNK])
        marks = {key: mark for key, _, mark in found}
        await self._send(topic.name, [(key, None, None) for key in sorted(topic.told.keys() - marks.keys())])
        topic.told = marks
        if whole:
            topic.full_us = now_us

    async def _clock(self, topic: _Topic, now_us: int, context: Context) -> None:
        key, value = clock_message(now_us, topic.full_us, context.version)
        await self._send(topic.name, [(key, value, number) for number in range(topic.partitions)])


def _mark(state: QuotaState) -> tuple[int, int, Quota]:
    # The quota too: what the meter told by an older catalog is told again.
    return state.window.start_us, state.version, state.quota
