"""`tollhouse bench`: what this machine carries."""

from typing import Any

import click

from tollhouse.cli.shared import json_option, print_json, print_table
from tollhouse.errors import UserError


@click.command()
@json_option
@click.option("--broker", help="host:port of a Kafka; default: the embedded broker.")
@click.option(
    "--database", help="SQLAlchemy URL of a PostgreSQL server; a database is made and dropped. Default: SQLite."
)
@click.option("--events", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Events to publish.")
@click.option("--per-message", type=click.IntRange(1, 1000), default=50, show_default=True, help="Events a message.")
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Workers, and partitions.")
@click.option("--rate", type=click.IntRange(1), help="Events/s for the latency.  [default: 5000]")
@click.option("--seconds", type=click.IntRange(1), default=20, show_default=True, help="How long at that rate.")
@click.option("--gate", is_flag=True, help="Measure POST /v1/authorize instead, at --rate asks a second (300).")
def bench(
    as_json: bool,  # noqa: FBT001 - click's way
    broker: str | None,
    database: str | None,
    events: int,
    per_message: int,
    workers: int,
    rate: int | None,
    seconds: int,
    gate: bool,  # noqa: FBT001 - click's way
) -> None:
    """Measure the whole way of an event on this machine, beside a ceiling and a plain way.

    Uses topics and a database of its own; they are thrown away afterwards (topics stay on a Kafka that forbids it).

    \b
    Example:
      tollhouse bench --events 200000
      tollhouse bench --gate --database postgresql+psycopg://tollhouse@127.0.0.1/postgres
      tollhouse bench --broker 127.0.0.1:9092 --database postgresql+psycopg://tollhouse@127.0.0.1/postgres --json
    """
    if gate:
        from tollhouse.bench.gate import run_gate_bench

        found = run_gate_bench(database or "", 300 if rate is None else rate, seconds)
        if as_json:
            print_json(found)
        else:
            print_table(("figure", "value"), list(_lines(found)))
        return
    from tollhouse.bench.run import Bench, run_bench

    rate = 5000 if rate is None else rate
    if rate < per_message:
        raise UserError("--rate is below one message a second: choose a larger rate or a smaller --per-message", code=2)
    figures = run_bench(
        Bench(events, broker, database, workers, per_message, rate, seconds, lambda line: click.echo(line, err=True))
    )
    if as_json:
        print_json(figures)
    else:
        print_table(("figure", "value"), list(_lines(figures)))
    if not figures["exact"]:
        raise UserError("the totals are not exact: this is a fault of ours, report it with the output above")


def _lines(figures: dict[str, Any], before: str = "") -> Any:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{before}{name} ")
        elif isinstance(value, list):  # of steps, each with the same figures
            for step in value:
                yield before + name, ", ".join(f"{what} {figure:,}" for what, figure in step.items())
        else:
            yield before + name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
