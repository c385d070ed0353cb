"""Whether usage gets into the ledger, judged by progress and not by being alive.

Faust can be "ready" and commit nothing (faust#596, #523, #594, #629), so nothing here asks Faust. A thread of its own
asks the broker where the topic ends and the ledger how far it came, every few seconds; a place where something waits
and nothing moves is a stall, whatever the cause. The thread that asks may hang with whom it asks: then that is the
answer.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from aiokafka.errors import KafkaError

from pipeline.ledger import LedgerUnavailable

LOOK_S: Final = 5.0
HURRY_S: Final = 1.0
"""Between looks while something is wrong: an orchestrator waits for the change."""
STALL_S: Final = 30.0
"""Longer than a rebalance (6 s and 6 s) with the largest batch that was seen (5 s) and two looks."""
ANSWER_S: Final = 15.0
"""Whoever has not answered for so long is said to be away: three looks."""
JOIN_S: Final = 60.0
"""A group is formed within 3 s on the embedded broker and 30 s after a kill -9 at worst."""
RESTART_S: Final = 300.0
"""A stall with database and broker answering is Faust's, and only a new process ends it."""
OK: Final = "ok"

T = TypeVar("T")


@dataclass(slots=True)
class Place:
    """One partition. end: the topic's. taken: the ledger's next offset. still_s: since when it waits without moving."""

    end: int
    taken: int
    still_s: float | None = None

    @property
    def lag(self) -> int:
        """Messages that wait."""
        return max(0, self.end - self.taken)


@dataclass(slots=True)
class Mark:
    """A figure that should follow another, and since when it does not move although it is behind."""

    acked: int = 0
    committed: int = 0
    still_s: float | None = None


@dataclass
class Progress:
    """What a worker's watcher knows. All times in seconds of `clock`.

    ends, taken: ask the broker and the ledger, by partition; they may raise or hang. catalog: raises where none is.
    assigned: this worker's partitions of usage.events, None while it is not a member of its group. committed: the
    offsets that the broker has of us, by partition. call_soon: runs a function on the event loop. trouble: why the
    batch in hand is not counted; empty if it is.
    """

    ends: Callable[[], Mapping[int, int]]
    taken: Callable[[], Mapping[int, int]]
    catalog: Callable[[], object]
    assigned: Callable[[], Sequence[int] | None]
    committed: Callable[[], Mapping[int, int]]
    call_soon: Callable[[Callable[[], None]], object]
    trouble: Callable[[], str] = str
    clock: Callable[[], float] = time.monotonic
    places: dict[int, Place] = field(default_factory=dict)
    marks: dict[int, Mark] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    _asking: tuple[str, float] | None = None
    _beat_s: float = 0.0
    _absent_s: float | None = None
    _joined: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._absent_s = self._beat_s = self.clock()

    # --- looking ---

    def run(self) -> None:
        """Look until stopped; in a thread of its own, which may hang in a look and ends with the process."""
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_S if self.ready() else HURRY_S)

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def look(self) -> None:
        """One look at everything."""
        self.call_soon(self._beat)
        taken = self._ask("database", self.taken)
        if taken is not None:
            self._ask("catalog", self.catalog)
        ends = self._ask("broker", self.ends)
        self._note(ends, taken)

    def _beat(self) -> None:
        self._beat_s = self.clock()

    def _ask(self, whom: str, question: Callable[[], T]) -> T | None:
        self._asking = whom, self.clock()
        try:
            found = question()
        except LedgerUnavailable as error:
            self.answers[whom] = f"the database does not answer: {error}"
        except (KafkaError, OSError, TimeoutError) as error:
            self.answers[whom] = f"the broker does not answer: {str(error) or type(error).__name__}"
        except BaseException as error:  # noqa: BLE001 - why we cannot see progress, whatever it is
            # A cancellation too: the broker's client cancels parts of its own when the broker is killed under it. This
            # thread must not end by it, or the worker would tell for ever what was true then.
            self.answers[whom] = f"{error}" or type(error).__name__
        else:
            self.answers[whom] = OK
            return found
        finally:
            self._asking = None
        return None

    def _note(self, ends: Mapping[int, int] | None, taken: Mapping[int, int] | None) -> None:
        now_s = self.clock()
        mine = self.assigned()
        if mine is not None:
            self._absent_s, self._joined = None, True
        elif self._absent_s is None:
            self._absent_s = now_s
        if ends is None or taken is None or mine is None:
            return
        before = self.places
        places = {p: Place(ends.get(p, 0), taken.get(p, 0)) for p in mine}
        for partition, place in places.items():
            old = before.get(partition)
            moved = old is None or old.taken != place.taken
            if place.lag:
                place.still_s = now_s if moved or old is None or old.still_s is None else old.still_s
        self.places = places
        self._note_commits(places, now_s)

    def _note_commits(self, places: Mapping[int, Place], now_s: float) -> None:
        committed, marks = self.committed(), {}
        for partition in places:
            old = self.marks.get(partition, Mark())
            mark = Mark(old.acked, max(committed.get(partition, 0), 0))
            if mark.acked > mark.committed:
                still = old.still_s is not None and old.committed == mark.committed
                mark.still_s = old.still_s if still else now_s
            marks[partition] = mark
        self.marks = marks

    def acked(self, offsets: Mapping[int, int]) -> None:
        """The meter acknowledged these partitions up to (not including) the offsets."""
        for partition, offset in offsets.items():
            self.marks.setdefault(partition, Mark()).acked = offset

    # --- judging ---

    def checks(self) -> dict[str, str]:
        """Each check by name: ok, or what is wrong."""
        now_s = self.clock()
        found = {
            "event loop": OK,
            "database": self.answers.get("database", "not asked yet"),
            "catalog": self.answers.get("catalog", "not asked yet"),
            "broker": self.answers.get("broker", "not asked yet"),
            "group": OK,
            "ledger": self.trouble() or OK,
            "progress": OK,
            "offsets": OK,
        }
        if now_s - self._beat_s > LOOK_S + ANSWER_S:
            found["event loop"] = f"it has not turned for {now_s - self._beat_s:.0f} s"
        if (asking := self._asking) is not None and now_s - asking[1] > ANSWER_S:
            found[asking[0]] = f"the {asking[0]} has not answered for {now_s - asking[1]:.0f} s"
        if self._absent_s is not None and (not self._joined or now_s - self._absent_s > JOIN_S):
            found["group"] = f"not a member of its group for {now_s - self._absent_s:.0f} s"
        if (worst := self._stalled_s(now_s)) > STALL_S:
            waiting = sum(place.lag for place in self.places.values())
            found["progress"] = f"{waiting} messages wait, and none came into the ledger for {worst:.0f} s"
        still = [now_s - mark.still_s for mark in list(self.marks.values()) if mark.still_s is not None]
        if still and max(still) > STALL_S:
            found["offsets"] = f"{len(still)} partitions are acknowledged and not committed for {max(still):.0f} s"
        return found

    def _stalled_s(self, now_s: float) -> float:
        return max((now_s - p.still_s for p in self.places.values() if p.still_s is not None), default=0.0)

    def ready(self) -> bool:
        """Whether every check is ok."""
        return all(word == OK for word in self.checks().values())

    def dead(self) -> str:
        """Why only a new process helps; empty while waiting or mending something else does."""
        checks, now_s = self.checks(), self.clock()
        if now_s - self._beat_s > RESTART_S:
            return f"event loop: {checks['event loop']}"
        others = all(checks[name] == OK for name in ("database", "broker", "ledger"))
        if others and self._stalled_s(now_s) > RESTART_S:
            return f"progress: {checks['progress']}, though database and broker answer"
        return ""
