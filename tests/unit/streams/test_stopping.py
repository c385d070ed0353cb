"""The deadline of a worker's end, without a broker."""

from __future__ import annotations

import asyncio
import signal
import threading

import faust
import pytest
import structlog

from streams.stopping import PunctualWorker, waiting


async def _stands() -> None:
    await asyncio.Event().wait()


def test_a_worker_that_waits_for_somebody_is_gone_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, left, gone, asked = asyncio.new_event_loop(), [], threading.Event(), []

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    monkeypatch.setattr(faust.Worker, "_schedule_shutdown", lambda _self, number: asked.append(number))
    worker = object.__new__(PunctualWorker)
    worker.loop, worker.leave, worker.drain_s, worker._signal_stop_time = loop, leave, 0.01, None
    task = loop.create_task(_stands())
    loop.run_until_complete(asyncio.sleep(0))
    with structlog.testing.capture_logs() as logs:
        worker._schedule_shutdown(signal.SIGTERM)
        assert gone.wait(30)
    assert (asked, left) == ([signal.SIGTERM], [0])
    assert [(entry["event"], entry["waits_for"]) for entry in logs] == [("worker.stop_forced", ["_stands in _stands"])]
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    assert waiting(loop) == []
    loop.close()
