"""A month of 30 tenants is pushed, killed at every single boundary in turn, and started again."""

import pickle
from dataclasses import dataclass

import pytest

from billing.stripe_gateway import MemoryStore, drift, push_month
from tests.integration.stripe.kit import NOW_S, Killed, Switch, assert_month, gateway_on, make_invoice, make_tenant
from tollhouse.stripe_double import StripeDouble

pytestmark = pytest.mark.timeout(600)  # thousands of requests: a busy machine takes its time

TENANTS = 30
PAIRS = [
    (
        make_invoice(f"t{number:02d}", lines=1 + number % 4),
        make_tenant(f"t{number:02d}", collection="charge_automatically" if number % 3 == 0 else "send_invoice"),
    )
    for number in range(TENANTS)
]
INVOICES = [invoice for invoice, _ in PAIRS]


def clock_s() -> int:
    return NOW_S


def run(double: StripeDouble, store: MemoryStore, at: int | None) -> Switch:
    switch = Switch(at)
    push_month(gateway_on(double, store, switch), PAIRS)
    return switch


@dataclass
class Undisturbed:
    """One run without faults: the name of each boundary, and the state before each tenant, to start killed runs from.

    What lies before the tenant in whose push the kill falls is the same in each run, so it need not be repeated.
    """

    names: list[str]
    states: list[tuple[int, bytes]]

    def at(self, boundary: int) -> tuple[StripeDouble, MemoryStore, int]:
        """(double, store, boundaries still to pass) for a kill at this boundary."""
        passed, state = max((entry for entry in self.states if entry[0] < boundary), key=lambda entry: entry[0])
        account, records = pickle.loads(state)
        double, store = StripeDouble(clock_s), MemoryStore()
        double.account = account
        for key, record in records.items():
            store.put(key, record)
        return double, store, boundary - passed


@pytest.fixture(scope="module")
def undisturbed() -> Undisturbed:
    double, store, switch = StripeDouble(clock_s), MemoryStore(), Switch()
    gateway = gateway_on(double, store, switch)
    states = []
    for invoice, tenant in PAIRS:
        records = {key: store.get(key) for key in store.keys("")}
        states.append((len(switch.passed), pickle.dumps((double.account, records))))
        gateway.push_invoice(invoice, tenant)
        # A new process reads the customers anew; the first tenant's push shows that boundary.
        gateway = gateway_on(double, store, switch)
    return Undisturbed(switch.passed, states)


def killed_and_restarted(undisturbed: Undisturbed, at: int, *, lose_keys: bool) -> str:
    """Kill at the boundary, start anew over what is left, and check the month; the boundary's name."""
    double, store, left = undisturbed.at(at)
    with pytest.raises(Killed) as killed:
        run(double, store, left)
    if lose_keys:
        double.advance(86_400)
        double.prune_keys()
    run(double, store, None)
    assert_month(double, INVOICES)
    return str(killed.value)


def test_an_undisturbed_month_is_pushed_and_nothing_drifts() -> None:
    double, store = StripeDouble(lambda: NOW_S), MemoryStore()
    summary = push_month(gateway_on(double, store), PAIRS)
    assert summary.outcomes == {"pushed": TENANTS}
    assert_month(double, INVOICES)
    assert drift(gateway_on(double, store), INVOICES, lines=True) == []
    assert {seen.status for seen in double.requests} <= {200, 400}


SLICES = 8
"""The boundaries are dealt out to this many tests, so that each stays well below the time limit of one."""


def test_the_boundaries_are_all_kinds(undisturbed: Undisturbed) -> None:
    kinds = {tuple(name.split(" ")[:2]) for name in undisturbed.names}
    assert kinds == {(when, what) for when in ("before", "after") for what in ("post", "get", "put")}
    assert len(undisturbed.names) > TENANTS * 20


@pytest.mark.parametrize("part", range(SLICES))
def test_killed_at_every_boundary_ends_with_one_correct_invoice_each(undisturbed: Undisturbed, part: int) -> None:
    for at in range(part + 1, len(undisturbed.names) + 1, SLICES):
        assert killed_and_restarted(undisturbed, at, lose_keys=False) == undisturbed.names[at - 1]


def test_killed_and_started_again_after_the_keys_were_pruned(undisturbed: Undisturbed) -> None:
    """A day later Stripe has forgotten every idempotency key: only the look-up keeps an invoice single."""
    for at in range(1, len(undisturbed.names) + 1, 7):
        assert killed_and_restarted(undisturbed, at, lose_keys=True) == undisturbed.names[at - 1]


@pytest.mark.parametrize("lose_keys", [False, True], ids=["keys kept", "keys pruned"])
def test_the_store_is_lost_too_and_each_invoice_is_still_single(undisturbed: Undisturbed, lose_keys: bool) -> None:
    """A database put back from a backup: nothing is remembered, what exists at Stripe decides."""
    for at in range(5, len(undisturbed.names), 41):
        double, store, left = undisturbed.at(at)
        with pytest.raises(Killed):
            run(double, store, left)
        if lose_keys:
            double.advance(86_400)
        run(double, MemoryStore(), None)
        assert_month(double, INVOICES)
