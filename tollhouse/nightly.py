"""Once a day, in whichever worker comes first: drop what the retention lets go, then audit, with an alert if need be.

It runs as a process of its own, so that it takes neither the worker's memory nor its turn at the interpreter.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pipeline.alerting import Alert
from pipeline.ledger import Connection, Ledger, LedgerUnavailable, books
from schemas.instants import DAY_US, MINUTE_US, format_instant
from tollhouse.settings import Settings

log = structlog.get_logger()

KIND: Final = "audit"
LAST: Final = "nightly"
LOOK_S: Final = 30.0
"""How often it is asked whether it is time: late by half a minute at most, whatever the clock does meanwhile."""
RETENTION: Final = "retention"
ALERT: Final = "nightly:retention"
NOT_DROPPED: Final = (
    "the nightly retention ended with exit code {code}, and events that were to be dropped may still be there: the "
    "reason is in the worker's log. A worker under a database role of its own may not drop them: run `tollhouse "
    "retention` as the migration's role, and take retention_months out of the worker's settings"
)


def due(connection: Connection, minute_of_day: int, now_us: int) -> bool:
    """Whether this process is to run tonight's; then it is noted, so that no other one does.

    minute_of_day: when, in UTC. The first night is the one after the first look.
    """
    books.take_turn(connection)
    night = (now_us - minute_of_day * MINUTE_US) // DAY_US
    last = books.get(connection, KIND, LAST)
    if last is not None and int(last) >= night:
        return False
    books.put(connection, KIND, LAST, str(night))
    return last is not None


def commands(settings: Settings) -> list[list[str]]:
    """What a night does, one after another."""
    program = [sys.executable, "-m", "tollhouse"]
    audit = [*program, "audit", "--alert", "--dir", str(settings.dir)]
    if not settings.retention_months:
        return [audit]
    return [[*program, RETENTION, "--apply", "--dir", str(settings.dir)], audit]


class Nightly(threading.Thread):
    """Looks at the clock until it is ended. run_command: runs one and gives its exit code."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        now_us: Callable[[], int],
        run_command: Callable[[Sequence[str]], int] | None = None,
    ) -> None:
        super().__init__(name="nightly", daemon=True)
        hours, _, minutes = settings.audit_at.partition(":")
        self._minute = int(hours) * 60 + int(minutes)
        self._settings, self._ledger, self._now_us = settings, ledger, now_us
        self._run_command = run_command or self._process
        self._over = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> bool:
        """Run the night's commands if it is time; whether it was."""
        now_us = self._now_us()
        try:
            if not self._ledger.write(lambda connection: due(connection, self._minute, now_us)):
                return False
        except LedgerUnavailable as error:
            log.warning("nightly.waiting", reason=str(error))
            return False
        for command in commands(self._settings):
            code = self._run_command(command)
            log.info("nightly.done", command=command[3], code=code, at=format_instant(now_us))
            if code and command[3] == RETENTION and not self._over.is_set():
                self._tell(code, now_us)  # the audit tells by itself
        return True

    def _tell(self, code: int, now_us: int) -> None:
        alert = Alert(ALERT, now_us, "pipeline", "ticket", RETENTION, NOT_DROPPED.format(code=code), {"code": code})
        try:
            self._ledger.raise_alerts([alert])
        except LedgerUnavailable as error:
            log.warning("nightly.not_told", reason=str(error))

    def end(self) -> None:
        """No more nights, and the one at work ends now: it is done again by hand, or tomorrow."""
        self._over.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _process(self, command: Sequence[str]) -> int:
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return self._child.wait()
