"""Reconciliation as a command and as a watch: reports from the providers, metered usage from the ledger."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from billing.provider_reports import CONNECTORS, Client, Connector, ReportError
from pipeline.leaks import PoolDetector
from pipeline.ledger import Connection, Ledger
from pipeline.ledger.detectors import KeptState, keep_states, load_states
from pipeline.ledger.key_history import WATCH, Residual, keep_residuals, key_tokens
from pipeline.ledger.metered import metered_rows
from pipeline.ledger.minutes import key_minutes
from pipeline.reconcile import CostLine, CostRow, Outcome, ReportRow, compare, compare_costs
from pipeline.watch import leak_alert
from schemas.catalog import Catalog, Key
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, QUARTER_US, format_instant
from schemas.money import plain
from schemas.tokens import TOKEN_CLASSES
from tollhouse.errors import UserError
from tollhouse.settings import Settings

POOL: Final = "pool:"
"""Before a pooled key's id in detector_states."""
WATCH_BACK_US: Final = 2 * DAY_US
"""How far back a watch that begins looks: the detector learns for a day before it tells anything."""
FEED_MAX_US: Final = DAY_US
"""One question for minutes covers a day at most."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """settled_us: up to where the report is taken as final; what is later was left out."""

    provider: str
    start_us: int
    settled_us: int
    outcome: Outcome
    costs: tuple[CostLine, ...]


def provider_keys(catalog: Catalog, provider: str) -> dict[str, str]:
    """The provider's id of each of its pooled keys to the catalog's id. UserError where none can be told."""
    keys: list[Key] = [key for key in catalog.keys.values() if key.provider == provider and key.kind == "pooled"]
    if not keys:
        raise UserError(f"the catalog has no pooled key of {provider}")
    nameless = [key.id for key in keys if key.provider_key_id is None]
    if nameless:
        raise UserError(f"give {', '.join(nameless)} their provider_key_id in the catalog: reports name keys by it")
    return {str(key.provider_key_id): key.id for key in keys}


def connect(settings: Settings, name: str) -> tuple[Connector, Client]:
    """The connector with its client. The admin key comes from the environment only."""
    made = CONNECTORS.get(name)
    if made is None:
        known = ", ".join(sorted(CONNECTORS))
        raise UserError(f"no usage reports are read from {name}: use {known}, or give a file with --csv", code=2)
    variable = made.key_variable
    key = settings.environment.get(variable, "")
    if not key:
        raise UserError(f"{variable} is not set: usage reports of {name} need an admin key in the environment")
    base = settings.environment.get(f"TOLLHOUSE_{name.upper().replace('-', '_')}_REPORTS_URL", "") or made.base
    client = Client(name, base, made.headers(key))
    return made(client), client


def from_provider(
    ledger: Ledger, connector: Connector, provider: str, start_us: int, end_us: int, now_us: int, settle_us: int | None
) -> Reconciled:
    """Reconcile what the provider reports for [start_us, end_us), as far as it has settled."""
    context = ledger.context()
    keys = provider_keys(context.catalog, provider)
    width_s = max(connector.finest_s, 3600 if connector.finest_s <= 3600 else 86_400)
    width_us = width_s * 1_000_000
    settle = connector.settle_us if settle_us is None else settle_us
    start_us, until_us = start_us // width_us * width_us, min(end_us, now_us - settle) // width_us * width_us
    if until_us <= start_us:
        raise UserError(
            f"nothing of this period has settled: {provider} reports late by {settle // MINUTE_US} minutes, in buckets "
            f"of {width_s // 60} (see --settle)"
        )
    report = connector.usage(start_us, until_us, width_s, list(keys))
    bill = connector.costs(start_us, until_us)
    return reconcile(
        ledger, provider, report, bill, keys, connector.has, start_us, until_us, by_key=connector.costs_by_key
    )


def reconcile(
    ledger: Ledger,
    provider: str,
    report: Sequence[ReportRow],
    bill: Iterable[CostRow],
    keys: Mapping[str, str],
    has: Sequence[str],
    start_us: int,
    end_us: int,
    *,
    by_key: bool = True,
) -> Reconciled:
    """Report and bill against the ledger. A bill comes by day, so costs are compared over whole days of it."""
    context = ledger.context()
    metered = ledger.read(lambda c: metered_rows(c, context, set(keys.values()), start_us, end_us))
    outcome = compare(report, metered, has=has, keys=keys)
    lines = list(bill)
    if lines:
        first, last = min(row.start_us for row in lines), max(row.end_us for row in lines)
        metered = ledger.read(lambda c: metered_rows(c, context, set(keys.values()), first, last))
    try:
        costs = compare_costs(lines, metered, keys, by_key=by_key)
    except ValueError as error:
        raise UserError(str(error)) from None
    _note_report(ledger, report, keys, start_us, end_us)
    return Reconciled(provider, start_us, end_us, outcome, tuple(costs))


def _note_report(
    ledger: Ledger, report: Sequence[ReportRow], keys: Mapping[str, str], start_us: int, end_us: int
) -> None:
    """Keep each key's residual for its page, by the report's own buckets; a file's odd ones cannot be metered."""
    widths = {row.end_us - row.start_us for row in report}
    if len(widths) != 1:
        return
    width_us = widths.pop()
    if width_us % QUARTER_US or (end_us - start_us) % width_us or start_us % QUARTER_US:
        return
    if any((row.start_us - start_us) % width_us for row in report):
        return
    metered = ledger.read(lambda c: key_tokens(c, None, start_us, end_us, width_us))
    reported: dict[tuple[str, int], int] = {}
    for row in report:
        at = (keys.get(row.key or "", ""), row.start_us)
        reported[at] = reported.get(at, 0) + sum(n for name, n in row.counts.items() if name in TOKEN_CLASSES)

    def work(connection: Connection) -> None:
        for key in keys.values():
            found = [
                Residual(at, at + width_us, reported.get((key, at), 0), metered.get((key, at), (0, 0))[0])
                for at in range(start_us, end_us, width_us)
            ]
            keep_residuals(connection, key, [row for row in found if row.reported or row.metered])

    ledger.write(work)


def reconciled_json(done: Reconciled) -> dict[str, Any]:
    """As `tollhouse reconcile --json` prints it."""
    return {
        "provider": done.provider,
        "from": format_instant(done.start_us),
        "to": format_instant(done.settled_us),
        "verdict": done.outcome.verdict,
        "rows": [
            {
                "key": line.key, "model": line.model, "class": line.meter, "reported": line.reported,
                "metered": line.metered, "difference": line.difference,
            }
            for line in done.outcome.lines
        ],
        "totals": [
            {
                "key": total.key, "reported": total.reported, "metered": total.metered,
                "difference": total.difference, "verdict": total.verdict,
            }
            for total in done.outcome.totals
        ],
        "costs": [
            {
                "key": cost.key, "model": cost.model, "billed": plain(cost.billed.amount),
                "reckoned": plain(cost.reckoned.amount), "currency": cost.billed.currency,
                "lines": [{"line": name, "amount": plain(money.amount)} for name, money in cost.lines],
            }
            for cost in done.costs
        ],
    }  # fmt: skip


def feed(ledger: Ledger, connector: Connector, provider: str, now_us: int, settle_us: int | None = None) -> list[str]:
    """Show the pool detectors the minutes that have settled since the last time; ids of new alerts.

    Each minute is shown once, after it has settled. The states are kept with the last minute, after the alerts are
    raised: a process that dies in between raises the same incident again, which is the same alert.
    """
    if connector.finest_s > 60:
        raise UserError(f"{provider} does not report by the minute: run `tollhouse reconcile` once a day instead")
    keys = provider_keys(ledger.context().catalog, provider)
    settle = connector.settle_us if settle_us is None else settle_us
    until_us = (now_us - settle) // MINUTE_US * MINUTE_US
    kept = _kept(ledger, keys.values())
    since = {key: kept[key].minute_us if key in kept else until_us - WATCH_BACK_US for key in keys.values()}
    raised: list[str] = []
    for from_us in range(min(since.values()), until_us, FEED_MAX_US):
        to_us = min(from_us + FEED_MAX_US, until_us)
        sums: dict[str, dict[int, int]] = {}
        for row in connector.usage(from_us, to_us, 60, list(keys)):
            key = keys.get(row.key or "", "")
            minutes = sums.setdefault(key, {})
            tokens = sum(n for name, n in row.counts.items() if name in TOKEN_CLASSES)
            minutes[row.start_us] = minutes.get(row.start_us, 0) + tokens
        for key, since_us in since.items():
            start_us = max(from_us, since_us)
            raised += _show(ledger, key, _kept(ledger, [key]).get(key), sums.get(key, {}), start_us, to_us, now_us)
    return raised


def _kept(ledger: Ledger, keys: Iterable[str]) -> dict[str, KeptState]:
    found = ledger.read(lambda c: load_states(c, [POOL + key for key in keys]))
    return {subject.removeprefix(POOL): state for subject, state in found.items()}


def _show(
    ledger: Ledger,
    key: str,
    kept: KeptState | None,
    reported: Mapping[int, int],
    start_us: int,
    to_us: int,
    now_us: int,
) -> list[str]:
    detector = PoolDetector(key) if kept is None else PoolDetector.from_state(dict(kept.state))
    metered = ledger.read(lambda c: key_minutes(c, key, start_us, to_us))
    findings = []
    hours: dict[int, Residual] = {}
    for minute_us in range(start_us, to_us, MINUTE_US):
        hour_us = minute_us - minute_us % HOUR_US
        before = hours.get(hour_us, Residual(hour_us, hour_us + HOUR_US, 0, 0, WATCH))
        hours[hour_us] = before._replace(
            reported=before.reported + reported.get(minute_us, 0), metered=before.metered + metered.get(minute_us, 0)
        )
        detector.meter(minute_us, metered.get(minute_us, 0))
        findings += detector.report(minute_us, reported.get(minute_us, 0), now_us)
    new = ledger.raise_alerts([leak_alert(finding) for finding in findings])

    def work(connection: Connection) -> None:
        # Together: what was shown once is added to its hour once.
        keep_states(connection, {POOL + key: KeptState(to_us, detector.state())})
        keep_residuals(connection, key, [row for row in hours.values() if row.reported or row.metered])

    ledger.write(work)
    return [alert.id for alert in new]


def watch(
    ledger: Ledger,
    connector: Connector,
    provider: str,
    now_us: Callable[[], int],
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
    settle_us: int | None = None,
) -> None:
    """Feed once a minute until interrupted; a report that cannot be had is told, and asked for again."""
    while True:
        try:
            for alert in feed(ledger, connector, provider, now_us(), settle_us):
                tell(f"alert {alert}")
        except ReportError as error:
            tell(str(error))
        sleep(60.0)


DEFAULT_SPAN_US: Final = 24 * HOUR_US
"""What `tollhouse reconcile` looks at unless told otherwise: the last settled day."""
