"""Faust's consumer, with a memory of its commits that is true also when one fails.

Faust notes an offset as committed although the broker refused it, because the worker had left the group meanwhile. When
that answer comes after the worker has joined again and begun to read from the older offset, what it acknowledges next
is taken for committed already: the group stands still there until something new comes in that partition.
"""

from collections.abc import Mapping
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP


class TrueConsumer(Consumer):
    """What is noted as committed is what the broker took."""

    _noted: dict[TP, int | None] | None = None

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
        return done


def commit_truly(app: faust.App) -> None:
    """Let the application make consumers of this kind."""
    transport: Any = app.transport
    transport.Consumer = TrueConsumer
