"""Every kind of request that the gateway makes, sent to stripe-mock too: it checks shapes against Stripe's OpenAPI."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from billing.stripe_gateway import (
    MemoryStore,
    MeterReading,
    Settings,
    StripeGateway,
    drift,
    make_client,
    meter_drift,
    push_credit_note,
    push_meter_events,
    push_void,
    sync,
)
from schemas.instants import HOUR_US
from schemas.invoice import CreditNote
from tests.integration.stripe.kit import NOW_S, Direct, make_invoice, make_tenant, no_wait_pace
from tests.services import STRIPE_MOCK, require
from tollhouse.stripe_double import Fault, StripeDouble


class Mirror(Direct):
    """Into the double, and each request that it accepted to stripe-mock too. `refused`: what stripe-mock would not."""

    def __init__(self, double: StripeDouble, base: str) -> None:
        super().__init__(double)
        self.http = httpx.Client(base_url=base, timeout=20, trust_env=False)
        self.asked: set[str] = set()
        self.refused: list[str] = []

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[str, int, Mapping[str, str]]:
        answer = super().request(method, url, headers, post_data)
        if answer[1] == 200:
            parts = urlsplit(url)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            kept = {key: value for key, value in (headers or {}).items() if key.lower() != "content-length"}
            mocked = self.http.request(method, target, headers=kept, content=(post_data or "").encode())
            self.asked.add(f"{method.upper()} {self.double.requests[-1].path}")
            if mocked.status_code != 200:
                self.refused.append(f"{method} {parts.path} {post_data}: {mocked.status_code} {mocked.text}")
        return answer


@pytest.fixture
def mirror() -> Mirror:
    return Mirror(StripeDouble(lambda: NOW_S), require(STRIPE_MOCK))


def test_stripe_mock_takes_every_request_of_the_gateway(mirror: Mirror) -> None:
    client = make_client("sk_test_double", api_base="https://api.stripe.example", http_client=mirror)
    gateway = StripeGateway(client, MemoryStore(), Settings(), no_wait_pace())
    rates = StripeGateway(client, MemoryStore(), Settings(taxes="rates"), no_wait_pace())
    card = client.v1.customers.create({"name": "Card", "invoice_settings": {"default_payment_method": "pm_card_visa"}})
    invoices = {name: make_invoice(name) for name in ("sent", "charged", "voided", "changed")}
    shares = (Decimal("0.21"), Decimal("0.42"), Decimal("0.62"))
    changed = invoices["changed"]
    taxed = zip(changed.lines, shares, strict=True)
    invoices["changed"] = replace(changed, lines=tuple(replace(line, tax=tax) for line, tax in taxed))
    charge = make_tenant("charged", stripe_customer=card.id, collection="charge_automatically")
    assert (
        gateway.push_invoice(invoices["sent"], make_tenant("sent", country="DE", address="Road 1")).outcome == "pushed"
    )
    assert gateway.push_invoice(invoices["charged"], charge).status == "paid"
    assert gateway.push_invoice(invoices["voided"], make_tenant("voided")).outcome == "pushed"
    mirror.double.faults.add(Fault("status", lambda _m, path: path.endswith("/finalize"), status=400, stored=False))
    assert gateway.push_invoice(invoices["changed"], make_tenant("changed")).outcome == "refused"
    assert rates.push_invoice(invoices["changed"], make_tenant("changed")).outcome == "pushed"
    mirror.double.dispute(mirror.double.account.all("invoice_payment")[0]["invoice"])
    for name, tenant in (("sent", make_tenant("sent")), ("charged", charge)):
        note = CreditNote(name, "2026-10", 1, Decimal("1.00"), Decimal(0), "EUR", "late usage", f"CN-{name}")
        assert push_credit_note(gateway, invoices[name], note, tenant).outcome == "credited"
    assert push_void(gateway, invoices["voided"], None, make_tenant("voided")).outcome == "voided"
    sync(gateway, lambda _update: None, NOW_S)
    sync(gateway, lambda _update: None, NOW_S)
    drift(gateway, list(invoices.values()), lines=True)
    client.v1.billing.meters.create({
        "display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"},
    })  # fmt: skip
    reading = MeterReading("card", card.id, "tokens", (NOW_S // 3600 - 2) * HOUR_US, 100)
    for value in (100, 140):
        push_meter_events(gateway, [replace(reading, value=value)], NOW_S)
    assert meter_drift(gateway, [replace(reading, value=140)]) == []
    assert mirror.refused == []
    kinds = {path.split("/")[-1] for path in mirror.asked}
    assert kinds >= {
        "customers", "invoices", "add_lines", "remove_lines", "lines", "finalize", "send", "pay", "void",
        "credit_notes", "events", "invoice_payments", "meter_events", "meter_event_adjustments", "event_summaries",
        "meters",
    }  # fmt: skip
