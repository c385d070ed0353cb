"""Invoices to print: one as it usually is, and ones that are hard."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

from billing.documents import UsageDay
from schemas.catalog import Party
from schemas.instants import parse_instant
from schemas.invoice import CreditNote, Invoice, InvoiceLine, LinePart, TaxSum
from schemas.periods import month_period

ZONE = "Europe/Berlin"
OCTOBER = month_period("2026-10", ZONE)
SEPTEMBER = month_period("2026-09", ZONE)
SELLER = Party("Example Cloud Ltd", "1 Example Street\nDublin", "IE", "IE1234567A", "billing@seller.example")
BUYER = Party("Acme GmbH", "Beispielweg 1\n10115 Berlin", "DE", "DE123456789", "ap@acme.example")
VERSION = parse_instant("2026-10-16T00:00:00Z")


def line(id_: str, type_: str, description: str, amount: str, **more: object) -> InvoiceLine:
    fields: dict[str, object] = {"period_start_us": OCTOBER.start_us, "period_end_us": OCTOBER.end_us} | more
    return InvoiceLine(id=id_, type=type_, description=description, amount=Decimal(amount), **fields)  # type: ignore[arg-type]


def usage_lines() -> tuple[InvoiceLine, ...]:
    tiers = (
        LinePart(Decimal(1000000), Decimal(0), 1000000, Decimal(0), "team", None, 0, ("gpt-5-mini",), "allowance"),
        LinePart(
            Decimal(10000000), Decimal("2.40"), 1000000, Decimal("24.00"), "team", None, 1, ("gpt-5-mini", "gpt-5")
        ),
        LinePart(Decimal(2345678), Decimal("2.00"), 1000000, Decimal("4.691356"), "team", VERSION, 2, ("gpt-5",)),
    )
    single = (
        LinePart(Decimal(123456789), Decimal("0.30"), 1000000, Decimal("37.0370367"), "team", None, 0, ("gpt-5-mini",)),
    )
    return (
        line("u1", "usage", "Input tokens, gpt-5-mini", "37.04", meter="input", models="gpt-5-mini", plan="team",
             quantity=Decimal(123456789), unrounded=Decimal("37.0370367"), parts=single, tax=Decimal("7.04")),
        line("u2", "usage", "Output tokens, gpt-5*", "28.69", meter="output", models="gpt-5*", plan="team",
             quantity=Decimal(13345678), unrounded=Decimal("28.691356"), parts=tiers, tax=Decimal("5.45")),
    )  # fmt: skip


def exclusive() -> Invoice:
    """Usage, true-up, fee, adjustment, credit and 19 % on top; finalised."""
    lines = (
        *usage_lines(),
        line("t1", "true_up", "Minimum of plan team", "34.27", plan="team", tax=Decimal("6.51")),
        line("f1", "fee", "Monthly fee, plan team", "49.00", plan="team", tax=Decimal("9.31")),
        line("a1", "adjustment", "Late usage", "-3.10", for_month="2026-09", tax=Decimal("-0.59"),),
        line("c1", "credit", "Credit cr-1", "-45.90", credit="cr-1", tax=Decimal("-8.72")),
        line("x1", "tax", "VAT 19 %", "19.00"),
    )  # fmt: skip
    return Invoice(
        tenant="acme", month="2026-10", revision=1, status="finalised", currency="USD",
        period_start_us=OCTOBER.start_us, period_end_us=OCTOBER.end_us, lines=lines,
        subtotal=Decimal("145.90"), tax=Decimal("19.00"), total=Decimal("119.00"), number="INV-2026-000042",
        finalised_at_us=parse_instant("2026-11-02T23:30:00Z"), catalog_version=3,
        taxes=(TaxSum("VAT", Decimal("0.19"), False, Decimal("100.00"), Decimal("19.00")),), seller=SELLER, buyer=BUYER,
        days_until_due=14,
    )  # fmt: skip


def inclusive() -> Invoice:
    """Prices with VAT in them."""
    lines = (
        line("f1", "fee", "Monthly fee, plan team", "49.00", plan="team", tax=Decimal("7.82")),
        line(
            "u1", "usage", "Requests", "70.00", meter="requests", models="*", quantity=Decimal(70), tax=Decimal("11.18")
        ),
    )
    taxes = (TaxSum("VAT", Decimal("0.19"), True, Decimal("119.00"), Decimal("19.00")),)
    return replace(
        exclusive(), lines=lines, subtotal=Decimal("119.00"), tax=Decimal("19.00"), total=Decimal("119.00"), taxes=taxes
    )


def draft() -> Invoice:
    reasons = ("unrated usage: model mystery-1, meter input",)
    return replace(exclusive(), status="draft", number=None, finalised_at_us=None, held=reasons)


def long(count: int = 300) -> Invoice:
    """Many lines, some with many prices, and texts that try to be code."""
    names = (
        '#read("/etc/passwd")',
        "$x^2$ and *bold* _it_",
        "<R&D> `raw` @ref //comment",
        "x" * 200,
        "=1+1",
        "\\u{41}",
    )
    lines = []
    for n in range(count):
        name = names[n % len(names)] if n % 7 == 0 else f"Output tokens, model-{n:03d}"
        parts = tuple(
            LinePart(
                Decimal(1000 * (t + 1)),
                Decimal("0.123456"),
                1000,
                Decimal("0.123456") * (t + 1),
                "scale",
                None,
                t + 1,
                ("m",),
            )
            for t in range(3 if n % 10 == 3 else 30 if n == 150 else 0)
        )
        lines.append(
            line(f"u{n}", "usage", name, "1.00", meter="output", models="*", quantity=Decimal(1000000), parts=parts)
        )
    total = Decimal(count)
    tax = Decimal("0.19") * total
    taxes = (TaxSum("VAT", Decimal("0.19"), False, total, tax),)
    return replace(exclusive(), lines=tuple(lines), subtotal=total, tax=tax, total=total + tax, taxes=taxes)


def credit_note() -> CreditNote:
    reason = "voided"
    issued_us = parse_instant("2026-11-05T10:00:00Z")
    return CreditNote(
        "acme", "2026-10", 1, Decimal("119.00"), Decimal("19.00"), "USD", reason, "CN-2026-000007", issued_us
    )  # fmt: skip


def usage() -> Sequence[UsageDay]:
    return (
        UsageDay(date(2026, 10, 2), "gpt-5", "openai-pool-1", {"input": 7, "output": 2**53}, 2),
        UsageDay(
            date(2026, 10, 1), "gpt-5-mini", "openai-pool-1", {"input": 100, "reasoning": 5, "web_searches": 1}, 3
        ),
        UsageDay(date(2026, 10, 1), "=cmd()", "openai-pool-1", {"cache_read": 11}, 1),
        UsageDay(date(2026, 10, 2), "gpt-5", "openai-pool-1", {"input": 3, "output": 2**53}, 1),
    )
