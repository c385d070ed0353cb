"""`tollhouse apply`: a catalog, validated, shown as a plan of changes, applied in one transaction."""

from pathlib import Path

import click

from tollhouse.cli.pure import read_catalog
from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@click.argument("file")
@dir_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show the plan of changes and stop.")
@click.option("--who", default="operator", show_default=True, help="Named in the audit log.")
def apply(file: str, directory: Path | None, as_json: bool, dry_run: bool, who: str) -> None:  # noqa: FBT001
    """Validate a catalog, show what it changes, apply it.

    \b
    Example:
      tollhouse apply examples/catalog.yaml --dry-run
    """
    from pipeline.catalog import diff, render_changes, render_price_report
    from pipeline.ledger.catalogs import NoCatalog
    from tollhouse.price_changes import price_changes, price_changes_json

    catalog = read_catalog(file)
    settings = settings_of(directory)
    ledger = open_ledger(settings)
    at_us = now_us() + settings.clock_offset_s * 1_000_000
    try:
        before = ledger.context().catalog
    except NoCatalog:
        before = None
    changes = diff(before, catalog, at_us)
    refused = [change for change in changes if change.refused]
    prices = price_changes(ledger, before, catalog, at_us) if before is not None and changes else None
    version = None
    if not refused and not dry_run:
        version = ledger.apply(catalog, at_us, who)
    if as_json:
        print_json(
            {
                "version": version,
                "changes": [
                    {
                        "path": c.path,
                        "kind": c.kind,
                        "before": c.before,
                        "after": c.after,
                        "warning": c.warning,
                        "refused": c.refused,
                    }
                    for c in changes
                ],
                "price_changes": None if prices is None else price_changes_json(prices),
            }
        )
    else:
        click.echo(render_changes(changes))
        if prices is not None and prices.prices:
            click.echo(f"\nProvider prices, and the usage of {prices.month} by them:")
            click.echo(render_price_report(prices.prices, prices.costs))
        if version is not None:
            click.echo(f"In force as version {version}.")
    if refused:
        raise UserError(f"{file}: {len(refused)} changes would rewrite the past: add dated entries instead")
