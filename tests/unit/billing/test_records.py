"""What is written down can be read back, and what is shown has the agreed form."""

import json
from decimal import Decimal

from billing.records import credit_note_from_data, credit_note_to_data, invoice_from_data, invoice_to_data
from billing.render import credit_json, credit_note_json, invoice_json
from tests.unit.billing.office import Office, credit, tax
from tests.unit.billing.test_explain import office
from tests.unit.rating.catalogs import markup, per_unit, price


def test_an_invoice_survives_json() -> None:
    invoice = office().bill("2026-07")
    assert invoice_from_data(json.loads(json.dumps(invoice_to_data(invoice)))) == invoice


def test_a_credit_note_survives_json() -> None:
    made = office()
    made.bill("2026-07")
    (note,) = made.void("2026-07").credit_notes
    assert note.credits
    assert credit_note_from_data(json.loads(json.dumps(credit_note_to_data(note)))) == note


def test_an_invoice_as_json() -> None:
    plans = {"p": {"charges": [per_unit("input", "0.005", per=10), markup("0.5")]}}
    made = Office(
        plans,
        tenant={"billing": {"country": "DE"}},
        provider_prices=[price("m-small", output="0.3")],
        taxes=[tax("0.19")],
        credits=[credit("c", "1.00")],
    )
    made.use("2026-07-02", input=1000, output=10)
    shown = invoice_json(made.bill("2026-07"), parts=True)
    assert (shown["tenant"], shown["month"], shown["status"], shown["revision"]) == ("acme", "2026-07", "finalised", 1)
    assert (shown["period_start"], shown["period_end"]) == ("2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z")
    assert (shown["subtotal"], shown["tax"], shown["total"], shown["currency"]) == ("5.00", "0.76", "4.76", "USD")
    assert [(line["type"], line["meter"], line["quantity"], line["amount"]) for line in shown["lines"]] == [
        ("usage", "input", 1000, "0.50"),
        ("usage", "cost", 3, "4.50"),
        ("credit", None, None, "-1.00"),
        ("tax", None, None, "0.76"),
    ]
    assert shown["taxes"] == [{"name": "VAT", "rate": "0.19", "inclusive": False, "base": "4.00", "amount": "0.76"}]
    part = shown["lines"][0]["parts"][0]
    assert (part["quantity"], part["unit_price"], part["per"], part["amount"], part["models"]) == (
        1000,
        "0.005",
        10,
        "0.5",
        ["m-small"],
    )
    assert (part["tier"], part["version_from"], part["note"], part["plan"]) == (None, None, None, "p")
    assert "parts" not in invoice_json(made.book.invoices[0])["lines"][0]
    json.dumps(shown)


def test_a_cost_that_is_not_whole_is_decimal_text() -> None:
    made = Office({"p": {"charges": [markup("0")]}}, provider_prices=[price("m-small", input="0.25")])
    made.use("2026-07-02", input=3)
    assert invoice_json(made.bill("2026-07"))["lines"][0]["quantity"] == "0.75"


def test_minor_units_of_the_currency_show() -> None:
    for currency, total in (("JPY", "1235"), ("KWD", "1234.500"), ("USD", "1234.50")):
        made = Office({"p": {"charges": [per_unit("input", "0.5")]}}, tenant={"currency": currency})
        made.use("2026-07-02", input=2469)
        shown = invoice_json(made.bill("2026-07"))
        assert (shown["total"], shown["tax"]) == (total, {"JPY": "0", "KWD": "0.000", "USD": "0.00"}[currency])


def test_credits_and_credit_notes_as_json() -> None:
    made = Office({"p": {"charges": [per_unit("input", "1")]}}, credits=[credit("c", "4.00", expires="2026-12-01")])
    made.use("2026-07-02", input=6)
    made.bill("2026-07")
    assert credit_json(made.credits("2026-12-02")["c"], "USD") == {
        "id": "c", "tenant": "acme", "granted": "4.00", "used": "4.00", "remaining": "0.00", "expired": "0.00",
    }  # fmt: skip
    (note,) = made.void("2026-07").credit_notes
    shown = credit_note_json(note)
    assert (shown["tenant"], shown["month"], shown["amount"], shown["tax"], shown["net"]) == (
        "acme",
        "2026-07",
        "2.00",
        "0.00",
        "6.00",
    )
    assert shown["credits"] == [{"id": "c", "amount": "4.00"}]
    assert credit_json(made.credits("2026-12-02")["c"], "USD")["expired"] == "4.00"
    assert Decimal(shown["amount"]) > 0
