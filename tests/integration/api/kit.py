"""An API over a fresh ledger, with tokens for every kind of caller and a publisher that remembers."""

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from schemas.catalog import Catalog
from schemas.instants import format_instant
from schemas.usage_event import Delivery, Evidence
from tollhouse.api.app import make_app
from tollhouse.settings import Settings
from tollhouse.tokens import Claims
from tollhouse.tokens.issue import issue
from tollhouse.tokens.keys import signing_key

NOW_US = 1_793_527_200_000_000
"""2026-11-01T10:00:00Z."""

CATALOG: dict[str, Any] = {
    "currency": "USD",
    "seller": {"name": "Example Cloud Ltd", "address": "1 Example Street, Dublin", "country": "IE"},
    "tenants": {
        "acme": {
            "name": "Acme GmbH",
            "plan": "team",
            "models": ["gpt-5*", "claude-*"],
            "quotas": [
                {"name": "daily", "meter": "cost", "limit": "50.00", "window": "day"},
                {"name": "burst", "meter": "requests", "limit": 5, "window": "minute"},
            ],
        },
        "globex": {
            "plan": "team",
            "quotas": [{"name": "monthly", "meter": "tokens", "limit": 10000, "window": "month"}],
        },
        "a/b c": {"name": "A tenant whose id needs quoting", "plan": "team"},
    },
    "keys": {
        "openai-pool-1": {"provider": "openai", "kind": "pooled"},
        "openai-pool-2": {"provider": "openai", "kind": "pooled", "requests_per_minute": 5000},
    },
    "plans": {
        "team": {
            "fee": {"amount": "49.00"},
            "charges": [{"meter": "tokens", "models": "*", "model": "per_unit", "price": "2.00", "per": 1000000}],
        }
    },
}


def catalog(**over: Any) -> Catalog:
    """The kit's catalog, with sections replaced."""
    found = parse_data({**CATALOG, **over})
    assert isinstance(found, Catalog), found
    return found


@dataclass
class Publisher:
    """Remembers what it is given; answers or not, as told."""

    events: list[dict[str, Any]] = field(default_factory=list)
    answers: bool = True
    error: Exception | None = None

    def publish(self, event: dict[str, Any], /) -> int:
        if self.error is not None:
            raise self.error
        self.events.append(event)
        return len(self.events)

    def wait(self, position: int, timeout_s: float) -> bool:
        return self.answers

    def close(self, timeout_s: float = 10.0) -> int:
        return 0


class House:
    """One installation under test."""

    def __init__(self, url: str, directory: Path, **settings: Any) -> None:
        self.settings = Settings(dir=directory, database_url=url, **settings)
        self.ledger = Ledger(url)
        self.ledger.create()
        self.now_us = NOW_US
        self.ledger.apply(catalog(), NOW_US - 40 * 86_400_000_000, "test")
        self.publisher = Publisher()
        self.app = make_app(self.settings, self.ledger, lambda: self.now_us, self.publisher)
        self.client = TestClient(self.app, raise_server_exceptions=False, follow_redirects=False)

    def token(self, kind: str, subject: str = "x", **claims: Any) -> str:
        """A good token for an hour from now."""
        key = signing_key(self.settings, self.ledger, self.now_us)
        made = Claims(kind, subject, str(uuid.uuid4()), self.now_us, self.now_us + 3_600_000_000, **claims)
        return issue(key, made)

    def as_(self, kind: str, subject: str = "x", **claims: Any) -> dict[str, str]:
        """Headers of a caller."""
        return {"Authorization": f"Bearer {self.token(kind, subject, **claims)}"}

    def proxy(self) -> dict[str, str]:
        return self.as_("proxy", "eu-1")

    def operator(self, role: str) -> dict[str, str]:
        return self.as_("operator", "ada", role=role)

    def tenant(self, name: str) -> dict[str, str]:
        return self.as_("tenant", name)

    def ask(self, tenant: str = "acme", model: str = "gpt-5-mini", **body: Any) -> Any:
        """A proxy's authorize call for a tenant."""
        token = body.pop("token", None) or self.token("tenant", tenant)
        return self.client.post("/v1/authorize", json={"token": token, "model": model} | body, headers=self.proxy())

    def event(self, id_: str = "e1", tenant: str = "acme", **data: Any) -> dict[str, Any]:
        """A usage event of now."""
        return {
            "specversion": "1.0",
            "id": id_,
            "source": "proxy/eu-1",
            "type": "com.tollhouse.usage.v1",
            "time": format_instant(self.now_us),
            "subject": tenant,
            "data": {"key": "openai-pool-1", "provider": "openai", "model": "gpt-5-mini",
                     "tokens": {"input": 1000, "output": 200}} | data,
        }  # fmt: skip

    def count(self, *events: dict[str, Any]) -> None:
        """Count events in the ledger, as the worker does."""
        offset = uuid.uuid4().int % 2**40
        deliveries = [
            Delivery(json.dumps(event).encode(), self.now_us, Evidence("usage.events", 0, offset, n))
            for n, event in enumerate(events)
        ]
        recorded = self.ledger.take(deliveries, self.now_us)
        assert not recorded.rejected, recorded.rejected

    def close(self) -> None:
        self.client.close()
        self.ledger.close()
