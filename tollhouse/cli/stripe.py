"""`tollhouse stripe …`: what Stripe says back."""

from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, print_table, settings_of
from tollhouse.errors import UserError


@click.group()
def stripe() -> None:
    """Stripe: sync statuses, report drift."""


@stripe.command()
@dir_option
@json_option
@click.option("--whole", is_flag=True, help="Read every unsettled invoice, whatever the events say.")
@click.option("--live", is_flag=True, help="Allow a key of live mode.")
def sync(directory: Path | None, as_json: bool, whole: bool, live: bool) -> None:  # noqa: FBT001
    """Bring our invoices to the statuses that Stripe reports.

    \b
    Example:
      STRIPE_SECRET_KEY=… tollhouse stripe sync
    """
    from billing.stripe_gateway import sync as sync_events
    from tollhouse.stripe_push import apply_update, gateway_of

    settings = settings_of(directory)
    ledger = open_ledger(settings)
    at_us = now_us()
    changed = []

    def note(update: object) -> None:
        invoice = apply_update(ledger, update, at_us)  # type: ignore[arg-type]
        if invoice is not None:
            changed.append(invoice)

    result = sync_events(gateway_of(settings, ledger, live=live), note, at_us // 1_000_000, whole=whole)
    rows = [(i.tenant, i.month, i.revision, i.status) for i in changed]
    if as_json:
        print_json({"changed": [list(row) for row in rows], "events": result.events, "requests": result.requests})
    else:
        print_table(("tenant", "month", "revision", "status"), rows)
        click.echo(f"{len(rows)} invoices changed; {result.events} events, {result.requests} requests.")


@stripe.command()
@dir_option
@json_option
@click.option("--month", help="One month; default all.")
@click.option("--live", is_flag=True, help="Allow a key of live mode.")
def drift(directory: Path | None, as_json: bool, month: str | None, live: bool) -> None:  # noqa: FBT001
    """Ours against Stripe's, invoice by invoice; exit code 1 if anything differs.

    What it finds is kept in the ledger for the figure `tollhouse_stripe_drift` and its alert: run it every night.

    \b
    Example:
      STRIPE_SECRET_KEY=… tollhouse stripe drift --month 2026-10
    """
    from dataclasses import asdict

    from billing.stripe_gateway import drift as find_drift
    from tollhouse.closing import load_book
    from tollhouse.stripe_push import gateway_of, note_drift

    settings = settings_of(directory)
    ledger = open_ledger(settings)
    book = ledger.read(lambda connection: load_book(connection, month=month))
    closed = [i for i in book.invoices if i.status != "draft"]
    found = find_drift(gateway_of(settings, ledger, live=live), closed)
    note_drift(ledger, found, closed, month, now_us() + settings.clock_offset_s * 1_000_000)
    if as_json:
        print_json({"drift": [asdict(d) for d in found]})
    else:
        for row in found:
            click.echo(str(row))
        click.echo(f"{len(closed)} invoices compared, {len(found)} differ.")
    if found:
        raise UserError(f"{len(found)} invoices differ from Stripe's: see above")


@stripe.group()
def meters() -> None:
    """Let Stripe price: usage as meter events."""


@meters.command("push")
@click.option("--meter", default="tokens", show_default=True, help="tokens, requests, or a token class.")
@click.option("--event-name", required=True, help="The Stripe meter's event name.")
@click.option("--since", default=None, help="First hour (RFC 3339 or day); default 34 days back.")
@dir_option
@json_option
@click.option("--live", is_flag=True, help="Allow a key of live mode.")
def meters_push(
    meter: str,
    event_name: str,
    since: str | None,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
    live: bool,  # noqa: FBT001
) -> None:
    """Send hourly sums as meter events; safe to run again.

    \b
    Example:
      STRIPE_SECRET_KEY=… tollhouse stripe meters push --event-name llm_tokens
    """
    from dataclasses import asdict

    from schemas.instants import DAY_US
    from schemas.periods import parse_date_or_instant
    from schemas.tokens import CLASSES
    from tollhouse.stripe_push import gateway_of, push_meters

    if meter not in ("tokens", "requests", *CLASSES):
        raise UserError(f"--meter {meter}: use tokens, requests, {', '.join(CLASSES)}", code=2)
    settings = settings_of(directory)
    at_us = now_us() + settings.clock_offset_s * 1_000_000
    try:
        since_us = parse_date_or_instant(since, "UTC") if since else at_us - 34 * DAY_US
    except ValueError as error:
        raise UserError(f"--since: {error}", code=2) from None
    ledger = open_ledger(settings)
    results = push_meters(gateway_of(settings, ledger, live=live), ledger, meter, event_name, at_us, since_us)
    bad = [r for r in results if r.outcome in ("refused", "failed")]
    if as_json:
        print_json({"results": [asdict(r) for r in results]})
    else:
        counts: dict[str, int] = {}
        for result in results:
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
        print_table(("outcome", "hours"), sorted(counts.items()))
    if bad:
        raise UserError(*(f"{r.reading.tenant}: {r.reason}: {r.detail}" for r in bad[:20]))
