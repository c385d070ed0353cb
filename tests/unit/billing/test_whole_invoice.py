"""An invoice with everything on it, and a credit note, field by field: in dinars, whose minor unit is a thousandth.

`whole_invoice.json` holds what must come out. Its sums, worked out by hand, stand in the tests beside it.
"""

import json
from decimal import Decimal
from pathlib import Path

from billing.records import credit_note_from_data, credit_note_to_data, invoice_from_data, invoice_to_data
from billing.render import credit_json, credit_note_json, invoice_json
from billing.runs import RunOutcome
from tests.unit.billing.office import Office, credit, lines, tax
from tests.unit.rating.catalogs import markup, per_unit, price, tiered

FILE = Path(__file__).with_name("whole_invoice.json")


def package(meter: str, size: int, price_text: str, models: str = "*") -> dict[str, object]:
    return {"meter": meter, "models": models, "model": "package", "size": size, "price": price_text}


def office() -> Office:
    """Acme in Kuwait: July closed, late usage for July, August with a new version of its plan on the 11th."""
    first = {
        "from": "2026-01-01",
        "fee": {"amount": "31.000"},
        "minimum": "100.000",
        "allowances": [{"meter": "tokens", "models": "m-*", "amount": 100}],
        "charges": [
            tiered("graduated", "input", (1000, "0.002"), (None, "0.001")),
            tiered("volume", "output", (1000, "0.003"), (None, "0.0025"), models="m-*"),
            package("requests", 2, "0.0055"),
            {"meter": "web_searches", "models": "*", "model": "flat", "price": "1.5"},
            per_unit("cache_read", "0.1", per=1000),
            markup("0.20"),
        ],
    }
    second = {**first, "from": "2026-08-11", "fee": {"amount": "62.000"}, "minimum": "200.000"}
    made = Office(
        {"p": [first, second]},
        tenant={
            "currency": "KWD",
            "billing": {
                "email": "ap@acme.example",
                "address": "2 Example Road, Kuwait",
                "country": "KW",
                "tax_id": "KW1",
                "days_until_due": 30,
            },
        },
        provider_prices=[price("m-large", reasoning="0.01"), price("m-small", reasoning="0.02")],
        exchange_rates=[{"from": "USD", "to": "KWD", "rate": "0.3", "date": "2026-07-15"}],
        credits=[credit("early", "132.000", "2026-07-01", "2026-08-15"), credit("late", "7.0005", "2026-08-20")],
        taxes=[tax("0.05", country="KW"), tax("0.10", "Levy", "KW", inclusive=True)],
    )
    made.use("2026-07-03", input=600, output=50)
    july = made.run("2026-07", "2026-08-05")
    assert july.refused is None
    made.use("2026-07-20", input=200_000)
    made.use("2026-08-02", input=700, output=400, web_searches=2)
    made.use("2026-08-12", input=401, output=701, cache_read=100, reasoning=7, model="m-large")
    made.use("2026-08-25", input=10, cache_read=50, web_searches=1)
    return made


def shown(made: Office, outcome: RunOutcome) -> dict[str, object]:
    assert outcome.refused is None
    assert outcome.invoice is not None
    return {
        "invoice": invoice_json(outcome.invoice, parts=True),
        "record": invoice_to_data(outcome.invoice),
        "notes": [credit_note_json(note) for note in outcome.credit_notes],
        "note_records": [credit_note_to_data(note) for note in outcome.credit_notes],
        "credits": [credit_json(balance, "KWD") for balance in made.credits("2026-10-01").values()],
    }


def test_every_field_of_an_invoice_and_of_its_credit_note() -> None:
    made = office()
    found = {"august": shown(made, made.run("2026-08")), "void": shown(made, made.void("2026-08"))}
    assert json.loads(json.dumps(found)) == json.loads(FILE.read_text(encoding="utf-8"))


def test_an_invoice_and_a_credit_note_are_read_back_as_they_were() -> None:
    made = office()
    for outcome in (made.run("2026-08"), made.void("2026-08")):
        assert outcome.invoice is not None
        assert invoice_from_data(json.loads(json.dumps(invoice_to_data(outcome.invoice)))) == outcome.invoice
        for note in outcome.credit_notes:
            assert credit_note_from_data(json.loads(json.dumps(credit_note_to_data(note)))) == note


def test_its_amounts_by_hand() -> None:
    """Input: 100 free, 1000 at 0.002, 11 at 0.001. True-up: 10/31 of 100 and 21/31 of 200 less 6.315 of usage.

    July rated again: 1000 x 0.002 + 199,500 x 0.001 + 0.15 + 0.0055 -> 201.656, and the fee; 131.000 was invoiced.
    """
    invoice = office().bill("2026-08")
    by_type = {
        kind: [str(line.amount) for line in lines(invoice, kind)]
        for kind in ("usage", "true_up", "fee", "adjustment", "credit", "tax")
    }
    assert by_type == {
        "usage": ["2.011", "2.753", "0.011", "1.500", "0.015", "0.025"],
        "true_up": ["161.427"],
        "fee": ["52.000"],
        "adjustment": ["101.656"],
        "credit": ["-1.000", "-7.000"],
        "tax": ["15.670"],
    }
    assert [(t.name, t.base, t.amount) for t in invoice.taxes] == [
        ("VAT", Decimal("313.398"), Decimal("15.670")),
        ("Levy", Decimal("313.398"), Decimal("28.491")),
    ]
    assert (invoice.subtotal, invoice.total) == (Decimal("321.398"), Decimal("329.068"))
