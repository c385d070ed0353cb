"""The API as a process with its own certificate: HTTPS, and what it does about callers who dawdle, flood or lie."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from tests.integration.api.kit import House
from tests.security.certificates import Authority, Pair
from tollhouse.api.bodies import BODY_MAX
from tollhouse.api.serving import bounded, server_options
from tollhouse.errors import UserError
from tollhouse.ports import free_port
from tollhouse.settings import Settings

WAIT_S = 30.0
"""Ten times the bound that is tested."""


def kept() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")}


@dataclass
class Site:
    """A running API: where, who signed its certificate, and a token of a proxy."""

    port: int
    authority: Authority
    token: str

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        plain = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=WAIT_S)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    url = f"sqlite:///{home / 'ledger.sqlite'}"
    house = House(url, home)
    house.now_us = time.time_ns() // 1000
    token = house.token("proxy", "eu-1")
    house.close()
    authority, port = Authority(home / "ca"), free_port()
    pair = authority.pair("api")
    environment = kept() | {
        "TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_BROKER": "127.0.0.1:1", "TOLLHOUSE_PORT": str(port),
        "TOLLHOUSE_TLS_CERT_FILE": str(pair.certificate), "TOLLHOUSE_TLS_KEY_FILE": str(pair.key),
        "TOLLHOUSE_REQUEST_TIMEOUT_S": "3",
    }  # fmt: skip
    words = [sys.executable, "-m", "tollhouse", "api", "--dir", str(home)]
    with (home / "log").open("wb") as log, subprocess.Popen(words, env=environment, stderr=log) as process:
        found = Site(port, authority, token)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert found.ask("GET", "/healthz")[0] == 200
                    break
                except OSError:
                    assert process.poll() is None, (home / "log").read_text()
                    assert time.monotonic() < deadline, (home / "log").read_text()
                    time.sleep(0.1)
            yield found
        finally:
            process.kill()


def ends(connection: socket.socket) -> bytes:
    """All that still comes until the other side hangs up; a timeout of the socket fails the test."""
    connection.settimeout(WAIT_S)
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionError:
        pass
    return found


def test_it_speaks_https_and_nothing_else(site: Site) -> None:
    _, headers, body = site.ask("GET", "/healthz")
    assert body == b'{"status":"ok"}'
    assert headers["strict-transport-security"].startswith("max-age=")
    with socket.create_connection(("127.0.0.1", site.port), WAIT_S) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in ends(plain)


def test_who_does_not_know_the_authority_does_not_talk_to_it(site: Site) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://127.0.0.1:{site.port}/healthz", timeout=WAIT_S)


def test_an_old_version_of_tls_is_refused(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.authority.file))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.deprecated_call():
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", site.port), WAIT_S) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_the_session_cookie_is_for_https_only(site: Site) -> None:
    with site.connect() as connection:
        body = b"token=nobody"
        connection.sendall(
            b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        answer = ends(connection).decode()
    cookies = [line for line in answer.splitlines() if line.lower().startswith("set-cookie")]
    assert all("secure" in line.lower() for line in cookies)
    assert answer.startswith("HTTP/1.1 4")


def test_a_head_that_does_not_come_ends_the_connection(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert ends(connection) == b""


def test_a_second_head_that_does_not_come_ends_it_too(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert b"HTTP/1.1" not in ends(connection)


def test_a_body_that_does_not_come_is_told_so_and_the_connection_ends(site: Site) -> None:
    with site.connect() as connection:
        head = f"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = ends(connection).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "body_too_slow" in answer


def test_a_large_body_is_refused_before_it_comes(site: Site) -> None:
    with site.connect() as connection:
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
        connection.sendall(f"{head}Content-Length: {BODY_MAX + 1}\r\n\r\n".encode())
        answer = ends(connection).decode()
    assert answer.startswith("HTTP/1.1 413")
    assert "body_too_large" in answer


def test_a_proxy_that_runs_wild_is_slowed_down(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, whatever token it shows; another proxy goes on, and so does the first a little later."""
    now_s = [1000.0]
    monkeypatch.setattr("tollhouse.api.pace.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    house = House(sqlite_url, tmp_path, proxy_requests_per_s=2)
    try:

        def ask(name: str) -> Any:
            return house.client.post("/v1/authorize", json={}, headers=house.as_("proxy", name))

        assert [ask("wild").status_code for _ in range(6)] == [422, 422, 422, 422, 429, 429]
        refused = ask("wild")
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"].endswith("too_many_requests")
        assert ask("calm").status_code == 422
        now_s[0] += 1
        assert [ask("wild").status_code for _ in range(3)] == [422, 422, 429]
    finally:
        house.close()


def test_one_connection_too_many_is_closed_and_the_first_go_on() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http=bounded(600, 3)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    held: list[socket.socket] = []
    try:
        for _ in range(3):
            held.append(socket.create_connection(listener.getsockname(), WAIT_S))
            assert asks(held[-1])
        with socket.create_connection(listener.getsockname(), WAIT_S) as late:
            assert ends(late) == b""
        assert all(asks(connection) for connection in held)
        held.pop().close()
        deadline = time.monotonic() + WAIT_S
        while True:  # the place is free as soon as the server has seen the end of the one before
            with socket.create_connection(listener.getsockname(), WAIT_S) as another:
                if asks(another):
                    break
            assert time.monotonic() < deadline
    finally:
        for connection in held:
            connection.close()
        server.should_exit = True
        thread.join(WAIT_S)
    assert not thread.is_alive()


def asks(connection: socket.socket) -> bool:
    """Whether a request on the connection is answered."""
    connection.settimeout(WAIT_S)
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Authority(tmp_path_factory.mktemp("pair")).pair("api")


@pytest.mark.parametrize("wrong", ["open key", "no key", "another key"])
def test_a_certificate_that_would_be_unsafe_is_refused_in_one_line(wrong: str, pair: Pair, tmp_path: Path) -> None:
    key, said = "", "tls_cert_file and tls_key_file go together"
    if wrong == "open key":
        key = str(tmp_path / "open.key")
        Path(key).write_bytes(pair.key.read_bytes())
        Path(key).chmod(0o644)
        said = f"{key} can be read by others: run chmod 600 {key}"
    elif wrong == "another key":
        key, said = str(Authority(tmp_path / "ca").pair("other").key), "not a certificate and its key"
    with pytest.raises(UserError) as refused:
        server_options(Settings(tls_cert_file=str(pair.certificate), tls_key_file=key))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
