"""FOCUS 1.2 (FinOps Open Cost and Usage Specification): an invoice as rows of cost and usage, CSV and Parquet.

One row for each part of a usage line (each price that it met), one for each other line and for each tax. The sum of
BilledCost is the invoice's total. How line types map:

    usage       Usage, Usage-Based
    adjustment  Usage, Usage-Based, ChargeClass Correction; the charge period is the month that it corrects
    true_up     Adjustment, Recurring
    fee         Purchase, Recurring
    credit      Credit, One-Time
    tax         Tax, One-Time

Where prices include tax, BilledCost and EffectiveCost of the lines are without it and the tax has its own row; list
and contracted cost stay price times quantity.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from billing.documents.cells import safe_text
from billing.documents.errors import DocumentError
from billing.lines import METER_NAMES
from billing.taxes import spread
from schemas.instants import format_instant, to_datetime
from schemas.invoice import Invoice, InvoiceLine, LinePart, TaxSum
from schemas.money import EXACT, plain
from schemas.periods import month_period

_TEXT, _DECIMAL, _TIME = pa.string(), pa.decimal128(38, 18), pa.timestamp("us", tz="UTC")
"""18 places hold a price of 12 places times a share of a million; 20 digits before the point hold any amount."""

_COLUMN_TYPES: Final[dict[str, Any]] = {
    # Mandatory in 1.2.
    "BilledCost": _DECIMAL,
    "BillingAccountId": _TEXT,
    "BillingAccountName": _TEXT,
    "BillingCurrency": _TEXT,
    "BillingPeriodEnd": _TIME,
    "BillingPeriodStart": _TIME,
    "ChargeCategory": _TEXT,
    "ChargeClass": _TEXT,
    "ChargeDescription": _TEXT,
    "ChargePeriodEnd": _TIME,
    "ChargePeriodStart": _TIME,
    "ContractedCost": _DECIMAL,
    "EffectiveCost": _DECIMAL,
    "InvoiceIssuerName": _TEXT,
    "ListCost": _DECIMAL,
    "PricingQuantity": _DECIMAL,
    "PricingUnit": _TEXT,
    "ProviderName": _TEXT,
    "PublisherName": _TEXT,
    "ServiceCategory": _TEXT,
    "ServiceName": _TEXT,
    # Recommended.
    "AvailabilityZone": _TEXT,
    "ChargeFrequency": _TEXT,
    "InvoiceId": _TEXT,
    "ServiceSubcategory": _TEXT,
    # Conditional, those that say something here and their companions.
    "ConsumedQuantity": _DECIMAL,
    "ConsumedUnit": _TEXT,
    "ContractedUnitPrice": _DECIMAL,
    "ListUnitPrice": _DECIMAL,
    "PricingCategory": _TEXT,
    "ResourceId": _TEXT,
    "ResourceName": _TEXT,
    "ResourceType": _TEXT,
    "SkuId": _TEXT,
    "SkuMeter": _TEXT,
    "SkuPriceDetails": _TEXT,
    "SkuPriceId": _TEXT,
    "SubAccountId": _TEXT,
    "SubAccountName": _TEXT,
    "SubAccountType": _TEXT,
    "Tags": _TEXT,
    # Our own.
    "x_CreditId": _TEXT,
    "x_InvoiceRevision": _DECIMAL,
    "x_InvoiceStatus": _TEXT,
    "x_LineId": _TEXT,
    "x_LineType": _TEXT,
    "x_Models": _TEXT,
    "x_Plan": _TEXT,
}
COLUMNS: Final = tuple(_COLUMN_TYPES)
"""All columns, in the order in which they are written."""

_CATEGORIES: Final = {
    "usage": ("Usage", "Usage-Based"),
    "adjustment": ("Usage", "Usage-Based"),
    "true_up": ("Adjustment", "Recurring"),
    "fee": ("Purchase", "Recurring"),
    "credit": ("Credit", "One-Time"),
}
_UNITS: Final = {"requests": "Requests", "web_searches": "Requests", "cost": "Units"}
"""Count units by meter; every other meter counts tokens."""

Row = dict[str, Any]


def _base(invoice: Invoice) -> Row:
    seller = invoice.seller.name
    if not seller:
        raise DocumentError("FOCUS names the provider in every row: give the catalog's seller a name")
    return dict.fromkeys(COLUMNS) | {
        "BillingAccountId": invoice.tenant,
        "BillingAccountName": invoice.buyer.name or None,
        "BillingCurrency": invoice.currency,
        "BillingPeriodStart": invoice.period_start_us,
        "BillingPeriodEnd": invoice.period_end_us,
        "ChargePeriodStart": invoice.period_start_us,
        "ChargePeriodEnd": invoice.period_end_us,
        "InvoiceId": invoice.number,
        "InvoiceIssuerName": seller,
        "ProviderName": seller,
        "PublisherName": seller,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Large language models",
        "ServiceSubcategory": "Generative AI",
        "x_InvoiceRevision": Decimal(invoice.revision),
        "x_InvoiceStatus": invoice.status,
    }


def _costs(billed: Decimal, priced: Decimal) -> Row:
    return {"BilledCost": billed, "EffectiveCost": billed, "ListCost": priced, "ContractedCost": priced}


def _price(unit_price: Decimal, quantity: Decimal, unit: str) -> Row:
    return {
        "ListUnitPrice": unit_price,
        "ContractedUnitPrice": unit_price,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "PricingCategory": "Standard",
    }


def _sku(line: InvoiceLine, part: LinePart | None) -> Row:
    """Stable names: the charge is the article, its plan version and tier the price of it."""
    plan = (part.plan if part else "") or line.plan or ""
    article = f"{line.type}/{line.meter or '-'}/{line.models or '-'}"
    details: dict[str, Any] = {"x_Plan": plan}
    price = f"{article}/{plan or '-'}"
    if part is not None and part.version_from_us is not None:
        details["x_PriceFrom"] = format_instant(part.version_from_us)
        price += f"/{details['x_PriceFrom']}"
    if part is not None:
        details |= {"x_UnitPrice": plain(part.unit_price), "x_Per": part.per}
        price += f"/{plain(part.unit_price)}"
    if part is not None and part.tier:
        details["x_Tier"] = part.tier
        price += f"/tier-{part.tier}"
    return {
        "SkuId": article,
        "SkuPriceId": price,
        "SkuMeter": METER_NAMES.get(line.meter or "", line.meter),
        "SkuPriceDetails": json.dumps(details, ensure_ascii=False, sort_keys=True),
    }


def _shares(total: Decimal, weights: Sequence[Decimal], currency: str) -> list[Decimal]:
    """The total in minor units over the weights; all of it to the first where the weights come to nothing."""
    with localcontext(EXACT):
        if sum(weights, Decimal(0)):
            return spread(total, weights, currency)
    return [total, *(Decimal(0) for _ in weights[1:])]


def _part_row(line: InvoiceLine, part: LinePart, billed: Decimal) -> Row:
    base = _unit(line)
    with localcontext(EXACT):
        quantity = part.quantity / part.per
        exact = part.unit_price * part.quantity == part.amount * part.per and quantity * part.per == part.quantity
    if exact:
        unit = base if part.per == 1 else f"{part.per} {base}"
        price = _price(part.unit_price, quantity, unit)
    else:  # not price times quantity: charged as one unit of its own
        price = _price(part.amount, Decimal(1), "Units")
    models = {"x_Models": ", ".join(part.models)} if part.models else {}
    return _costs(billed, part.amount) | price | models | _sku(line, part)


def _metered(line: InvoiceLine) -> bool:
    """Whether the parts count what the meter counts; started packages, for one, do not."""
    with localcontext(EXACT):
        return sum((part.quantity for part in line.parts), Decimal(0)) == line.quantity


def _meter_unit(line: InvoiceLine) -> str:
    return _UNITS.get(line.meter or "", "Tokens")


def _unit(line: InvoiceLine) -> str:
    return _meter_unit(line) if _metered(line) else "Units"


def _consumed(line: InvoiceLine) -> list[Row]:
    """What each part consumed; where parts do not count the meter's units, all of it stands in the first row."""
    if not _metered(line):
        counts = [line.quantity or Decimal(0), *(Decimal(0) for _ in line.parts[1:])]
    else:
        counts = [part.quantity for part in line.parts]
    unit = _meter_unit(line)
    return [{"ConsumedQuantity": count, "ConsumedUnit": unit} if count > 0 else {} for count in counts]


def _line_rows(invoice: Invoice, line: InvoiceLine, net: Decimal, timezone: str) -> Iterator[Row]:
    category, frequency = _CATEGORIES[line.type]
    shared = {
        "ChargeCategory": category,
        "ChargeFrequency": frequency,
        "ChargeDescription": line.description or None,
        "ChargePeriodStart": line.period_start_us,
        "ChargePeriodEnd": line.period_end_us,
        "x_CreditId": line.credit,
        "x_LineId": line.id,
        "x_LineType": line.type,
        "x_Models": line.models,
        "x_Plan": line.plan,
    }
    if line.type == "adjustment":
        corrected: Row = {"ChargeClass": "Correction"}
        if line.for_month:
            month = month_period(line.for_month, timezone)
            corrected |= {"ChargePeriodStart": month.start_us, "ChargePeriodEnd": month.end_us}
        yield shared | corrected | _costs(net, line.amount)
    elif line.type == "usage" and line.parts:
        shares = _shares(net, [part.amount for part in line.parts], invoice.currency)
        for part, billed, consumed in zip(line.parts, shares, _consumed(line), strict=True):
            yield shared | _part_row(line, part, billed) | consumed
    elif category in ("Usage", "Purchase"):
        whole: Row = {}
        if line.type == "usage" and line.quantity is not None and line.quantity > 0:
            whole = {"ConsumedQuantity": line.quantity, "ConsumedUnit": _meter_unit(line)}
        yield shared | _costs(net, line.amount) | _price(line.amount, Decimal(1), "Units") | whole | _sku(line, None)
    else:
        yield shared | _costs(net, net)


def _tax_row(tax: TaxSum) -> Row:
    return _costs(tax.amount, tax.amount) | {
        "ChargeCategory": "Tax",
        "ChargeFrequency": "One-Time",
        "ChargeDescription": f"{tax.name} {plain(tax.rate.scaleb(2))} %",
        "x_LineType": "tax",
    }


def _net(lines: Sequence[InvoiceLine], invoice: Invoice) -> list[Decimal]:
    """Amounts of the lines without the taxes that are within them."""
    net = amounts = [line.amount for line in lines]
    for tax in invoice.taxes:
        if tax.inclusive:
            net = [left - part for left, part in zip(net, _shares(tax.amount, amounts, invoice.currency), strict=True)]
    return net


def focus_rows(invoice: Invoice, timezone: str) -> list[Row]:
    """All rows, every column by name; times in microseconds. DocumentError if they would not add up to the total."""
    base = _base(invoice)
    rows = []
    lines = [line for line in invoice.lines if line.type != "tax"]  # tax goes by rate, below
    for line, net in zip(lines, _net(lines, invoice), strict=True):
        rows += [base | row for row in _line_rows(invoice, line, net, timezone)]
    rows += [base | _tax_row(tax) for tax in invoice.taxes]
    billed = sum((row["BilledCost"] for row in rows), Decimal(0))
    if billed != invoice.total:
        raise DocumentError(
            f"the rows add up to {billed}, the invoice to {invoice.total}: its lines are not consistent"
        )
    return rows


def _csv_text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = plain(value)
        return text if "." in text else text + ".0"  # a column of decimals must not read as integers
    return format_instant(value) if _COLUMN_TYPES[column] == _TIME else safe_text(value)


def focus_csv(invoice: Invoice, timezone: str) -> bytes:
    """CSV: UTF-8, nulls empty, decimals with a point, times in UTC with Z."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_csv_text(column, row[column]) for column in COLUMNS] for row in focus_rows(invoice, timezone))
    return out.getvalue().encode()


def focus_parquet(invoice: Invoice, timezone: str) -> bytes:
    """Parquet: decimal128 and UTC timestamps. DocumentError for a number with more places than the column has."""
    rows = focus_rows(invoice, timezone)
    columns = []
    for name, kind in _COLUMN_TYPES.items():
        values = [row[name] for row in rows]
        if kind == _TIME:
            values = [to_datetime(value) for value in values]
        try:
            columns.append(pa.array(values, type=kind))
        except pa.ArrowInvalid as error:
            raise DocumentError(
                f"{name} has more digits than Parquet's decimal128 keeps: use the focus format"
            ) from error
    out = io.BytesIO()
    schema = pa.schema([pa.field(name, kind) for name, kind in _COLUMN_TYPES.items()])
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), out, compression="zstd")
    return out.getvalue()
