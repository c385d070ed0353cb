"""CSV and XLSX: figures stay exact numbers, words stay words."""

import csv
import io
import zipfile
from dataclasses import replace
from datetime import date
from decimal import Decimal

import openpyxl
import pytest

from billing.documents import UsageDay, render
from billing.documents.cells import safe_text
from billing.documents.lines import LINE_COLUMNS
from billing.documents.usage import COLUMNS, pivot_by_day, usage_frame
from billing.documents.xlsx import fits
from tests.unit.documents import samples


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_csv_has_a_row_a_line_with_plain_decimals() -> None:
    rows = read_csv(render(samples.exclusive(), "csv", timezone=samples.ZONE))
    assert list(rows[0]) == list(LINE_COLUMNS)
    assert [row["amount"] for row in rows] == ["37.04", "28.69", "34.27", "49.00", "-3.10", "-45.90", "19.00"]
    assert rows[0] | {"quantity": "123456789", "unrounded": "37.0370367", "tax": "7.04"} == rows[0]
    assert (rows[0]["period_first_day"], rows[0]["period_last_day"]) == ("2026-10-01", "2026-10-31")
    assert rows[4]["for_month"] == "2026-09"
    assert rows[5]["credit"] == "cr-1"


def test_csv_amounts_add_up_to_the_total() -> None:
    invoice = samples.exclusive()
    rows = read_csv(render(invoice, "csv"))
    assert sum(Decimal(row["amount"]) for row in rows) == invoice.total


@pytest.mark.parametrize(("currency", "text"), [("JPY", "1235"), ("KWD", "1235.000"), ("USD", "1235.00")])
def test_csv_money_shows_the_currencys_minor_unit(currency: str, text: str) -> None:
    invoice = replace(samples.exclusive(), currency=currency, lines=(samples.line("f", "fee", "Fee", "1235"),))
    assert read_csv(render(invoice, "csv"))[0]["amount"] == text


def test_csv_never_writes_an_exponent() -> None:
    tiny = samples.line("u", "usage", "Tiny", "0.00", quantity=Decimal("1E+20"), unrounded=Decimal("1E-12"))
    row = read_csv(render(replace(samples.exclusive(), lines=(tiny,)), "csv"))[0]
    assert (row["quantity"], row["unrounded"]) == ("100000000000000000000", "0.000000000001")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "\x00=1", "=cmd|' /C calc'!A0"],
)
def test_text_that_starts_a_formula_is_quoted(text: str) -> None:
    assert safe_text(text).startswith("'")


@pytest.mark.parametrize("text", ["", "gpt-5", "a=b", "1+1", "'quoted'", "2026-10-01", "Größe"])
def test_other_text_is_left_alone(text: str) -> None:
    assert safe_text(text) == text


def test_no_csv_cell_can_be_run_wherever_it_came_from() -> None:
    evil = "=HYPERLINK(1)"
    line = samples.line("=id", "usage", evil, "-1.00", models=evil, plan=evil, meter=evil, credit=evil)
    invoice = replace(samples.exclusive(), tenant=evil, number=evil, lines=(line,))
    usage = [UsageDay(date(2026, 10, 1), evil, "@key", {"input": 1}, 1)]
    for name in ("csv", "usage-csv", "focus"):
        for row in read_csv(render(invoice if name != "focus" else replace(
            invoice, taxes=(), total=Decimal("-1.00")), name, usage)):  # fmt: skip
            for column, cell in row.items():
                number = cell.startswith("-") and Decimal(cell) < 0
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, column)


def test_usage_is_summed_by_day_model_and_key_without_losing_a_token() -> None:
    rows = read_csv(render(samples.exclusive(), "usage-csv", samples.usage()))
    assert [(row["date"], row["model"]) for row in rows] == [
        ("2026-10-01", "'=cmd()"), ("2026-10-01", "gpt-5-mini"), ("2026-10-02", "gpt-5")]  # fmt: skip
    assert list(rows[0]) == list(COLUMNS)
    assert rows[2] | {"input": "10", "output": str(2**54), "tokens": str(2**54 + 10), "requests": "3"} == rows[2]
    assert rows[1] | {"tokens": "105", "web_searches": "1"} == rows[1]


def test_usage_sums_stay_exact_beyond_64_bits() -> None:
    rows = [UsageDay(date(2026, 10, 1), "m", "k", {"input": 2**62}, 1) for _ in range(5)]
    assert usage_frame(rows)["input"].tolist() == [5 * 2**62]
    assert pivot_by_day(rows)["total"].tolist() == [5 * 2**62]
    assert pivot_by_day(rows, by="class")["input"].tolist() == [5 * 2**62]


def test_no_usage_gives_a_header_alone() -> None:
    assert render(samples.exclusive(), "usage-csv").decode() == ",".join(COLUMNS) + "\r\n"
    assert pivot_by_day([]).empty
    assert pivot_by_day([], by="class").empty


def test_pivot_puts_models_side_by_side() -> None:
    wide = pivot_by_day(samples.usage(), by="model", values="requests")
    assert wide.columns.tolist() == ["=cmd()", "gpt-5", "gpt-5-mini", "total"]
    assert wide.loc[date(2026, 10, 1)].tolist() == [1, 0, 3, 4]
    assert pivot_by_day(samples.usage(), by="class").columns.tolist() == [
        "input", "cache_read", "output", "reasoning", "web_searches", "total"]  # fmt: skip


def test_pivot_by_class_counts_tokens_in_its_total_not_searches() -> None:
    assert pivot_by_day(samples.usage(), by="class").loc[date(2026, 10, 1), "total"] == 116


def test_unknown_classes_and_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="not a token class"):
        UsageDay(date(2026, 10, 1), "m", "k", {"imput": 1})
    with pytest.raises(ValueError, match="use model, key or class"):
        pivot_by_day(samples.usage(), by="tenant")


def test_xlsx_keeps_amounts_as_exact_numbers_in_the_currencys_format() -> None:
    data = render(samples.exclusive(), "xlsx", samples.usage(), timezone=samples.ZONE)
    book = openpyxl.load_workbook(io.BytesIO(data))
    assert book.sheetnames == ["Lines", "Prices", "Usage by day", "Tokens by model"]
    lines = book["Lines"]
    amount = LINE_COLUMNS.index("amount") + 1
    assert [lines.cell(row, amount).value for row in range(2, 9)] == [37.04, 28.69, 34.27, 49, -3.1, -45.9, 19]
    assert lines.cell(2, amount).number_format == "#,##0.00;[Red]-#,##0.00"
    assert lines.freeze_panes == "A2"
    day = lines.cell(2, LINE_COLUMNS.index("period_last_day") + 1).value
    assert day.date() == date(2026, 10, 31)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<v>37.0370367</v>" in sheet  # written from the decimal, digit by digit
    assert "<f>" not in sheet


@pytest.mark.parametrize(("currency", "format_"), [("JPY", "#,##0;[Red]-#,##0"), ("KWD", "#,##0.000;[Red]-#,##0.000")])
def test_xlsx_money_format_follows_the_currency(currency: str, format_: str) -> None:
    invoice = replace(samples.exclusive(), currency=currency, lines=(samples.line("f", "fee", "Fee", "5"),))
    sheet = openpyxl.load_workbook(io.BytesIO(render(invoice, "xlsx")))["Lines"]
    assert sheet.cell(2, LINE_COLUMNS.index("amount") + 1).number_format == format_


def test_xlsx_writes_a_number_too_long_for_a_spreadsheet_as_text() -> None:
    book = openpyxl.load_workbook(io.BytesIO(render(samples.exclusive(), "xlsx", samples.usage())))
    output = COLUMNS.index("output") + 1
    assert book["Usage by day"].cell(4, output).value == "18014398509481984"
    assert book["Usage by day"].cell(4, COLUMNS.index("input") + 1).value == 10


@pytest.mark.parametrize(
    ("number", "kept"),
    [("0", True), ("999999999999999", True), ("1234567890123456", False), ("1E+20", True), ("0.000000000001", True),
     ("-12345678901234.56", False), ("100000000000000000", True)],
)  # fmt: skip
def test_fifteen_digits_fit_a_spreadsheet(number: str, kept: bool) -> None:
    assert fits(Decimal(number)) is kept


def test_xlsx_text_is_never_a_formula_and_keeps_its_mark() -> None:
    line = samples.line("u", "usage", "=1+1", "1.00")
    book = openpyxl.load_workbook(io.BytesIO(render(replace(samples.exclusive(), lines=(line,)), "xlsx")))
    cell = book["Lines"].cell(2, LINE_COLUMNS.index("description") + 1)
    assert (cell.value, cell.data_type, cell.quotePrefix) == ("=1+1", "s", True)
    assert book["Lines"].cell(2, LINE_COLUMNS.index("tenant") + 1).quotePrefix is False


@pytest.mark.parametrize("name", ["csv", "usage-csv", "xlsx", "json", "focus", "focus-parquet", "pdf"])
def test_the_same_invoice_gives_the_same_bytes(name: str) -> None:
    first = render(samples.exclusive(), name, samples.usage(), timezone=samples.ZONE)
    assert first == render(samples.exclusive(), name, samples.usage(), timezone=samples.ZONE)
    assert len(first) > 100
