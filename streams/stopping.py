"""A worker that ends in time, whatever its parts wait for.

Asked to end, Faust drains, commits and leaves its group, which takes a second or two. But its consumer may sit in a
rebalance that a broker or a dead member holds up, and a transaction in a database that says nothing; an orchestrator
would then kill the worker at a moment of its own. So the end has a deadline of ours. What was not committed by then
comes again, and is found to be counted, as after a kill -9.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import faust
import structlog

log = structlog.get_logger()

DRAIN_S: Final = 8.0
"""Two seconds within the ten that are promised of SIGTERM (docs/operate.md)."""


class PunctualWorker(faust.Worker):
    """Faust's worker, gone within DRAIN_S of SIGTERM or SIGINT. leave: ends the process; os._exit but in tests."""

    leave: Callable[[int], Any] = staticmethod(os._exit)
    drain_s: float = DRAIN_S

    def _schedule_shutdown(self, signal: Any) -> None:
        if not self._signal_stop_time:
            deadline = threading.Timer(self.drain_s, self._give_up)
            deadline.daemon = True
            deadline.start()
        super()._schedule_shutdown(signal)

    def _give_up(self) -> None:
        log.warning("worker.stop_forced", after_s=self.drain_s, waits_for=waiting(self.loop))
        sys.stderr.flush()
        self.leave(0)


def waiting(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What the loop's tasks stand in, by the innermost function of each: whom an end waits for."""
    found = set()
    for task in asyncio.all_tasks(loop):
        stack = task.get_stack(limit=1)
        name = getattr(task.get_coro(), "__qualname__", "")
        found.add(f"{name} in {stack[-1].f_code.co_name}" if stack else name)
    return sorted(found)
