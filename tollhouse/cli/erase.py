"""`tollhouse erase`: personal data of a tenant's people out of the ledger."""

from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, settings_of
from tollhouse.errors import UserError


@click.command()
@click.option("--tenant", required=True, help="Whose people.")
@click.option("--user", help="Of one end user alone, as events name it.")
@click.option("--yes", is_flag=True, help="Do it: it cannot be undone.")
@dir_option
@json_option
def erase(tenant: str, user: str | None, yes: bool, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Take users, networks, agents and labels out of a tenant's events; every sum and digest stays.

    Out of rejected and waiting events, leak alerts and detectors as well. Not out of the topic, spools and backups,
    which end by themselves, nor out of catalogs and invoices, which have to be kept. Start the workers anew afterwards:
    a running detector remembers.

    \b
    Example:
      tollhouse erase --tenant acme --user u-17 --yes
    """
    from pipeline.ledger.erasure import erase as take_out

    if not tenant or user == "":
        raise UserError("--tenant and --user must not be empty", code=2)
    if not yes:
        raise UserError("it cannot be undone: give --yes", code=2)
    settings = settings_of(directory)
    ledger = open_ledger(settings)
    at_us = now_us() + settings.clock_offset_s * 1_000_000
    done = ledger.write(lambda connection: take_out(connection, tenant, user, at_us, "cli"))
    if as_json:
        print_json(done._asdict())
    else:
        click.echo(done.line())
