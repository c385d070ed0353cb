"""Quota states on their way out: of each window only the newest.

Told right after the commit that made them, unless messages wait: then what they bring is late anyway, and each window
is told once a second instead of once a batch. A message costs Faust as much as taking two events.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from pipeline.context import WindowKey
from pipeline.ledger.record import QuotaState
from streams.publishing import quota_state_message

TELL_S: Final = 1.0
"""How long a state may wait while messages do. The look at all windows (states.py) is as often."""


class Telling:
    """One worker's. send: hands messages to the states' topic, until the broker has them. told: hears what was sent."""

    def __init__(
        self,
        send: Callable[[Sequence[tuple[bytes, bytes]]], Awaitable[None]],
        now_us: Callable[[], int],
        told: Callable[[Sequence[QuotaState]], None] = lambda _states: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._now_us, self._told, self._clock_s = send, now_us, told, clock_s
        self._waiting: dict[WindowKey, QuotaState] = {}
        self._last_s = float("-inf")
        self._turn = asyncio.Lock()

    async def add(self, states: Iterable[QuotaState], *, behind: bool) -> None:
        """States after a commit. behind: messages wait to be counted, so that more of the same windows follow."""
        for state in states:
            self._waiting[state.window] = state
        if not behind or self._clock_s() - self._last_s >= TELL_S:
            await self.tell()

    async def tell(self) -> None:
        """Tell what waits. What the broker does not take is not kept: the next look at all windows has it."""
        async with self._turn:  # an older state must not come after a newer one
            waiting, self._waiting = self._waiting, {}
            self._last_s, now_us = self._clock_s(), self._now_us()
            # Of windows that are over, or to come, nobody decides by them; told under the same key they would hide the
            # one that is on.
            on = [state for state in waiting.values() if state.window.start_us <= now_us < state.window.end_us]
            if on:
                await self._send([quota_state_message(state, now_us) for state in on])
                self._told(on)
