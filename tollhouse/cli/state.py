"""`tollhouse quotas` and `tollhouse alerts`: the state of each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.plots import alerts_plot
from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, print_table, settings_of
from tollhouse.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.ledger import Ledger
    from tollhouse import incidents


@click.command()
@dir_option
@json_option
@click.option("--tenant", help="One tenant; default all.")
@click.option("--check", is_flag=True, help="Compare every window with a recount of the ledger and the open holds.")
@click.option("--repair", is_flag=True, help="With --check: put right what differs.")
def quotas(directory: Path | None, as_json: bool, tenant: str | None, check: bool, repair: bool) -> None:  # noqa: FBT001
    """Quota windows as they are now.

    \b
    Example:
      tollhouse quotas --tenant acme
      tollhouse quotas --check --repair
    """
    from tollhouse.quotas import quota_rows

    settings = settings_of(directory)
    if repair and not check:
        raise UserError("--repair puts right what --check finds: give both", code=2)
    if check and tenant is not None:
        raise UserError("--check compares the windows of all tenants: leave --tenant out", code=2)
    ledger = open_ledger(settings)
    if check:
        _check(ledger, now_us() + settings.clock_offset_s * 1_000_000, as_json=as_json, repair=repair)
        return
    if tenant is not None and tenant not in ledger.context().catalog.tenants:
        raise UserError(f"--tenant {tenant}: no such tenant in the catalog")
    rows = quota_rows(ledger, now_us() + settings.clock_offset_s * 1_000_000, tenant)
    if as_json:
        print_json({"quotas": rows})
    else:
        columns = ("tenant", "name", "used", "reserved", "limit", "window_start", "window_end")
        print_table(columns, [[row[name] for name in columns] for row in rows])


def _check(ledger: "Ledger", at_us: int, *, as_json: bool, repair: bool) -> None:
    from tollhouse.quotas import quota_check

    found = quota_check(ledger, at_us, "cli", repair=repair)
    drifts = found["drifts"]
    if as_json:
        print_json(found)
    else:
        columns = ("scope", "name", "window_start", "used", "counted", "reserved", "held")
        print_table(columns, [[row[name] for name in columns] for row in drifts])
        verdict = "all agree with the ledger" if not drifts else f"{len(drifts)} {'repaired' if repair else 'differ'}"
        click.echo(f"{found['windows']} windows compared: {verdict}", err=True)
    if drifts and not repair:
        raise UserError(f"{len(drifts)} quota windows differ from the ledger: run `tollhouse quotas --check --repair`")


@click.group()
def alerts() -> None:
    """Alerts: list, plot, ack, mute, resolve, deliveries, test, drill."""


alerts.add_command(alerts_plot)


@alerts.command("list")
@dir_option
@json_option
@click.option("--state", type=click.Choice(["open", "acked", "resolved"]), help="Default all.")
def list_command(directory: Path | None, as_json: bool, state: str | None) -> None:  # noqa: FBT001
    """List alerts, the oldest first.

    \b
    Example:
      tollhouse alerts list --state open
    """
    from pipeline.ledger.alerts import list_alerts
    from schemas.instants import format_instant

    ledger = open_ledger(settings_of(directory))
    found: list[dict[str, Any]] = ledger.read(lambda connection: list_alerts(connection, state=state))
    rows = [
        {
            "id": row["id"],
            "at": format_instant(row["first_us"]),
            "last": format_instant(row["last_us"]),
            "kind": row["kind"],
            "severity": row["severity"],
            "subject": row["subject"],
            "state": row["state"],
            "count": row["count"],
            "detail": row["detail"],
            "facts": row["facts"],
        }
        for row in found
    ]
    if as_json:
        print_json({"alerts": rows})
    else:
        columns = ("at", "kind", "severity", "subject", "state", "count", "id", "detail")
        print_table(columns, [[row[name] for name in columns] for row in rows])


@alerts.command()
@click.argument("alert")
@dir_option
@click.option("--feedback", type=click.Choice(["expected", "leak"]), help="What it turned out to be.")
def ack(alert: str, directory: Path | None, feedback: str | None) -> None:
    """Acknowledge an alert.

    \b
    Example:
      tollhouse alerts ack leak:acme/openai-pool-1:… --feedback leak
    """
    from tollhouse import incidents

    _change(directory, alert, lambda ledger, who, at_us: incidents.ack(ledger, who, alert, at_us, feedback or ""))


@alerts.command()
@click.argument("alert")
@dir_option
@click.option("--feedback", type=click.Choice(["expected", "leak"]), help="What it turned out to be.")
def resolve(alert: str, directory: Path | None, feedback: str | None) -> None:
    """Close an alert, and end the throttle or suspension that it set off. It opens again if it goes on.

    \b
    Example:
      tollhouse alerts resolve leak:acme/openai-pool-1/29383927 --feedback leak
    """
    from tollhouse import incidents

    _change(directory, alert, lambda ledger, who, at_us: incidents.resolve(ledger, who, alert, at_us, feedback or ""))


@alerts.command()
@click.argument("alert", required=False)
@dir_option
@json_option
def deliveries(alert: str | None, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Where alerts went: each sink, how often it was tried, what it said.

    \b
    Example:
      tollhouse alerts deliveries leak:acme/openai-pool-1/29383927
    """
    from pipeline.ledger.deliveries import list_deliveries
    from schemas.instants import format_instant

    rows = [
        {
            "alert": row["alert"],
            "version": row["version"],
            "target": row["target"],
            "state": row["state"],
            "tries": row["tries"],
            "next": format_instant(row["next_us"]) if row["state"] == "due" else None,
            "done": format_instant(row["done_us"]) if row["done_us"] is not None else None,
            "error": row["error"],
        }
        for row in open_ledger(settings_of(directory)).read(lambda c: list_deliveries(c, alert))
    ]
    if as_json:
        print_json({"deliveries": rows})
    else:
        columns = ("alert", "version", "target", "state", "tries", "next", "done", "error")
        print_table(columns, [[row[name] for name in columns] for row in rows])


@alerts.command()
@dir_option
@json_option
@click.option("--timeout", "timeout_s", type=click.IntRange(5, 600), default=60, show_default=True, help="Seconds.")
def drill(directory: Path | None, as_json: bool, timeout_s: int) -> None:  # noqa: FBT001
    """Play a leak end to end on a marked tenant and key, and report the seconds to each step.

    It goes by the broker, the worker and the database that the settings name, under a tenant and a key of its own that
    are gone from the catalog afterwards; your sinks get the alert, marked as a drill.

    \b
    Example:
      tollhouse alerts drill --dir ./data
    """
    from tollhouse.drill import run_drill

    steps = run_drill(settings_of(directory), timeout_s)
    if as_json:
        print_json({"steps": [step._asdict() for step in steps]})
    else:
        print_table(("step", "seconds", "detail"), [(s.step, s.seconds or "-", s.detail) for s in steps])
    if any(step.seconds is None for step in steps):
        raise UserError("the drill did not get through: see the first step without a time; is the worker running?")


@alerts.command()
@click.argument("alert")
@dir_option
@click.option("--until", required=True, help="When it may speak again (RFC 3339).")
def mute(alert: str, directory: Path | None, until: str) -> None:
    """Mute an alert until an instant.

    \b
    Example:
      tollhouse alerts mute leak:acme/openai-pool-1:… --until 2026-12-01T00:00:00Z
    """
    from schemas.instants import parse_instant
    from tollhouse import incidents

    try:
        until_us = parse_instant(until)
    except ValueError as error:
        raise UserError(f"--until: {error}", code=2) from None
    _change(directory, alert, lambda ledger, who, at_us: incidents.mute(ledger, who, alert, at_us, until_us))


def _change(
    directory: Path | None, alert: str, change: "Callable[[Ledger, str, int], incidents.Changed | None]"
) -> None:
    from tollhouse.cli.access import who

    settings = settings_of(directory)
    done = change(open_ledger(settings), who(), now_us() + settings.clock_offset_s * 1_000_000)
    if done is None:
        raise UserError(f"{alert}: no such alert (`tollhouse alerts list` shows their ids)")
    for subject in done.freed:
        click.echo(f"{subject} is active again")


@alerts.command()
@dir_option
def test(directory: Path | None) -> None:
    """Send a test alert to every sink of the catalog.

    \b
    Example:
      tollhouse alerts test
    """
    from tollhouse.alerting import make_sinks
    from tollhouse.sinks import send_test

    settings = settings_of(directory)
    ledger = open_ledger(settings)
    results = send_test(ledger.context().catalog.alerts.sinks, now_us(), make_sinks(settings, ledger, now_us))
    for url, trouble in results:
        click.echo(f"{url}: {f'NOT delivered: {trouble}' if trouble else 'delivered'}")
    if not results:
        raise UserError("the catalog names no sinks: add alerts.sinks and apply it")
    if any(trouble for _, trouble in results):
        raise UserError("not every sink took the alert: check the URLs named above")
