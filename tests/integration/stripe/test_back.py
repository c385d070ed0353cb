"""What comes back: sync, webhooks, voids, credit notes, drift, disputes."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest

from billing.stripe_gateway import (
    EVENT_TYPES,
    MemoryStore,
    Settings,
    StatusUpdate,
    StripeGateway,
    WebhookRefused,
    drift,
    handle_webhook,
    make_client,
    probe,
    push_book,
    push_credit_note,
    push_month,
    push_void,
    sync,
)
from schemas.invoice import CreditNote, Invoice
from tests.integration.stripe.kit import NOW_S, make_invoice, make_tenant, no_wait_pace
from tollhouse.stripe_double import Fault, Handle, StripeDouble, start

SECRET = "whsec_example"


@pytest.fixture
def wire() -> Iterator[Handle]:
    with start(double=StripeDouble(lambda: NOW_S)) as handle:
        yield handle


@pytest.fixture
def gateway(wire: Handle) -> StripeGateway:
    client = make_client("sk_test_double", api_base=wire.url, timeout_s=5)
    return StripeGateway(client, MemoryStore(), Settings(), no_wait_pace())


class Ours:
    """Our side: the last state that was applied to each invoice."""

    def __init__(self, invoices: list[Invoice]) -> None:
        self.invoices = {(i.tenant, i.month, i.revision): replace(i, status="pushed") for i in invoices}
        self.updates: list[StatusUpdate] = []

    def apply(self, update: StatusUpdate) -> None:
        self.updates.append(update)
        key = (update.tenant, update.month, update.revision)
        self.invoices[key] = replace(self.invoices[key], status=update.status)

    def statuses(self) -> dict[str, str]:
        return {tenant: invoice.status for (tenant, _, _), invoice in self.invoices.items()}


def pushed(gateway: StripeGateway, names: tuple[str, ...]) -> tuple[Ours, dict[str, str]]:
    """Our side, and Stripe's invoice id by tenant."""
    pairs = [(make_invoice(name), make_tenant(name)) for name in names]
    summary = push_month(gateway, pairs)
    assert summary.outcomes == {"pushed": len(names)}
    return Ours([invoice for invoice, _ in pairs]), {r.tenant: r.stripe_id for r in summary.results}


def note_for(invoice: Invoice, amount: str, number: str = "CN-1") -> CreditNote:
    return CreditNote(
        invoice.tenant,
        invoice.month,
        invoice.revision,
        Decimal(amount),
        Decimal(0),
        invoice.currency,
        "late usage",
        number,
    )


def live_through(gateway: StripeGateway, wire: Handle, ids: dict[str, str]) -> None:
    """One invoice paid, one voided, one uncollectible, one paid and disputed, one left open."""
    service = gateway.client.v1.invoices
    wire.double.pay(ids["paid"])
    service.void_invoice(ids["voided"])
    service.mark_uncollectible(ids["bad"])
    wire.double.pay(ids["disputed"])
    wire.double.dispute(ids["disputed"])


NAMES = ("paid", "voided", "bad", "disputed", "open")
ENDS = {"paid": "paid", "voided": "void", "bad": "uncollectible", "disputed": "paid", "open": "pushed"}


def test_sync_brings_every_status_back_and_drift_is_empty(gateway: StripeGateway, wire: Handle) -> None:
    ours, ids = pushed(gateway, NAMES)
    assert drift(gateway, list(ours.invoices.values())) == []
    first = sync(gateway, ours.apply, NOW_S)
    assert first.whole
    live_through(gateway, wire, ids)
    assert {d.kind for d in drift(gateway, list(ours.invoices.values()))} == {"status"}
    second = sync(gateway, ours.apply, NOW_S + 60)
    assert not second.whole
    assert ours.statuses() == ENDS
    assert [u.disputed for u in second.updates if u.tenant == "disputed"] == ["needs_response"]
    assert drift(gateway, list(ours.invoices.values()), lines=True) == []


def test_sync_after_a_pause_longer_than_the_events_are_kept_reads_what_is_unsettled(
    gateway: StripeGateway, wire: Handle
) -> None:
    ours, ids = pushed(gateway, NAMES)
    sync(gateway, ours.apply, NOW_S)
    live_through(gateway, wire, ids)
    wire.double.advance(40 * 86_400)
    result = sync(gateway, ours.apply, NOW_S + 40 * 86_400)
    assert result.whole
    assert ours.statuses() == ENDS
    before = len(wire.double.requests)
    sync(gateway, ours.apply, NOW_S + 80 * 86_400)
    assert len(wire.double.requests) - before == 3  # the disputes, and the two that are neither paid nor void


def test_sync_moves_its_cursor_only_when_all_was_applied(gateway: StripeGateway, wire: Handle) -> None:
    ours, ids = pushed(gateway, NAMES)
    sync(gateway, ours.apply, NOW_S)
    live_through(gateway, wire, ids)

    def broken(update: StatusUpdate) -> None:
        raise OSError("the database is away")

    with pytest.raises(OSError, match="database"):
        sync(gateway, broken, NOW_S + 60)
    sync(gateway, ours.apply, NOW_S + 120)
    assert ours.statuses() == ENDS


@pytest.mark.parametrize("seed", range(5))
def test_a_webhook_storm_ends_in_the_right_statuses(gateway: StripeGateway, wire: Handle, seed: int) -> None:
    """Each event three times, in any order."""
    ours, ids = pushed(gateway, NAMES)
    live_through(gateway, wire, ids)
    storm = wire.double.deliveries(SECRET) * 3
    Random(seed).shuffle(storm)
    outcomes = [
        handle_webhook(gateway, body, signature, [SECRET], ours.apply, NOW_S).outcome for body, signature in storm
    ]
    assert ours.statuses() == ENDS
    assert outcomes.count("applied") == sum(
        json.loads(body)["type"] in EVENT_TYPES for body, _ in wire.double.deliveries(SECRET)
    )
    assert drift(gateway, list(ours.invoices.values())) == []


def signed(body: bytes, at_s: int = NOW_S, secret: str = SECRET) -> str:
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


BODY = json.dumps({"id": "evt_1", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}}).encode()


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (BODY, "", "no_signature"),
        (BODY, "v1=00", "no_signature"),
        (BODY, f"t={NOW_S}", "no_signature"),
        (BODY, f"t=1,t={NOW_S},v1=00", "no_signature"),
        (BODY, signed(BODY, secret="whsec_other"), "bad_signature"),
        (BODY + b" ", signed(BODY), "bad_signature"),
        (BODY, signed(BODY).replace("v1", "v0"), "no_signature"),
        (BODY, signed(BODY, NOW_S - 301), "not_now"),
        (BODY, signed(BODY, NOW_S + 301), "not_now"),
        (BODY, f"t={NOW_S},v1=ÿ", "bad_signature"),
        (b"no json", signed(b"no json"), "malformed"),
        (b"[]", signed(b"[]"), "malformed"),
        (b'{"id": 1, "type": "x", "data": {"object": {}}}',
         signed(b'{"id": 1, "type": "x", "data": {"object": {}}}'), "malformed"),
        (b"x" * 2_000_000, "", "too_large"),
    ],
)  # fmt: skip
def test_what_stripe_did_not_send_is_refused(
    gateway: StripeGateway, wire: Handle, body: bytes, signature: str, reason: str
) -> None:
    with pytest.raises(WebhookRefused) as refused:
        handle_webhook(gateway, body, signature, [SECRET], lambda _update: None, NOW_S)
    assert refused.value.reason == reason
    assert wire.double.requests == []


def test_while_a_secret_is_replaced_both_are_good(gateway: StripeGateway, wire: Handle) -> None:
    ours, _ = pushed(gateway, ("paid",))
    body, signature = wire.double.deliveries("whsec_old")[-1]
    result = handle_webhook(gateway, body, signature, ["whsec_new", "whsec_old"], ours.apply, NOW_S)
    assert result.outcome == "applied"


def test_a_crash_between_apply_and_the_mark_leads_to_another_delivery(gateway: StripeGateway, wire: Handle) -> None:
    ours, ids = pushed(gateway, ("paid",))
    wire.double.pay(ids["paid"])
    body, signature = wire.double.deliveries(SECRET)[-1]

    def broken(update: StatusUpdate) -> None:
        raise OSError("the database is away")

    with pytest.raises(OSError, match="database"):
        handle_webhook(gateway, body, signature, [SECRET], broken, NOW_S)
    assert handle_webhook(gateway, body, signature, [SECRET], ours.apply, NOW_S).outcome == "applied"
    assert ours.statuses() == {"paid": "paid"}


def test_events_about_other_invoices_are_ignored(gateway: StripeGateway, wire: Handle) -> None:
    service = gateway.client.v1
    customer = service.customers.create({"name": "Somebody"})
    service.invoices.create({"customer": customer.id, "collection_method": "send_invoice", "days_until_due": 3})
    seen: list[StatusUpdate] = []
    for body, signature in wire.double.deliveries(SECRET):
        assert handle_webhook(gateway, body, signature, [SECRET], seen.append, NOW_S).outcome == "ignored"
    assert seen == []


def test_a_failed_charge_comes_back_as_failed(gateway: StripeGateway, wire: Handle) -> None:
    customer = gateway.client.v1.customers.create(
        {"name": "Acme", "invoice_settings": {"default_payment_method": "pm_card_chargeDeclined"}}
    )
    tenant = make_tenant(stripe_customer=customer.id, collection="charge_automatically")
    gateway.push_invoice(make_invoice(), tenant)
    ours = Ours([make_invoice()])
    sync(gateway, ours.apply, NOW_S)
    assert [(u.status, u.failed, u.cash_minor) for u in ours.updates] == [("pushed", True, 0)]


def test_void_follows_what_was_paid(gateway: StripeGateway, wire: Handle) -> None:
    _, ids = pushed(gateway, ("open", "paid"))
    wire.double.pay(ids["paid"])
    for name, outcome, status in (("open", "voided", "void"), ("paid", "credited", "paid")):
        invoice = make_invoice(name, status="void")
        note = note_for(invoice, format(invoice.total, "f"))
        assert push_void(gateway, invoice, note, make_tenant(name)).outcome == outcome
        again = push_void(gateway, invoice, note, make_tenant(name))
        assert again.outcome == "already"
        assert wire.double.account.get("invoice", ids[name])["status"] == status
    assert len(wire.double.account.all("credit_note")) == 1
    assert drift(gateway, [make_invoice(name, status="void") for name in ("open", "paid")]) == []


def test_void_of_a_draft_deletes_it_and_of_nothing_does_nothing(gateway: StripeGateway, wire: Handle) -> None:
    wire.double.faults.add(Fault("status", lambda _m, path: path.endswith("/finalize"), status=400, stored=False))
    gateway.push_invoice(make_invoice(), make_tenant())
    assert push_void(gateway, make_invoice(status="void"), None, make_tenant()).outcome == "deleted"
    assert wire.double.invoices() == []
    assert push_void(gateway, make_invoice(status="void"), None, make_tenant()).outcome == "skipped"


def test_void_of_a_paid_invoice_without_its_note_is_refused(gateway: StripeGateway, wire: Handle) -> None:
    _, ids = pushed(gateway, ("paid",))
    wire.double.pay(ids["paid"])
    result = push_void(gateway, make_invoice("paid", status="void"), None, make_tenant("paid"))
    assert (result.outcome, result.reason) == ("refused", "paid")


def test_void_of_an_invoice_of_nothing_gives_nothing_back(gateway: StripeGateway, wire: Handle) -> None:
    base = make_invoice(lines=1, rate="0")
    free = replace(base, lines=(replace(base.lines[0], amount=Decimal(0)),), subtotal=Decimal(0), total=Decimal(0))
    assert gateway.push_invoice(free, make_tenant()).status == "paid"
    note = note_for(free, "0")
    result = push_void(gateway, replace(free, status="void"), note, make_tenant())
    assert (result.outcome, result.reason) == ("skipped", "nothing_to_give_back")
    assert push_credit_note(gateway, free, note, make_tenant()).outcome == "skipped"
    assert drift(gateway, [replace(free, status="void")]) == []


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "status_after", "status"])
def test_a_credit_note_is_made_once_whatever_the_answer(gateway: StripeGateway, wire: Handle, fault: str) -> None:
    _, ids = pushed(gateway, ("acme",))
    invoice = make_invoice()
    wire.double.faults.add(Fault(fault, lambda method, path: method == "POST" and path == "/v1/credit_notes"))
    result = push_credit_note(gateway, invoice, note_for(invoice, "2.00"), make_tenant())
    assert result.outcome == "credited"
    assert push_credit_note(gateway, invoice, note_for(invoice, "2.00"), make_tenant()).outcome == "already"
    (held,) = wire.double.account.all("credit_note")
    assert (held["amount"], held["pre_payment_amount"], held["memo"]) == (200, 200, "late usage")
    assert wire.double.account.get("invoice", ids["acme"])["amount_remaining"] == 585


def test_a_credit_note_after_payment_goes_where_it_is_told(gateway: StripeGateway, wire: Handle) -> None:
    _, ids = pushed(gateway, ("acme",))
    wire.double.pay(ids["acme"])
    invoice = make_invoice()
    tenant = make_tenant()
    push_credit_note(gateway, invoice, note_for(invoice, "1.00", "CN-1"), tenant)
    push_credit_note(gateway, invoice, note_for(invoice, "2.00", "CN-2"), tenant, after_payment="refund_amount")
    customer = next(c for c in wire.double.account.all("customer"))
    assert customer["balance"] == -100
    assert len(wire.double.account.all("credit_note")) == 2
    too_much = push_credit_note(gateway, invoice, note_for(invoice, "9.00", "CN-3"), tenant)
    assert too_much.outcome == "refused"


def test_drift_names_every_kind(gateway: StripeGateway, wire: Handle) -> None:
    pushed(gateway, ("a", "b", "c"))
    service = gateway.client.v1.invoices
    held = {row["metadata"]["tenant"]: row for row in wire.double.invoices()}
    service.create({
        "customer": held["b"]["customer"], "collection_method": "send_invoice", "days_until_due": 3,
        "metadata": held["b"]["metadata"],
    })  # fmt: skip
    service.create({
        "customer": held["c"]["customer"], "collection_method": "send_invoice", "days_until_due": 3,
        "metadata": {"inv": "ghost:2026-10:r1", "tenant": "ghost", "month": "2026-10", "revision": "1"},
    })  # fmt: skip
    ours = [
        make_invoice("a", lines=4, status="pushed"),
        make_invoice("b", status="pushed"),
        make_invoice("c", status="paid"),
        make_invoice("d", status="pushed"),
    ]
    found = {(d.kind, d.tenant) for d in drift(gateway, ours, lines=True)}
    assert found == {
        ("total", "a"), ("lines", "a"), ("duplicate", "b"), ("status", "c"), ("missing", "d"), ("unknown", "ghost"),
    }  # fmt: skip


def test_a_book_goes_voids_first_then_invoices_then_notes(gateway: StripeGateway, wire: Handle) -> None:
    tenant = make_tenant()
    gateway.push_invoice(make_invoice(), tenant)
    book = [
        (make_invoice(revision=2), tenant),
        (make_invoice(status="void"), tenant),
        (make_invoice("new", status="draft"), make_tenant("new")),
    ]
    notes = [note_for(make_invoice(), "7.85", "CN-1"), replace(note_for(make_invoice(), "1.00", "CN-2"), revision=2)]
    planned = push_book(gateway, book, notes, dry_run=True)
    assert [result.outcome for result in (*planned.voids, *planned.notes)] == ["planned"]
    before = len(wire.double.account.all("credit_note"))
    for expected in (("voided", "pushed", "credited"), ("already", "already", "already")):
        done = push_book(gateway, book, notes)
        assert (done.voids[0].outcome, done.month.results[0].outcome, done.notes[0].outcome) == expected
        assert done.clean
    assert [row["status"] for row in wire.double.invoices()] == ["void", "open"]
    assert len(wire.double.account.all("credit_note")) == before + 1


def test_probe_says_in_one_line_what_is_wrong(gateway: StripeGateway, wire: Handle) -> None:
    assert probe(gateway.client) == ""
    live = make_client("sk_live_double", api_base=wire.url, allow_live=True)
    assert probe(live).startswith("AuthenticationError: ")
    assert "sk_live_double" not in probe(live)
