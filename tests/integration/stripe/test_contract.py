"""What both the double and Stripe itself must do: the same tests on either.

On the double always; on a sandbox of Stripe too where TOLLHOUSE_TEST_STRIPE_SANDBOX is 1 and STRIPE_SECRET_KEY holds a
key of test mode.
Each run uses tenants of its own, so that it can be repeated in one sandbox.
"""

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
import stripe

from billing.stripe_gateway import (
    MemoryStore,
    Pace,
    Settings,
    StripeGateway,
    drift,
    make_client,
    push_credit_note,
    push_void,
    sync,
)
from schemas.invoice import CreditNote, Invoice
from tests.integration.stripe.kit import make_invoice, make_tenant
from tollhouse.stripe_double import start

SANDBOX_KEY = os.environ.get("STRIPE_SECRET_KEY", "")
SANDBOX = os.environ.get("TOLLHOUSE_TEST_STRIPE_SANDBOX") == "1" and SANDBOX_KEY.startswith(("sk_test_", "rk_test_"))
TARGETS = ["double", *(["sandbox"] if SANDBOX else [])]


@dataclass
class Target:
    """Where the tests run, and the names of this run."""

    gateway: StripeGateway
    run: str

    def invoice(self, name: str, **fields: object) -> Invoice:
        tenant = f"{name}-{self.run}"
        return make_invoice(tenant, number=f"{self.run}-{name}"[:26], **fields)  # type: ignore[arg-type]


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    run = secrets.token_hex(4)
    if request.param == "sandbox":
        yield Target(StripeGateway(make_client(SANDBOX_KEY), MemoryStore(), Settings()), run)
        return
    with start() as handle:
        client = make_client("sk_test_double", api_base=handle.url)
        yield Target(StripeGateway(client, MemoryStore(), Settings(), Pace(per_s=10_000)), run)


def test_push_twice_then_from_an_empty_store_makes_one(target: Target) -> None:
    invoice = target.invoice("acme", lines=12)
    tenant = make_tenant(invoice.tenant)
    first = target.gateway.push_invoice(invoice, tenant)
    assert (first.outcome, first.status) == ("pushed", "open"), first
    assert target.gateway.push_invoice(invoice, tenant).outcome == "already"
    fresh = StripeGateway(target.gateway.client, MemoryStore(), Settings(), target.gateway.pace)
    assert fresh.push_invoice(invoice, tenant).stripe_id == first.stripe_id
    assert [d for d in drift(fresh, [invoice], lines=True) if d.tenant == invoice.tenant] == []


def test_void_and_credit_note(target: Target) -> None:
    voided, credited = target.invoice("void"), target.invoice("cn")
    for invoice in (voided, credited):
        assert target.gateway.push_invoice(invoice, make_tenant(invoice.tenant)).outcome == "pushed"
    assert push_void(target.gateway, voided, None, make_tenant(voided.tenant)).outcome == "voided"
    assert push_void(target.gateway, voided, None, make_tenant(voided.tenant)).outcome == "already"
    whose, number = (credited.tenant, credited.month, 1), f"CN-{target.run}"
    note = CreditNote(*whose, Decimal("1.10"), Decimal(0), "EUR", "late", number)
    tenant = make_tenant(credited.tenant)
    assert push_credit_note(target.gateway, credited, note, tenant).outcome == "credited"
    assert push_credit_note(target.gateway, credited, note, tenant).outcome == "already"
    seen: dict[str, str] = {}
    sync(target.gateway, lambda update: seen.__setitem__(update.tenant, update.status), int(time.time()))
    assert (seen[voided.tenant], seen[credited.tenant]) == ("void", "pushed")


def test_a_key_with_other_parameters_is_an_error_and_with_the_same_a_replay(target: Target) -> None:
    service = target.gateway.client.v1.customers
    key = f"contract-{target.run}"
    first = service.create({"name": "One"}, {"idempotency_key": key})
    again = service.create({"name": "One"}, {"idempotency_key": key})
    assert (again.id, again.last_response.headers["Idempotent-Replayed"]) == (first.id, "true")  # type: ignore[union-attr]
    with pytest.raises(stripe.IdempotencyError):
        service.create({"name": "Two"}, {"idempotency_key": key})
    with pytest.raises(stripe.InvalidRequestError):
        service.create({"name": "Long"}, {"idempotency_key": "x" * 256})


def test_a_misspelt_parameter_is_refused(target: Target) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        target.gateway.client.v1.customers.create({"naem": "One"})  # type: ignore[typeddict-unknown-key]
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "naem")


def test_a_finalised_invoice_takes_no_line_and_no_other_number_of_pages(target: Target) -> None:
    invoice = target.invoice("fixed")
    pushed = target.gateway.push_invoice(invoice, make_tenant(invoice.tenant))
    service = target.gateway.client.v1
    with pytest.raises(stripe.InvalidRequestError):
        service.invoices.add_lines(pushed.stripe_id, {"lines": [{"amount": 100, "description": "late"}]})
    with pytest.raises(stripe.InvalidRequestError):
        service.invoices.list({"limit": 101})


def test_an_invoice_takes_250_lines_and_no_more(target: Target) -> None:
    invoice = target.invoice("full", lines=249)
    assert target.gateway.push_invoice(invoice, make_tenant(invoice.tenant)).outcome == "pushed"
    service = target.gateway.client.v1
    customer = service.customers.create({"name": f"Full {target.run}"})
    draft = service.invoices.create({
        "customer": customer.id, "collection_method": "send_invoice", "days_until_due": 3, "currency": "eur",
    })  # fmt: skip
    row = {"amount": 1, "description": "one"}
    for size in (100, 100, 50):
        service.invoices.add_lines(draft.id, {"lines": [row] * size})  # type: ignore[typeddict-item]
    with pytest.raises(stripe.InvalidRequestError):
        service.invoices.add_lines(draft.id, {"lines": [row]})  # type: ignore[typeddict-item]
    lines = [line.id for line in service.invoices.line_items.list(draft.id, {"limit": 100}).auto_paging_iter()]
    assert len(set(lines)) == len(lines) == 250


def test_below_the_minimum_charge_the_invoice_is_paid_without_cash(target: Target) -> None:
    base = target.invoice("small", lines=1, rate="0")
    line = replace(base.lines[0], amount=Decimal("0.10"), parts=())
    small = replace(base, lines=(line,), subtotal=line.amount, total=line.amount)
    result = target.gateway.push_invoice(small, make_tenant(base.tenant))
    assert (result.outcome, result.status) == ("pushed", "paid"), result
    assert "no cash" in result.notes[0]
