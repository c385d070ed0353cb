"""A house's API behind a real socket, for what asks it over HTTP."""

from __future__ import annotations

import threading
import time

import uvicorn

from tests.integration.api.kit import NOW_US, House
from tollhouse.ports import listen
from tollhouse_client import Gate, LeasedGate


class Served:
    """A house behind a socket that a test can close and open again."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        listener = listen("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self.house.app, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def gate(self, **more: object) -> Gate:
        more.setdefault("now_s", lambda: NOW_US / 1e6)
        token = self.house.token("proxy", "eu-1")
        return Gate(self.url, token, sleep=lambda _s: None, **more)  # type: ignore[arg-type]

    def leased_gate(self, **more: object) -> LeasedGate:
        """On the house's clock; tended by the test unless told otherwise."""
        more = {"now_s": lambda: self.house.now_us / 1e6, "background": False, "timeout_s": 30.0} | more
        return LeasedGate(self.url, self.house.token("proxy", "eu-1"), sleep=lambda _s: None, **more)  # type: ignore[arg-type]
