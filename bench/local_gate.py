"""Decisions of `LocalGate` while it follows a busy installation.

    python -m bench.local_gate [--tenants 1000] [--changes 100] [--json]

The states of all tenants, three quotas each, come from an embedded broker in a process of its own, as in an
installation, and go on changing at a given rate while decisions are timed one by one. Three runs: paced, with a pause
before each; one after the other; and one after the other with the tenant's token instead of its name. `own` is the CPU
time of the deciding thread: without what other processes of a busy machine, and this process's follower, took.

After a pause the same code takes several times as long, since other work has had the processor's caches meanwhile. So
each of the first two runs has a yardstick beside it: look-ups and additions in plain Python, nothing of the gate and no
other thread, timed in the same way. What it takes after a pause beyond what it takes without is the machine's.
"""

import argparse
import base64
import json
import multiprocessing
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.context import WindowKey
from pipeline.ledger.record import QuotaState
from schemas.catalog import Quota
from schemas.periods import window_period
from streams.embedded_broker import EmbeddedBroker
from streams.publishing import clock_message, key_state_message, quota_state_message
from streams.topics import KEY_STATES, QUOTA_STATES
from tollhouse_client import GateDecision, LocalGate

PARTITIONS: Final = 4
QUOTAS: Final = (("tokens", "minute"), ("cost", "day"), ("requests", "month"))
LIMIT: Final = Decimal(10**9)
PER_MINUTE: Final = {"requests_per_minute": 10**7, "tokens_per_minute": 10**11}
"""Of a pooled key at the provider; enough for whatever this bench asks."""
WARM: Final = 2_000
YARDSTICK_STEPS: Final = 30

Decide = Callable[[str, str, dict[str, int | str]], GateDecision]
Settle = Callable[[GateDecision], None]


def now_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


class Teller:
    """Tells the states as the worker does."""

    def __init__(self, bootstrap: str, tenants: int) -> None:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic(QUOTA_STATES, PARTITIONS, 1), NewTopic(KEY_STATES, 1, 1)])
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        self.tenants, self.version = tenants, 0
        self.done = threading.Event()

    def quota(self, number: int) -> None:
        """One window of one tenant, with more used each time."""
        at_us, (meter, window) = now_us(), QUOTAS[number % len(QUOTAS)]
        period = window_period(window, at_us, "UTC")
        tenant = f"tenant-{number // len(QUOTAS) % self.tenants}"
        quota = Quota(f"{window}ly", meter, LIMIT, window)
        key = WindowKey(f"tenant:{tenant}", quota.name, f"{meter}/*/{window}", period.start_us, period.end_us)
        self.version += 1
        name, value = quota_state_message(QuotaState(key, quota, self.version, 0, self.version), at_us)
        self.producer.send(QUOTA_STATES, value, key=name)

    def subject(self, name: str, **facts: Any) -> None:
        """A key or tenant."""
        row = {"key": name, "state": "active", "reason": "", "changed_us": 0, "changed_by": "catalog", "version": 0}
        key, value = key_state_message({**row, "catalog": 1, "models": ["*"], **facts}, now_us())
        self.producer.send(KEY_STATES, value, key=key)

    def clock(self) -> None:
        """To every partition."""
        self.producer.flush()
        key, value = clock_message(now_us(), 0, 1)
        for number in range(PARTITIONS):
            self.producer.send(QUOTA_STATES, value, key=key, partition=number)
        self.producer.send(KEY_STATES, value, key=key)

    def everything(self) -> None:
        """All of it once."""
        for number in range(8):
            self.subject(f"pool-{number}", provider="openai", kind="pooled", tenant=None, **PER_MINUTE)
        for number in range(self.tenants):
            self.subject(f"tenant:tenant-{number}", tier="standard")
        for number in range(self.tenants * len(QUOTAS)):
            self.quota(number)
        self.clock()
        self.producer.flush()

    def go_on(self, rate: int) -> None:
        """Changes at the rate, and a clock each second."""
        started_s, number, clock_s = time.perf_counter(), 0, 0.0
        while not self.done.is_set():
            self.quota(number * 7919)
            number += 1
            if time.perf_counter() - clock_s > 1:
                clock_s = time.perf_counter()
                self.clock()
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))


def installation(tenants: int, changes: int, pipe: Connection) -> None:
    """The broker and what the worker tells, until the pipe says to end. Body of a process."""
    with EmbeddedBroker() as broker:
        teller = Teller(broker.bootstrap, tenants)
        teller.everything()
        pipe.send(broker.bootstrap)
        pipe.recv()
        thread = threading.Thread(target=teller.go_on, args=(changes,), daemon=True)
        thread.start()
        pipe.recv()
        teller.done.set()
        thread.join()


class Signer:
    """Stands for the API: signs tenants' tokens, and publishes the key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "bench", "alg": "EdDSA", "use": "sig"}
        document = json.dumps({"keys": [jwk]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, tenant: str) -> str:
        """A tenant's, good for an hour."""
        at = int(time.time())
        claims = {"iss": "tollhouse", "aud": "tollhouse", "sub": tenant, "kind": "tenant", "jti": f"jti-{tenant}"}
        times = {"iat": at, "nbf": at, "exp": at + 3600}
        return jwt.encode(claims | times, self._key, "EdDSA", headers={"kid": "bench"})

    def close(self) -> None:
        """Answers no more."""
        self._server.shutdown()
        self._server.server_close()


def estimates(count: int) -> list[dict[str, int | str]]:
    """Estimates that differ, as calls do, from a fixed seed."""
    rng = random.Random(8)
    return [{"tokens": rng.randint(1, 8000), "cost": f"0.{rng.randint(1, 99999):06d}"} for _ in range(count)]


def timed(decide: Decide, settle: Settle, tenants: Sequence[str], count: int, rate: int) -> dict[str, float]:
    """Quantiles in microseconds over so many decisions; rate 0: one after the other."""
    taken_us, own_us = [], []
    asked = estimates(1009)
    started_s = time.perf_counter()
    for number in range(WARM + count):
        if rate:
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))
        tenant, estimate = tenants[number % len(tenants)], asked[number % len(asked)]
        own_ns, before_ns = time.thread_time_ns(), time.perf_counter_ns()
        decision = decide(tenant, "gpt-5-mini", estimate)
        taken_ns = time.perf_counter_ns() - before_ns
        own_ns = time.thread_time_ns() - own_ns
        if not decision.allowed:
            raise RuntimeError(f"refused, which this bench does not mean: {decision}")
        settle(decision)
        if number >= WARM:
            taken_us.append(taken_ns / 1000)
            own_us.append(own_ns / 1000)
    parts, own = statistics.quantiles(taken_us, n=1000), statistics.quantiles(own_us, n=100)
    found = {"p50_us": parts[499], "p99_us": parts[989], "p999_us": parts[998], "max_us": max(taken_us)}
    return {**found, "own_p50_us": own[49], "own_p99_us": own[98]}


def yardstick(count: int, rate: int) -> dict[str, float]:
    """As `timed`, of a fixed piece of plain Python that takes about as long as a decision."""
    table: dict[str, tuple[int, int, str]] = {f"t{number}": (number, number * 3, str(number)) for number in range(3000)}
    taken_us = []
    started_s = time.perf_counter()
    for number in range(WARM + count):
        if rate:
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))
        before_ns = time.perf_counter_ns()
        total = 0
        for step in range(YARDSTICK_STEPS):
            row = table[f"t{(number * 37 + step * 101) % 3000}"]
            total += row[0] + row[1] + len(row[2])
        taken_ns = time.perf_counter_ns() - before_ns
        if number >= WARM:
            taken_us.append(taken_ns / 1000)
    parts = statistics.quantiles(taken_us, n=100)
    return {"p50_us": parts[49], "p99_us": parts[98]}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All runs on one gate."""
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    child = spawn.Process(target=installation, args=(options.tenants, options.changes, other), daemon=True)
    child.start()
    names = [f"tenant-{number}" for number in range(options.tenants)]
    signer = Signer()
    try:
        bootstrap = pipe.recv()
        began_s = time.perf_counter()
        with LocalGate(bootstrap, url=signer.url) as gate:
            if not gate.wait_ready(60):
                raise RuntimeError(f"the gate was not ready within a minute: {gate.stats()}")
            ready_s = time.perf_counter() - began_s
            pipe.send("go on")
            paced = timed(gate.decide, gate.settle, names, options.rate * options.seconds, options.rate)
            flat = timed(gate.decide, gate.settle, names, options.count, 0)
            tokens = [signer.token(name) for name in names]
            by_token = timed(gate.authorize, gate.settle, tokens, options.count, 0)
            stats = gate.stats()
        pipe.send("end")
        child.join(30)
    finally:
        child.kill()
        signer.close()
    return {
        "ready_s": ready_s,
        "paced": paced,
        "flat_out": flat,
        "by_token": by_token,
        "yardstick_paced": yardstick(options.rate * options.seconds // 2, options.rate),
        "yardstick_flat_out": yardstick(options.count, 0),
        "staleness_s": stats.staleness_s,
        "lag_s": stats.lag_s,
    }


def main() -> None:
    """Print a line each, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="decisions a second in the paced run")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--count", type=int, default=50_000, help="decisions of the run flat out")
    parser.add_argument("--changes", type=int, default=100, help="told states a second meanwhile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.tenants} tenants, {options.changes} changes/s: ready after {found['ready_s']:.1f} s")
    for name in ("paced", "flat_out", "by_token", "yardstick_paced", "yardstick_flat_out"):
        shown = ", ".join(
            f"{quantile.removesuffix('_us').replace('_', ' ')} {value:.0f} us"
            for quantile, value in found[name].items()
        )
        print(f"{name.replace('_', ' '):>18}: {shown}")


if __name__ == "__main__":
    main()
