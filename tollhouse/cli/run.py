"""Commands that run: demo, up, worker, api."""

import sys
from pathlib import Path
from typing import Any

import click

from tollhouse.cli.shared import dir_option, open_ledger, settings_of
from tollhouse.errors import UserError

PORT = click.IntRange(0, 65_535)


@click.command()
@dir_option
@click.option("--port", type=PORT, help="Port of /healthz, /readyz and /metrics; without one or with 0: none.")
def worker(directory: Path | None, port: int | None) -> None:
    """Run the Faust worker: events from Kafka into the ledger, until SIGTERM.

    \b
    Example:
      TOLLHOUSE_BROKER=127.0.0.1:9092 TOLLHOUSE_DATABASE_URL=postgresql+psycopg://… tollhouse worker --port 9108
    """
    from schemas.instants import SECOND_US
    from streams import worker as streams_worker
    from streams.settings import StreamSettings
    from tollhouse.alerting import make_sinks
    from tollhouse.brokers import security_of
    from tollhouse.clock import clock
    from tollhouse.logs import configure
    from tollhouse.nightly import Nightly
    from tollhouse.ports import listen

    settings = settings_of(directory, worker_port=port)
    configure(settings.log_level, settings.log_format)
    listener = listen(settings.host, settings.worker_port) if settings.worker_port else None
    stream_settings = StreamSettings(
        broker=settings.broker,
        data_dir=settings.dir / "faust",
        app_id=settings.app_id,
        topic_prefix=settings.topic_prefix,
        partitions=settings.partitions,
        security=security_of(settings),
    )
    ledger, now_us = open_ledger(settings), clock(settings.clock_offset_s)
    send = make_sinks(settings, ledger, now_us)
    release_us = settings.leak_release_s * SECOND_US
    if settings.audit_at:
        nights = Nightly(settings, ledger, now_us)
        nights.start()
        click.get_current_context().call_on_close(nights.end)
    if settings.tracing == "off":
        sys.exit(streams_worker.run(stream_settings, ledger, now_us, send, release_us, listener))
    traces, end_tracing = tracing_of("tollhouse-worker")
    delivering = traces.delivering(send)
    code = streams_worker.run(stream_settings, ledger, now_us, delivering, release_us, listener, [traces])
    end_tracing()
    sys.exit(code)


def tracing_of(service: str) -> Any:
    """A watch that makes spans, and what ends it; UserError without the extra."""
    try:
        from streams.tracing import TraceWatch, exporting

        tracer, end = exporting(service)
    except ImportError:
        raise UserError("tracing = otlp needs OpenTelemetry: pip install tollhouse[tracing]") from None
    return TraceWatch(tracer), end


@click.command()
@dir_option
@click.option("--port", type=PORT, help="Port of the API and dashboard (default 8080).")
def api(directory: Path | None, port: int | None) -> None:
    """Run the HTTP API with the dashboard, until SIGTERM.

    \b
    Example:
      tollhouse api --port 8080
    """
    from tollhouse.api.server import run
    from tollhouse.clock import clock
    from tollhouse.logs import configure

    settings = settings_of(directory, port=port)
    configure(settings.log_level, settings.log_format)
    run(settings, open_ledger(settings), clock(settings.clock_offset_s))


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tollhouse-demo"),
    show_default=True,
    help="Where it keeps everything it makes.",
)
@click.option("--port", type=PORT, default=8080, show_default=True, help="Port of the first page; 0: a free one.")
@click.option("--once", is_flag=True, help="Stop when done, and print a summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--seed", type=int, default=7, show_default=True, help="Decides tenants, keys and chance.")
def demo(directory: Path, port: int, once: bool, as_json: bool, seed: int) -> None:  # noqa: FBT001 - click's way
    """Show the whole product on this machine: a real trace, quotas, a caught leak, invoices, Stripe, a page.

    \b
    Example:
      tollhouse demo --once
    """
    from tollhouse.demo.runner import run_demo

    run_demo(directory, port=port, once=once, as_json=as_json, seed=seed)


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tollhouse-data"),
    show_default=True,
    help="Where it keeps everything: database, spools, signing keys, logs.",
)
@click.option("--port", type=PORT, default=8080, show_default=True, help="Port of the API and dashboard.")
@click.option("--broker-port", type=PORT, default=9092, show_default=True, help="Port of the embedded broker; 0: free.")
def up(directory: Path, port: int, broker_port: int) -> None:
    """Run everything for a small team in one directory: broker, worker, API and dashboard over SQLite.

    \b
    Example:
      tollhouse up --dir ./data
    """
    from tollhouse.up import run_up

    if port == broker_port and port:
        raise UserError("--port and --broker-port are the same: choose two ports", code=2)
    run_up(directory, port=port, broker_port=broker_port)
