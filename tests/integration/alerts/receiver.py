"""A receiver of webhooks and of Apprise's JSON, on a loopback port: keeps what came, answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One request, as it came. at_s: monotonic."""

    at_s: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        return json.loads(self.body)


class Receiver:
    """answer: status for the nth request (from 0)."""

    def __init__(self, answer: Callable[[int], int] = lambda _n: 200) -> None:
        self.requests: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                number = len(receiver.requests)
                receiver.requests.append(Received(time.monotonic(), self.path, headers, body))
                self.send_response(answer(number))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, test: Callable[[Received], bool], timeout_s: float) -> Received:
        """The first request that fits."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for one in list(self.requests):
                if test(one):
                    return one
            time.sleep(0.02)
        raise AssertionError(f"nothing came in {timeout_s} s but {[r.body[:200] for r in self.requests]}")
