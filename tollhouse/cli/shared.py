"""What commands share: options, input files, output forms."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from tollhouse.errors import UserError
from tollhouse.settings import Settings, load

F = TypeVar("F", bound=Callable[..., Any])
BOM: Final = b"\xef\xbb\xbf"
READ_BYTES: Final = 1 << 20


def dir_option(command: F) -> F:
    """--dir: the installation that `tollhouse up` made."""
    return click.option(
        "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Directory of `tollhouse up`."
    )(command)


def json_option(command: F) -> F:
    """--json: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@contextmanager
def open_input(name: str) -> Iterator[IO[bytes]]:
    """A file's bytes, or standard input for `-`; UserError if it cannot be read."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except IsADirectoryError:
        raise UserError(f"{name} is a directory: name a file", code=2) from None
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such file", code=2) from None
    except PermissionError:
        raise UserError(f"{name}: it cannot be read (permission denied)") from None


def line_batches(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """The stream's lines, without their ends, as many at a time as are there: a batch never waits for its next line.

    So a program that writes one line and waits for the answer gets it, and a file is read in large pieces. A byte order
    mark at the start is no part of the first line.
    """
    rest, started = b"", False
    while piece := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        if not started:
            rest, started = rest + piece, True
            if BOM.startswith(rest) and len(rest) < len(BOM):
                started = False  # not enough to tell yet
                continue
            piece, rest = rest.removeprefix(BOM), b""
        head, newline, tail = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        yield [line.removesuffix(b"\r") for line in (rest + head).split(b"\n")]
        rest = tail
    if rest:
        yield [rest.removesuffix(b"\r")]


def settings_of(directory: Path | None, **overrides: Any) -> Settings:
    """Settings with a command's flags on top; a directory that is not there is an error, not a new installation."""
    if directory is not None and not directory.is_dir():
        raise UserError(f"{directory}: there is no such directory (`tollhouse up --dir {directory}` makes one)")
    return load(directory, overrides)


def open_ledger(settings: Settings) -> Any:
    """The ledger at settings.database, its tables made if they are missing."""
    from pipeline.ledger import Ledger

    try:
        ledger = Ledger(settings.database)
        ledger.create()
    except ValueError as error:
        raise UserError(f"TOLLHOUSE_DATABASE_URL: {error}", code=2) from None
    return ledger


def now_us() -> int:
    """The real clock, for commands; everything below takes time as an argument."""
    import time

    return time.time_ns() // 1000


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table for people: plain columns, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    data = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    for i, name in enumerate(columns):
        numeric = bool(data) and all(_numeric(row[i]) for row in data)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in data:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table)


def _numeric(text: str) -> bool:
    return text == "" or text.replace(",", "").replace(".", "").replace("-", "").replace("%", "").strip().isdigit()


def progress(total: int | None, label: str) -> Any:
    """A progress bar on standard error; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=not sys.stderr.isatty())  # disabled, it would still end with an empty line
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet,
    )
    bar.add_task(label, total=total)
    return bar
