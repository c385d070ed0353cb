"""The command line's root: finds the command, turns known failures into one line and an exit code.

Commands are imported when they are called: `simulate` must not pay for Kafka, nor `normalize` for SQLAlchemy.
"""

import errno
import importlib
import os
import sys
from typing import Final

import click

from tollhouse.errors import UserError
from tollhouse.start import INTERRUPTED

TRACEBACK: Final = "TOLLHOUSE_TRACEBACK"
"""Set, a failure that no command expects keeps its traceback."""

COMMANDS: Final = {
    "demo": ("tollhouse.cli.run", "demo"),
    "up": ("tollhouse.cli.run", "up"),
    "worker": ("tollhouse.cli.run", "worker"),
    "api": ("tollhouse.cli.run", "api"),
    "publish": ("tollhouse.cli.events", "publish"),
    "normalize": ("tollhouse.cli.pure", "normalize"),
    "rate": ("tollhouse.cli.pure", "rate"),
    "simulate": ("tollhouse.cli.pure", "simulate"),
    "detect": ("tollhouse.cli.pure", "detect"),
    "schema": ("tollhouse.cli.pure", "schema"),
    "apply": ("tollhouse.cli.catalog", "apply"),
    "usage": ("tollhouse.cli.usage", "usage"),
    "invoices": ("tollhouse.cli.invoices", "invoices"),
    "explain": ("tollhouse.cli.invoices", "explain"),
    "stripe": ("tollhouse.cli.stripe", "stripe"),
    "token": ("tollhouse.cli.access", "token"),
    "keys": ("tollhouse.cli.provider_keys", "keys"),
    "quotas": ("tollhouse.cli.state", "quotas"),
    "alerts": ("tollhouse.cli.state", "alerts"),
    "rejected": ("tollhouse.cli.events", "rejected"),
    "reconcile": ("tollhouse.cli.reconcile", "reconcile"),
    "doctor": ("tollhouse.cli.doctor", "doctor"),
    "audit": ("tollhouse.cli.audit", "audit"),
    "migrate": ("tollhouse.cli.migrate", "migrate"),
    "backup": ("tollhouse.cli.backup", "backup"),
    "restore": ("tollhouse.cli.backup", "restore"),
    "retention": ("tollhouse.cli.retention", "retention"),
    "erase": ("tollhouse.cli.erase", "erase"),
    "bench": ("tollhouse.cli.bench", "bench"),
}


class Lazy(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # the table above names commands only
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=False)
@click.version_option(package_name="tollhouse")
def cli() -> None:
    """Usage metering and billing for LLM proxies.

    Start with `tollhouse demo`; `tollhouse COMMAND --help` shows an example of each command.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 the work failed or something was refused, 2 wrong use."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="tollhouse", standalone_mode=False)
        sys.stdout.flush()  # a full disk is our failure to tell, not the interpreter's at its end
    except SystemExit as done:  # a command that ends with a signal's code
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        click.echo(f"tollhouse: {_wrong_use(error)}", err=True)
        return 2 if isinstance(error, click.UsageError) else error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (head, less): nothing is wrong, and nobody is left to tell.
        _drop_output()
        return 1
    except Exception as error:
        lines, number = explained(error)
        if not lines:
            if os.environ.get(TRACEBACK):
                raise
            lines = (_fault(error),)
        for line in lines:
            click.echo(f"tollhouse: {line}", err=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _drop_output()
        return number
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Let what is still buffered for standard output go nowhere: the interpreter would fail on it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_KNOWN: Final = {
    "LedgerUnavailable": "the database cannot be reached or written: {} (check TOLLHOUSE_DATABASE_URL)",
    "LedgerDenied": "the database does not take it: {} (check TOLLHOUSE_DATABASE_URL, or run roles.sql again)",
    "ArgumentError": "TOLLHOUSE_DATABASE_URL: {}",
    "NoCatalog": "{}",
    "SchemaError": "{}",
    "TopicsError": "{}",
    "EmbeddedBrokerError": "{}",
    "PortInUseError": "{}",
    "DetectError": "{}",
    "DocumentError": "{}",
    "Refused": "{}",
    "Unreachable": "{}: run it again when Stripe answers",
}
"""Failures that the rooms below name, by the name of their class: they are worded for people already."""


def explained(error: Exception) -> tuple[tuple[str, ...], int]:
    """The lines for a person and the exit code; no lines for what no command expects, which is a fault of ours."""
    if isinstance(error, UserError):
        return error.lines, error.code
    name = type(error).__name__
    if name in _KNOWN:
        return (_KNOWN[name].format(" ".join(str(error).split())),), 1
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror,), 1
    return (), 1


def _wrong_use(error: click.ClickException) -> str:
    """One line: what is wrong, and where the command's use is explained."""
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message if context is None else f"{message} (see `{context.command_path} --help`)"


def _fault(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    return f"a fault of ours, please report it: {name}: {first} (set {TRACEBACK}=1 to see where it comes from)"
