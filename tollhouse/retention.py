"""Which months' events may go: old enough, and with nothing that still has to be worked out from them."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from billing.adjustments import differences
from pipeline.ledger import Connection, Ledger, books, dropped
from pipeline.ledger.readers import BoundUsage
from pipeline.ledger.retention import drop_month, drop_rejected
from pipeline.ledger.spans import first_event_us, first_rejected_us, has_billable, tenants_with_events
from schemas.instants import format_instant
from schemas.periods import Period, month_of, month_period, next_month, previous_month
from tollhouse.closing import load_book, terms_for
from tollhouse.errors import UserError
from tollhouse.explaining import EVIDENCE, evidence_name, explain_lines

MONTHS_MIN: Final = 3
"""An event is accepted for 35 days, and its month adjusted after that: three months are the least that leaves room."""


class Month(NamedTuple):
    """A tenant's month (of dropped.REJECTED: of rejected deliveries). why: what keeps it; empty: it can go, or went."""

    tenant: str
    month: str
    events: int
    why: str


def plan(ledger: Ledger, months: int, now_us: int) -> list[Month]:
    """The months that are older than so many whole ones, by tenant and time; nothing is changed."""

    def work(connection: Connection) -> list[Month]:
        found = []
        for tenant, month, period in _old(connection, months, now_us):
            why = "" if tenant == dropped.REJECTED else _why_not(connection, tenant, month, period, now_us)
            found.append(Month(tenant, month, 0, why))
        return found

    return ledger.read(work)


def apply(ledger: Ledger, months: int, now_us: int, who: str) -> list[Month]:
    """Drop what the plan lets go, a month a transaction, the oldest first; a tenant's later months wait for it."""
    done: list[Month] = []
    stuck: set[str] = set()
    for tenant, month, period in ledger.read(lambda connection: list(_old(connection, months, now_us))):
        if tenant in stuck:
            done.append(Month(tenant, month, 0, "an earlier month is still there"))
            continue
        result = _drop(ledger, tenant, month, period, now_us, who)
        done.append(result)
        if result.why:
            stuck.add(tenant)
    return done


def _drop(ledger: Ledger, tenant: str, month: str, period: Period, now_us: int, who: str) -> Month:
    def work(connection: Connection) -> Month:
        if tenant == dropped.REJECTED:
            gone = drop_rejected(connection, month, period.start_us, period.end_us, now_us, who)
            return Month(tenant, month, gone.events, "")
        books.take_turn(connection)
        if why := _why_not(connection, tenant, month, period, now_us):
            return Month(tenant, month, 0, why)
        evidence = _keep(connection, tenant, month, now_us)
        gone = drop_month(connection, tenant, month, period.start_us, period.end_us, evidence, now_us, who)
        return Month(tenant, month, gone.events, "")

    return ledger.write(work)


def _old(connection: Connection, months: int, now_us: int) -> Iterator[tuple[str, str, Period]]:
    """Months with events that end before the oldest one to be kept begins."""
    zones = _zones(connection)
    for tenant in (*tenants_with_events(connection), dropped.REJECTED):
        zone = zones.get(tenant, "UTC")
        first_us = first_event_us(connection, tenant) if tenant else first_rejected_us(connection)
        if first_us is None:
            continue
        keep = month_of(now_us, zone)
        for _ in range(months):
            keep = previous_month(keep)
        month = month_of(first_us, zone)
        # What is left of months before (a void that stays with its event) is no month of its own any more.
        gone_us = dropped.floors(connection).get(tenant, 0)
        while month < keep:
            period = month_period(month, zone)
            if period.end_us > gone_us:
                yield tenant, month, Period(max(period.start_us, gone_us), period.end_us)
            month = next_month(month)


def _zones(connection: Connection) -> dict[str, str]:
    from pipeline.ledger.catalogs import NoCatalog, load_context  # noqa: PLC0415 - kept beside its one use

    try:
        return {tenant.id: tenant.timezone for tenant in load_context(connection).catalog.tenants.values()}
    except NoCatalog:
        return {}


def _why_not(connection: Connection, tenant: str, month: str, period: Period, now_us: int) -> str:
    """Why the month has to stay; empty if it may go."""
    book = load_book(connection, tenant)
    own = [i for i in book.invoices if i.period_start_us < period.end_us and i.period_end_us > period.start_us]
    if any(i.month != month or i.period_end_us > period.end_us for i in own):
        return "an invoice was made in another time zone and reaches beyond the month"
    live = book.live(tenant, month)
    if live is None and has_billable(connection, tenant, period.start_us, period.end_us):
        return "it was not invoiced"
    if live is not None and live.status == "draft":
        return "its invoice is a draft"
    if live is not None:
        zone = _zones(connection).get(tenant, "UTC")
        terms = terms_for(connection, book)
        left = differences(book, terms, BoundUsage(connection), tenant, month, month_of(now_us, zone))
        if any(difference.invoice.month == month for difference in left):
            return "an adjustment of it is not invoiced yet"
    try:
        for invoice in own:
            explain_lines(connection, invoice, invoice.lines)
    except UserError as error:
        return f"invoice {month}: {error}"
    return ""


def _keep(connection: Connection, tenant: str, month: str, now_us: int) -> str:
    """Keep the explanation of the month's invoices; the digest of all of it, empty if there is none."""
    for invoice in load_book(connection, tenant).revisions(tenant, month):
        records = explain_lines(connection, invoice, invoice.lines)
        document = json.dumps({"dropped_at": format_instant(now_us), "lines": records}, sort_keys=True)
        books.put(connection, EVIDENCE, evidence_name(invoice), document)
    return evidence_digest(connection, tenant, month)


def evidence_digest(connection: Connection, tenant: str, month: str) -> str:
    """Over the explanations that are kept of the month's invoices; empty if there are none."""
    prefix = f"{tenant}/{month}/"
    kept = [f"{name}\n{text}" for name, text in books.get_all(connection, EVIDENCE).items() if name.startswith(prefix)]
    return sha256("\n".join(sorted(kept)).encode()).hexdigest() if kept else ""
