"""Running the demo: start the parts, send the traffic, wait until it is counted, show what became of it."""

import fcntl
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import click

from streams.embedded_broker import EmbeddedBroker
from tollhouse import stripe_double
from tollhouse.cli.pure import read_catalog
from tollhouse.clock import clock
from tollhouse.demo.results import Figures, gather, print_summary, write_documents
from tollhouse.demo.send import Sent, send_all
from tollhouse.demo.steps import ask_the_gate, close_month, push_to_stripe
from tollhouse.demo.traffic import Plan
from tollhouse.errors import UserError
from tollhouse.ports import free_port, refuse_taken
from tollhouse.processes import Child, stop_all
from tollhouse.settings import RUNTIME, Settings, load

MARK: Final = ".tollhouse-demo"
"""Tells a directory that a demo made from one that it must not empty."""
STRIPE_KEY: Final = "sk_test_demo"
WAIT_S: Final = 120.0
STOP_S: Final = 1.5
"""A demo's worker has nothing to save: what does not end by itself is killed, so that Ctrl-C is over within 5 s."""


@dataclass(slots=True)
class Demo:
    """What the steps of a demo share."""

    directory: Path
    port: int
    seed: int
    started_s: float = field(default_factory=time.monotonic)
    children: list[Child] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line on standard error, with the seconds so far."""
        click.echo(f"{time.monotonic() - self.started_s:5.1f} s  {text}", err=True)

    def check(self) -> None:
        """UserError if a part has ended."""
        for child in self.children:
            child.check()


def run_demo(directory: Path, *, port: int, once: bool, as_json: bool, seed: int) -> None:
    """The whole demo. UserError for what a user can mend; everything that was started is ended again, always."""
    refuse_taken(port)
    hold = prepare(directory)
    month, offset_s = last_month(datetime.now(UTC))
    demo = Demo(directory, port or free_port(), seed)
    with _interruptible(), ExitStack() as stack:
        stack.callback(hold.close)
        settings, figures = _play(demo, stack, month, offset_s)
        data = figures.data | {"seconds": round(time.monotonic() - demo.started_s, 1)}
        if as_json:
            click.echo(json.dumps(data, indent=2))
        else:
            print_summary(data, figures.documents)
        if not once:
            click.echo(f"The page is at http://{settings.host}:{settings.port}/ until Ctrl-C.", err=True)
            while True:
                time.sleep(0.5)
                demo.check()


def _play(demo: Demo, stack: ExitStack, month: str, offset_s: int) -> tuple[Settings, Figures]:
    from pipeline.ledger import Ledger  # noqa: PLC0415 - refusals above must not wait for imports

    plan = Plan(_month_start_us(month))
    broker = stack.enter_context(EmbeddedBroker(log_path=demo.directory / "broker.log"))
    double = stripe_double.start()
    stack.callback(double.stop)
    write_runtime(
        demo.directory,
        broker=broker.bootstrap,
        port=demo.port,
        partitions=2,
        open_dashboard=1,
        clock_offset_s=offset_s,
        stripe_api_base=double.url,
    )
    settings = load(demo.directory, environment={"STRIPE_SECRET_KEY": STRIPE_KEY})
    demo.say(f"broker on {broker.bootstrap}, Stripe double on {double.url}")
    now_us = clock(offset_s)
    ledger = Ledger(settings.database)
    stack.callback(ledger.close)
    ledger.create()
    ledger.apply(read_catalog(catalog_path()), plan.month_start_us, "demo")
    demo.children += [
        Child(name, [name, "--dir", str(demo.directory)], demo.directory / f"{name}.log", {})
        for name in ("worker", "api")
    ]
    # Before the broker goes: a worker without its broker takes its time to end.
    stack.callback(lambda: stop_all(demo.children, STOP_S))
    for child in demo.children:
        child.start()
    demo.say(f"catalog applied; worker and API started; sending {month}")
    sent = send_all(settings, plan, demo.seed, demo.check)
    demo.say(f"{sent.deliveries:,} events sent; waiting for the ledger")
    wait_until_counted(ledger, sent, demo.check)
    demo.say("all of them are in the ledger")
    decisions = ask_the_gate(settings, ledger, now_us(), demo.check)
    demo.say(f"the gate decided {len(decisions)} asks")
    invoices = close_month(ledger, month, now_us())
    stripe = push_to_stripe(settings, ledger, month, now_us(), double)
    demo.say(f"{len(invoices)} invoices closed and pushed to the Stripe double")
    documents = write_documents(ledger, invoices, demo.directory / "invoices")
    figures = gather(ledger, sent, plan, invoices, decisions, stripe)
    figures.documents = documents
    return settings, figures


def prepare(directory: Path) -> IO[bytes]:
    """Empty a directory of the demo's own and hold it: the open lock is the hold.

    UserError for a directory that somebody else filled, or in which another demo runs.
    """
    try:
        if directory.exists():
            if not directory.is_dir():
                raise UserError(f"{directory} is a file: give --dir a directory")
            if any(directory.iterdir()) and not (directory / MARK).exists():
                raise UserError(f"{directory} holds other files: give --dir an empty or a new directory")
        directory.mkdir(parents=True, exist_ok=True)
        hold = (directory / MARK).open("ab")
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hold.close()
            raise UserError(f"another demo runs in {directory}: give --dir another directory") from None
        for path in directory.iterdir():
            if path.name != MARK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}: choose a directory that can be written with --dir") from None
    return hold


def write_runtime(directory: Path, **values: str | int) -> None:
    """What other commands with --dir need to know."""
    lines = [f"{name} = {json.dumps(value) if isinstance(value, str) else value}" for name, value in values.items()]
    (directory / RUNTIME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def catalog_path() -> Path:
    """The example catalog: in the repository, or inside the installed package."""
    package = Path(__file__).parent
    inside = package / "catalog.yaml"
    return inside if inside.exists() else package.parents[1] / "examples" / "catalog.yaml"


def last_month(now: datetime) -> tuple[str, int]:
    """The month before now's, and how far the demo's clock is from the real one, in seconds.

    The demo plays on the third day of a month, at noon: the month before is over, its grace too, and all of it is
    within the 35 days in which events are taken.
    """
    year, month = (now.year, now.month - 1) if now.month > 1 else (now.year - 1, 12)
    played = now.replace(day=3, hour=12, minute=0, second=0, microsecond=0)
    return f"{year:04d}-{month:02d}", round((played - now).total_seconds())


def _month_start_us(month: str) -> int:
    from schemas.periods import month_period  # noqa: PLC0415 - as above

    return month_period(month, "UTC").start_us


def wait_until_counted(ledger: Any, sent: Sent, check: Callable[[], None]) -> None:
    """Until every delivery is accounted for in the ledger; UserError after WAIT_S without progress."""
    from pipeline.ledger.tables import intake  # noqa: PLC0415
    from tollhouse.cli.shared import progress  # noqa: PLC0415

    last, since_s = -1, time.monotonic()
    with progress(sent.deliveries, "counting") as bar:
        while True:
            check()
            taken = sum(row["received"] for row in ledger.rows(intake))
            bar.update(bar.task_ids[0], completed=min(taken, sent.deliveries))
            if taken >= sent.deliveries:
                break
            if taken != last:
                last, since_s = taken, time.monotonic()
            if time.monotonic() - since_s > WAIT_S:
                raise UserError(f"the ledger stands at {taken:,} of {sent.deliveries:,} events: see worker.log")
            time.sleep(0.1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the demo at any moment, cleanly and with exit code 130."""

    def stop(number: int, _frame: object) -> None:
        # A second signal must not interrupt the ending.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
