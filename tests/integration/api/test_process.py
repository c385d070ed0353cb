"""The server as a process: it starts, says what is wrong in a line, ends in time; several of them decide as one."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.ledger.tables import quota_windows, reservations
from tests.integration.api.kit import House, catalog
from tollhouse.ports import free_port

LIMIT = 20_000


def environment(url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")}
    return kept | {"TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_BROKER": "127.0.0.1:1"}


@contextmanager
def serving(url: str, directory: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`tollhouse api` on a free port, ready."""
    port = free_port()
    words = [sys.executable, "-m", "tollhouse", "api", "--dir", str(directory), "--port", str(port)]
    with subprocess.Popen(words, env=environment(url), stderr=subprocess.PIPE) as process:
        try:
            for _ in range(400):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
                    break
                except OSError:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    time.sleep(0.1)
            yield port, process
        finally:
            process.kill()


def call(port: int, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    raw = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_it_serves_ends_in_time_and_tells_of_a_taken_port(sqlite_url: str, tmp_path: Path) -> None:
    House(sqlite_url, tmp_path).close()
    with serving(sqlite_url, tmp_path) as (port, process):
        second = subprocess.run(
            [sys.executable, "-m", "tollhouse", "api", "--dir", str(tmp_path), "--port", str(port)],
            env=environment(sqlite_url), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (second.returncode, second.stderr.count("\n")) == (1, 1), second.stderr
        assert f"port {port} is in use" in second.stderr
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - started < 10  # what a platform gives it


def test_three_processes_never_pass_a_quota_and_leak_nothing(postgresql_url: str, tmp_path: Path) -> None:
    """Random estimates, releases, usage, calls that die, holds that run out; many threads at three processes."""
    house = House(postgresql_url, tmp_path)
    house.now_us = time.time_ns() // 1000
    quota = {"name": "monthly", "meter": "tokens", "limit": LIMIT, "window": "month"}
    house.ledger.apply(catalog(tenants={"globex": {"plan": "team", "quotas": [quota]}}), house.now_us, "test")
    token, proxy = house.token("tenant", "globex"), house.token("proxy")
    seen: list[int] = []
    passed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for row in house.ledger.rows(quota_windows, quota_windows.c.scope == "tenant:globex"):
                seen.append(row["used"] + row["reserved"])
                if seen[-1] > LIMIT:
                    passed.append(seen[-1])

    def work(seed: int, ports: list[int]) -> None:
        chance = random.Random(seed)
        for turn in range(12):
            estimate, fate = chance.randint(1, 1500), chance.random()
            dies = fate >= 0.6  # only its hold may run out: usage that is later than its hold counts all the same
            body = {
                "token": token,
                "model": "gpt-5-mini",
                "estimate": {"tokens": estimate},
                "ttl_s": chance.choice([1, 600]) if dies else 600,
            }
            status, answer = call(chance.choice(ports), "POST", "/v1/authorize", proxy, body)
            assert status in (200, 429), answer
            if status == 429:
                continue
            if fate < 0.3:
                call(chance.choice(ports), "DELETE", f"/v1/reservations/{answer['reservation']}", proxy)
            elif not dies:
                used = {"tokens": {"input": chance.randint(1, estimate)}, "reservation": answer["reservation"]}
                house.count(house.event(f"{seed}-{turn}", "globex", **used))
            # else: the proxy died, and the hold runs out by itself

    with (
        serving(postgresql_url, tmp_path) as (a, _),
        serving(postgresql_url, tmp_path) as (b, _),
        serving(postgresql_url, tmp_path) as (c, _),
    ):
        threads = [threading.Thread(target=work, args=(seed, [a, b, c])) for seed in range(16)]
        watcher = threading.Thread(target=watch)
        for thread in [*threads, watcher]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
    assert seen, "the watcher saw nothing"
    assert max(seen) > LIMIT // 2, "the quota was never under pressure"
    assert not passed
    house.ledger.sweep(house.now_us + 700_000_000)
    (row,) = house.ledger.rows(quota_windows, quota_windows.c.scope == "tenant:globex")
    counted = sum(sum(r.classes) for r in house.ledger.usage.rows("globex", 0, 2**60))
    assert (row["reserved"], row["used"]) == (0, counted)
    assert not house.ledger.rows(reservations, reservations.c.state == "open")
    house.close()
