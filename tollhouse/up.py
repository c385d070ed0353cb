"""`tollhouse up`: one command for a small team. Broker, worker, API and dashboard over SQLite in one directory.

The embedded broker forgets when it stops. What the API accepted is in its spool until the ledger has it, and goes out
again on the next start; so everything can be killed at once and nothing accepted is lost.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from streams.embedded_broker import EmbeddedBroker
from tollhouse.cli.shared import open_ledger
from tollhouse.demo.runner import write_runtime
from tollhouse.errors import UserError
from tollhouse.ports import LOOPBACK, free_port, refuse_taken
from tollhouse.processes import Child, last_line, stop_all
from tollhouse.settings import load

RESTART_AFTER_S = 1.0
LOCK = "up.lock"


def run_up(directory: Path, *, port: int, broker_port: int) -> None:
    """Run until SIGINT or SIGTERM. A part that ends is started again; UserError for what a user can mend."""
    refuse_taken(port)
    refuse_taken(broker_port, "--broker-port")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # all that it holds is its owner's alone
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}: choose a directory that can be written with --dir") from None
    stop = {"now": False}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.update(now=True))
    with ExitStack() as stack:
        stack.enter_context(_alone(directory))
        # Looked at once here: the parts would end over a database of another version, and be started again for ever.
        open_ledger(load(directory)).close()
        broker = stack.enter_context(EmbeddedBroker(broker_port or None, log_path=directory / "broker.log"))
        page_port = port or free_port()
        write_runtime(directory, broker=broker.bootstrap, port=page_port, partitions=2)
        children = [
            Child(name, [name, "--dir", str(directory)], directory / f"{name}.log", {"TOLLHOUSE_UP": "1"})
            for name in ("worker", "api")
        ]
        stack.callback(lambda: stop_all(children))
        for child in children:
            child.start()
        click.echo(
            f"Up: events to {broker.bootstrap} or http://{LOOPBACK}:{page_port}/v1/events, "
            f"dashboard at http://{LOOPBACK}:{page_port}/. Other commands: --dir {directory}. Ctrl-C stops it.",
            err=True,
        )
        while not stop["now"]:
            time.sleep(0.2)
            for child in children:
                if not child.alive and not stop["now"]:
                    click.echo(f"{child.name} ended ({last_line(child.log)}); starting it again", err=True)
                    time.sleep(RESTART_AFTER_S)
                    child.start()
            if not broker.running and not stop["now"]:
                click.echo("the broker ended; starting it again", err=True)
                _start_anew(broker, children[0])


def _start_anew(broker: EmbeddedBroker, worker: Child) -> None:
    """The broker again, without its topics, and then a worker that makes them and knows them for new ones.

    The old worker is ended first, at once: it must not read the new topics' messages at the old topics' places, and
    has nothing to give back to a broker that is gone. The API's spool sends again what the ledger does not have.
    """
    worker.kill()
    broker.start()
    worker.start()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One `up` a directory: two would start two workers' brokers and overwrite each other's runtime.toml.

    The lock goes with the process, however it ends.
    """
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"{directory} is in use by another `tollhouse up` (process {file.read().strip()})"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
