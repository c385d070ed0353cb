"""The whole audit: tables against one another, documents against the events, the topic against the intake."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from billing.book import BillingBook
from billing.explain import Mismatch, check_sums
from pipeline.alerting import Alert
from pipeline.ledger import Connection, Ledger, chain
from pipeline.ledger.auditing import CHECKS, differences
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.retention import ACTION as DROP
from schemas.catalog import Catalog
from schemas.invoice import Invoice
from schemas.money import Money
from tollhouse.broker_audit import BrokerAway, broker_differences
from tollhouse.closing import load_book
from tollhouse.errors import UserError
from tollhouse.explaining import EVIDENCE, explain_invoice
from tollhouse.retention import evidence_digest
from tollhouse.settings import Settings

BILLING: Final = ("invoices", "credit notes", "credits")
BROKER: Final = "broker"
ALERT: Final = "audit:ledger"
SHOWN: Final = 5
"""Differences in an alert's text; the rest is in the log, and in the next `tollhouse audit`."""


@dataclass(frozen=True, slots=True)
class Audit:
    """differences: a line each. checks: what was compared. notes: what could not be. anchor: the audit log's end."""

    differences: tuple[str, ...]
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    anchor: str


def audit(settings: Settings, ledger: Ledger, *, broker: bool = True, anchor: chain.Anchor | None = None) -> Audit:
    """Every check. anchor: an end of the audit log that was seen before. broker: compare with the topic too."""
    found: list[str] = ledger.read(differences)
    if anchor is not None:
        lines: list[str] = ledger.read(lambda connection: list(chain.verify(connection, anchor)))
        found += [line for line in (f"audit log: {line}" for line in lines) if line not in found]
    found += _billing(ledger)
    found += [f"{EVIDENCE}: {line}" for line in ledger.read(lambda c: list(evidence_differences(c)))]
    checks, notes = [*CHECKS, *BILLING, EVIDENCE], []
    if broker:
        try:
            found += [f"{BROKER}: {line}" for line in asyncio.run(broker_differences(settings, ledger))]
            checks.append(BROKER)
        except (BrokerAway, UserError) as error:
            notes.append(f"{BROKER}: not compared: {error}")
    end: chain.Anchor = ledger.read(chain.head)
    return Audit(tuple(found), tuple(checks), tuple(notes), end.text())


def raise_alert(ledger: Ledger, found: Audit, now_us: int) -> None:
    """One incident for as long as there are differences; told again it counts on."""
    more = len(found.differences) - SHOWN
    said = "; ".join(found.differences[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    detail = f"the audit found {len(found.differences)} differences: {said}: run `tollhouse audit` and see the runbook"
    facts = {"differences": len(found.differences)}
    ledger.raise_alerts([Alert(ALERT, now_us, "pipeline", "page", "ledger", detail, facts)])


def evidence_differences(connection: Connection) -> Iterator[str]:
    """What was kept of dropped months against what the audit log says was kept."""
    for line in chain.lines_of(connection, DROP):
        tenant, _, month = line["subject"].rpartition(" ")
        digest = evidence_digest(connection, tenant, month)
        if (line["detail"].partition(", evidence ")[2]) != digest:
            yield f"{line['subject']}: the explanations are not those that were kept when it was dropped"


def _billing(ledger: Ledger) -> Iterator[str]:
    book: BillingBook = ledger.read(load_book)
    for invoice in book.invoices:
        if (line := _invoice(ledger, invoice)) is not None:
            yield f"invoices: {line}"
    yield from (f"credit notes: {line}" for line in note_differences(book))
    try:
        catalog = ledger.context().catalog
    except NoCatalog:
        return
    yield from (f"credits: {line}" for line in credit_differences(book, catalog))


def _invoice(ledger: Ledger, invoice: Invoice) -> str | None:
    """What is wrong with an invoice: a closed one is worked out again from its events, a draft has to add up."""
    try:
        if invoice.status == "draft":
            check_sums(invoice)
        else:
            explain_invoice(ledger, invoice, None)
    except (Mismatch, UserError) as error:
        return f"{invoice.number or invoice.tenant} {invoice.month}: {error}"
    except (KeyError, ArithmeticError, StopIteration) as error:  # a document that was changed by hand can be anything
        return f"{invoice.number or invoice.tenant} {invoice.month}: cannot be worked out again: {error!r}"
    return None


def note_differences(book: BillingBook) -> Iterator[str]:
    """Credit notes against their invoices: never more than was invoiced, and all of it for one that is void."""
    known = {(i.tenant, i.month, i.revision) for i in book.invoices}
    for note in book.credit_notes:
        if (note.tenant, note.month, note.revision) not in known:
            yield f"{note.number} is on {note.tenant} {note.month}/{note.revision}, which is not there"
    for invoice in book.invoices:
        notes = book.notes_on(invoice)
        for name, given, invoiced in (
            ("amount", sum((n.amount for n in notes), Decimal(0)), invoice.total),
            ("tax", sum((n.tax for n in notes), Decimal(0)), invoice.tax),
        ):
            if given > invoiced or (invoice.status == "void" and given != invoiced):
                texts = [Money(value, invoice.currency).text() for value in (given, invoiced)]
                yield f"notes on {invoice.number} give back {name} {texts[0]} of {texts[1]}"


def credit_differences(book: BillingBook, catalog: Catalog) -> Iterator[str]:
    """Credits never pay more than they are worth."""
    for credit in catalog.credits:
        used = book.credit_used(credit.id, credit.tenant)
        if not 0 <= used <= credit.amount:
            yield f"{credit.id} of {credit.tenant} paid {used} of {credit.amount}"
