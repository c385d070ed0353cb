"""Answers in time for `/readyz` and `/metrics`, also when whom they ask does not answer.

A database that takes a connection and says nothing would hold one thread of the server for each probe, until none is
left for requests. So each question has one thread, and a probe waits for it for a moment only.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

T = TypeVar("T")

OK: Final = "ok"
KEEP_S: Final = 1.0
"""An answer so fresh is given again: balancers probe each process every few seconds, several of them at once."""
WAIT_S: Final = 3.0
"""Less than what balancers and kubelets are told to wait (5 s)."""
LOOKING: Final = 20
"""An answer is kept for this many times what it took, so that looking takes a twentieth of a thread at most."""
KEEP_TIMES: Final = 10
"""But no longer than this many times what it is kept for otherwise: a process that stood still for a minute while it
asked would tell for twenty that all is well."""


class Late(Exception):
    """Whom we asked has not answered; one line that says since when."""


class Timely(Generic[T]):
    """One question, asked by one thread at a time. ask may hang, and may raise. name: whom it asks."""

    def __init__(
        self, name: str, ask: Callable[[], T], keep_s: float = KEEP_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self._ask, self._keep_s, self._clock = name, ask, keep_s, clock
        self._lock = threading.Lock()
        self._answer: tuple[float, T | None, Exception | None] | None = None
        self._done: threading.Event | None = None
        self._since_s = 0.0

    def begin(self) -> threading.Event | None:
        """Ask, if nobody does and the last answer is old; set when there is an answer, None if there is one."""
        with self._lock:
            if self._done is None and (self._answer is None or self._answer[0] <= self._clock()):
                self._done, self._since_s = threading.Event(), self._clock()
                threading.Thread(target=self._run, args=(self._done,), name=f"ask {self.name}", daemon=True).start()
            return self._done

    def get(self, wait_s: float = WAIT_S) -> T:
        """The answer, or what asking raised, or Late after wait_s."""
        done = self.begin()
        if done is not None and not done.wait(wait_s):
            raise Late(f"the {self.name} has not answered for {self._clock() - self._since_s:.0f} s")
        assert self._answer is not None  # either there was one, or the thread has set it
        _, answer, error = self._answer
        if error is not None:
            raise error
        return answer  # type: ignore[return-value] # without an error it is what ask gave

    def _run(self, done: threading.Event) -> None:
        answer, error, began_s = None, None, self._clock()
        try:
            answer = self._ask()
        except Exception as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        now_s = self._clock()
        with self._lock:
            keep_s = self._keep_s if error is None else KEEP_S  # what was away may be back
            took_s = now_s - began_s if error is None else 0.0
            self._answer = now_s + max(keep_s, min(LOOKING * took_s, KEEP_TIMES * keep_s)), answer, error
            self._done = None
        done.set()


def words_of(checks: Mapping[str, Timely[str]], wait_s: float = WAIT_S) -> dict[str, str]:
    """`ok` by name, or what is wrong in a line. All are asked at once, so that none takes the time of another."""
    for check in checks.values():
        check.begin()
    until_s = time.monotonic() + wait_s
    return {name: word_of(check, max(0.0, until_s - time.monotonic())) for name, check in checks.items()}


def word_of(check: Timely[str], wait_s: float = WAIT_S) -> str:
    """`ok`, or what is wrong in a line."""
    try:
        return check.get(wait_s)
    except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
        return str(error) or type(error).__name__
