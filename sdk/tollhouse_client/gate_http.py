"""A small pooled HTTP client: kept connections, one timeout, and a second try where the server closed a kept one."""

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tollhouse_client.errors import GateUnavailableError

TRIES: Final = 3
FIRST_WAIT_S: Final = 0.05
"""Waits double from here: three tries wait some 150 ms, which a caller does not notice beside a model's answer."""
IDLE_MAX: Final = 32
"""Kept connections; more calls at a time open their own, which are closed after use."""


class Answer(NamedTuple):
    """What the server said. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpPool:
    """Thread-safe. base_url: http://host:port or https://…, with or without a path. After a fork it starts anew."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no address: give http://HOST:PORT or https://HOST")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path, self._timeout_s = parts.path.rstrip("/"), timeout_s
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """One request; OSError or HTTPException when there is no answer (it may have been served all the same)."""
        while True:
            connection, kept = self._take()
            try:
                connection.request(method, self._path + path, body, dict(headers))
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if kept and isinstance(error, ConnectionError | http.client.RemoteDisconnected):
                    continue  # the server closed it while it was idle; all that we ask for is safe to repeat
                raise
            if response.will_close:
                connection.close()
            else:
                self._keep(connection)
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, content)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()  # a forked child must not share its parent's sockets
            if self._idle:
                return self._idle.pop(), True
        made = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return made(self._host, self._port, timeout=self._timeout_s), False

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class ApiCalls:
    """Thread-safe. Tollhouse's API for a proxy with this token: every call is safe to repeat, and is, a few times."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float, tries: int = TRIES, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._pool = HttpPool(url, timeout_s)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._tries, self._sleep = tries, sleep

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        """The answer; GateUnavailableError when there is none, or only 5xx, after all tries."""
        content = None if body is None else json.dumps(body).encode()
        wait_s, why = FIRST_WAIT_S, ""
        for attempt in range(1, self._tries + 1):
            try:
                answer = self._pool.request(method, path, content, self._headers)
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if answer.status < 500:
                    return answer
                why = f"HTTP {answer.status}"
            if attempt < self._tries:
                self._sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - back-off, no secret
                wait_s *= 2
        raise GateUnavailableError(f"the gate did not answer {self._tries} times ({why}): is the API up?")

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()
