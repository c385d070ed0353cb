"""Faust's consumer, with a memory of its commits that is true also when one fails.

Faust notes an offset as committed although the broker refused it, because the worker had left the group meanwhile. When
that answer comes after the worker has joined again and begun to read from the older offset, what it acknowledges next
is taken for committed already: the group stands still there until something new comes in that partition.

It also lets go of what it is about to commit before it knows whether that succeeds. After a commit that failed nothing
is left between what is committed and what is acknowledged next, Faust takes that for messages still at work, and waits
for them: the group would stand still there for good, and the list of what is acknowledged grow without bound.
"""

from collections.abc import Mapping
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP


class TrueConsumer(Consumer):
    """What is noted as committed is what the broker took."""

    _noted: dict[TP, int | None] | None = None
    _first: dict[TP, int]
    """The lowest acknowledged offset of what is being committed."""

    def on_init(self) -> None:
        self._first = {}
        super().on_init()

    def _new_offset(self, tp: TP) -> int | None:
        first = min(self._acked[tp], default=None)
        offset: int | None = super()._new_offset(tp)
        if offset is not None and first is not None:
            self._first[tp] = first
        return offset

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done = await super()._commit(offsets)
        # Kept now, not before: while the commit was under way partitions may have moved, and been noted anew.
        self._noted = None if done else {tp: self._committed_offset.get(tp) for tp in offsets}
        return done

    async def _commit_offsets(self, offsets: Mapping[TP, int], *more: Any, **named: Any) -> bool:
        done: bool = await super()._commit_offsets(offsets, *more, **named)
        noted, self._noted = self._noted, None
        if not done:
            for tp, offset in (noted or {}).items():
                if offset is None:
                    self._committed_offset.pop(tp, None)
                else:
                    self._committed_offset[tp] = offset
                if tp in self.assignment():
                    self._take_back(tp, self._first.get(tp, offsets[tp]) if offset is None else offset, offsets[tp])
        return done

    def _take_back(self, tp: TP, start: int, end: int) -> None:
        """Offsets [start, end) are acknowledged and not committed. The ledger has them, whoever has the partition."""
        index = self._acked_index[tp]
        missing = [offset for offset in range(start, end) if offset not in index]
        index.update(missing)
        self._acked[tp].extend(missing)


def commit_truly(app: faust.App) -> None:
    """Let the application make consumers of this kind."""
    transport: Any = app.transport
    transport.Consumer = TrueConsumer
