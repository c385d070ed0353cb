"""`tollhouse publish` and `tollhouse rejected …`: events in, and those that were refused."""

import sys
from pathlib import Path
from typing import Any

import click

from tollhouse.cli.shared import (
    dir_option,
    json_option,
    line_batches,
    open_input,
    open_ledger,
    print_json,
    print_table,
    progress,
    settings_of,
)
from tollhouse.errors import UserError
from tollhouse.settings import FILE, RUNTIME


@click.command()
@click.argument("file")
@dir_option
@json_option
@click.option("--rate", type=click.IntRange(min=1), help="Events a second at most.")
@click.option("--wait", "wait_s", type=float, default=3600.0, show_default=True, help="Seconds to wait for a broker.")
@click.option("--spool", type=click.Path(file_okay=False, path_type=Path), help="Where events wait for the broker.")
def publish(
    file: str,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
    rate: int | None,
    wait_s: float,
    spool: Path | None,
) -> None:
    """Publish events (NDJSON) to Kafka. Lines that are no events are named and left out; the rest goes on.

    \b
    Example:
      tollhouse publish events.ndjson --rate 1000
    """
    from streams.topics import USAGE_EVENTS
    from tollhouse.brokers import security_of
    from tollhouse.publishing import publish_lines

    settings = settings_of(directory)
    with open_input(file) as stream, progress(None, "publishing") as bar:
        lines = (line for batch in line_batches(stream) for line in batch)
        done = publish_lines(
            lines,
            settings.broker,
            spool or _spool(settings.dir, ours=directory is not None),
            rate=rate,
            wait_s=wait_s,
            tell=lambda text: click.echo(text, err=True),
            step=lambda: bar.advance(bar.task_ids[0]),
            topic=settings.topic_prefix + USAGE_EVENTS,
            kafka=security_of(settings).client(),
        )
    if as_json:
        refused = [{"line": number, "detail": detail} for number, detail in done.refused]
        print_json({"published": done.published, "waiting": done.waiting, "refused": refused})
    else:
        click.echo(f"{done.published:,} events published.")
    said = [f"{file}:{number}: {detail}" for number, detail in done.refused]
    if done.trouble:
        said.append(done.trouble)
    if said:
        raise UserError(*said)
    if done.interrupted:
        sys.exit(130)


def _spool(base: Path, *, ours: bool) -> Path | None:
    """A directory in the installation, None where there is no installation."""
    return base / "spool-publish" if ours or (base / RUNTIME).exists() or (base / FILE).exists() else None


@click.group()
def rejected() -> None:
    """Rejected events: list, show, replay."""


@rejected.command("list")
@dir_option
@json_option
@click.option("--reason", help="One reason, like unknown_tenant.")
@click.option("--all", "everything", is_flag=True, help="Also those that were replayed.")
def list_command(directory: Path | None, as_json: bool, reason: str | None, everything: bool) -> None:  # noqa: FBT001
    """List rejected events.

    \b
    Example:
      tollhouse rejected list --reason unknown_tenant
    """
    rows = _rows(directory, reason, everything=everything)
    if as_json:
        print_json({"rejected": [_record(row) for row in rows]})
    else:
        columns = ("n", "arrival", "tenant", "source", "id", "reason", "state", "detail")
        print_table(columns, [[_record(row)[name] for name in columns] for row in rows])


@rejected.command()
@click.argument("number", type=int)
@dir_option
def show(number: int, directory: Path | None) -> None:
    """Print a rejected event's bytes as they came (secrets cut out).

    \b
    Example:
      tollhouse rejected show 17
    """
    found = [row for row in _rows(directory, None, everything=True) if row["n"] == number]
    if not found:
        raise UserError(f"there is no rejected event {number} (`tollhouse rejected list` shows their numbers)")
    record = _record(found[0])
    click.echo(f"{record['reason']}: {record['detail']}", err=True)
    sys.stdout.buffer.write(found[0]["raw"] + b"\n")


@rejected.command()
@dir_option
@json_option
@click.option("--reason", help="Only those of one reason.")
@click.argument("numbers", type=int, nargs=-1)
def replay(directory: Path | None, as_json: bool, reason: str | None, numbers: tuple[int, ...]) -> None:  # noqa: FBT001
    """Judge rejected events anew, after the catalog was mended; each counts once.

    \b
    Example:
      tollhouse rejected replay --reason unknown_tenant
    """
    from tollhouse.replay import replay_rejected

    settings = settings_of(directory)
    ledger = open_ledger(settings)
    result = replay_rejected(ledger, reason=reason, numbers=numbers or None)
    if as_json:
        print_json(result)
    else:
        click.echo(
            f"{result['counted']} counted, {result['duplicates']} were counted before, "
            f"{result['rejected']} rejected again, {result['held']} held."
        )
    if result["rejected"]:
        raise UserError(f"{result['rejected']} events were rejected again: see `tollhouse rejected list`")


def _rows(directory: Path | None, reason: str | None, *, everything: bool) -> list[dict[str, Any]]:
    from pipeline.ledger.rejected import list_rejected

    ledger = open_ledger(settings_of(directory))
    state = None if everything else "open"
    return ledger.read(lambda c: list_rejected(c, reason=reason, state=state))  # type: ignore[no-any-return]


def _record(row: dict[str, Any]) -> dict[str, Any]:
    from schemas.instants import format_instant

    return {
        "n": row["n"],
        "arrival": format_instant(row["arrival_us"]),
        "tenant": row["tenant"],
        "source": row["source"],
        "id": row["id"],
        "reason": row["reason"],
        "detail": row["detail"],
        "state": row["state"],
        "evidence": f"{row['topic']}/{row['partition']}@{row['offset']}#{row['item']}",
        "event": row["raw"].decode("utf-8", "replace"),
    }
