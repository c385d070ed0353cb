"""From the ledger's outbox to people: opens what is queued (answering leaks on the way), gives it to each sink.

Nothing here is on the way of an event: the meter and the detector only queue. Each sink has tries of its own, so one
that is away holds nobody else up. What a worker had in hand when it died is sent again, under the same id.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Protocol

import structlog

from pipeline.alerting import Alert
from pipeline.ledger import Connection, Ledger, LedgerUnavailable
from pipeline.ledger.alerts import EXPECTED, find_alert
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.deliveries import (
    GIVE_UP_US,
    Due,
    add_sinks,
    claim,
    due,
    finish,
    first_sent_us,
    is_newest,
    last_told_us,
    postpone,
    wait_us,
)
from pipeline.ledger.responses import due_releases, list_responses, release_due, respond
from pipeline.response import response_to
from schemas.catalog import AlertSink, Catalog
from schemas.instants import MINUTE_US, format_instant

log = structlog.get_logger()

POLL_S: Final = 0.3
"""How long an alert lies before it is taken up: an answer to a leak has two seconds."""
SENDERS: Final = 8
PER_SINK: Final = 3
"""Deliveries to one sink at a time: a sink that hangs leaves threads for the others."""
COOLDOWN_US: Final = 15 * MINUTE_US
"""Between two tickets of one kind about one subject; a page never waits."""
HOSTED: Final = ("http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos")
"""Schemes whose URL has a host name where others have a token."""
COOLED: Final = ("leak", "residual", "pipeline")


class Refused(Exception):
    """A sink that will not take this, however often it is tried."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a sink is given. id: the same for every try. state: of the alert now. done: what was done about it.

    since_us: the first sign. count: how often it was told.
    """

    id: str
    version: int
    alert: Alert
    state: str
    since_us: int
    count: int
    done: tuple[str, ...] = ()


class Sender(Protocol):
    """Brings a notice to a URL; in threads of its own."""

    def __call__(self, url: str, notice: Notice, /) -> None:
        """Send; an exception, worded for people, if it was not taken. Refused if another try is of no use."""


def sink_id(sink: AlertSink) -> str:
    """A name for the sink that holds no secret of its URL and stays the same as long as the URL does."""
    return sha256(sink.url.encode()).hexdigest()[:16]


def public(url: str) -> str:
    """The URL as it may be shown: what is before @, in the path or the query may be secret, and with most services the
    host is a token."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in HOSTED:
        return f"{scheme}://…"
    return f"{scheme}://{rest.split('/')[0].split('?')[0].rpartition('@')[2]}/…"


def notice_id(alert_id: str, version: int) -> str:
    """The stable id of one version of an alert, as receivers tell repeats by it."""
    return f"{alert_id}.{version}"


@dataclass
class Deliverer:
    """One worker's. release_after_us: when a response ends by itself; 0: when a person says so."""

    ledger: Ledger
    now_us: Callable[[], int]
    send: Sender
    release_after_us: int = 0
    delivered: int = 0
    failed_tries: int = 0
    _busy: dict[Due, str] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Work until cancelled."""
        threads = ThreadPoolExecutor(max_workers=SENDERS, thread_name_prefix="sinks")
        try:
            while True:
                try:
                    await self._step(threads)
                except LedgerUnavailable as error:
                    log.warning("delivery.waiting", reason=str(error))
                    await asyncio.sleep(1.0)
                except Exception:
                    log.exception("delivery.failed")
                    await asyncio.sleep(5.0)
                await asyncio.sleep(POLL_S)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _step(self, threads: ThreadPoolExecutor) -> None:
        waiting = await asyncio.to_thread(self.open_due)
        loop = asyncio.get_running_loop()
        for one in waiting:
            if one in self._busy or list(self._busy.values()).count(one.sink) >= PER_SINK:
                continue
            if len(self._busy) >= SENDERS:
                break
            self._busy[one] = one.sink
            task = loop.create_task(self._deliver(one, threads))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, one: Due, threads: ThreadPoolExecutor) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(threads, self.deliver, one)
        except LedgerUnavailable as error:
            log.warning("delivery.waiting", reason=str(error))
        except Exception:  # the claim runs out, and it is tried again
            log.exception("delivery.failed", alert=one.alert, sink=one.sink)
        finally:
            del self._busy[one]

    def open_due(self) -> list[Due]:
        """Open what is queued, end what is to end; what is to be sent to sinks now."""
        now_us = self.now_us()
        found = self.ledger.read(lambda c: due(c, now_us))
        if any(not one.sink for one in found):
            catalog = self._catalog()
            for one in found:
                if not one.sink:
                    self.ledger.write(lambda c, one=one: self._open(c, one, catalog, now_us))  # type: ignore[misc]
        if self.ledger.read(lambda c: due_releases(c, now_us)):
            self.ledger.write(lambda c: release_due(c, now_us))
        if any(not one.sink for one in found):
            found = self.ledger.read(lambda c: due(c, now_us))
        return [one for one in found if one.sink]

    def _catalog(self) -> Catalog | None:
        try:
            return self.ledger.context().catalog
        except NoCatalog:
            return None

    def _open(self, connection: Connection, one: Due, catalog: Catalog | None, now_us: int) -> None:
        """Answer the alert if the catalog says so, then give it to the sinks that want it: one transaction."""
        row = find_alert(connection, one.alert)
        if not claim(connection, one, now_us) or row is None:
            return
        if row["feedback"] == EXPECTED or row["state"] == "resolved":
            finish(connection, one, "skipped", now_us, f"{row['feedback'] or row['state']} meanwhile")
            return
        if not is_newest(connection, one):
            finish(connection, one, "skipped", now_us, "a later version goes out")
            return
        if catalog is None:
            finish(connection, one, "skipped", now_us, "no catalog, so no sinks")
            return
        response = response_to(row["kind"], row["severity"], row["subject"], row["facts"], catalog)
        if response is not None:
            until_us = now_us + self.release_after_us if self.release_after_us else None
            done = respond(connection, one.alert, one.version, response, now_us, until_us)
            log.info("leak.answered", alert=one.alert, done=done)
        if row["state"] == "acked":
            finish(connection, one, "skipped", now_us, "acknowledged before it went out")
            return
        quiet_us = self._quiet_until(connection, row, now_us)
        if quiet_us > now_us:
            postpone(connection, one, quiet_us, f"quiet until {format_instant(quiet_us)}")
            return
        wanted = sinks_for(catalog, row["kind"])
        add_sinks(connection, one, [(sink_id(sink), public(sink.url)) for sink in wanted], now_us)

    def _quiet_until(self, connection: Connection, row: dict[str, Any], now_us: int) -> int:
        muted_us = int(row["muted_until_us"] or 0)
        if row["severity"] == "page" or row["kind"] not in COOLED:
            return muted_us
        told_us = last_told_us(connection, row["kind"], row["subject"])
        return max(muted_us, told_us + COOLDOWN_US if told_us is not None else now_us)

    def deliver(self, one: Due) -> None:
        """One try at one sink, with everything that follows from it."""
        now_us = self.now_us()
        if not self.ledger.write(lambda c: claim(c, one, now_us)):
            return
        catalog = self._catalog()
        url = next((s.url for s in catalog.alerts.sinks if sink_id(s) == one.sink), None) if catalog else None
        notice, why = self.ledger.read(lambda c: _notice(c, one))
        if url is None:
            why = "the catalog no longer names this sink"
        if why or notice is None or url is None:
            self.ledger.write(lambda c: finish(c, one, "skipped", now_us, why))
            return
        try:
            self.send(url, notice)
        except Refused as error:
            self._failed(one, str(error), again=False)
        except Exception as error:  # noqa: BLE001 - whatever a sink's library raises, the alert must go out later
            self._failed(one, f"{error}" or type(error).__name__, again=True)
        else:
            self.delivered += 1
            self.ledger.write(lambda c: finish(c, one, "sent", self.now_us()))
            log.info("alert.delivered", alert=one.alert, version=one.version, to=public(url))

    def _failed(self, one: Due, error: str, *, again: bool) -> None:
        now_us = self.now_us()
        self.failed_tries += 1
        log.warning("alert.not_delivered", alert=one.alert, sink=one.sink, tries=one.tries + 1, error=error)

        def work(connection: Connection) -> None:
            since_us = first_sent_us(connection, one) or now_us
            if again and now_us - since_us < GIVE_UP_US:
                postpone(connection, one, now_us + wait_us(one.tries + 1), error)
            else:
                finish(connection, one, "failed", now_us, error)

        self.ledger.write(work)


def sinks_for(catalog: Catalog, kind: str) -> Sequence[AlertSink]:
    """The sinks that want alerts of the kind; one that names no kinds wants all."""
    return [sink for sink in catalog.alerts.sinks if not sink.kinds or kind in sink.kinds]


def _notice(connection: Connection, one: Due) -> tuple[Notice | None, str]:
    """The notice as it now is, or why there is nothing to send."""
    row = find_alert(connection, one.alert)
    if row is None:
        return None, "the alert is gone"
    if row["state"] != "open" or row["feedback"] == EXPECTED:
        return None, f"{row['state']} before it was taken"
    alert = Alert(row["id"], row["last_us"], row["kind"], row["severity"], row["subject"], row["detail"], row["facts"])
    done = tuple(r["detail"] for r in list_responses(connection, one.alert) if r["released_us"] is None)
    name = notice_id(one.alert, one.version)
    return Notice(name, one.version, alert, row["state"], row["first_us"], row["count"], done), ""
