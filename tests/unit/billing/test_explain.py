"""A line explained from its events, and every way in which it may not add up."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from billing.explain import Mismatch, Selection, check_parts, check_sums, explain
from schemas.invoice import Invoice
from schemas.tokens import as_dict
from tests.unit.billing.office import Office, at, credit, tax
from tests.unit.rating.catalogs import markup, per_unit, price, tiered
from tests.unit.rating.usage_memory import event


def office() -> Office:
    def old_and_new(first: str, second: str) -> dict[str, Any]:
        return tiered("graduated", "input", (100, first), (None, second))

    free = [{"meter": "input", "models": "*", "amount": 50}]
    fees = {"minimum": "100.00", "fee": {"amount": "3.00"}}
    plans = {
        "a": [
            {"allowances": free, "charges": [old_and_new("0.10", "0.05"), markup("0.20")]},
            {"from": "2026-07-10", **fees, "charges": [old_and_new("0.20", "0.15"), per_unit("output", "0.01")]},
        ],
        "b": {"charges": [per_unit("input", "1.00"), per_unit("requests", "0.50")]},
    }
    tenant = {
        "plan": [{"plan": "a", "from": "2026-01-01"}, {"plan": "b", "from": "2026-07-21"}],
        "billing": {"country": "DE"},
    }
    made = Office(
        plans,
        tenant=tenant,
        provider_prices=[price("m-small", output="0.03")],
        credits=[credit("c", "1.00")],
        taxes=[tax("0.19")],
    )
    for minute in range(30):
        made.use(f"2026-07-02T10:{minute:02d}:00Z", input=3, output=1)
    made.use("2026-07-11", input=100, output=7)
    made.use("2026-07-12", pooled=False, key="own", input=1000)
    made.use("2026-07-22", input=2)
    made.use("2026-07-23", requests=2)
    made.use("2026-07-24", requests=0)
    return made


def test_every_line_of_an_invoice_adds_up() -> None:
    made = office()
    invoice = made.bill("2026-07")
    for line in invoice.lines:
        found = explain(invoice, line.id, made.usage, made.terms)
        assert found.line == line
        assert found.parts == line.parts
        assert bool(found.selections) == (line.type == "usage")
    assert {line.type for line in invoice.lines} == {"usage", "true_up", "fee", "credit", "tax"}


def test_the_selected_events_sum_to_the_line() -> None:
    made = office()
    invoice = made.bill("2026-07")
    sums = {}
    for line in invoice.lines:
        if line.type == "usage":
            selections = explain(invoice, line.id, made.usage, made.terms).selections
            held = [
                row
                for row in made.usage.events("acme", 0, 2**62)
                for s in selections
                if s.holds(row, as_dict(row.classes))
            ]
            sums[line.id] = (len(held), sum(as_dict(row.classes).get(str(line.meter), 0) for row in held))
    assert sums == {
        "usage:a:input:*": (31, 190),
        "usage:a:cost:*": (30, 0),
        "usage:a:output:*": (1, 7),
        "usage:b:input:*": (1, 2),
        "usage:b:requests:*": (2, 0),
    }
    quantities = {line.id: line.quantity for line in invoice.lines if line.type == "usage"}
    assert quantities == {
        "usage:a:input:*": 190,
        "usage:a:cost:*": Decimal("0.90"),
        "usage:a:output:*": 7,
        "usage:b:input:*": 2,
        "usage:b:requests:*": 3,
    }


def test_an_adjustment_adds_up_and_a_tampered_one_does_not() -> None:
    made = office()
    july = made.bill("2026-07")
    made.use("2026-07-22", input=5)
    august = made.bill("2026-08")
    found = explain(august, "adjustment:2026-07", made.usage, made.terms)
    assert [part.amount for part in found.parts] == [july.subtotal + Decimal("5.50"), -july.subtotal]
    wrong = tampered(august, "adjustment:2026-07", parts=found.parts[:1])
    with pytest.raises(Mismatch, match=r"the parts do not add up to 5\.50"):
        explain(wrong, "adjustment:2026-07", made.usage, made.terms)


def test_an_event_more_or_less_is_a_mismatch() -> None:
    made = office()
    invoice = made.bill("2026-07")
    made.use("2026-07-11", input=1)
    with pytest.raises(Mismatch, match="quantity is 190, from the events it is 191"):
        explain(invoice, "usage:a:input:*", made.usage, made.terms)


def test_a_line_that_is_no_longer_there_is_a_mismatch() -> None:
    made = office()
    invoice = made.bill("2026-07")
    made.usage.remove(made.usage.events("acme", at("2026-07-22"), at("2026-07-23"))[0])
    with pytest.raises(Mismatch, match="no such charge"):
        explain(invoice, "usage:b:input:*", made.usage, made.terms)


def tampered(invoice: Invoice, line_id: str, **changes: object) -> Invoice:
    changed = tuple(replace(line, **changes) if line.id == line_id else line for line in invoice.lines)  # type: ignore[arg-type]
    return replace(invoice, lines=changed)


def test_tampered_lines_are_a_mismatch() -> None:
    made = office()
    invoice = made.bill("2026-07")
    line = invoice.lines[0]
    wrong_part = replace(line.parts[0], amount=line.parts[0].amount + 1)
    fewer = replace(line.parts[1], unit_price=Decimal(0), amount=Decimal(0))
    for changes in (
        {"amount": line.amount + 1},
        {"parts": (wrong_part,)},
        {"parts": (line.parts[0], fewer)},
        {"tax": line.tax + 1},
    ):
        with pytest.raises(Mismatch):
            explain(tampered(invoice, line.id, **changes), line.id, made.usage, made.terms)


@pytest.mark.parametrize("name", ["subtotal", "total", "tax"])
def test_sums_that_do_not_add_up_are_named(name: str) -> None:
    invoice = office().bill("2026-07")
    check_sums(invoice)
    with pytest.raises(Mismatch, match=name):
        check_sums(replace(invoice, **{name: Decimal(1)}))  # type: ignore[arg-type]


def test_an_unknown_line_is_a_key_error() -> None:
    made = office()
    with pytest.raises(KeyError, match="no line 'usage:x'"):
        explain(made.bill("2026-07"), "usage:x", made.usage, made.terms)


def test_a_selection_is_half_open() -> None:
    selection = Selection(10, 20, (("m", "input"), ("m", "requests")))
    rows = [event(time, model="m", input=1) for time in (9, 10, 19, 20)]
    assert [selection.holds(row, as_dict(row.classes)) for row in rows] == [False, True, True, False]
    asked = [event(15, model="m", requests=1), event(15, model="m", requests=0), event(15, model="n", input=1)]
    assert [selection.holds(row, as_dict(row.classes)) for row in asked] == [True, False, False]


def test_each_mismatch_says_what_does_not_add_up() -> None:
    made = office()
    invoice = made.bill("2026-07")
    for name in ("subtotal", "total", "tax"):
        right = getattr(invoice, name)
        with pytest.raises(Mismatch) as mismatch:
            check_sums(replace(invoice, **{name: Decimal(1)}))  # type: ignore[arg-type]
        assert str(mismatch.value) == f"acme, 2026-07: {name} is 1, its parts add up to {right}"
    line = invoice.lines[0]
    with pytest.raises(Mismatch) as mismatch:
        check_sums(tampered(invoice, line.id, tax=line.tax + 1))
    wrong = f"acme, 2026-07: tax over the lines is {invoice.tax}, its parts add up to {invoice.tax + 1}"
    assert str(mismatch.value) == wrong
    part = line.parts[1]
    with pytest.raises(Mismatch) as mismatch:
        check_parts(replace(line, parts=(replace(part, amount=Decimal(1)),)))
    assert str(mismatch.value) == f"{line.id}: {part.quantity} x {part.unit_price} / {part.per} is not 1"
    with pytest.raises(Mismatch, match="the parts do not add up to"):
        check_parts(replace(line, parts=line.parts[:1]))
    renamed = replace(line.parts[0], note="another")
    with pytest.raises(Mismatch, match="the parts differ from those worked out from the events"):
        explain(tampered(invoice, line.id, parts=(renamed, *line.parts[1:])), line.id, made.usage, made.terms)
    with pytest.raises(KeyError, match=f"invoice {invoice.number} has no line 'nothing'"):
        explain(invoice, "nothing", made.usage, made.terms)
