"""FOCUS 1.2: our own check of the columns, row by row, after the normative text of the specification's column files."""

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import DocumentError, render
from billing.documents.focus import COLUMNS, _shares, focus_rows
from schemas.catalog import Party
from schemas.invoice import Invoice, LinePart, TaxSum
from tests.unit.documents import samples

MANDATORY = {
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
}
NULLABLE = {"BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"}
RECOMMENDED = {"InvoiceId", "ChargeFrequency", "ServiceSubcategory", "AvailabilityZone"}
UNIT = re.compile(r"([1-9]\d* )?(Tokens|Requests|Units)")


def broken_rules(row: dict[str, Any]) -> Iterable[str]:
    """Names of the rules that the row breaks."""
    category, correction = row["ChargeCategory"], row["ChargeClass"] == "Correction"
    priced = category in ("Usage", "Purchase") and not correction
    checks = {
        "mandatory columns are filled": all(row[name] is not None for name in MANDATORY - NULLABLE),
        "a category of the list": category in ("Usage", "Purchase", "Tax", "Credit", "Adjustment"),
        "a class of the list": row["ChargeClass"] in (None, "Correction"),
        "a frequency of the list": row["ChargeFrequency"] in ("One-Time", "Recurring", "Usage-Based"),
        "purchases are not usage-based": not (category == "Purchase" and row["ChargeFrequency"] == "Usage-Based"),
        "periods run forward": row["BillingPeriodStart"] < row["BillingPeriodEnd"]
        and row["ChargePeriodStart"] < row["ChargePeriodEnd"],
        "currency code": re.fullmatch("[A-Z]{3}", row["BillingCurrency"]) is not None,
        "usage and purchases are priced": not priced
        or None not in (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"], row["SkuPriceId"]),
        "taxes are not priced": category != "Tax"
        or {row[n] for n in ("PricingQuantity", "PricingUnit", "ListUnitPrice", "SkuId", "PricingCategory")} == {None},
        "unit with quantity": (row["PricingQuantity"] is None) == (row["PricingUnit"] is None)
        and (row["ConsumedQuantity"] is None) == (row["ConsumedUnit"] is None),
        "unit format": row["PricingUnit"] is None or UNIT.fullmatch(row["PricingUnit"]) is not None,
        "only usage is consumed": row["ConsumedQuantity"] is None
        or (category == "Usage" and row["ConsumedQuantity"] > 0),
        "price times quantity is the cost": correction
        or row["ListUnitPrice"] is None
        or row["ListUnitPrice"] * row["PricingQuantity"] == row["ListCost"] == row["ContractedCost"],
        "unpriced costs are the billed cost": category in ("Usage", "Purchase")
        or row["ListCost"] == row["ContractedCost"] == row["EffectiveCost"] == row["BilledCost"],
        "details belong to a price": (row["SkuPriceId"] is None) == (row["SkuPriceDetails"] is None),
        "own details are marked": row["SkuPriceDetails"] is None
        or all(key.startswith("x_") for key in json.loads(row["SkuPriceDetails"])),
    }
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.parametrize("invoice", [samples.exclusive(), samples.inclusive(), samples.draft(), samples.long(40)])
def test_every_row_keeps_the_rules_and_the_sum_is_the_invoice(invoice: Invoice) -> None:
    rows = focus_rows(invoice, samples.ZONE)
    assert [broken for row in rows if (broken := list(broken_rules(row)))] == []
    assert sum(row["BilledCost"] for row in rows) == invoice.total


def test_the_check_bites() -> None:
    (row,) = [row for row in focus_rows(samples.exclusive(), samples.ZONE) if row["ChargeCategory"] == "Purchase"]
    assert list(broken_rules(row | {"ListCost": Decimal(1)})) == ["price times quantity is the cost"]
    assert list(broken_rules(row | {"PricingUnit": "1M Tokens"})) == ["unit format"]
    assert list(broken_rules(row | {"BilledCost": None})) == ["mandatory columns are filled"]


def test_columns_are_those_of_the_specification_and_our_own_are_marked() -> None:
    assert set(COLUMNS) >= MANDATORY | RECOMMENDED
    assert len(MANDATORY) == 21
    assert len(COLUMNS) == len(set(COLUMNS))
    assert all(re.fullmatch(r"(x_)?([A-Z][a-z]+)+", name) for name in COLUMNS)


def test_lines_map_to_categories() -> None:
    rows = focus_rows(samples.exclusive(), samples.ZONE)
    assert [(row["x_LineType"], row["ChargeCategory"], row["ChargeFrequency"], row["ChargeClass"]) for row in rows] == [
        ("usage", "Usage", "Usage-Based", None),
        ("usage", "Usage", "Usage-Based", None),
        ("usage", "Usage", "Usage-Based", None),
        ("usage", "Usage", "Usage-Based", None),
        ("true_up", "Adjustment", "Recurring", None),
        ("fee", "Purchase", "Recurring", None),
        ("adjustment", "Usage", "Usage-Based", "Correction"),
        ("credit", "Credit", "One-Time", None),
        ("tax", "Tax", "One-Time", None),
    ]
    assert {row["InvoiceId"] for row in rows} == {"INV-2026-000042"}


def test_late_usage_is_a_correction_in_the_month_that_it_corrects() -> None:
    (row,) = [row for row in focus_rows(samples.exclusive(), samples.ZONE) if row["ChargeClass"] == "Correction"]
    assert row["BilledCost"] == Decimal("-3.10")
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (samples.SEPTEMBER.start_us, samples.SEPTEMBER.end_us)
    assert row["BillingPeriodStart"] == samples.OCTOBER.start_us


def test_each_price_has_a_row_and_the_rows_add_up_to_the_rounded_line() -> None:
    rows = [row for row in focus_rows(samples.exclusive(), samples.ZONE) if row["x_LineId"] == "u2"]
    assert [row["BilledCost"] for row in rows] == [Decimal("0.00"), Decimal("24.00"), Decimal("4.69")]
    assert [row["ListCost"] for row in rows] == [Decimal(0), Decimal(24), Decimal("4.691356")]
    assert [row["PricingUnit"] for row in rows] == ["1000000 Tokens"] * 3
    assert [row["ConsumedQuantity"] for row in rows] == [1000000, 10000000, 2345678]
    assert len({row["SkuPriceId"] for row in rows}) == 3
    assert len({row["SkuId"] for row in rows}) == 1


def test_tax_within_the_prices_is_taken_out_of_the_lines() -> None:
    rows = focus_rows(samples.inclusive(), samples.ZONE)
    assert [row["BilledCost"] for row in rows] == [Decimal("41.18"), Decimal("58.82"), Decimal("19.00")]
    assert rows[0]["ListCost"] == Decimal("49.00")


def test_several_taxes_within_and_on_top_add_up_to_the_invoice() -> None:
    lines = (samples.line("a", "fee", "A", "10.00"), samples.line("b", "fee", "B", "0.01"))
    taxes = (
        TaxSum("VAT", Decimal("0.19"), True, Decimal("10.01"), Decimal("1.60")),
        TaxSum("Levy", Decimal("0.01"), True, Decimal("10.01"), Decimal("0.08")),
        TaxSum("City", Decimal("0.05"), False, Decimal("10.01"), Decimal("0.50")),
    )
    top = samples.line("t", "tax", "City 5 %", "0.50")
    invoice = replace(samples.exclusive(), lines=(*lines, top), taxes=taxes, total=Decimal("10.51"))
    rows = focus_rows(invoice, samples.ZONE)
    assert [row["BilledCost"] for row in rows] == [
        Decimal("8.32"), Decimal("0.01"), Decimal("1.60"), Decimal("0.08"), Decimal("0.50")]  # fmt: skip


def test_started_packages_are_priced_as_such_and_consumption_stays_in_the_meters_unit() -> None:
    part = LinePart(Decimal(2), Decimal("1.00"), 1, Decimal("2.00"), "team", note="started packages of 1000")
    line = samples.line("p", "usage", "Packages", "2.00", meter="requests", parts=(part,), quantity=Decimal(1500))
    invoice = replace(samples.exclusive(), lines=(line,), taxes=(), total=Decimal("2.00"))
    (row,) = focus_rows(invoice, samples.ZONE)
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == (2, "Units", Decimal("1.00"))
    assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == (1500, "Requests")
    assert list(broken_rules(row)) == []


def test_a_part_that_is_no_product_is_charged_as_one_unit() -> None:
    part = LinePart(Decimal(1500), Decimal("1.00"), 1000, Decimal("2.00"), "team")
    line = samples.line("p", "usage", "Odd", "2.00", meter="requests", parts=(part,), quantity=Decimal(1500))
    invoice = replace(samples.exclusive(), lines=(line,), taxes=(), total=Decimal("2.00"))
    (row,) = focus_rows(invoice, samples.ZONE)
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == (1, "Units", Decimal("2.00"))
    assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == (1500, "Requests")


def test_lines_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"the rows add up to 119.00, the invoice to 119.01"):
        render(replace(samples.exclusive(), total=Decimal("119.01")), "focus")


def test_a_seller_without_a_name_is_refused() -> None:
    with pytest.raises(DocumentError, match="give the catalog's seller a name"):
        render(replace(samples.exclusive(), seller=Party()), "focus")


def test_csv_nulls_are_empty_and_decimals_have_a_point() -> None:
    text = render(samples.exclusive(), "focus", timezone=samples.ZONE).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0] | {"ChargeClass": "", "BilledCost": "37.04", "ChargePeriodStart": "2026-09-30T22:00:00Z"} == rows[0]
    costs = [row[name] for row in rows for name in ("BilledCost", "ListCost", "PricingQuantity") if row[name]]
    assert all(re.fullmatch(r"-?\d+\.\d+", cost) for cost in costs)


def test_parquet_keeps_decimals_and_utc_times() -> None:
    table = pq.read_table(io.BytesIO(render(samples.exclusive(), "focus-parquet")))
    assert table.column_names == list(COLUMNS)
    assert table.schema.field("BilledCost").type == pa.decimal128(38, 18)
    assert table.schema.field("ChargePeriodStart").type == pa.timestamp("us", tz="UTC")
    assert sum(table["BilledCost"].to_pylist()) == Decimal("119.00")
    assert table["BillingPeriodStart"][0].as_py() == datetime(2026, 9, 30, 22, tzinfo=UTC)
    assert table["ChargeClass"].to_pylist().count("Correction") == 1
    assert table["ListCost"][3].as_py() == Decimal("4.691356")


def test_parquet_refuses_a_number_that_it_would_cut() -> None:
    part = LinePart(Decimal(1), Decimal("1E-19"), 1, Decimal("1E-19"), "team")
    line = samples.line("u", "usage", "Tiny", "0.00", meter="input", parts=(part,), quantity=Decimal(1))
    invoice = replace(samples.exclusive(), lines=(line,), taxes=(), total=Decimal("0.00"))
    with pytest.raises(DocumentError, match="has more digits than"):
        render(invoice, "focus-parquet")
    assert "0.0000000000000000001" in render(invoice, "focus").decode()


@given(
    st.integers(-(10**9), 10**9),
    st.lists(st.decimals(0, 10**6, places=6), min_size=1, max_size=20),
    st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_shares_add_up_and_are_each_within_one_unit(minor: int, weights: list[Decimal], currency: str) -> None:
    places = {"USD": 2, "JPY": 0, "KWD": 3}[currency]
    total, unit = Decimal(minor).scaleb(-places), Decimal(1).scaleb(-places)
    parts = _shares(total, weights, currency)
    assert sum(parts) == total
    assert len(parts) == len(weights)
    if sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * weight / sum(weights)) < unit


def test_the_largest_remainder_gets_the_unit_and_the_earlier_one_on_a_tie() -> None:
    cents = _shares(Decimal("1.00"), [Decimal(1)] * 3, "USD")
    assert cents == [Decimal("0.34"), Decimal("0.33"), Decimal("0.33")]
    assert _shares(Decimal(1), [Decimal("0.3"), Decimal("0.7")], "JPY") == [0, 1]
    assert _shares(Decimal("0.05"), [Decimal(0), Decimal(0)], "USD") == [Decimal("0.05"), 0]
