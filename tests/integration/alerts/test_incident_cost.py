"""What the use of a leaked key costs, as the alert says it."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from pipeline.watch import subject_of
from schemas.instants import MINUTE_US, SECOND_US, parse_instant
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import catalog, event
from tollhouse.alerting import incident_cost

SINCE_US = parse_instant("2026-10-03T10:07:00Z")
"""In the middle of a quarter of an hour."""
CALLS = 300


def delivery(number: int, at_us: int, tenant: str = "acme", key: str = "k1") -> Delivery:
    """A call of a million tokens in and half a million out: two dollars at the provider."""
    made = event(f"e{number}", subject=tenant, time_us=at_us, key=key, input=1_000_000, output=500_000)
    return Delivery(json.dumps(made).encode(), at_us + SECOND_US, Evidence("usage.events", 0, number, 0))


@pytest.fixture
def leaked(ledger: Ledger) -> Ledger:
    """CALLS calls with the leaked key in ten minutes; and what is not of the incident."""
    ledger.apply(catalog(), 0, "test")
    made = [delivery(n, SINCE_US + n * 2 * SECOND_US) for n in range(CALLS)]
    made.append(delivery(CALLS, SINCE_US - SECOND_US))
    made.append(delivery(CALLS + 1, SINCE_US + MINUTE_US, tenant="beta"))
    made.append(delivery(CALLS + 2, SINCE_US + MINUTE_US, key="k2"))
    ledger.take(made, SINCE_US + 30 * MINUTE_US)
    return ledger


ALERT = Alert(
    "leak:acme/k1/1", SINCE_US + 9 * MINUTE_US, "leak", "page", subject_of("acme", "k1"), "a leak",
    {"since_us": SINCE_US},
)  # fmt: skip


def test_the_cost_is_that_of_the_key_since_the_first_sign(leaked: Ledger) -> None:
    said = incident_cost(leaked, ALERT, SINCE_US + 12 * MINUTE_US)
    assert f"costs {Decimal(2 * CALLS):.2f} USD at the provider" in said
    assert f"about {Decimal(2 * CALLS * 6):.2f} USD an hour" in said


def test_it_is_summed_by_the_database(leaked: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that read the events one by one grew by half a gigabyte at a busy key, for each try of a sink."""
    fetched: list[int] = []
    read = leaked.read

    def counted(work: Callable[[Any], Any]) -> Any:
        found = read(work)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(leaked, "read", counted)
    assert incident_cost(leaked, ALERT, SINCE_US + 12 * MINUTE_US)
    assert fetched
    assert max(fetched) <= 3
