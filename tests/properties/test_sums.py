"""Usage and invoices are the same from single events, quarters of an hour, days and months, whatever came when.

A seeded story of months: events late and corrected, time zones that change, prices that change in the middle of a
quarter, request sizes that are told apart later, and sums made at any time. A failure names its seed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from billing.adjustments import rated_again
from billing.charges import MonthCharges, month_charges
from pipeline.ledger import Ledger
from pipeline.ledger.compaction import differences
from pipeline.ledger.evidence import AsOfUsage
from pipeline.ledger.key_usage import key_users
from pipeline.ledger.metered import metered_rows
from pipeline.ledger.reach import reaches
from pipeline.ledger.readers import BoundUsage
from pipeline.ledger.sums import zones_of
from pipeline.ledger.tables import events, rollup_days, rollup_months
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, QUARTER_US, format_instant, parse_instant
from schemas.money import EXACT
from schemas.periods import local_date
from schemas.tokens import CLASSES, total_tokens
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import catalog, event, ref
from tollhouse.closing import load_book, load_summaries, rated_months, run_tenants, terms_for, terms_of
from tollhouse.usage import token_counts, totals

START_US = parse_instant("2026-08-20T00:00:00Z")
MONTHS = ("2026-07", "2026-08", "2026-09", "2026-10", "2026-11")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")
CHARGES: list[dict[str, Any]] = [
    {
        "meter": "input",
        "models": "n",
        "model": "graduated",
        "tiers": [{"up_to": 900, "price": "0.3"}, {"price": "0.2"}],
    },
    {"meter": "requests", "models": "*", "model": "package", "size": 3, "price": "0.01"},
    {"meter": "cost", "models": "*", "model": "markup", "markup": "0.20"},
]
PLANS = {
    "p": {"charges": CHARGES, "allowances": [{"meter": "tokens", "models": "*", "amount": 4000}]},
    "q": {"charges": CHARGES},
}


def price(model: str, since: str, output: str, **more: Any) -> dict[str, Any]:
    """A provider's price, for a million."""
    return {
        "provider": "openai", "model": model, "from": since, "per": 1_000_000, "input": "1.00", "output": output,
        "cache_read": "0.10", **more,
    }  # fmt: skip


@dataclass
class Story:
    """A ledger that things happen to, one after another."""

    ledger: Ledger
    rng: Random
    now_us: int = START_US
    number: int = 0
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: list[dict[str, Any]] = field(default_factory=list)
    known: list[tuple[str, str]] = field(default_factory=list)
    closed: int = 0

    def begin(self) -> None:
        """Three tenants: one with an allowance, one without, one with its own key."""
        self.tenants = {
            name: {"plan": plan, "timezone": self.rng.choice(ZONES)} for name, plan in (("acme", "p"), ("beta", "q"))
        }
        self.tenants["own"] = {"plan": "p", "tier": "byok"}
        self.prices = [price("m", "2026-01-01", "2.00"), price("n", "2026-01-01", "3.00")]
        self.prices += [price("m", "2026-08-27", "5.00"), price("n", "2026-09-17T06:15:00Z", "1.50")]
        self.apply()

    def apply(self) -> None:
        """The catalog as it is now."""
        document = catalog(tenants=self.tenants, plans=PLANS, provider_prices=self.prices)
        self.ledger.apply(document, self.now_us, "test")

    def happen(self) -> None:
        """One of the things that can happen."""
        what = self.rng.choices(
            (self.usage, self.correction, self.compact, self.new_price, self.move, self.wait, self.close),
            (9, 3, 5, 1, 1, 5, 2),
        )
        what[0]()

    def usage(self) -> None:
        """A batch of calls, most of now, some of the weeks before."""
        batch = []
        for _ in range(self.rng.randrange(1, 12)):
            self.number += 1
            name, tenant = f"e{self.number}", self.rng.choice(("acme", "beta", "own"))
            age_us = self.rng.choice((0, HOUR_US, 3 * DAY_US, 20 * DAY_US)) + self.rng.randrange(20 * MINUTE_US)
            self.known.append((tenant, name))
            batch.append(
                event(
                    name,
                    subject=tenant,
                    time_us=self.now_us - age_us,
                    key="mine" if tenant == "own" else self.rng.choice(("k1", "k2")),
                    model="unpriced" if tenant == "beta" and self.rng.random() < 0.05 else self.rng.choice("mmn"),
                    status=self.rng.choice(("ok", "ok", "ok", "error")),
                    cache_hit=self.rng.random() < 0.1,
                    tokens={"input": self.rng.randrange(1, 400), "output": self.rng.randrange(90)},
                )
            )
        self.take(batch)

    def correction(self) -> None:
        """An event of any age is taken back or replaced."""
        if not self.known:
            return
        self.number += 1
        tenant, name = self.rng.choice(self.known)
        if self.rng.random() < 0.5:
            made = event(f"v{self.number}", subject=tenant, time_us=self.now_us, kind="void", voids=ref(name))
        else:
            self.known.append((tenant, f"r{self.number}"))
            made = event(
                f"r{self.number}",
                subject=tenant,
                time_us=self.now_us,
                key="mine" if tenant == "own" else "k1",
                model="m",
                replaces=ref(name),
                tokens={"input": self.rng.randrange(1, 400), "cache_read": self.rng.randrange(50)},
            )
        self.take([made])

    def take(self, batch: list[dict[str, Any]]) -> None:
        """They arrive."""
        offset = self.now_us // 1000
        deliveries = [
            Delivery(json.dumps(one).encode(), self.now_us, Evidence("t", 0, offset, item))
            for item, one in enumerate(batch)
        ]
        self.ledger.take(deliveries, self.now_us)
        self.now_us += MINUTE_US

    def compact(self) -> None:
        """Sums are made, all or some of those that are due."""
        self.ledger.compact(self.now_us, self.rng.choice((1, None)))

    def new_price(self) -> None:
        """A price of another instant, perhaps in the middle of a quarter or in the past; or for large requests."""
        grain_us = self.rng.choice((MINUTE_US, QUARTER_US, DAY_US))
        since_us = (self.now_us + self.rng.randrange(-20 * DAY_US, 3 * DAY_US)) // grain_us * grain_us
        large = {"over_input": self.rng.choice((150, 250))} if self.rng.random() < 0.4 else {}
        cost = f"{self.rng.randrange(1, 9)}.50"
        self.prices.append(price(self.rng.choice("mn"), format_instant(since_us), cost, **large))
        self.apply()

    def move(self) -> None:
        """A tenant's clock is another one."""
        self.tenants[self.rng.choice(("acme", "beta"))]["timezone"] = self.rng.choice(ZONES)
        self.apply()

    def close(self) -> None:
        """A month of the past is invoiced, and closed if it can be."""
        month = self.rng.choice([name for name in MONTHS if name < format_instant(self.now_us)[:7]])
        for _, outcome in run_tenants(self.ledger, list(self.tenants), month, self.now_us, finalise=True):
            self.closed += outcome.invoice is not None and outcome.invoice.status != "draft"

    def wait(self) -> None:
        """Time passes."""
        self.now_us += self.rng.choice((HOUR_US, 9 * HOUR_US, 2 * DAY_US, 9 * DAY_US))


def play(ledger: Ledger, seed: int, steps: int) -> Story:
    """A whole story, compared at some of its turns and at its end."""
    ledger.create()
    story = Story(ledger, Random(seed))
    story.begin()
    for step in range(steps):
        story.happen()
        if step % 17 == 0:
            agrees(story)
    story.ledger.compact(story.now_us)
    agrees(story)
    return story


def agrees(story: Story) -> None:
    """Everything that is read from sums is what single events say."""
    assert story.ledger.read(lambda connection: list(differences(connection))) == []
    choices = ((), ("tenant",), ("tenant", "month"), ("key", "model", "day"), ("day", "month"), ("service_tier",))
    period = story.rng.choice(((None, None), (START_US + 3 * DAY_US, START_US + 40 * DAY_US + 77)))
    for by in choices:
        found = totals(story.ledger, by, start_us=period[0], end_us=period[1])
        shown = {k: (t.classes, t.requests, t.errors, t.cost) for k, t in found.items() if t.requests or t.errors}
        assert shown == one_by_one(story, by, period), by
    for by in (("tenant",), ("day",), ("day", "model"), ("tenant", "month")):
        for tenant in (None, "acme"):
            use = token_counts(story.ledger, by, tenant=tenant, start_us=period[0])
            full = totals(story.ledger, by, tenant=tenant, start_us=period[0])
            sums = {group: total_tokens(tuple(total.classes)) for group, total in full.items()}
            assert _without_zeros(use) == _without_zeros(sums), (by, tenant)
    single = totals(story.ledger, ("month",), tenant="acme")
    whole = totals(story.ledger, ("tenant", "month"))
    assert single == {(month,): total for (tenant, month), total in whole.items() if tenant == "acme"}
    for tenant in story.tenants:
        for month in MONTHS:
            assert invoiced(story, tenant, month, sums=True) == invoiced(story, tenant, month, sums=False)
    story.ledger.write(lambda connection: remembers(connection, story))
    zones = zones_of(story.ledger.context())
    users = story.ledger.read(lambda connection: key_users(connection, zones, "k1", 0))
    by_tenant = totals(story.ledger, ("tenant",), key="k1")
    assert {(user.tenant,): (user.requests, user.errors) for user in users} == {
        group: (total.requests, total.errors) for group, total in by_tenant.items()
    }
    metered = story.ledger.read(lambda c: metered_rows(c, story.ledger.known_context(), ("k1", "k2"), 0, 2**60))
    by_model = totals(story.ledger, ("key", "model"))
    assert {
        (row.key, row.model): (list(row.classes), row.requests, row.cost.amount)
        for row in metered
        if row.model != "unpriced"
    } == {
        (key, model): (total.classes, total.requests, total.cost)
        for (key, model), total in by_model.items()
        if key != "mine" and (total.requests or any(total.classes)) and model != "unpriced"
    }
    assert token_counts(story.ledger, ("tenant",), key="k1") == {(user.tenant,): user.tokens for user in users}
    invoices = story.ledger.read(load_book).invoices
    summed = {(i.tenant, i.month, i.revision): i for i in story.ledger.read(load_summaries)}
    assert len(summed) == len(invoices)
    for invoice in invoices:
        short = summed[invoice.tenant, invoice.month, invoice.revision]
        assert (short.status, short.number, short.held) == (invoice.status, invoice.number, invoice.held)
        assert (short.subtotal, short.tax, short.total) == (invoice.subtotal, invoice.tax, invoice.total)
        assert short.by_type() == invoice.by_type()


def _without_zeros(counts: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    return {group: count for group, count in counts.items() if count}


def remembers(connection: Any, story: Story) -> None:
    """What is kept of closed months is what they come to, worked out anew from single events."""
    known = reaches(connection)
    for tenant in story.tenants:
        book = load_book(connection, tenant)
        terms = terms_for(connection, book)
        kept = rated_months(connection, book.of_tenant(tenant), terms, BoundUsage(connection, known), known)
        with localcontext(EXACT):
            for invoice in book.of_tenant(tenant):
                found = kept.get((tenant, invoice.month, invoice.revision))
                if found is not None:
                    anew = rated_again(invoice, terms, terms[max(terms)], AsOfUsage(connection, 2**62))
                    assert found == anew[0]


def one_by_one(
    story: Story, by: tuple[str, ...], period: tuple[int | None, int | None]
) -> dict[tuple[str, ...], tuple[list[int], int, int, Decimal | None]]:
    """The totals, event by event, each at the price of its own instant."""
    prices = story.ledger.context().prices
    found: dict[tuple[str, ...], list[Any]] = defaultdict(lambda: [[0] * len(CLASSES), 0, 0, Decimal(0)])
    rows = story.ledger.rows(events, events.c.state == "counted", events.c.kind == "usage")
    with localcontext(EXACT):
        for row in rows:
            at_us = row["time_us"]
            if not (period[0] or at_us) <= at_us < (period[1] or at_us + 1):
                continue
            day = local_date(at_us, story.tenants[row["tenant"]].get("timezone", "UTC")).isoformat()
            names = {**row, "day": day, "month": day[:7]}
            total = found[tuple(names[name] for name in by)]
            total[1] += row["requests"]
            total[2] += row["status"] == "error"
            if row["cache_hit"] or row["status"] == "error":
                continue
            counts = tuple(row[name] for name in CLASSES)
            total[0] = [a + b for a, b in zip(total[0], counts, strict=True)]
            if row["pooled"] and total[3] is not None:
                kind = (row["provider"], row["model"], row["service_tier"], at_us, row["size_band"], counts)
                cost = prices.cost(*kind)
                total[3] = None if cost.unpriced else total[3] + cost.amount
    return {key: (t[0], t[1], t[2], t[3]) for key, t in found.items()}


def invoiced(story: Story, tenant: str, month: str, *, sums: bool) -> MonthCharges:
    """The month's charges, from the longest sums that there are or from single events alone."""
    context = story.ledger.context()
    terms = terms_of(context.version, context.catalog)

    def work(connection: Any) -> MonthCharges:
        source = BoundUsage(connection) if sums else AsOfUsage(connection, 2**62)
        return month_charges(terms, tenant, month, source)

    with localcontext(EXACT):
        return story.ledger.read(work)


@pytest.mark.parametrize("seed", range(6))
def test_sums_of_any_length_say_what_single_events_say(seed: int) -> None:
    ledger = Ledger("sqlite://")
    story = play(ledger, seed, 60)
    counted = ledger.read(lambda c: [c.execute(select(func.count()).select_from(t)).scalar_one() for t in SUMMED])
    assert story.closed
    assert all(counted), "the story had no day or no month to sum up"
    ledger.close()


SUMMED = (rollup_days, rollup_months)


def test_sums_of_any_length_say_what_single_events_say_on_both_databases(database_url: str) -> None:
    ledger = Ledger(database_url)
    play(ledger, 100, 40)
    ledger.close()
