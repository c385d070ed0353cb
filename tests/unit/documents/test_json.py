"""JSON: everything there is, decimals as strings, times in UTC."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from billing.documents import DocumentError, file_name, media_type, render, render_credit_note
from tests.unit.documents import samples


def whole(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in whole(item)]
    return [leaf for item in value for leaf in whole(item)] if isinstance(value, list) else [value]


def test_json_is_the_whole_invoice() -> None:
    data = json.loads(render(samples.exclusive(), "json", samples.usage(), timezone=samples.ZONE))
    assert data | {
        "number": "INV-2026-000042", "tenant": "acme", "month": "2026-10", "revision": 1, "status": "finalised",
        "currency": "USD", "period_start": "2026-09-30T22:00:00Z", "period_end": "2026-10-31T23:00:00Z",
        "finalised_at": "2026-11-02T23:30:00Z", "issue_date": "2026-11-03", "due_date": "2026-11-17",
        "subtotal": "145.90", "tax": "19.00", "total": "119.00", "catalog_version": 3,
    } == data  # fmt: skip
    assert data["taxes"] == [
        {"name": "VAT", "rate": "0.19", "inclusive": False, "base": "100.00", "amount": "19.00"}]  # fmt: skip
    assert data["buyer"]["tax_id"] == "DE123456789"
    assert [line["type"] for line in data["lines"]] == [
        "usage", "usage", "true_up", "fee", "adjustment", "credit", "tax"]  # fmt: skip
    assert data["lines"][4] | {"amount": "-3.10", "for_month": "2026-09", "tax": "-0.59"} == data["lines"][4]
    assert data["lines"][1]["parts"][2] == {
        "quantity": 2345678, "unit_price": "2", "per": 1000000, "amount": "4.691356", "plan": "team",
        "version_from": "2026-10-16T00:00:00Z", "tier": 2, "models": ["gpt-5"], "note": None,
    }  # fmt: skip
    assert data["usage_by_day"][2] == {
        "date": "2026-10-02", "model": "gpt-5", "key": "openai-pool-1", "input": 10, "output": 2**54,
        "tokens": 2**54 + 10, "requests": 3}  # fmt: skip


def test_json_holds_no_float() -> None:
    for invoice in (samples.exclusive(), samples.inclusive(), samples.draft()):
        assert not [leaf for leaf in whole(json.loads(render(invoice, "json"))) if isinstance(leaf, float)]


def test_a_draft_has_neither_number_nor_dates() -> None:
    data = json.loads(render(samples.draft(), "json"))
    assert [data[name] for name in ("number", "finalised_at", "issue_date", "due_date")] == [None] * 4
    assert data["held"] == ["unrated usage: model mystery-1, meter input"]


def test_json_keeps_the_minor_unit_of_the_currency() -> None:
    line = samples.line("f", "fee", "Fee", "5", tax=Decimal(0))
    invoice = replace(samples.exclusive(), currency="KWD", lines=(line,), total=Decimal("5.5"), taxes=())
    data = json.loads(render(invoice, "json"))
    assert (data["lines"][0]["amount"], data["lines"][0]["tax"], data["total"]) == ("5.000", "0.000", "5.500")


def test_a_credit_note_names_its_invoice() -> None:
    data = json.loads(render_credit_note(samples.credit_note(), samples.exclusive(), "json"))
    assert data | {"invoice": "INV-2026-000042", "amount": "119.00", "tax": "19.00", "month": "2026-10"} == data
    assert data["issued_at"] == "2026-11-05T10:00:00Z"


@pytest.mark.parametrize("change", [{"tenant": "globex"}, {"month": "2026-09"}, {"currency": "EUR"}])
def test_a_credit_note_on_another_invoice_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="the credit note is for acme 2026-10 in USD"):
        render_credit_note(samples.credit_note(), replace(samples.exclusive(), **change), "pdf")


def test_unknown_formats_and_papers_are_refused_with_what_there_is() -> None:
    with pytest.raises(DocumentError, match="'docx' is not a document format: use csv"):
        render(samples.exclusive(), "docx")
    with pytest.raises(DocumentError, match="'a5' is not a paper: use a4, letter"):
        render(samples.exclusive(), "pdf", paper="a5")
    with pytest.raises(DocumentError, match="not a credit note format: use pdf, json"):
        render_credit_note(samples.credit_note(), samples.exclusive(), "csv")
    with pytest.raises(DocumentError, match="not a document format"):
        media_type("docx")


def test_file_names_hold_nothing_that_a_shell_or_path_minds() -> None:
    assert file_name(samples.exclusive(), "focus-parquet") == "INV-2026-000042.focus.parquet"
    assert file_name(samples.draft(), "pdf") == "acme-2026-10-draft.pdf"
    assert file_name(replace(samples.draft(), tenant="../é/x"), "csv") == "x-2026-10-draft.csv"
    assert file_name(replace(samples.exclusive(), number="..."), "csv") == "invoice.csv"
    assert media_type("pdf") == "application/pdf"
