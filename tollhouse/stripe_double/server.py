"""The double as an HTTP server on the loopback address."""

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tollhouse.stripe_double.errors import ConnectionDropped
from tollhouse.stripe_double.service import StripeDouble


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, double: StripeDouble) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.double = double


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.server.double.handle(self.command, url.path, url.query, body, headers)
        except ConnectionDropped:
            self.close_connection = True
            return
        head = [
            f"HTTP/1.1 {answer.status} -",
            "Content-Type: application/json",
            f"Content-Length: {len(answer.body)}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        # One write for head and body: two small ones wait for each other's acknowledgement (measured: 21 calls/s).
        self.wfile.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + answer.body)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the double keeps its requests itself."""


@dataclass(frozen=True, slots=True)
class Handle:
    """A running double: its address, its state, and the way to end it."""

    url: str
    double: StripeDouble
    _server: _Server
    _thread: Thread

    def stop(self) -> None:
        """End the server and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> "Handle":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(port: int = 0, double: StripeDouble | None = None) -> Handle:
    """Serve a double on 127.0.0.1 (port 0: a free one). Any sk_test_ key will do."""
    double = double or StripeDouble()
    server = _Server(port, double)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="stripe-double", daemon=True)
    thread.start()
    return Handle(f"http://127.0.0.1:{server.server_address[1]}", double, server, thread)
