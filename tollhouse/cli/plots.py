"""Pictures as files: `tollhouse invoices plot` and `tollhouse alerts plot`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tollhouse.cli.shared import dir_option, open_ledger, settings_of
from tollhouse.errors import UserError

if TYPE_CHECKING:
    from billing.plots import Look

THEMES = ("light", "dark")
out_option = click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="FILE.png or FILE.svg."
)
theme_option = click.option("--theme", type=click.Choice(THEMES), default="light", show_default=True, help="Colours.")


def look_of(path: Path, theme: str) -> "Look":
    """How the file is drawn, by its name; UserError for a name of another kind."""
    from billing.plots import FORMATS, Look

    suffix = path.suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise UserError(f"--out {path}: the name must end in .png or .svg", code=2)
    return Look(format=suffix, theme=theme)


@click.command("plot")
@click.option("--tenant", help="One tenant; default all.")
@click.option("--currency", help="Needed where invoices are in several.")
@out_option
@theme_option
@dir_option
def invoices_plot(tenant: str | None, currency: str | None, out: Path, theme: str, directory: Path | None) -> None:
    """Draw invoices month over month: what was billed, by type of line, and how the total changed.

    \b
    Example:
      tollhouse invoices plot --tenant acme --out acme.svg
    """
    from billing.plots import PlotError, month_over_month
    from tollhouse.closing import load_book

    look = look_of(out, theme)
    ledger = open_ledger(settings_of(directory))
    book = ledger.read(lambda connection: load_book(connection, tenant))
    found = [i for i in book.invoices if i.status != "void" and currency in (None, i.currency)]
    if not found:
        raise UserError("there are no such invoices: `tollhouse invoices list` shows those that there are")
    try:
        picture = month_over_month(found, f"Invoices of {tenant or 'all tenants'} by month", look=look)
    except PlotError as error:
        raise UserError(f"{error} with --currency", code=2) from None
    out.write_bytes(picture)
    click.echo(str(out))


@click.command("plot")
@click.argument("alert")
@out_option
@theme_option
@dir_option
def alerts_plot(alert: str, out: Path, theme: str, directory: Path | None) -> None:
    """Draw an incident of a leak: the key's minutes before, in and after it, with what was expected.

    \b
    Example:
      tollhouse alerts plot leak:acme/openai-pool-1/29383927 --out leak.png
    """
    from pipeline.alerting import Alert
    from pipeline.ledger.alerts import find_alert
    from schemas.instants import HOUR_US
    from tollhouse.alerting import incident_plot

    look = look_of(out, theme)
    ledger = open_ledger(settings_of(directory))
    row = ledger.read(lambda connection: find_alert(connection, alert))
    if row is None:
        raise UserError(f"{alert}: no such alert (`tollhouse alerts list` shows their ids)")
    names = ("kind", "severity", "subject", "detail", "facts")
    told = Alert(row["id"], row["first_us"], **{name: row[name] for name in names})
    end_us = row["last_us"] + 2 * HOUR_US
    picture = incident_plot(ledger, told, end_us, look=look, end_us=end_us)
    if picture is None:
        raise UserError(f"{alert}: only a leak of one tenant's use of a key has minutes to draw")
    out.write_bytes(picture)
    click.echo(str(out))
