"""Documents of invoices as the product makes them: every format of the example's tenants, and later."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from billing.book import BillingBook
from billing.charges import Terms
from billing.documents import FORMATS, render, render_credit_note
from billing.documents.focus import focus_rows
from billing.runs import run_month, void_invoice
from pipeline.catalog import parse_yaml
from pipeline.prices import ProviderPrices
from schemas.catalog import Catalog
from schemas.instants import parse_instant
from schemas.invoice import Invoice
from tests.unit.documents.test_focus import broken_rules
from tests.unit.rating.usage_memory import MemoryUsage, event

ROOT = Path(__file__).resolve().parents[3]
CALLS = (
    ("acme", "gpt-5-mini", "openai", "openai-pool-1"),
    ("acme", "gpt-5", "openai", "openai-pool-1"),
    ("acme", "claude-sonnet-4-5", "anthropic", "anthropic-pool-1"),
    ("globex", "gpt-5-mini", "openai", "openai-pool-1"),
    ("globex", "claude-sonnet-4-5", "anthropic", "anthropic-pool-1"),
    ("kathmandu-labs", "gpt-5-mini", "openai", "openai-pool-1"),
)
CLOSED = parse_instant("2026-11-05T12:00:00Z")


def october() -> MemoryUsage:
    usage = MemoryUsage()
    for day in range(1, 32):
        for tenant, model, provider, key in CALLS:
            at = parse_instant(f"2026-10-{day:02d}T10:10:00Z")
            usage.add(event(at, tenant=tenant, model=model, provider=provider, key=key, input=123457 + 1000 * day,
                            output=23456, cache_read=34567, reasoning=1234))  # fmt: skip
    return usage


@pytest.fixture(scope="module")
def terms() -> dict[int, Terms]:
    catalog = parse_yaml((ROOT / "examples" / "catalog.yaml").read_text(encoding="utf-8"))
    assert isinstance(catalog, Catalog)
    return {1: Terms(1, catalog, ProviderPrices(catalog.provider_prices))}


def closed(terms: dict[int, Terms], tenant: str, usage: MemoryUsage) -> tuple[BillingBook, Invoice]:
    outcome = run_month(BillingBook(), terms, usage, tenant, "2026-10", CLOSED, finalise=True)
    assert outcome.refused is None
    assert outcome.invoice is not None
    return outcome.book, outcome.invoice


@pytest.mark.parametrize("tenant", ["acme", "globex", "kathmandu-labs", "wayne"])
def test_every_format_of_every_tenant_agrees_with_the_invoice(terms: dict[int, Terms], tenant: str) -> None:
    zone = terms[1].catalog.tenants[tenant].timezone
    _, invoice = closed(terms, tenant, october())
    made = {name: render(invoice, name, timezone=zone) for name in FORMATS}
    assert all(made.values())
    rows = list(csv.DictReader(io.StringIO(made["csv"].decode(), newline="")))
    assert sum(Decimal(row["amount"]) for row in rows) == invoice.total
    assert json.loads(made["json"])["total"] == f"{invoice.total:.2f}"
    focus = focus_rows(invoice, zone)
    assert [broken for row in focus if (broken := list(broken_rules(row)))] == []
    metered = sum(line.quantity or 0 for line in invoice.lines if line.type == "usage")
    assert sum(row["ConsumedQuantity"] or 0 for row in focus) == metered


def test_late_usage_is_a_correction_of_its_month(terms: dict[int, Terms]) -> None:
    usage = october()
    book, _ = closed(terms, "globex", usage)
    late = parse_instant("2026-10-20T10:00:00Z")
    usage.add(event(late, tenant="globex", model="gpt-5-mini", key="openai-pool-1", input=5_000_000))
    done = run_month(book, terms, usage, "globex", "2026-11", parse_instant("2026-12-05T00:00:00Z"), finalise=True)
    assert done.invoice is not None
    (row,) = [row for row in focus_rows(done.invoice, "America/New_York") if row["ChargeClass"] == "Correction"]
    assert row["BilledCost"] == Decimal("7.00")
    assert row["ChargePeriodStart"] == parse_instant("2026-10-01T04:00:00Z")
    assert row["ChargePeriodEnd"] == row["BillingPeriodStart"] == parse_instant("2026-11-01T04:00:00Z")
    assert render(done.invoice, "pdf", paper="letter", timezone="America/New_York").startswith(b"%PDF")


def test_voiding_gives_a_credit_note_that_prints(terms: dict[int, Terms]) -> None:
    book, invoice = closed(terms, "acme", october())
    outcome = void_invoice(book, "acme", "2026-10", CLOSED)
    (note,) = outcome.credit_notes
    data = json.loads(render_credit_note(note, invoice, "json"))
    assert (data["amount"], data["invoice"]) == (f"{invoice.total:.2f}", invoice.number)
    assert render_credit_note(note, invoice, "pdf", timezone="Europe/Berlin").startswith(b"%PDF")
