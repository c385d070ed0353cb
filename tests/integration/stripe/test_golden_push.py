"""Every invoice of the golden scenarios goes to Stripe with its exact total, its voids and its credit notes."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from billing.stripe_gateway import drift, push_book
from pipeline.catalog import parse_data
from schemas.instants import parse_instant
from tests.integration.stripe.kit import NOW_S, gateway_on
from tollhouse.closing import load_book
from tollhouse.simulate import ScenarioError, Simulation
from tollhouse.stripe_double import StripeDouble

SCENARIOS = Path(__file__).resolve().parents[2] / "golden" / "scenarios.jsonl"


def simulated(document: dict) -> Simulation | None:  # type: ignore[type-arg]
    catalog = parse_data(document["catalog"])
    if isinstance(catalog, list):
        return None
    simulation = Simulation(catalog, parse_instant(document["start"]))
    try:
        for number, step in enumerate(document["steps"]):
            simulation.step(number, step)
    except ScenarioError:
        return None
    return simulation


@pytest.mark.timeout(300)
@pytest.mark.parametrize("taxes", ["line", "rates"])
def test_every_golden_invoice_is_pushed_to_the_cent(taxes: str) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for text in SCENARIOS.read_text(encoding="utf-8").splitlines():
        scenario = json.loads(text)
        simulation = simulated(scenario.get("scenario", scenario))
        if simulation is None:
            continue
        book = simulation.ledger.read(load_book)
        tenants = simulation.ledger.context().catalog.tenants
        # Customers that only the scenario's Stripe knows are left to be made.
        pairs = [
            (i, replace(tenants[i.tenant], billing=replace(tenants[i.tenant].billing, stripe_customer=None)))
            for i in book.invoices
            if i.tenant in tenants
        ]
        gateway = gateway_on(StripeDouble(lambda: NOW_S), taxes=taxes)
        refused = set()
        for month in sorted({invoice.month for invoice, _ in pairs}):
            mine = [pair for pair in pairs if pair[0].month == month]
            summary = push_book(gateway, mine, [note for note in book.credit_notes if note.month == month])
            for result in (*summary.voids, *summary.month.results, *summary.notes):
                outcomes[result.outcome, result.reason] += 1
                if result.outcome == "refused":
                    refused.add((result.tenant, result.month))
        closed = [invoice for invoice, _ in pairs if invoice.status != "draft"]
        sent = [replace(i, status="pushed" if i.status == "finalised" else i.status) for i in closed]
        found = [d for d in drift(gateway, sent, lines=True) if (d.tenant, d.month) not in refused]
        # An invoice of nothing, or below the minimum charge, is paid at once: that is what a sync would bring back.
        assert [d for d in found if not (d.kind == "status" and d.theirs == "paid")] == [], scenario.get("id")
    assert outcomes["pushed", ""] > 100
    assert {key for key in outcomes if key[0] in ("refused", "failed")} <= {("refused", "not_exact")}
    # Three-decimal dinars that do not end in 0 are the only amounts that Stripe cannot say.
    assert outcomes["refused", "not_exact"] <= 2
