"""What the handlers of one process share: settings, ledger, clock, token checker, publisher, figures."""

import gc
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fastapi import Request

from billing.plots import Look, usage_by_day
from pipeline.ledger import Ledger, LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.tables import events, rejected
from streams.topics import USAGE_EVENTS
from tollhouse.api.failing_open import FailOpen
from tollhouse.api.metrics import Metrics
from tollhouse.api.pace import Pace
from tollhouse.api.readiness import Timely
from tollhouse.brokers import security_of
from tollhouse.own_keys import Fingerprints
from tollhouse.settings import Settings
from tollhouse.tokens.checker import TokenChecker
from tollhouse.tokens.sign_in import OperatorSignIn
from tollhouse_client import UsagePublisher, open_in_free_slot

SOURCE: Final = "api"
SPOOL: Final = "spool-api"
STOP_S: Final = 1.0
"""What is not sent by then goes out on the next start; a stop is over within 3 s."""
CACHED_MAX: Final = 500
"""Pages and pictures of this many tenants; more than look within a minute."""
LOOKING: Final = 20
"""A figure is kept for this many times what it took: over a year of 1,000 tenants the overview takes seconds."""


class Publisher(Protocol):
    """What hands events to the broker; see tollhouse_client.UsagePublisher."""

    def publish(self, event: dict[str, Any], /) -> int:
        """Accept an event; its position."""

    def wait(self, position: int, timeout_s: float) -> bool:
        """Whether the broker has everything up to the position in time."""

    def close(self, timeout_s: float = 10.0) -> int:
        """Send what is left; how many stay."""


def settled(ledger: Ledger) -> Callable[[Sequence[tuple[str, str, str]]], Collection[tuple[str, str, str]]]:
    """For a broker that forgets: which of these identities the ledger has, counted, held or rejected."""

    def ask(identities: Sequence[tuple[str, str, str]]) -> Collection[tuple[str, str, str]]:
        wanted, found = set(identities), set()
        for tenant in {identity[0] for identity in wanted}:
            ids = [identity[2] for identity in wanted if identity[0] == tenant]
            for table in (events, rejected):
                c = table.c
                for row in ledger.rows(table, c.tenant == tenant, c.id.in_(ids)):
                    found.add((row["tenant"], row["source"], row["id"]))
        return found & wanted

    return ask


@dataclass
class Api:
    """One process's API. publisher: made on first use unless given."""

    settings: Settings
    ledger: Ledger
    now_us: Callable[[], int]
    publisher: Publisher | None = None
    metrics: Metrics = field(default_factory=Metrics)
    pace: Pace = field(default_factory=Pace)
    caches: dict[str, tuple[float, Any]] = field(default_factory=dict)
    questions: dict[str, Timely[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checker = TokenChecker(self.ledger, self.settings, stale_ok=self.settings.fail_mode != "closed")
        self.sign_in = OperatorSignIn(self.settings) if self.settings.sign_in_issuer else None
        self.security = security_of(self.settings)
        per_s = self.settings.proxy_requests_per_s
        self.proxy_pace = Pace(2 * per_s, per_s) if per_s else None
        self.fail_open = FailOpen(self.settings.fail_mode)
        self.fingerprints = Fingerprints(self.settings)
        self._opening = threading.Lock()
        self.closed = True
        self._caching: dict[str, threading.Lock] = {}

    def open_publisher(self) -> Publisher:
        """The publisher, opened at first use: a process that gets no events needs no broker."""
        with self._opening:
            if self.publisher is None:
                confirm = settled(self.ledger) if os.environ.get("TOLLHOUSE_UP") else None
                self.publisher = open_in_free_slot(
                    self.settings.dir / SPOOL,
                    lambda directory: UsagePublisher(
                        self.settings.broker,
                        source=SOURCE,
                        spool_dir=directory,
                        topic=self.settings.topic_prefix + USAGE_EVENTS,
                        linger_s=0.005,
                        confirm=confirm,
                        kafka=self.security.client(),
                    ),
                )
            return self.publisher

    def start(self) -> None:
        """Send on what an earlier process left in its spool, and get ready for the first who looks."""
        if self.ledger.engine.url.database not in (None, "", ":memory:"):  # one connection is not for two threads
            threading.Thread(target=self.warm, daemon=True).start()
        if (self.settings.dir / SPOOL).is_dir():
            self.open_publisher()

    def warm(self) -> None:
        """Read the catalog and the price data under it, and find the fonts, before anybody waits for them."""
        usage_by_day([], "", look=Look(format="svg"))
        with suppress(NoCatalog, LedgerUnavailable):
            self.ledger.context().prices.thresholds("openai", "gpt-5")
        # Modules, catalog and prices stay for good: looking through them again for what nobody uses any more took a
        # third of a page's first view, in the middle of it.
        gc.collect()
        gc.freeze()

    def stop(self) -> None:
        """Hand over what is left, and close; closed says whether that was done in time."""
        if self.publisher is not None:
            closing = threading.Thread(target=self.publisher.close, args=(STOP_S,), daemon=True)
            closing.start()
            closing.join(2 * STOP_S)
            self.closed = not closing.is_alive()

    def cached(self, name: str, seconds: float, make: Callable[[], Any]) -> Any:
        """make(), at most once in so many seconds; one thread at a time makes it, the others wait for it.

        What takes long is kept longer, so that looking takes a twentieth of the process at most.
        """
        found = self.caches.get(name)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        with self._caching.setdefault(name, threading.Lock()):
            found = self.caches.get(name)
            if found is None or found[0] <= time.monotonic():
                if len(self.caches) > CACHED_MAX:
                    self.caches.clear()
                    self._caching.clear()
                began = time.monotonic()
                made = make()
                done = time.monotonic()
                found = self.caches[name] = (done + max(seconds, LOOKING * (done - began)), made)
            return found[1]


def api_of(request: Request) -> Api:
    """The process's API, from a request."""
    api: Api = request.app.state.api
    return api
