"""Explain an invoice line: the usage it holds, the prices, the arithmetic, worked out again from single events.

The usage given must be that of the time when the line was made: the events that had arrived, and had not been voided,
when the invoice was finalised. What changed later is an adjustment, and shows here as a mismatch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from billing.charges import CHARGE_TYPES, Terms, month_charges, rate_part
from billing.lines import total
from pipeline.rating import stretches
from schemas.invoice import Invoice, InvoiceLine, LinePart
from schemas.money import EXACT
from schemas.periods import Period
from schemas.usage import UsageRow, UsageSource


class Mismatch(Exception):
    """A line does not add up; the message says which, and by how much."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Events of the tenant on pooled keys in [start_us, end_us) of these models, with a count above zero in any of
    these classes ("requests": any event that counts as a request). They and no others are in the line.
    """

    start_us: int
    end_us: int
    used: tuple[tuple[str, str], ...]
    """(model, class or "requests")."""

    def holds(self, row: UsageRow, counts: Mapping[str, int]) -> bool:
        """Whether the event is one of them; counts: its classes by name."""
        if not row.pooled or not self.start_us <= row.time_us < self.end_us:
            return False
        units = {**counts, "requests": row.requests}
        return any(model == row.model and units.get(name, 0) > 0 for model, name in self.used)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A line that adds up. parts: the arithmetic; selections: where its usage is found (usage lines only)."""

    line: InvoiceLine
    parts: tuple[LinePart, ...]
    selections: tuple[Selection, ...] = ()


@dataclass(frozen=True, slots=True)
class _Events:
    """A usage source that gives single events alone: nothing of the sums by quarter is trusted here."""

    source: UsageSource

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = 0) -> list[UsageRow]:  # noqa: ARG002
        return list(self.source.events(tenant, start_us, end_us))

    def events(self, tenant: str, start_us: int, end_us: int) -> list[UsageRow]:
        return list(self.source.events(tenant, start_us, end_us))


def explain(invoice: Invoice, line_id: str, source: UsageSource, terms: Mapping[int, Terms]) -> Explanation:
    """The line, worked out again. KeyError for an unknown line; Mismatch where anything does not add up."""
    line = next((line for line in invoice.lines if line.id == line_id), None)
    if line is None:
        raise KeyError(f"invoice {invoice.number or invoice.month} has no line {line_id!r}")
    with localcontext(EXACT):
        check_sums(invoice)
        check_parts(line)
        if line.type not in CHARGE_TYPES:
            return Explanation(line, line.parts)
        used = terms[invoice.catalog_version]
        events = _Events(source)
        charges = month_charges(used, invoice.tenant, invoice.month, events)
        again = next((other for other in charges.lines if other.id == line_id), None)
        _compare(line, again)
        assert again is not None  # _compare has refused it
        selections = _selections(invoice, line, used, events) if line.type == "usage" else ()
        return Explanation(line, again.parts, selections)


def check_sums(invoice: Invoice) -> None:
    """The lines add up to subtotal and total, the taxes to the tax; Mismatch otherwise."""
    subtotal = total(invoice.lines, *CHARGE_TYPES, "adjustment")
    whole = sum((line.amount for line in invoice.lines), Decimal(0))
    tax = sum((tax.amount for tax in invoice.taxes), Decimal(0))
    shares = sum((line.tax for line in invoice.lines), Decimal(0))
    for name, stated, found in (
        ("subtotal", invoice.subtotal, subtotal),
        ("total", invoice.total, whole),
        ("tax", invoice.tax, tax),
        ("tax over the lines", invoice.tax, shares),
    ):
        if stated != found:
            raise Mismatch(f"{invoice.tenant}, {invoice.month}: {name} is {stated}, its parts add up to {found}")


def check_parts(line: InvoiceLine) -> None:
    """quantity x price / per of the parts gives their amounts, and these the line's exact one; Mismatch otherwise."""
    for part in line.parts:
        if part.quantity * part.unit_price / part.per != part.amount:
            raise Mismatch(f"{line.id}: {part.quantity} x {part.unit_price} / {part.per} is not {part.amount}")
    if line.type in ("usage", "adjustment") and sum((part.amount for part in line.parts), Decimal(0)) != line.unrounded:
        raise Mismatch(f"{line.id}: the parts do not add up to {line.unrounded}")


def _compare(line: InvoiceLine, again: InvoiceLine | None) -> None:
    if again is None:
        raise Mismatch(f"{line.id}: no such charge when worked out again from the events")
    for name in ("quantity", "unrounded", "amount"):
        stated, found = getattr(line, name), getattr(again, name)
        if stated != found:
            raise Mismatch(f"{line.id}: {name} is {stated}, from the events it is {found}")
    if line.parts != again.parts:
        raise Mismatch(f"{line.id}: the parts differ from those worked out from the events")


def _selections(invoice: Invoice, line: InvoiceLine, terms: Terms, source: UsageSource) -> tuple[Selection, ...]:
    """One for each stretch of the line's plan, with what the line holds of it."""
    tenant = terms.catalog.tenants[invoice.tenant]
    period = Period(invoice.period_start_us, invoice.period_end_us)
    rated = rate_part(terms, tenant.id, period, period.end_us, source)
    used = next(c.used for c in rated.charges if (c.plan, c.meter, c.models) == (line.plan, line.meter, line.models))
    found = []
    for stretch in stretches(tenant, terms.catalog.plans, period):
        if stretch.plan == line.plan and stretch.version is not None:
            own = tuple((model, name) for from_us, model, name in used if from_us == stretch.version.from_us)
            found.append(Selection(stretch.start_us, stretch.end_us, own))
    return tuple(selection for selection in found if selection.used)
