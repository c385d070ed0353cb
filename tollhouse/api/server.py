"""The server process: uvicorn around the application, until SIGTERM or SIGINT."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from pipeline.ledger import Ledger
from tollhouse.api.app import make_app
from tollhouse.api.failing_open import allowance_of
from tollhouse.api.serving import server_options
from tollhouse.api.state import Api
from tollhouse.errors import UserError
from tollhouse.ports import listen
from tollhouse.settings import Settings

_log = structlog.get_logger("tollhouse.api")
SHUTDOWN_S: Final = 1
"""Requests under way have this long; a stop is over within 3 s, the last send of the spool included."""


class _Server(uvicorn.Server):
    """Ends with 0 when asked to end: the original raises the signal once more after its work is done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the server while it runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(settings: Settings, ledger: Ledger, now_us: Callable[[], int]) -> None:
    """Serve until asked to stop. UserError for a port that is taken or an address that is not ours."""
    allowance_of(settings.fail_mode)
    if settings.open_dashboard and settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise UserError("open_dashboard shows every figure without sign-in: use it on a loopback address only")
    options = server_options(settings)
    listener = listen(settings.host, settings.port)
    app = make_app(settings, ledger, now_us)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=32 * 1024,
        proxy_headers=False,
        **options,
    )
    with listener:
        _Server(config).run(sockets=[listener])
    api: Api = app.state.api
    if not api.closed:
        # The client hangs in a connection attempt to a broker that is not there, and would hold the exit up for it.
        # What it holds is in the spool, which survives a kill, so it survives this.
        _log.warning("stopped before the broker had everything: the rest goes out on the next start")
        os._exit(0)
