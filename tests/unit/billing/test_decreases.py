"""Decreases after a month was invoiced, step by step, in a currency of three decimals and with two taxes on top."""

from decimal import Decimal
from typing import Any

from schemas.invoice import CreditNote
from tests.unit.billing.office import Office, amounts, credit, lines, tax
from tests.unit.rating.catalogs import per_unit


def office(*granted: dict[str, Any], adjust: str = "credit_note") -> Office:
    """Acme pays 0.001 dinar a token, 5 % and 10 % on top."""
    return Office(
        {"p": {"charges": [per_unit("input", "0.001")]}},
        tenant={"currency": "KWD", "billing": {"country": "KW"}},
        credits=list(granted),
        taxes=[tax("0.05", country="KW"), tax("0.10", "Levy", "KW")],
        invoicing={"grace": "48h", "adjust": adjust},
    )


def noted(made: Office) -> CreditNote:
    (note,) = made.run("2026-07").credit_notes
    return note


def told(note: CreditNote) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    """Net, tax, amount, credits back."""
    return str(note.net), str(note.tax), str(note.amount), tuple((name, str(back)) for name, back in note.credits)


def test_money_goes_back_first_then_the_credits_that_burned_last() -> None:
    made = office(credit("c1", "4.000", priority=1), credit("c2", "4.000", priority=2))
    rows = [made.use("2026-07-02", input=units) for units in (3001, 1001, 3998, 2000)]
    july = made.bill("2026-07")
    assert (july.subtotal, amounts(july, "credit"), july.tax) == (10, [-4, -4], Decimal("0.300"))
    made.usage.remove(rows[0])
    first = noted(made)
    assert told(first) == ("3.001", "0.300", "2.300", (("c2", "1.001"),))
    assert (first.currency, first.revision, first.month, first.tenant) == ("KWD", 1, "2026-07", "acme")
    assert first.reason == f"usage of 2026-07 fell after invoice {july.number}"
    assert (first.number, first.issued_at_us is not None) == ("CN-2027-000001", True)
    made.usage.remove(rows[1])
    assert told(noted(made)) == ("1.001", "0.000", "0.000", (("c2", "1.001"),))
    made.usage.remove(rows[2])
    assert told(noted(made)) == ("3.998", "0.000", "0.000", (("c2", "1.998"), ("c1", "2.000")))
    assert {name: balance.used for name, balance in made.credits().items()} == {"c1": 2, "c2": 0}
    void = made.void("2026-07").credit_notes[0]
    assert told(void) == ("2.000", "0.000", "0.000", (("c1", "2.000"),))


def test_what_an_adjustment_brought_can_be_given_back_too() -> None:
    made = office(credit("c", "3.000"))
    made.use("2026-06-02", input=1000)
    made.bill("2026-06")
    made.use("2026-06-03", input=2000)
    rows = [made.use("2026-07-02", input=units) for units in (4013, 5987)]
    july = made.bill("2026-07")
    assert (amounts(july, "usage"), amounts(july, "adjustment"), amounts(july, "credit")) == ([10], [2], [-2])
    assert (july.tax, july.total) == (Decimal("1.500"), Decimal("11.500"))
    made.usage.remove(rows[0])
    # the base falls from 10.000 to 5.987: 0.29935 and 0.5987 of tax stay, half up 0.299 and 0.599
    assert told(noted(made)) == ("4.013", "0.602", "4.615", ())
    made.usage.remove(rows[1])
    assert told(noted(made)) == ("5.987", "0.898", "6.885", ())


def test_what_two_months_cannot_take_is_carried_on_together() -> None:
    made = office(adjust="next_invoice")
    rows = [made.use("2026-06-02", input=1001), made.use("2026-07-02", input=2002)]
    made.bill("2026-06")
    made.bill("2026-07")
    for row in rows:
        made.usage.remove(row)
    made.use("2026-08-02", input=500)
    august = made.bill("2026-08")
    assert [(line.for_month, str(line.amount)) for line in lines(august, "adjustment")] == [("2026-06", "-0.500")]
    assert (august.total, str(august.carried)) == (0, "-2.503")
    assert [(str(part.amount), part.note) for part in lines(august, "adjustment")[0].parts] == [
        ("-1.001", "invoiced before"),
        ("0.501", "carried on"),
    ]
