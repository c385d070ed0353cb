"""Pushing invoices over HTTP, through the real SDK, against the double."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from billing.stripe_gateway import (
    FileStore,
    KeyRefused,
    MemoryStore,
    PushResult,
    Settings,
    StripeGateway,
    drift,
    make_client,
    push_month,
    push_void,
)
from schemas.invoice import InvoiceLine, TaxSum
from tests.integration.stripe.kit import (
    END_US,
    NOW_S,
    START_US,
    assert_month,
    gateway_on,
    make_invoice,
    make_tenant,
    no_wait_pace,
)
from tollhouse.stripe_double import Fault, Handle, StripeDouble, start


@pytest.fixture
def wire() -> Iterator[Handle]:
    with start(double=StripeDouble(lambda: NOW_S)) as handle:
        yield handle


def over_http(wire: Handle, store: MemoryStore | None = None, **settings: object) -> StripeGateway:
    client = make_client("sk_test_double", api_base=wire.url, timeout_s=5)
    return StripeGateway(client, store or MemoryStore(), Settings(**settings), no_wait_pace())  # type: ignore[arg-type]


def test_an_invoice_becomes_one_stripe_invoice_and_a_second_run_asks_nothing(wire: Handle) -> None:
    gateway = over_http(wire)
    invoice, tenant = make_invoice(), make_tenant()
    first = gateway.push_invoice(invoice, tenant)
    assert (first.outcome, first.status, first.requests) == ("pushed", "open", 7)
    before = len(wire.double.requests)
    again = gateway.push_invoice(invoice, tenant)
    assert (again.outcome, again.stripe_id, again.requests) == ("already", first.stripe_id, 0)
    assert len(wire.double.requests) == before
    assert_month(wire.double, [invoice])
    held = wire.double.invoices()[0]
    assert held["number"] == "acme-2026-10-1"
    assert held["metadata"] == {"inv": "acme:2026-10:r1", "tenant": "acme", "month": "2026-10", "revision": "1"}
    line = wire.double.lines(held["id"])[0]
    assert line["description"] == "Input tokens 1: 1000 at 1.1 EUR per 1000"
    assert line["period"] == {"start": START_US // 1_000_000, "end": END_US // 1_000_000}
    assert line["metadata"] == {"k": "usage:1", "type": "usage"}


def test_a_dry_run_changes_nothing_and_names_every_change(wire: Handle) -> None:
    gateway = over_http(wire)
    result = gateway.push_invoice(make_invoice(lines=2), make_tenant(), dry_run=True)
    assert result.outcome == "planned"
    assert result.diff == (
        "+ customer for acme", "+ invoice acme:2026-10:r1: 393 EUR", "+ usage:1: 110", "+ usage:2: 220",
        "+ tax:VAT:19: 63", "= finalise, then send",
    )  # fmt: skip
    assert wire.double.invoices() == []
    gateway.push_invoice(make_invoice(lines=2), make_tenant())
    assert gateway.push_invoice(make_invoice(lines=2), make_tenant(), dry_run=True).diff == ()


def test_drafts_voids_and_empty_invoices_are_not_pushed(wire: Handle) -> None:
    gateway = over_http(wire)
    for status, reason in (("draft", "is_draft"), ("void", "is_void")):
        result = gateway.push_invoice(make_invoice(status=status), make_tenant())
        assert (result.outcome, result.reason) == ("refused", reason)
    empty = make_invoice(lines=0)
    assert gateway.push_invoice(empty, make_tenant()).outcome == "skipped"
    assert wire.double.requests == []


def test_an_invoice_whose_lines_do_not_add_up_never_reaches_stripe(wire: Handle) -> None:
    wrong = make_invoice(total=Decimal("99.99"))
    result = over_http(wire).push_invoice(wrong, make_tenant())
    assert (result.outcome, result.reason) == ("refused", "totals_differ")
    assert wire.double.requests == []


def test_credits_go_as_negative_lines(wire: Handle) -> None:
    base = make_invoice(lines=2, rate="0")
    credit = InvoiceLine("credit:cr-1", "credit", "Credit cr-1", Decimal("-3.30"), START_US, END_US, credit="cr-1")
    paid_up = replace(base, lines=(*base.lines, credit), total=Decimal(0))
    result = over_http(wire).push_invoice(paid_up, make_tenant())
    assert (result.outcome, result.status, result.total_minor) == ("pushed", "paid", 0)


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [("JPY", "1235", 1235), ("KWD", "1.230", 1230), ("ISK", "500", 50000), ("UGX", "12", 1200), ("MGA", "5", 5)],
)
def test_amounts_in_currencies_with_other_minor_units(wire: Handle, currency: str, amount: str, minor: int) -> None:
    line = InvoiceLine("usage:1", "usage", "Tokens", Decimal(amount), START_US, END_US)
    base = make_invoice(lines=1, currency=currency, rate="0")
    invoice = replace(base, lines=(line,), subtotal=Decimal(amount), total=Decimal(amount))
    result = over_http(wire).push_invoice(invoice, make_tenant())
    assert (result.outcome, result.total_minor, wire.double.invoices()[0]["total"]) == ("pushed", minor, minor)


@pytest.mark.parametrize(("currency", "amount"), [("KWD", "1.235"), ("MGA", "1.20")])
def test_amounts_that_stripe_cannot_say_exactly_are_refused(wire: Handle, currency: str, amount: str) -> None:
    line = InvoiceLine("usage:1", "usage", "Tokens", Decimal(amount), START_US, END_US)
    base = make_invoice(lines=1, currency=currency, rate="0")
    invoice = replace(base, lines=(line,), subtotal=Decimal(amount), total=Decimal(amount))
    result = over_http(wire).push_invoice(invoice, make_tenant())
    assert (result.outcome, result.reason) == ("refused", "not_exact")
    assert wire.double.requests == []


def test_below_the_minimum_charge_paid_is_not_cash(wire: Handle) -> None:
    line = InvoiceLine("usage:1", "usage", "Tokens", Decimal("0.30"), START_US, END_US)
    base = make_invoice(lines=1, rate="0")
    invoice = replace(base, lines=(line,), subtotal=line.amount, total=line.amount)
    result = over_http(wire).push_invoice(invoice, make_tenant())
    assert (result.outcome, result.status) == ("pushed", "paid")
    assert "no cash" in result.notes[0]


def test_a_customer_balance_lowers_what_is_due_not_the_total(wire: Handle) -> None:
    gateway = over_http(wire)
    customer = gateway.client.v1.customers.create({"name": "Acme", "balance": -100})
    result = gateway.push_invoice(make_invoice(), make_tenant(stripe_customer=customer.id))
    assert (result.outcome, result.total_minor) == ("pushed", 785)
    assert result.notes == ("a customer balance of -100 was applied: 685 is due",)


def test_over_250_lines_go_by_model_with_a_detail_file(wire: Handle) -> None:
    invoice = make_invoice(lines=300)
    result = over_http(wire).push_invoice(invoice, make_tenant())
    assert result.outcome == "pushed"
    assert len(wire.double.lines(result.stripe_id)) == 5 + 1
    assert wire.double.invoices()[0]["total"] == int(invoice.total * 100)
    assert len(result.detail_csv.splitlines()) == 301


def test_many_lines_go_in_several_calls(wire: Handle) -> None:
    invoice = make_invoice(lines=249)
    result = over_http(wire).push_invoice(invoice, make_tenant())
    assert result.outcome == "pushed"
    assert sum(seen.path.endswith("/add_lines") for seen in wire.double.requests) == 3
    assert_month(wire.double, [invoice])


def test_taxes_as_rates_keep_our_spread_and_our_total(wire: Handle) -> None:
    base = make_invoice()
    shares = (Decimal("0.21"), Decimal("0.42"), Decimal("0.62"))
    invoice = replace(base, lines=tuple(replace(li, tax=tax) for li, tax in zip(base.lines, shares, strict=True)))
    result = over_http(wire, taxes="rates").push_invoice(invoice, make_tenant())
    assert (result.outcome, result.total_minor) == ("pushed", 785)
    held = wire.double.invoices()[0]
    assert (held["subtotal"], sum(tax["amount"] for tax in held["total_taxes"])) == (660, 125)


def test_inclusive_tax_is_said_below_and_not_added(wire: Handle) -> None:
    base = make_invoice(rate="0")
    tax = TaxSum("VAT", Decimal("0.19"), True, base.subtotal, Decimal("1.05"))
    result = over_http(wire).push_invoice(replace(base, taxes=(tax,), tax=tax.amount), make_tenant())
    assert (result.outcome, result.total_minor) == ("pushed", 660)
    assert wire.double.invoices()[0]["footer"] == "Includes VAT: 1.05 EUR"


def test_a_declined_card_is_reported_and_not_tried_again(wire: Handle) -> None:
    gateway = over_http(wire)
    params = {"name": "Acme", "invoice_settings": {"default_payment_method": "pm_card_chargeDeclined"}}
    customer = gateway.client.v1.customers.create(params)  # type: ignore[arg-type]
    tenant = make_tenant(stripe_customer=customer.id, collection="charge_automatically")
    result = gateway.push_invoice(make_invoice(), tenant)
    assert (result.outcome, result.status) == ("pushed", "open")
    assert result.payment_error.startswith("card_declined")
    gateway.push_invoice(make_invoice(), tenant)
    assert sum(seen.path.endswith("/pay") for seen in wire.double.requests) == 1


def test_a_card_that_works_is_charged(wire: Handle) -> None:
    gateway = over_http(wire)
    params = {"name": "Acme", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = gateway.client.v1.customers.create(params)  # type: ignore[arg-type]
    result = gateway.push_invoice(
        make_invoice(), make_tenant(stripe_customer=customer.id, collection="charge_automatically")
    )
    assert (result.outcome, result.status, result.payment_error, result.notes) == ("pushed", "paid", "", ())


FAULTS = {
    "lost answer": Fault("drop_after"),
    "lost request": Fault("drop_before"),
    "429": Fault("status", status=429, stored=False),
    "429 that is replayed": Fault("status", status=429, stored=True),
    "503": Fault("status", status=503, stored=False),
    "500 that is replayed, nothing done": Fault("status", status=500, stored=True),
    "500 that is replayed, work done": Fault("status_after", status=500, stored=True),
    "409": Fault("status", status=409, stored=False),
}
STEPS = ("/v1/customers", "/v1/invoices", "/add_lines", "/finalize", "/send")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_step_leaves_one_correct_invoice(wire: Handle, name: str, step: str) -> None:
    fault = replace(FAULTS[name], match=lambda method, path: method == "POST" and path.endswith(step))
    wire.double.faults.add(fault)
    gateway = over_http(wire)
    result = gateway.push_invoice(make_invoice(), make_tenant())
    assert result.outcome == "pushed"
    assert fault.times == 0
    assert_month(wire.double, [make_invoice()])
    assert len(wire.double.account.all("customer")) == 1
    assert drift(gateway, [make_invoice()], lines=True) == []


def test_a_429_waits_as_long_as_stripe_asks_and_no_shorter_than_half_the_step() -> None:
    waits: list[float] = []
    double = StripeDouble(lambda: NOW_S)
    gateway = gateway_on(double)
    assert gateway.pace is not None
    gateway.pace.sleep = waits.append
    double.faults.add(Fault("status", lambda method, _path: method == "POST", status=429, stored=False, times=3))
    gateway.push_invoice(make_invoice(), make_tenant())
    assert [wait for wait in waits if wait > 0.1] == [0.375, 0.75, 1.5]


def test_stripe_away_is_a_failure_that_the_next_run_heals(wire: Handle) -> None:
    outage = Fault("drop_before", times=None)
    wire.double.faults.add(outage)
    gateway = over_http(wire)
    result = gateway.push_invoice(make_invoice(), make_tenant())
    assert (result.outcome, result.reason) == ("failed", "unreachable")
    wire.double.faults.clear()
    assert gateway.push_invoice(make_invoice(), make_tenant()).outcome == "pushed"


def test_a_draft_that_somebody_deleted_is_made_again_although_the_key_is_known(wire: Handle) -> None:
    gateway = over_http(wire)
    wire.double.faults.add(Fault("status", lambda _m, path: path.endswith("/add_lines"), status=400, stored=False))
    assert gateway.push_invoice(make_invoice(), make_tenant()).outcome == "refused"
    (draft,) = wire.double.invoices()
    gateway.client.v1.invoices.delete(draft["id"])
    assert gateway.push_invoice(make_invoice(), make_tenant()).outcome == "pushed"
    assert_month(wire.double, [make_invoice()])


def test_a_draft_that_somebody_added_to_is_not_finalised(wire: Handle) -> None:
    gateway = over_http(wire)
    wire.double.faults.add(Fault("status", lambda _m, path: path.endswith("/finalize"), status=400, stored=False))
    gateway.push_invoice(make_invoice(), make_tenant())
    (draft,) = wire.double.invoices()
    gateway.client.v1.invoices.add_lines(draft["id"], {"lines": [{"amount": 500, "description": "by hand"}]})
    result = gateway.push_invoice(make_invoice(), make_tenant())
    assert (result.outcome, result.reason) == ("refused", "foreign_line")
    assert wire.double.invoices()[0]["status"] == "draft"


def test_a_draft_with_other_amounts_is_put_right(wire: Handle) -> None:
    """The setting for taxes was changed between a run that stopped and the next one."""
    store = MemoryStore()
    wire.double.faults.add(Fault("status", lambda _m, path: path.endswith("/finalize"), status=400, stored=False))
    base = make_invoice()
    shares = (Decimal("0.21"), Decimal("0.42"), Decimal("0.62"))
    invoice = replace(base, lines=tuple(replace(li, tax=tax) for li, tax in zip(base.lines, shares, strict=True)))
    over_http(wire, store).push_invoice(invoice, make_tenant())
    assert wire.double.invoices()[0]["status"] == "draft"
    result = over_http(wire, store, taxes="rates").push_invoice(invoice, make_tenant())
    assert (result.outcome, result.reason, result.total_minor) == ("pushed", "", 785)


def test_a_taken_number_and_an_unknown_customer_are_refused_with_a_reason(wire: Handle) -> None:
    gateway = over_http(wire)
    gateway.push_invoice(make_invoice(), make_tenant())
    other = make_invoice("other", number="acme-2026-10-1")
    result = gateway.push_invoice(other, make_tenant("other"))
    assert (result.outcome, "taken" in result.detail) == ("refused", True)
    result = gateway.push_invoice(make_invoice("third"), make_tenant("third", stripe_customer="cus_nobody"))
    assert (result.outcome, result.reason) == ("refused", "no_customer")
    result = over_http(wire, create_customers=False).push_invoice(make_invoice("fourth"), make_tenant("fourth"))
    assert (result.outcome, result.reason) == ("refused", "no_customer")


def test_a_customer_deleted_at_stripe_is_found_or_made_anew_by_the_next_run(wire: Handle) -> None:
    gateway = over_http(wire)
    first = gateway.push_invoice(make_invoice(), make_tenant())
    assert first.total == "7.85"
    (customer,) = wire.double.account.all("customer")
    gateway.client.v1.customers.delete(customer["id"])
    november = replace(make_invoice(number="acme-2026-11-1"), month="2026-11")
    refused = gateway.push_invoice(november, make_tenant())
    assert (refused.outcome, refused.reason) == ("refused", "resource_missing")
    assert gateway.push_invoice(november, make_tenant()).outcome == "pushed"


def test_wrong_credentials_stop_the_month_at_once(wire: Handle) -> None:
    client = make_client("sk_live_double", api_base=wire.url, allow_live=True)
    gateway = StripeGateway(client, MemoryStore(), Settings(), no_wait_pace())
    pairs = [(make_invoice(f"t{n}"), make_tenant(f"t{n}")) for n in range(5)]
    summary = push_month(gateway, pairs)
    assert summary.outcomes == {"failed": 4, "refused": 1}
    assert len(wire.double.requests) == 1
    assert not summary.clean


def test_live_keys_are_refused_unless_asked_for_and_never_shown() -> None:
    with pytest.raises(KeyRefused) as refused:
        make_client("sk_live_secret")
    assert "secret" not in str(refused.value).replace("secret or restricted", "")
    with pytest.raises(KeyRefused):
        make_client("pk_test_public")
    assert make_client("rk_live_secret", allow_live=True) is not None


def test_the_next_revision_waits_for_the_void_of_the_one_before(wire: Handle) -> None:
    """Two invoices of one month, both to be paid: the customer would pay twice."""
    gateway = over_http(wire)
    gateway.push_invoice(make_invoice(), make_tenant())
    early = gateway.push_invoice(make_invoice(revision=2), make_tenant())
    assert (early.outcome, early.reason) == ("refused", "other_revision")
    assert push_void(gateway, make_invoice(status="void"), None, make_tenant()).outcome == "voided"
    assert gateway.push_invoice(make_invoice(revision=2), make_tenant()).outcome == "pushed"
    assert [row["status"] for row in wire.double.invoices()] == ["void", "open"]
    assert drift(gateway, [make_invoice(status="void"), make_invoice(revision=2)], lines=True) == []


def test_two_runs_at_once_make_no_second_invoice(wire: Handle) -> None:
    """The month is to be locked against this. Where it is not, one run may stumble over the other, but bills nothing
    twice, and the next run is clean."""
    store = MemoryStore()
    pairs = [(make_invoice(f"t{n}"), make_tenant(f"t{n}")) for n in range(8)]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(push_month, over_http(wire, store), pairs) for _ in range(3)]
    assert all(run.exception() is None for run in runs)
    assert push_month(over_http(wire, store), pairs).clean
    assert_month(wire.double, [invoice for invoice, _ in pairs])


def test_an_interrupted_month_takes_back_what_was_not_begun(wire: Handle) -> None:
    pairs = [(make_invoice(f"t{n:02d}"), make_tenant(f"t{n:02d}")) for n in range(30)]
    store = MemoryStore()

    def stop(done: int, of: int, _result: PushResult) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push_month(over_http(wire, store, workers=2), pairs, progress=stop)
    assert len(wire.double.invoices()) < 20
    assert push_month(over_http(wire, store, workers=2), pairs).clean
    assert_month(wire.double, [invoice for invoice, _ in pairs])


def test_a_month_reports_progress_and_sums(wire: Handle) -> None:
    pairs = [(make_invoice(f"t{n}", lines=n), make_tenant(f"t{n}")) for n in range(1, 5)]
    seen: list[tuple[int, int]] = []
    summary = push_month(over_http(wire, workers=3), pairs, progress=lambda done, of, _r: seen.append((done, of)))
    assert seen == [(n, 4) for n in range(1, 5)]
    assert summary.totals_minor == {"EUR": sum(int(invoice.total * 100) for invoice, _ in pairs)}
    assert summary.clean
    assert_month(wire.double, [invoice for invoice, _ in pairs])


def test_the_file_store_survives_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "push.jsonl"
    store = FileStore(path)
    store.put("a", {"x": "1"})
    store.put("b", {"x": "2"})
    store.close()
    path.write_bytes(path.read_bytes() + b'{"key": "c", "rec')
    again = FileStore(path)
    assert sorted(again.keys("")) == ["a", "b"]
    again.put("c", {"x": "3"})
    again.close()
    assert FileStore(path).get("c") == {"x": "3"}


@pytest.mark.parametrize("seed", range(12))
def test_seeded_faults_and_restarts_leave_one_correct_invoice_each(seed: int) -> None:
    double, store = StripeDouble(lambda: NOW_S), MemoryStore()
    pairs = [(make_invoice(f"t{n}", lines=1 + (seed * 37 + n * 61) % 240), make_tenant(f"t{n}")) for n in range(6)]
    double.faults.seed(seed, rate_percent=15)
    for _ in range(40):
        push_month(gateway_on(double, store, lines_per_call=60), pairs)
        double.advance(3600)
    double.faults.clear()
    summary = push_month(gateway_on(double, store, lines_per_call=60), pairs)
    assert set(summary.outcomes) <= {"already", "pushed"}, f"seed {seed}: {summary.results}"
    assert_month(double, [invoice for invoice, _ in pairs])
    assert drift(gateway_on(double), [invoice for invoice, _ in pairs], lines=True) == []
