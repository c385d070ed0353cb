"""An installation of one directory without processes: a catalog, events straight into the ledger, a movable clock."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from schemas.instants import parse_instant
from schemas.usage_event import USAGE_TYPE, Delivery, Evidence
from tests.unit.cli.command import Result, tollhouse

CATALOG = """\
currency: EUR
seller: {name: Example Cloud Ltd, address: "1 Example Street, Dublin", country: IE, tax_id: IE1234567A}
tenants:
  acme:
    name: Acme GmbH
    tier: standard
    plan: team
    timezone: Europe/Berlin
    billing: {email: ap@acme.example, address: "Beispielweg 1, Berlin", country: DE, days_until_due: 14}
    quotas: [{name: daily, meter: tokens, limit: 5000000, window: day, action: block, alert_at: [0.5]}]
  bolt: {name: Bolt Inc, tier: standard, plan: team, timezone: America/New_York}
keys:
  pool-1: {provider: openai, kind: pooled}
plans:
  team:
    fee: {amount: "31.00", proration: daily}
    charges:
      - meter: input
        models: "gpt-5*"
        model: graduated
        per: 1000000
        tiers: [{up_to: 1000000, price: "2.00"}, {price: "1.00"}]
      - {meter: output, models: "gpt-5*", model: per_unit, price: "9.00", per: 1000000}
taxes: [{country: DE, rate: "0.19", name: VAT, inclusive: false}]
invoicing: {grace: 48h, adjust: next_invoice}
"""


class Installation:
    """Commands with --dir, events, and the clock."""

    def __init__(self, directory: Path, setenv: Callable[[str, str], None], database_url: str = "") -> None:
        self.dir = directory
        self.database_url = database_url or f"sqlite:///{self.database}"
        self.dir.mkdir()
        self._setenv = setenv
        self._offset = 0

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.dir / "tollhouse.db"

    def at(self, instant: str) -> "Installation":
        """Move the commands' clock."""
        self._setenv("TOLLHOUSE_CLOCK_OFFSET_S", str(parse_instant(instant) // 1_000_000 - int(time.time())))
        return self

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Result:
        """`tollhouse ARGUMENTS --dir DIR`."""
        return tollhouse(*arguments, "--dir", self.dir, stdin=stdin)

    def apply(self, text: str = CATALOG) -> Result:
        """Apply a catalog from standard input."""
        return self("apply", "-", stdin=text.encode())

    def take(self, *events: Mapping[str, Any]) -> None:
        """Count events as one message, each arriving a second after its time."""
        ledger = Ledger(self.database_url)
        for event in events:
            arrival_us = parse_instant(event["time"]) + 1_000_000
            place = Evidence("usage.events", 0, self._offset, 0)
            ledger.take([Delivery(json.dumps(event).encode(), arrival_us, place)], arrival_us)
            self._offset += 1
        ledger.close()


def event(name: str, at: str, tenant: str = "acme", model: str = "gpt-5-mini", **tokens: int) -> dict[str, Any]:
    """A usage event with token classes."""
    data = {"key": "pool-1", "provider": "openai", "model": model, "tokens": tokens}
    return {
        "specversion": "1.0", "type": USAGE_TYPE, "source": "proxy/eu-1", "id": name, "time": at, "subject": tenant,
        "data": data,
    }  # fmt: skip


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """A fresh one with the catalog applied on 1 October 2026, and nothing used."""
    made = Installation(tmp_path / "data", monkeypatch.setenv)
    result = made.at("2026-10-01T00:00:00Z").apply()
    assert result.code == 0, result
    assert "In force as version 1." in result.out
    return made


@pytest.fixture
def october(installation: Installation) -> Installation:
    """October with usage of two tenants; the clock stands in the grace period."""
    installation.take(
        event("a1", "2026-10-02T10:00:00Z", input=1_500_000, output=100_000),
        event("a2", "2026-10-20T10:00:00Z", input=500_000, output=100_000),
        event("a2", "2026-10-20T10:00:00Z", input=500_000, output=100_000),
        event("b1", "2026-10-05T10:00:00Z", "bolt", input=1_000_000),
    )
    return installation.at("2026-11-02T00:00:00Z")
