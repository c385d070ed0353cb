"""Where the process begins: Ctrl-C ends it quietly with 130 from its first line, also while the command is imported."""

import os
import signal
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 and the signal's number, as a shell says it."""


def main() -> None:
    """Entry point of `tollhouse`. Exit codes: 0 done, 1 the work failed or was refused, 2 wrong use, 130 Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else our parent wants it ignored
        # Nothing is open yet, so there is nothing to end but the imports, from which a KeyboardInterrupt could come out
        # anywhere, as a traceback.
        signal.signal(signal.SIGINT, _leave)
    from tollhouse.cli.main import main as command  # noqa: PLC0415 - the half second the handler above is there for

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command()
    finally:
        # CPython remembers a KeyboardInterrupt that came out of exec or eval of a string (dataclasses and named tuples
        # are made so) and ends the process by the signal itself, not with our code, however well we handled it. The
        # next such call that ends well makes it forget.
        exec("")  # noqa: S102


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
