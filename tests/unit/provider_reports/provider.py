"""A local server that answers as the providers do: pages by next_page, 429 with Retry-After, late settling buckets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Asked(NamedTuple):
    """One request."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class Answer(NamedTuple):
    """status, body (JSON text, so that a number keeps its digits), headers."""

    status: int
    body: str
    headers: Mapping[str, str] = {}


class Provider:
    """answer: from the request and its number (from 0)."""

    def __init__(self, answer: Callable[[Asked, int], Answer]) -> None:
        self.asked: list[Asked] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(parts.path, parse_qs(parts.query), headers)
                provider.asked.append(asked)
                given = answer(asked, len(provider.asked) - 1)
                self.send_response(given.status)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                body = given.body.encode()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def paged(pages: list[list[Any]]) -> Callable[[Asked, int], Answer]:
    """Pages of `data`, by an opaque next_page."""

    def answer(asked: Asked, _number: int) -> Answer:
        at = int(asked.query.get("page", ["page_0"])[0].removeprefix("page_"))
        more = at + 1 < len(pages)
        body = {"object": "page", "data": pages[at], "has_more": more, "next_page": f"page_{at + 1}" if more else None}
        return Answer(200, json.dumps(body))

    return answer
