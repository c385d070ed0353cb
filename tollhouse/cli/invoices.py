"""`tollhouse invoices …` and `tollhouse explain`: monthly invoices, their documents, and the proof behind a line."""

from pathlib import Path
from typing import Any

import click

from tollhouse.cli.plots import invoices_plot
from tollhouse.cli.shared import (
    dir_option,
    json_option,
    now_us,
    open_ledger,
    print_json,
    print_table,
    progress,
    settings_of,
)
from tollhouse.errors import UserError

PLACES_SHOWN = 12
EXPORTS = ("csv", "xlsx", "pdf", "focus", "json", "usage-csv", "focus-parquet")


@click.group()
def invoices() -> None:
    """Monthly invoices: run, list, show, plot, finalise, void, export, push."""


invoices.add_command(invoices_plot)


def _month(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    from schemas.periods import parse_month

    if value is not None:
        try:
            parse_month(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


month_option = click.option("--month", required=True, callback=_month, help="The month, like 2026-10.")
tenant_option = click.option("--tenant", help="One tenant; default all.")


def _open(directory: Path | None) -> tuple[Any, Any, int]:
    settings = settings_of(directory)
    return settings, open_ledger(settings), now_us() + settings.clock_offset_s * 1_000_000


def _tenants(ledger: Any, tenant: str | None) -> list[str]:
    known = ledger.context().catalog.tenants
    if tenant is not None and tenant not in known:
        raise UserError(f"--tenant {tenant}: no such tenant in the catalog")
    return [tenant] if tenant is not None else list(known)


def _run(directory: Path | None, month: str, tenant: str | None, *, finalise: bool, as_json: bool) -> None:
    from billing.render import credit_note_json, invoice_json
    from tollhouse.closing import run_tenants

    _, ledger, at_us = _open(directory)
    auto = ledger.context().catalog.invoicing.auto_finalise
    made: list[Any] = []
    notes: list[Any] = []
    refused: list[str] = []
    names = _tenants(ledger, tenant)
    with progress(len(names), "invoices") as bar:
        for _, outcome in run_tenants(ledger, names, month, at_us, finalise=finalise or auto):
            if outcome.invoice is not None:
                made.append(outcome.invoice)
            notes += outcome.credit_notes
            if outcome.refused and (finalise or not auto):
                refused.append(outcome.refused)
            bar.advance(bar.task_ids[0])
    if as_json:
        print_json(
            {
                "invoices": [invoice_json(i) for i in made],
                "credit_notes": [credit_note_json(note) for note in notes],
                "refused": refused,
            }
        )
    else:
        _table(made)
    if refused:
        raise UserError(*refused)


def _table(found: list[Any]) -> None:
    from billing.render import invoice_json

    columns = ("tenant", "month", "revision", "number", "status", "subtotal", "tax", "total", "currency", "held")
    rows = [invoice_json(invoice) for invoice in found]
    print_table(columns, [[*(row[name] for name in columns[:-1]), "; ".join(row["held"])] for row in rows])


@invoices.command("run")
@month_option
@tenant_option
@dir_option
@json_option
@click.option("--finalise", is_flag=True, help="Also close them, where the grace period is over.")
def run_command(month: str, tenant: str | None, directory: Path | None, as_json: bool, finalise: bool) -> None:  # noqa: FBT001
    """Draft the month's invoices anew.

    \b
    Example:
      tollhouse invoices run --month 2026-10
    """
    _run(directory, month, tenant, finalise=finalise, as_json=as_json)


@invoices.command()
@month_option
@tenant_option
@dir_option
@json_option
def finalise(month: str, tenant: str | None, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Close the month's invoices: refused before the grace period is over, or while something is unrated.

    \b
    Example:
      tollhouse invoices finalise --month 2026-10
    """
    _run(directory, month, tenant, finalise=True, as_json=as_json)


@invoices.command("list")
@click.option("--month", callback=_month, help="One month; default all.")
@tenant_option
@dir_option
@json_option
def list_command(month: str | None, tenant: str | None, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """List invoices.

    \b
    Example:
      tollhouse invoices list --month 2026-10
    """
    from billing.render import invoice_json
    from tollhouse.closing import load_book

    _, ledger, _ = _open(directory)
    found = ledger.read(lambda connection: load_book(connection, tenant, month)).invoices
    if not found:
        _tenants(ledger, tenant)  # a tenant that left the catalog still has its invoices; one that never was has none
    if as_json:
        print_json({"invoices": [invoice_json(i) for i in found]})
    else:
        _table(list(found))


def find_invoice(ledger: Any, name: str) -> Any:
    """The invoice by its number, or by TENANT/MONTH (the newest revision) or TENANT/MONTH/rN."""
    from tollhouse.closing import load_book

    book = ledger.read(load_book)
    for invoice in book.invoices:
        if invoice.number == name:
            return invoice
    parts = name.split("/")
    if len(parts) in (2, 3):
        revisions = book.revisions(parts[0], parts[1])
        if len(parts) == 3:
            revisions = [i for i in revisions if f"r{i.revision}" == parts[2]]
        if revisions:
            return revisions[-1]
    raise UserError(f"{name}: no such invoice (give its number, or TENANT/MONTH; `tollhouse invoices list` shows them)")


@invoices.command()
@click.argument("invoice")
@dir_option
@json_option
def show(invoice: str, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Show an invoice with all lines.

    \b
    Example:
      tollhouse invoices show acme/2026-10
    """
    from billing.render import invoice_json

    _, ledger, _ = _open(directory)
    found = find_invoice(ledger, invoice)
    shown = invoice_json(found, parts=True)
    if as_json:
        print_json(shown)
        return
    _table([found])
    click.echo("")
    columns = ("type", "description", "quantity", "amount", "tax")
    rows = [[n, *(line[name] for name in columns)] for n, line in enumerate(shown["lines"], 1)]
    print_table(("line", *columns), rows)


@invoices.command()
@month_option
@click.option("--tenant", required=True, help="Whose invoice.")
@click.option("--reason", default="voided", show_default=True, help="Kept with the credit note.")
@dir_option
@json_option
def void(month: str, tenant: str, reason: str, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Void a closed invoice: a full credit note, and its credits back.

    \b
    Example:
      tollhouse invoices void --tenant acme --month 2026-10 --reason "wrong address"
    """
    from billing.render import credit_note_json
    from tollhouse.closing import void_tenant

    _, ledger, at_us = _open(directory)
    outcome = void_tenant(ledger, tenant, month, at_us, reason)
    if outcome.refused:
        raise UserError(outcome.refused)
    notes = [credit_note_json(note) for note in outcome.credit_notes]
    if as_json:
        print_json({"credit_notes": notes})
    else:
        for note in notes:
            click.echo(
                f"{tenant}, {month}: void; credit note {note['number']} over {note['amount']} {note['currency']}"
            )


@invoices.command()
@month_option
@tenant_option
@click.option("--format", "form", type=click.Choice(EXPORTS), default="pdf", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Directory.")
@click.option(
    "--paper", type=click.Choice(["a4", "letter"]), default="a4", show_default=True, help="Size of a PDF's pages."
)
@dir_option
def export(month: str, tenant: str | None, form: str, out: Path, paper: str, directory: Path | None) -> None:
    """Write the month's invoices as documents, one file each.

    \b
    Example:
      tollhouse invoices export --month 2026-10 --format pdf --out invoices/
    """
    from billing.documents import file_name, render
    from tollhouse.closing import load_book
    from tollhouse.reports import usage_days

    _, ledger, _ = _open(directory)
    catalog = ledger.context().catalog
    found = [i for i in ledger.read(lambda c: load_book(c, tenant, month)).invoices if i.status != "void"]
    if not found:
        raise UserError(f"{month}: there are no invoices: run `tollhouse invoices run --month {month}` first")
    out.mkdir(parents=True, exist_ok=True)
    for invoice in found:
        owner = catalog.tenants.get(invoice.tenant)
        zone = owner.timezone if owner else "UTC"
        days = usage_days(ledger, invoice.tenant, invoice.month) if owner else []
        path = out / file_name(invoice, form)
        path.write_bytes(render(invoice, form, days, paper, timezone=zone))
        click.echo(str(path))


@invoices.command("push")
@month_option
@dir_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change at Stripe.")
@click.option("--live", is_flag=True, help="Allow a key of live mode: real money.")
def push_command(month: str, directory: Path | None, as_json: bool, dry_run: bool, live: bool) -> None:  # noqa: FBT001
    """Push the month's closed invoices to Stripe; safe to run again, whenever it was stopped.

    \b
    Example:
      STRIPE_SECRET_KEY=… tollhouse invoices push --month 2026-10
    """
    from dataclasses import asdict

    from tollhouse.stripe_push import gateway_of, push

    settings, ledger, at_us = _open(directory)
    gateway = gateway_of(settings, ledger, live=live)
    with progress(None, "Stripe") as bar:
        summary = push(
            gateway,
            ledger,
            month,
            at_us,
            dry_run=dry_run,
            progress=lambda done, total, _: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    month_results = summary.month.results
    for result in month_results:
        if result.detail_csv:
            path = Path(f"{result.tenant}-{result.month}-lines.csv")
            path.write_text(result.detail_csv, encoding="utf-8")
            click.echo(f"{path}: the lines that Stripe shows put together", err=True)
    others = [*summary.voids, *summary.notes]
    if as_json:
        print_json(
            {
                "results": [asdict(result) for result in month_results],
                "voids_and_credit_notes": [asdict(result) for result in others],
                "outcomes": summary.month.outcomes,
            }
        )
    else:
        print_table(
            ("tenant", "outcome", "status", "total (minor)", "currency", "Stripe invoice", "what"),
            [(r.tenant, r.outcome, r.status, r.total_minor, r.currency, r.stripe_id, _what(r)) for r in month_results]
            + [(r.tenant, r.outcome, "", "", "", r.stripe_id, r.detail) for r in others],
        )
        click.echo(f"{summary.month.requests} requests.")
    if not summary.clean:
        raise UserError(f"{month}: not everything is at Stripe: mend what is named above and run it again")


def _what(result: Any) -> str:
    parts = (result.detail, result.payment_error, *result.notes, *result.diff)
    return "; ".join(part for part in parts if part)


@click.command()
@click.argument("invoice", required=False)
@click.argument("line", required=False)
@click.option("--event", "event_id", help="Instead of an invoice: an event's id; shows its place and its bytes.")
@click.option("--tenant", help="With --event: of this tenant only.")
@click.option("--source", help="With --event: of this source only.")
@dir_option
@json_option
def explain(
    invoice: str | None,
    line: str | None,
    event_id: str | None,
    tenant: str | None,
    source: str | None,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """The events and price versions behind an invoice's lines, worked out again; fails if it does not add up.

    LINE is a line's number or id; without it, all lines are explained. With --event it shows what became of one event,
    where its bytes are in the topic, and the bytes, checked against the digest in the ledger.

    \b
    Examples:
      tollhouse explain acme/2026-10 1
      tollhouse explain --event req_7f3a
    """
    if (invoice is None) == (event_id is None):
        raise UserError("name an invoice, like acme/2026-10, or an event with --event", code=2)
    if event_id is not None:
        _explain_event(directory, event_id, tenant, source, as_json=as_json)
        return
    assert invoice is not None
    from tollhouse.explaining import explain_invoice

    _, ledger, _ = _open(directory)
    found = find_invoice(ledger, invoice)
    records = explain_invoice(ledger, found, line)
    if as_json:
        print_json({"invoice": found.number or f"{found.tenant}/{found.month}", "lines": records})
        return
    for record in records:
        click.echo(f"{record['id']}  {record['description']}: {record['amount']} {found.currency}")
        for part in record["parts"]:
            click.echo(
                f"    {part['quantity']} x {part['unit_price']} / {part['per']} = {_short(part['amount'])}"
                + (f"  ({part['plan']}" + (f", from {part['version_from']}" if part["version_from"] else "") + ")")
            )
        proof = record["events"]
        if proof is not None:
            click.echo(f"    {proof['count']} events, {proof['first']} to {proof['last']}, sha256 {proof['digest']}")
        if "kept" in record:
            click.echo(f"    as it was worked out on {record['kept']}, before the month's events were dropped")


def _explain_event(
    directory: Path | None, event_id: str, tenant: str | None, source: str | None, *, as_json: bool
) -> None:
    from tollhouse.event_places import explain_event, lines

    settings, ledger, _ = _open(directory)
    records = explain_event(settings, ledger, event_id, tenant=tenant, source=source)
    if as_json:
        print_json({"events": records})
    else:
        click.echo("\n".join(lines(records)))


def _short(amount: str) -> str:
    """An exact decimal for people: an endless one ends with an ellipsis."""
    whole, point, fraction = amount.partition(".")
    return f"{whole}{point}{fraction[:PLACES_SHOWN]}…" if len(fraction) > PLACES_SHOWN else amount
