"""The worker's own port: /healthz, /readyz and /metrics for orchestrators and Prometheus.

It answers from a thread, so that it can say that the event loop is stuck when it is. Nothing can be changed here, no
tenant is named, and there is no sign-in: keep the port inside.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST

from streams.progress import OK, Progress

REQUEST_S: Final = 10.0
"""A caller that does not finish its request has this long."""


def answer(path: str, progress: Progress, text: Callable[[], bytes]) -> tuple[int, str, bytes]:
    """Status, content type and body of a GET."""
    path = path.partition("?")[0]
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, text()
    if path == "/healthz":
        dead = progress.dead()
        return (503, *_json({"status": "dead", "reason": dead})) if dead else (200, *_json({"status": "ok"}))
    if path == "/readyz":
        checks = progress.checks()
        ready = all(word == OK for word in checks.values())
        return (200 if ready else 503, *_json({"status": "ready" if ready else "not ready", "checks": checks}))
    return (404, *_json({"status": "not found", "paths": ["/healthz", "/readyz", "/metrics"]}))


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode() + b"\n"


def serve(listener: socket, progress: Progress, text: Callable[[], bytes]) -> Callable[[], None]:
    """Answer on a listening socket from now on; the result ends it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "tollhouse", ""

        def do_GET(self) -> None:
            """One request."""
            status, kind, body = answer(self.path, progress, text)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """A probe every few seconds is no news."""

    server = ThreadingHTTPServer(listener.getsockname()[:2], Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = listener
    server.server_activate()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="serving", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end
