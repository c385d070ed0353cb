"""Explaining invoices from the ledger: arithmetic by billing, evidence by the ledger."""

import json
from collections.abc import Sequence
from typing import Any, Final

from billing.book import BillingBook
from billing.charges import CHARGE_TYPES
from billing.explain import Explanation, Mismatch, check_parts, check_sums, explain
from billing.render import part_json
from pipeline.ledger import Connection, Ledger, books, dropped
from pipeline.ledger.evidence import AsOfUsage, EventEvidence, events_as_of, proof_of
from schemas.invoice import Invoice, InvoiceLine
from schemas.money import Money
from schemas.tokens import as_dict
from tollhouse.closing import terms_for
from tollhouse.errors import UserError

EVIDENCE: Final = "evidence"
"""Kind of the explanations that are kept of months whose events were dropped."""
NOW_US = 2**62
"""A draft is explained from everything that is in the ledger."""


def explain_invoice(ledger: Ledger, invoice: Invoice, line: str | None) -> list[dict[str, Any]]:
    """Each asked line with its parts and the proof of its events; UserError where something does not add up.

    Of a month whose events were dropped, what was worked out before that, compared with the invoice once more: each
    record then says so in `kept`.
    """
    lines = list(invoice.lines)
    if line is not None:
        lines = [x for n, x in enumerate(invoice.lines, 1) if line in (x.id, str(n))]
        if not lines:
            raise UserError(f"line {line}: the invoice has lines 1 to {len(invoice.lines)}")
    return ledger.read(lambda connection: explain_lines(connection, invoice, lines))


def explain_lines(connection: Connection, invoice: Invoice, lines: Sequence[InvoiceLine]) -> list[dict[str, Any]]:
    """See explain_invoice; in the caller's view."""
    if dropped.is_dropped(connection, invoice.tenant, invoice.period_start_us):
        return _kept(connection, invoice, lines)
    terms = terms_for(connection, BillingBook((invoice,)))
    at_us = invoice.finalised_at_us if invoice.finalised_at_us is not None else NOW_US
    source = AsOfUsage(connection, at_us)
    if invoice.status == "draft":
        terms = {invoice.catalog_version: terms[max(terms)], **terms}
    found = events_as_of(connection, invoice.tenant, invoice.period_start_us, invoice.period_end_us, at_us)
    try:
        return [_record(explain(invoice, x.id, source, terms), found, invoice.currency) for x in lines]
    except Mismatch as mismatch:
        raise UserError(f"it does not add up: {mismatch}") from None


def evidence_name(invoice: Invoice) -> str:
    """Under which name the explanation of an invoice is kept when its events go."""
    return f"{invoice.tenant}/{invoice.month}/{invoice.revision}"


def _kept(connection: Connection, invoice: Invoice, lines: Sequence[InvoiceLine]) -> list[dict[str, Any]]:
    text = books.get(connection, EVIDENCE, evidence_name(invoice))
    if text is None:
        raise UserError(f"the events of {invoice.tenant}, {invoice.month} were dropped, and no explanation was kept")
    kept = json.loads(text)
    records = {record["id"]: record for record in kept["lines"]}
    try:
        check_sums(invoice)
        for line in lines:
            check_parts(line)
            amount = Money(line.amount, invoice.currency).text()
            if line.id not in records or records[line.id]["amount"] != amount:
                raise Mismatch(f"{line.id}: amount is {amount}, the kept explanation says otherwise")
            if line.type in CHARGE_TYPES and records[line.id]["parts"] != [part_json(part) for part in line.parts]:
                raise Mismatch(f"{line.id}: the parts are not those of the kept explanation")
    except Mismatch as mismatch:
        raise UserError(f"it does not add up: {mismatch}") from None
    return [{**records[line.id], "kept": kept["dropped_at"]} for line in lines]


def _record(explanation: Explanation, found: list[EventEvidence], currency: str) -> dict[str, Any]:
    line = explanation.line
    proof = None
    if explanation.selections:
        chosen = proof_of(
            found,
            lambda e: any(s.holds(e.row, as_dict(e.row.classes)) for s in explanation.selections),
        )
        proof = {
            "count": chosen.count,
            "first": _place(chosen.first),
            "last": _place(chosen.last),
            "digest": chosen.digest,
        }
    return {
        "id": line.id,
        "type": line.type,
        "description": line.description,
        "amount": Money(line.amount, currency).text(),
        "unrounded": None if line.unrounded is None else str(line.unrounded),
        "parts": [part_json(part) for part in explanation.parts],
        "events": proof,
    }


def _place(place: tuple[str, int, int] | None) -> str | None:
    return None if place is None else f"{place[0]}/{place[1]}@{place[2]}"
