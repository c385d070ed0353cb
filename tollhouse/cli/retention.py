"""`tollhouse retention`: drop the events of months that need not be kept any longer."""

from pathlib import Path

import click

from tollhouse.cli.shared import dir_option, json_option, now_us, open_ledger, print_json, print_table, settings_of
from tollhouse.errors import UserError


@click.command()
@dir_option
@json_option
@click.option("--months", type=int, help="Keep so many whole months before this one; default the setting.")
@click.option("--apply", "act", is_flag=True, help="Drop them; without it, only show what would be dropped.")
def retention(directory: Path | None, as_json: bool, months: int | None, act: bool) -> None:  # noqa: FBT001
    """Drop single events, and rejected ones, of months older than the setting `retention_months`.

    Rollups, quotas, invoices and counters stay, with digests of what is gone; `explain` and `audit` go by those. A
    month that is not invoiced, or still has to be adjusted, stays. It cannot be undone: take a backup.

    \b
    Example:
      tollhouse retention --months 18
      tollhouse retention --months 18 --apply
    """
    from tollhouse.retention import MONTHS_MIN, apply, plan

    settings = settings_of(directory)
    keep = settings.retention_months if months is None else months
    if keep == 0:
        raise UserError("retention_months is 0, which keeps everything: give --months", code=2)
    if keep < MONTHS_MIN:
        raise UserError(
            f"--months {keep}: at least {MONTHS_MIN} are kept, late events and adjustments need them", code=2
        )
    ledger = open_ledger(settings)
    at_us = now_us() + settings.clock_offset_s * 1_000_000
    found = apply(ledger, keep, at_us, "cli") if act else plan(ledger, keep, at_us)
    rows = [
        {"tenant": m.tenant or None, "what": "events" if m.tenant else "rejected", "month": m.month,
         "dropped": m.events if act and not m.why else None, "kept_because": m.why or None}
        for m in found
    ]  # fmt: skip
    if as_json:
        print_json({"months": rows, "applied": act})
        return
    columns = ("tenant", "what", "month", "dropped", "kept_because")
    print_table(columns, [[row[name] for name in columns] for row in rows])
