"""What the endurance bench sends, and what it is worth: by the client to Kafka, and some of it through the API."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tollhouse_client import UsagePublisher

TENANTS: Final = ("alpha", "beta", "gamma", "delta", "epsilon")
TICK_S: Final = 0.05
DUPLICATE_EVERY, UNKNOWN_EVERY, HTTP_EVERY = 50, 1_000, 33
"""Of the events' numbers: sent twice, of an unknown tenant, by HTTP."""
HTTP_TICK_S: Final = 0.1
HTTP_BATCH: Final = 500
HTTP_WAIT_S: Final = 15.0


@dataclass
class Traffic:
    """Events by number, and what they are worth. In a thread of its own, at rate events a second."""

    publisher: UsagePublisher
    rate: int
    tokens: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    rejected: int = 0
    sent: int = 0
    by_http: list[dict[str, Any]] = field(default_factory=list)
    """What is for the API and was not taken by it yet."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    trouble: str = ""

    def event(self, number: int, tenant: str, **data: Any) -> dict[str, Any]:
        """The event of a number; the time is the only thing that is not arithmetic."""
        return {
            "specversion": "1.0", "id": f"e{number}", "source": "proxy/endurance", "type": "com.tollhouse.usage.v1",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), "subject": tenant,
            "data": {"key": "openai-pool", "provider": "openai", "api": "responses", "model": "gpt-5-mini",
                     "tokens": {"input": 1 + number % 97, "output": number % 13}, **data},
        }  # fmt: skip

    def send(self, **data: Any) -> None:
        """The next event, and its shadow where it has one."""
        with self.lock:
            self.sent += 1
            number = self.sent
            if number % UNKNOWN_EVERY == 0:
                self._reject()
                return
            tenant = TENANTS[number % len(TENANTS)]
            event = self.event(number, tenant, **data)
            if number % HTTP_EVERY == 0 and not data:
                self.by_http.append(event)
            else:
                self.publisher.publish(event)
            self.tokens[tenant] += 1 + number % 97 + number % 13
            self.requests[tenant] += 1
            if number % DUPLICATE_EVERY == 0:
                self.publisher.publish(event)
                self.duplicates += 1

    def reject(self, events: int) -> None:
        """Events of nobody."""
        for _ in range(events):
            with self.lock:
                self._reject()

    def _reject(self) -> None:
        self.rejected += 1
        self.publisher.publish(self.event(-self.rejected, "nobody"))

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; what a slow moment missed is made up for. trouble: why it ended by itself."""
        began_s, before = time.monotonic(), self.sent
        try:
            while not stop.wait(TICK_S):
                due = int((time.monotonic() - began_s) * self.rate) - (self.sent - before)
                for _ in range(min(due, self.rate)):
                    self.send()
        except Exception as error:  # noqa: BLE001 - a run without traffic must not pass for one that held
            self.trouble = f"the traffic ended: {type(error).__name__}: {error}"


@dataclass
class Caller:
    """A proxy that speaks HTTP: asks for admission ten times a second, and sends its share of the events."""

    traffic: Traffic
    port: int
    proxy_token: str
    tenant_token: str
    answers: Counter[str] = field(default_factory=Counter)
    _connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        """Until told to stop and nothing is left to be sent. An API that does not answer is asked again."""
        while not stop.wait(HTTP_TICK_S) or self.traffic.by_http:
            self.admit()
            self.hand_over()

    def admit(self) -> None:
        """One admission, and its release."""
        body = {"token": self.tenant_token, "model": "gpt-5-mini", "estimate": {"tokens": 500}, "ttl_s": 60}
        status, answer = self._ask("POST", "/v1/authorize", body)
        self.answers[f"authorize {status}"] += 1
        if status == 200:
            status, _ = self._ask("DELETE", f"/v1/reservations/{json.loads(answer)['id']}")
            self.answers[f"release {status}"] += 1

    def hand_over(self) -> None:
        """What waits, once; it waits on unless the API says that the broker has all of it."""
        with self.traffic.lock:
            batch = self.traffic.by_http[:HTTP_BATCH]
        if not batch:
            return
        status, answer = self._ask("POST", "/v1/events", batch, "application/cloudevents-batch+json")
        self.answers[f"events {status}"] += 1
        if status == 202:
            odd = [result for result in json.loads(answer)["results"] if result["status"] != "accepted"]
            if odd:
                self.traffic.trouble = f"the API refused an event: {odd[0]}"
            with self.traffic.lock:
                del self.traffic.by_http[: len(batch)]

    def _ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, bytes]:
        """Status and body; 0 where nobody answered."""
        headers = {"Authorization": f"Bearer {self.proxy_token}", "Content-Type": kind}
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HTTP_WAIT_S)
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0, b""
