"""The scenario runner: production code on a simulated clock, in memory, with no network (contract, section 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from billing.charges import month_charges
from billing.credits import balances
from billing.render import credit_json, credit_note_json, invoice_json
from pipeline.admission import DEFAULT_TTL_S, Ask, Decision, decision_json
from pipeline.alerting import Alert
from pipeline.catalog import diff, parse_data
from pipeline.ledger import Ledger, alerts
from pipeline.ledger.readers import BoundUsage
from pipeline.ledger.responses import respond
from pipeline.ledger.tables import rejected
from pipeline.response import response_to
from pipeline.watch import LeakWatch
from schemas.catalog import Catalog
from schemas.instants import format_instant, parse_instant
from schemas.money import decimal
from schemas.periods import month_of
from schemas.usage_event import USAGE_TYPE, Delivery, Evidence
from tollhouse.closing import load_book, run_tenant, terms_of, void_tenant
from tollhouse.quotas import quota_rows
from tollhouse.usage import usage_totals

TOPIC = "simulate"
DEFAULT_SOURCE = "simulate"


class ScenarioError(ValueError):
    """The scenario itself is wrong; the message says where."""


def run_scenario(document: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a scenario, as plain JSON data. ScenarioError for one that cannot be run."""
    if not isinstance(document, Mapping):
        raise ScenarioError("a scenario is an object with catalog, start and steps")
    unknown = set(document) - {"catalog", "start", "steps"}
    if unknown:
        raise ScenarioError(f"unknown member {min(unknown)!r}: a scenario has catalog, start and steps")
    catalog = _catalog(document.get("catalog"), "catalog")
    steps = document.get("steps")
    if not isinstance(steps, list):
        raise ScenarioError("steps: give a list")
    simulation = Simulation(catalog, _instant(document.get("start"), "start"))
    for number, step in enumerate(steps):
        simulation.step(number, step)
    return simulation.result()


def _catalog(data: object, path: str) -> Catalog:
    if not isinstance(data, Mapping):
        raise ScenarioError(f"{path}: give a catalog (an object)")
    catalog = parse_data(data)
    if isinstance(catalog, list):
        raise ScenarioError("\n".join(f"{path}.{error.path}: {error.message}" for error in catalog))
    return catalog


def _instant(value: object, path: str) -> int:
    try:
        return parse_instant(value) if isinstance(value, str) else _no(path, value)
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}") from None


def _no(path: str, value: object) -> int:
    raise ScenarioError(f"{path}: {value!r} is not a time like 2026-10-01T00:00:00Z")


@dataclass
class Simulation:
    """One run: a ledger in memory, a clock that steps move, and what was decided."""

    first_catalog: Catalog
    clock_us: int
    ledger: Ledger = field(default_factory=lambda: Ledger("sqlite://"))
    duplicates: int = 0
    decisions: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    reserved_by: dict[str, str] = field(default_factory=dict)
    watch: LeakWatch = field(default_factory=LeakWatch)

    def __post_init__(self) -> None:
        self.ledger.create()
        self.ledger.apply(self.first_catalog, self.clock_us, "scenario")

    def step(self, number: int, step: object) -> None:
        """Move the clock and do what the step says."""
        path = f"steps[{number}]"
        if not isinstance(step, Mapping):
            raise ScenarioError(f"{path}: a step is an object with at and one action")
        at_us = _instant(step.get("at"), f"{path}.at")
        if at_us < self.clock_us:
            raise ScenarioError(f"{path}.at: the clock must not go back from {format_instant(self.clock_us)}")
        self._move(at_us)
        actions = [name for name in step if name != "at"]
        if len(actions) != 1 or actions[0] not in _ACTIONS:
            raise ScenarioError(f"{path}: give exactly one of {', '.join(sorted(_ACTIONS))}")
        name = actions[0]
        if name != "events" and not isinstance(step[name], Mapping):
            raise ScenarioError(f"{path}.{name}: give an object")
        try:
            _ACTIONS[name](self, number, step[name])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ScenarioError):
                raise
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
            raise ScenarioError(f"{path}.{name}: {what}") from None

    def _move(self, at_us: int) -> None:
        self.clock_us = at_us
        self.ledger.sweep(at_us)

    def _refuse(self, number: int, reason: str) -> None:
        self.refused.append({"step": number, "reason": reason})

    def event(self, number: int, event: Mapping[str, Any]) -> None:
        """One event arrives."""
        self.events(number, [event])

    def events(self, number: int, events: object) -> None:
        """Several events arrive together, as one message."""
        if not isinstance(events, list):
            raise ScenarioError(f"steps[{number}].events: give a list")
        deliveries = [
            Delivery(_event_bytes(event), self.clock_us, Evidence(TOPIC, 0, self.offset, index))
            for index, event in enumerate(events)
        ]
        self.offset += 1
        recorded = self.ledger.take(deliveries, self.clock_us)
        self.duplicates += recorded.duplicates
        for alert in self.ledger.raise_alerts(self.watch.add(recorded.minutes)):
            self._answer(alert)

    def _answer(self, alert: Alert) -> None:
        """Do what the catalog says about a leak of page level, as the worker does."""
        catalog = self.ledger.context().catalog
        response = response_to(alert.kind, alert.severity, alert.subject, alert.facts, catalog)
        if response is not None:
            self.ledger.write(lambda c: respond(c, alert.id, 1, response, self.clock_us, None))

    def authorize(self, _number: int, ask: Mapping[str, Any]) -> None:
        """A proxy asks."""
        estimate = {meter: decimal(value) for meter, value in (ask.get("estimate") or {}).items() if value is not None}
        asked = Ask(
            str(ask["id"]), str(ask["tenant"]), str(ask["model"]), estimate, int(ask.get("ttl_s", DEFAULT_TTL_S))
        )
        decision = self.ledger.authorize(asked, self.clock_us)
        if decision.allowed:
            self.reserved_by[decision.id] = decision.tenant
        self.decisions.append(decision_json(decision))

    def settle(self, _number: int, what: Mapping[str, Any]) -> None:
        """A reservation is released without usage."""
        name = str(what["reservation"])
        self.ledger.release(self.reserved_by.get(name, ""), name)

    def authenticate(self, _number: int, what: Mapping[str, Any]) -> None:
        """A token is checked; a scenario has no signing keys, so none of them can have signed it."""
        from tollhouse.tokens import TokenRefused, verify  # noqa: PLC0415 - only scenarios with tokens pay for PyJWT

        try:
            claims = verify(str(what["token"]), {}, self.clock_us)
            decision = Decision(str(what["id"]), allowed=True, reason="ok", tenant=claims.tenant)
        except TokenRefused as no:
            decision = Decision(str(what["id"]), allowed=False, reason=no.reason, tenant="")
        self.decisions.append(decision_json(decision))

    def apply(self, number: int, data: Mapping[str, Any]) -> None:
        """A whole new catalog."""
        catalog = parse_data(data)
        if isinstance(catalog, list):
            self._refuse(number, "; ".join(f"{error.path}: {error.message}" for error in catalog))
            return
        changes = diff(self.ledger.context().catalog, catalog, self.clock_us)
        if refused := [f"{change.path}: {change.warning}" for change in changes if change.refused]:
            self._refuse(number, "; ".join(refused))
            return
        self.ledger.apply(catalog, self.clock_us, "scenario")

    def key(self, number: int, what: Mapping[str, Any]) -> None:
        """A key changes its state."""
        name = str(what["id"])
        if name not in self.ledger.context().catalog.keys:
            self._refuse(number, f"{name!r} is no key of the catalog")
            return
        self.ledger.set_key_state(name, str(what["state"]), self.clock_us, "scenario")

    def invoice(self, number: int, what: Mapping[str, Any]) -> None:
        """A billing run over all tenants, or one."""
        month = str(what["month"])
        tenants = [str(what["tenant"])] if what.get("tenant") else list(self.ledger.context().catalog.tenants)
        for tenant in tenants:
            outcome = run_tenant(self.ledger, tenant, month, self.clock_us, finalise=bool(what.get("finalise")))
            if outcome.refused:
                self._refuse(number, outcome.refused)

    def void_invoice(self, number: int, what: Mapping[str, Any]) -> None:
        """A closed invoice is voided."""
        outcome = void_tenant(self.ledger, str(what["tenant"]), str(what["month"]), self.clock_us, "voided")
        if outcome.refused:
            self._refuse(number, outcome.refused)

    def result(self) -> dict[str, Any]:
        """Everything as it is at the final clock; drafts are recomputed."""
        for draft in [i for i in self.ledger.read(load_book).invoices if i.status == "draft"]:
            run_tenant(self.ledger, draft.tenant, draft.month, self.clock_us, finalise=False)
        book = self.ledger.read(load_book)
        catalog = self.ledger.context().catalog
        return {
            "usage": usage_totals(self.ledger),
            "duplicates": self.duplicates,
            "rejected": [
                {"source": row["source"], "id": row["id"], "reason": row["reason"], "detail": row["detail"]}
                for row in self.ledger.rows(rejected, order=[rejected.c.n])
            ],
            "unrated": self._unrated(),
            "decisions": self.decisions,
            "alerts": [_alert(row) for row in self.ledger.read(alerts.list_alerts)],
            "quotas": quota_rows(self.ledger, self.clock_us),
            "invoices": [invoice_json(i) for i in sorted(book.invoices, key=lambda i: (i.tenant, i.month, i.revision))],
            "credits": [
                credit_json(balance, _currency(catalog, balance.tenant))
                for balance in balances(catalog.credits, book, self.clock_us)
            ],
            "credit_notes": [credit_note_json(note) for note in book.credit_notes],
            "refused": self.refused,
        }

    def _unrated(self) -> list[dict[str, Any]]:
        """What no price covers, in months that are still open."""
        context = self.ledger.context()
        terms = terms_of(context.version, context.catalog)
        book = self.ledger.read(load_book)
        found = []
        for tenant in context.catalog.tenants.values():
            rows = self.ledger.usage.rows(tenant.id, 0, self.clock_us + 366 * 86_400 * 1_000_000)
            months = sorted({month_of(row.time_us, tenant.timezone) for row in rows})
            for month in months:
                live = book.live(tenant.id, month)
                if live is not None and live.status != "draft":
                    continue
                charges = self.ledger.read(
                    lambda c, t=tenant.id, m=month: month_charges(terms, t, m, BoundUsage(c))  # type: ignore[misc]
                )
                for model, meter in charges.unrated:
                    entry = {"tenant": tenant.id, "model": model, "meter": meter}
                    if entry not in found:
                        found.append(entry)
        return found


_ACTIONS: dict[str, Callable[[Simulation, int, Any], None]] = {
    "event": Simulation.event,
    "events": Simulation.events,
    "authorize": Simulation.authorize,
    "settle": Simulation.settle,
    "authenticate": Simulation.authenticate,
    "apply": Simulation.apply,
    "key": Simulation.key,
    "invoice": Simulation.invoice,
    "void_invoice": Simulation.void_invoice,
}


def _event_bytes(event: object) -> bytes:
    if isinstance(event, Mapping):
        event = {"specversion": "1.0", "type": USAGE_TYPE, "source": DEFAULT_SOURCE, **event}
    return _EVENT.encode(event)


def _no_form(value: object) -> object:
    raise ScenarioError(f"an event holds {value!r}, which JSON has no form for: quote it")


# The scenario is read with exact decimals; an event's numbers are JSON numbers again.
_EVENT = msgspec.json.Encoder(decimal_format="number", enc_hook=_no_form)


def _currency(catalog: Catalog, tenant: str) -> str:
    found = catalog.tenants.get(tenant)
    return found.currency if found else catalog.currency


def _alert(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": format_instant(row["first_us"]),
        "kind": row["kind"],
        "severity": row["severity"],
        "subject": row["subject"],
        "detail": row["detail"],
    }
