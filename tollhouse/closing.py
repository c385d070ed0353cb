"""Billing runs on the ledger: read, compute (billing, pure) and write inside one transaction."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Final

from billing.adjustments import rated_again
from billing.book import BillingBook
from billing.charges import Terms
from billing.records import (
    credit_note_from_data,
    credit_note_to_data,
    invoice_from_data,
    invoice_summary_from_data,
    invoice_to_data,
)
from billing.runs import RunOutcome, run_month, void_invoice
from pipeline.ledger import Connection, Ledger, LedgerUnavailable, books, catalogs, dropped
from pipeline.ledger.reach import Reach, late_changes, reaches
from pipeline.ledger.readers import BoundUsage
from pipeline.prices import ProviderPrices
from schemas.catalog import Catalog
from schemas.invoice import Invoice, InvoiceSummary
from schemas.money import EXACT
from schemas.periods import Period

TENANTS_MAX: Final = 20
"""Tenants in one transaction of a run: they share what a turn and a commit cost, and the writer is free in between."""


def book_of(documents: books.Documents, settled: frozenset[tuple[str, str]] = frozenset()) -> BillingBook:
    """Billing's book from the ledger's documents."""
    return BillingBook(
        tuple(invoice_from_data(data) for data in documents.invoices.values()),
        tuple(credit_note_from_data(data) for data in documents.credit_notes.values()),
        dict(documents.sequences),
        settled,
    )


def settled_months(connection: Connection) -> frozenset[tuple[str, str]]:
    """(tenant, month) whose events were dropped."""
    return frozenset((month.tenant, month.month) for month in dropped.months(connection))


def documents_of(book: BillingBook) -> books.Documents:
    """The ledger's documents from billing's book."""
    return books.Documents(
        {(i.tenant, i.month, i.revision): invoice_to_data(i) for i in book.invoices},
        {note.number: credit_note_to_data(note) for note in book.credit_notes if note.number is not None},
        dict(book.sequences),
    )


def load_book(
    connection: Connection, tenant: str | Collection[str] | None = None, month: str | None = None
) -> BillingBook:
    """The book of one tenant, of some or of all; with a month, only that month's documents."""
    return book_of(books.load(connection, tenant, month), settled_months(connection))


def load_summaries(connection: Connection, tenant: str | None = None, month: str | None = None) -> list[InvoiceSummary]:
    """The invoices for lists and sums: the newest month first, in it by tenant, the newest revision first."""
    found = [invoice_summary_from_data(data) for data in books.summaries(connection, tenant, month)]
    found.sort(key=lambda i: (i.tenant, -i.revision))
    return sorted(found, key=lambda i: i.month, reverse=True)


def terms_for(connection: Connection, book: BillingBook) -> dict[int, Terms]:
    """The newest terms, and those of every closed invoice in the book."""
    newest = catalogs.newest_version(connection)
    versions = {newest} | {i.catalog_version for i in book.invoices if i.status != "draft" and i.catalog_version}
    return {v: terms_of(v, catalogs.catalog_version(connection, v)) for v in sorted(versions)}


_TERMS: dict[int, tuple[Catalog, Terms]] = {}


def terms_of(version: int, catalog: Catalog) -> Terms:
    """Terms of a catalog version, with prices compiled once for each catalog object."""
    known = _TERMS.get(id(catalog))
    if known is None or known[0] is not catalog or known[1].version != version:
        if len(_TERMS) > 64:  # a process sees few versions; a long simulation must not keep them all
            _TERMS.clear()
        known = _TERMS[id(catalog)] = (catalog, Terms(version, catalog, ProviderPrices(catalog.provider_prices)))
    return known[1]


def run_tenant(ledger: Ledger, tenant: str, month: str, now_us: int, *, finalise: bool) -> RunOutcome:
    """Draft a tenant's month anew, and finalise it if asked; one transaction, so a killed run leaves nothing half."""
    ((_, outcome),) = run_tenants(ledger, [tenant], month, now_us, finalise=finalise)
    return outcome


def run_tenants(
    ledger: Ledger, tenants: Sequence[str], month: str, now_us: int, *, finalise: bool
) -> Iterator[tuple[str, RunOutcome]]:
    """As run_tenant, tenant by tenant; some of them share a transaction, in which each is done whole or not at all."""
    for start in range(0, len(tenants), TENANTS_MAX):
        part = tenants[start : start + TENANTS_MAX]
        try:
            yield from zip(part, _run(ledger, part, month, now_us, finalise), strict=True)
        except LedgerUnavailable:
            raise
        except Exception:
            if len(part) == 1:
                raise
            for tenant in part:  # one of them cannot be worked out: those before it can
                yield tenant, run_tenant(ledger, tenant, month, now_us, finalise=finalise)


def _run(ledger: Ledger, tenants: Sequence[str], month: str, now_us: int, finalise: bool) -> list[RunOutcome]:  # noqa: FBT001
    def work(connection: Connection) -> list[RunOutcome]:
        books.take_turn(connection)
        known = reaches(connection, tenants)
        source = BoundUsage(connection, known)
        before = book = load_book(connection, tenants)
        terms = terms_for(connection, before)
        done: list[RunOutcome] = []
        for tenant in tenants:
            book = replace(book, rated=rated_months(connection, book.of_tenant(tenant), terms, source, known))
            done.append(run_month(book, terms, source, tenant, month, now_us, finalise=finalise))
            book = done[-1].book
        _save(connection, before, book, now_us)
        return done

    return ledger.write(work)


def _save(connection: Connection, before: BillingBook, after: BillingBook, now_us: int) -> None:
    """Write the documents that are new, or another than before."""
    same = {id(invoice) for invoice in before.invoices}
    changed = replace(after, invoices=tuple(invoice for invoice in after.invoices if id(invoice) not in same))
    old = {(i.tenant, i.month, i.revision): i for i in before.invoices}
    touched = [old[key] for i in changed.invoices if (key := (i.tenant, i.month, i.revision)) in old]
    books.save(connection, documents_of(replace(before, invoices=tuple(touched))), documents_of(changed), now_us)


RATED: Final = "rated"
"""Kind of the small documents that keep what closed months come to."""


def rated_months(
    connection: Connection,
    invoices: Sequence[Invoice],
    terms: Mapping[int, Terms],
    source: BoundUsage,
    known: Mapping[str, Reach],
) -> dict[tuple[str, str, int], Decimal]:
    """What one tenant's closed months come to by their usage now, by (tenant, month, revision); see BillingBook.rated.

    Worked out once, and again only after usage came late or a catalog was applied. Without what has no price.
    """
    closed = [i for i in invoices if i.status != "draft"]
    names = {f"{i.tenant}/{i.month}/{i.revision}": i for i in closed if _marks_changes(known.get(i.tenant), i)}
    if not names:
        return {}
    kept = books.get_some(connection, RATED, names)
    changes = late_changes(connection, {i.tenant for i in closed})
    found = {}
    for name, invoice in names.items():
        inside = Period(invoice.period_start_us, invoice.period_end_us)
        usage = sum(n for quarter_us, n in changes.get(invoice.tenant, ()) if quarter_us in inside)
        mark = {"usage": usage, "catalog": max(terms)}
        document = json.loads(kept.get(name, "{}"))
        if document.get("mark") != mark:
            with localcontext(EXACT):
                rated, unrated = rated_again(invoice, terms, terms[max(terms)], source)
            if unrated:
                continue
            document = {"mark": mark, "rated": str(rated)}
            books.put(connection, RATED, name, json.dumps(document, sort_keys=True))
        found[invoice.tenant, invoice.month, invoice.revision] = Decimal(document["rated"])
    return found


def _marks_changes(reach: Reach | None, invoice: Invoice) -> bool:
    """Whether usage that comes into the invoice's month from now on leaves a mark."""
    return reach is not None and reach.days_until_us >= invoice.period_end_us


def void_tenant(ledger: Ledger, tenant: str, month: str, now_us: int, reason: str) -> RunOutcome:
    """Void a tenant's closed invoice of the month."""

    def work(connection: Connection) -> RunOutcome:
        books.take_turn(connection)
        before = load_book(connection, tenant)
        outcome = void_invoice(before, tenant, month, now_us, reason)
        _save(connection, before, outcome.book, now_us)
        return outcome

    return ledger.write(work)


def save_invoice(ledger: Ledger, invoice: Invoice, now_us: int) -> None:
    """Keep an invoice's new status (pushed, paid, …)."""

    def work(connection: Connection) -> None:
        books.take_turn(connection)
        before = load_book(connection, invoice.tenant)
        _save(connection, before, before.with_invoice(invoice), now_us)

    ledger.write(work)
