"""An invoice as the rows that go to Stripe: pure, so that a dry run and a push see the same.

Laws: the rows (with their exclusive tax) add up to the invoice's total exactly, or there is no plan but a reason. A
row's key is derived from our line's id, so it is the same in each run. Over 250 lines, usage is put together by model.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from billing.stripe_gateway.amounts import NotExact, to_stripe
from schemas.instants import SECOND_US
from schemas.invoice import Invoice, InvoiceLine, TaxSum
from schemas.money import EXACT, plain

LINES_MAX: Final = 250
"""https://docs.stripe.com/changelog/2016-02-22/no-more-than-250-invoice-items"""
_TEXT_MAX: Final = 500
_KEY_MAX: Final = 200
_PARTS_SHOWN: Final = 4


class NoPlan(ValueError):
    """Why the invoice cannot become a Stripe invoice; reason is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Row:
    """One line at Stripe. amount_minor: in Stripe's integer unit. tax: (amount_minor, tax) given with the row."""

    key: str
    amount_minor: int
    description: str
    start_s: int
    end_s: int
    type: str
    tax: tuple[int, TaxSum] | None = None

    def total_minor(self) -> int:
        """What the row adds to the invoice's total."""
        return self.amount_minor + (self.tax[0] if self.tax and not self.tax[1].inclusive else 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows and their total. detail: a CSV of our own lines where rows stand for several, else empty."""

    rows: tuple[Row, ...]
    total_minor: int
    detail: str = ""


def reference(invoice: Invoice) -> str:
    """The invoice's own name at Stripe and in the store: tenant, month, revision; short and printable."""
    return short(f"{invoice.tenant}:{invoice.month}:r{invoice.revision}")


def short(text: str, limit: int = _KEY_MAX) -> str:
    """The text if it fits a header and the limit, else a digest of it."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    return "h:" + hashlib.sha256(text.encode()).hexdigest()


def digest(keys: Iterable[str]) -> str:
    """A short name for a set of row keys: part of a batch's idempotency key."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]


def plan(invoice: Invoice, taxes: str) -> Plan:
    """The rows of the invoice; taxes "line" (each exclusive tax as a row) or "rates" (tax given with each row).

    NoPlan: not_exact (currency), totals_differ (our own sums do not add up), several_rates (for "rates"),
    too_many_lines, duplicate_line.
    """
    charged = [line for line in invoice.lines if line.type != "tax"]
    try:
        rows = [_row(invoice, line, taxes) for line in charged]
        if taxes == "line":
            rows += [_tax_row(invoice, tax) for tax in invoice.taxes if not tax.inclusive and tax.amount]
        if not invoice.taxes:  # a tax without its sum: take the line as it stands
            rows += [_row(invoice, line, "line") for line in invoice.lines if line.type == "tax"]
        total = to_stripe(invoice.total, invoice.currency)
    except NotExact as error:
        raise NoPlan("not_exact", str(error)) from error
    detail = ""
    if len(rows) > LINES_MAX:
        rows, detail = _grouped(rows, charged), detail_csv(invoice)
    if len(rows) > LINES_MAX:
        raise NoPlan("too_many_lines", f"{len(rows)} lines even by model; Stripe takes {LINES_MAX}")
    if len({row.key for row in rows}) != len(rows):
        raise NoPlan("duplicate_line", "two lines of the invoice have the same id")
    found = sum(row.total_minor() for row in rows)
    if found != total:
        raise NoPlan("totals_differ", f"the lines add up to {found}, the invoice says {total} (in minor units)")
    return Plan(tuple(rows), total, detail)


def _row(invoice: Invoice, line: InvoiceLine, taxes: str) -> Row:
    tax: tuple[int, TaxSum] | None = None
    if taxes == "rates" and line.tax:
        if len(invoice.taxes) != 1:
            raise NoPlan("several_rates", "taxes as rates need exactly one tax on the invoice: use taxes as a line")
        tax = (to_stripe(line.tax, invoice.currency), invoice.taxes[0])
    return Row(
        key=short(line.id),
        amount_minor=to_stripe(line.amount, invoice.currency),
        description=_text(invoice, line),
        start_s=line.period_start_us // SECOND_US,
        end_s=line.period_end_us // SECOND_US,
        type=line.type,
        tax=tax,
    )


def _tax_row(invoice: Invoice, tax: TaxSum) -> Row:
    percent = plain((tax.rate * 100).normalize(EXACT))
    return Row(
        key=short(f"tax:{tax.name}:{percent}"),
        amount_minor=to_stripe(tax.amount, invoice.currency),
        description=cut(f"{tax.name} {percent} % on {plain(tax.base)} {invoice.currency}"),
        start_s=invoice.period_start_us // SECOND_US,
        end_s=invoice.period_end_us // SECOND_US,
        type="tax",
    )


def _text(invoice: Invoice, line: InvoiceLine) -> str:
    """Description, then quantity and unit price, tier by tier."""
    shown = [
        f"{plain(part.quantity)} at {plain(part.unit_price)} {invoice.currency}"
        + (f" per {part.per}" if part.per != 1 else "")
        + (f" (tier {part.tier})" if part.tier else "")
        for part in line.parts[:_PARTS_SHOWN]
    ]
    if len(line.parts) > _PARTS_SHOWN:
        shown.append(f"and {len(line.parts) - _PARTS_SHOWN} more")
    if not shown and line.quantity is not None:
        shown = [f"{plain(line.quantity)} {line.meter or 'units'}"]
    month = f" [{line.for_month}]" if line.for_month else ""
    return cut(f"{line.description}{month}" + (f": {'; '.join(shown)}" if shown else ""))


def cut(text: str) -> str:
    """The text in at most 500 characters."""
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"


def _grouped(rows: Sequence[Row], lines: Sequence[InvoiceLine]) -> list[Row]:
    """Usage rows put together by model; all other rows as they are. The first row gives the period's start."""
    groups: dict[str, list[Row]] = {}
    kept: list[Row] = []
    models = {short(line.id): line.models or "" for line in lines if line.type == "usage"}
    for row in rows:
        if row.type == "usage":
            groups.setdefault(models[row.key], []).append(row)
        else:
            kept.append(row)
    merged = []
    for model, members in sorted(groups.items()):
        taxed = [row.tax for row in members if row.tax is not None]
        merged.append(
            replace(
                members[0],
                key=short(f"usage:{model}"),
                amount_minor=sum(row.amount_minor for row in members),
                description=cut(f"Usage of {model or 'all models'}: {len(members)} lines, see the detail file"),
                start_s=min(row.start_s for row in members),
                end_s=max(row.end_s for row in members),
                tax=(sum(amount for amount, _ in taxed), taxed[0][1]) if taxed else None,
            )
        )
    return merged + kept


def detail_csv(invoice: Invoice) -> str:
    """Every line of the invoice as CSV, for what Stripe shows together."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("line", "type", "description", "meter", "models", "quantity", "amount", "currency"))
    for line in invoice.lines:
        quantity = "" if line.quantity is None else plain(line.quantity)
        amount = format(line.amount, "f")
        names = (line.id, line.type, line.description, line.meter or "", line.models or "")
        writer.writerow((*names, quantity, amount, invoice.currency))
    return out.getvalue()


def params_of(row: Row) -> dict[str, Any]:
    """The row as a parameter of Stripe's bulk call."""
    params: dict[str, Any] = {
        "amount": row.amount_minor,
        "description": row.description,
        "metadata": {"k": row.key, "type": row.type},
        "period": {"start": row.start_s, "end": row.end_s},
        "discountable": False,
    }
    if row.tax is not None:
        amount, tax = row.tax
        rate = {"display_name": tax.name, "inclusive": tax.inclusive, "percentage": _percent(tax.rate)}
        params["tax_amounts"] = [{"amount": amount, "taxable_amount": row.amount_minor, "tax_rate_data": rate}]
    return params


def _percent(rate: Decimal) -> Decimal:
    return Decimal(plain(rate * 100))
