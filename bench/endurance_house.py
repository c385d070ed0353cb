"""Everything that runs in the endurance bench: workers in two places, the API, who watches over them, their memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from bench.endurance_watch import ROOT
from tests.simulation.own_parts import OwnKafka, OwnPostgres
from tests.simulation.world import World

LOOK_S: Final = 5.0
WARM_S: Final = 300.0
"""Of a life, or a quarter of it if that is less: caches fill, and modules that are rarely needed are loaded."""
MINUTE_S: Final = 60.0
JUDGED_MINUTES: Final = 3
"""So many after the warm-up are needed to say anything."""
LONG_MINUTES: Final = 15
GROWTH_LONG, GROWTH_BRIEF = 1.10, 1.50
"""Of the median of a life's last third over that of its first one, after the warm-up; brief: under LONG_MINUTES."""
GROWTH_WITH_LEAP: Final = 1.5
"""The same with its largest step from one minute to the next: room that one backlog took is kept, and is no trend."""


@dataclass
class House:
    """Everything that runs. promises: what was broken that does not show in the sums."""

    world: World
    kafka: OwnKafka
    postgres: OwnPostgres
    ports: list[int]
    api_port: int
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    api: subprocess.Popen[bytes] | None = None
    down: set[int] = field(default_factory=set)
    restarts: int = 0
    promises: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start_worker(self, place: int) -> None:
        """The worker of one of the two places; from now on one that ends by itself is started again."""
        with self.lock:
            port = str(self.ports[place])
            made = self.world.start_worker(TOLLHOUSE_WORKER_PORT=port, TOLLHOUSE_ALLOW_LOCAL_SINKS="1")
            self.workers[place : place + 1] = [made]
            self.down.discard(place)

    def supervise(self, stop: threading.Event) -> None:
        """What an orchestrator does: a worker that finds no database at its start says so and ends."""
        while not stop.wait(1.0):
            with self.lock:
                for place, worker in enumerate(self.workers):
                    if place not in self.down and worker.poll() is not None:
                        self.restarts += 1
                        self.start_worker(place)

    def take_down(self, place: int) -> subprocess.Popen[bytes]:
        """The worker of the place, which is to stay away for now."""
        with self.lock:
            self.down.add(place)
            return self.workers[place]

    def environment(self) -> dict[str, str]:
        """Of the API, and of a command beside it."""
        return os.environ | {
            "TOLLHOUSE_BROKER": self.world.broker, "TOLLHOUSE_DATABASE_URL": self.world.database_url,
            "TOLLHOUSE_DIR": str(self.world.directory / "api"), "TOLLHOUSE_TOPIC_PREFIX": self.world.prefix,
            "TOLLHOUSE_PORT": str(self.api_port), "TOLLHOUSE_APP_ID": self.world.app_id,
            "TOLLHOUSE_PARTITIONS": str(self.world.partitions),
            "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "sdk")),
        }  # fmt: skip

    def command(self, *words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A command of ours on this installation, to its end."""
        line = [sys.executable, "-m", "tollhouse", *words]
        return subprocess.run(
            line, env=self.environment(), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def token(self, *words: str) -> str:
        """A fresh token."""
        done = self.command("token", "issue", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def serve(self) -> Iterator[None]:
        """The API."""
        (self.world.directory / "api").mkdir(exist_ok=True)
        with (self.world.directory / "api.log").open("wb") as log:
            command = [sys.executable, "-m", "tollhouse", "api"]
            self.api = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
        try:
            yield
        finally:
            self.api.kill()
            self.api.wait()

    def processes(self) -> dict[str, int]:
        """Process id by name; each life of a worker has a name of its own, the place first."""
        with self.lock:
            workers = {
                f"worker {place}, process {self.world.workers.index(one) + 1}": one.pid
                for place, one in enumerate(self.workers)
                if one.poll() is None
            }
        assert self.api is not None
        return {"api": self.api.pid, "publisher": os.getpid(), **workers}


class Memory(threading.Thread):
    """Resident memory of every process, every five seconds, by the name of its life."""

    def __init__(self, house: House) -> None:
        super().__init__(name="memory", daemon=True)
        self._house = house
        self._over = threading.Event()
        self.lives: dict[str, list[tuple[float, float]]] = {}
        """(seconds since its first look, MiB)."""
        self._first: dict[str, float] = {}

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """One sample of each."""
        named, now_s = self._house.processes(), time.monotonic()
        sizes = resident_mib(list(named.values()))
        for name, pid in named.items():
            if pid in sizes:
                first_s = self._first.setdefault(name, now_s)
                self.lives.setdefault(name, []).append((now_s - first_s, sizes[pid]))

    def end(self) -> None:
        """No more samples."""
        self._over.set()

    def newest(self) -> dict[str, int]:
        """MiB of what was there at the last look, by the first word and place of its name."""
        alive = self._house.processes()
        return {name.partition(",")[0]: round(life[-1][1]) for name, life in self.lives.items() if name in alive}

    def judged(self) -> dict[str, Life]:
        """Every life that was long enough to say something, by name."""
        found = {name: judge(list(life)) for name, life in list(self.lives.items())}
        return {name: life for name, life in found.items() if life is not None}


@dataclass(frozen=True)
class Life:
    """A process's memory after its warm-up: median MiB of the first and the last third, and the slope between."""

    mib: tuple[float, ...]
    """Median of each minute after the warm-up."""
    first_mib: float
    last_mib: float
    mib_an_hour: float

    @property
    def minutes(self) -> int:
        return len(self.mib)

    @property
    def growth(self) -> float:
        return self.last_mib / self.first_mib

    @property
    def leap_mib(self) -> float:
        """The largest step up between two minutes."""
        return max((later - mib for mib, later in pairwise(self.mib)), default=0.0)

    @property
    def flat(self) -> bool:
        """Without the largest leap, if there was one, it grew by GROWTH_LONG at most (brief: GROWTH_BRIEF as it is)."""
        if self.minutes < LONG_MINUTES:
            return self.growth <= GROWTH_BRIEF
        without = (self.last_mib - max(0.0, self.leap_mib)) / self.first_mib
        return self.growth <= GROWTH_LONG or (without <= GROWTH_LONG and self.growth <= GROWTH_WITH_LEAP)

    def as_json(self) -> dict[str, object]:
        return {
            "minutes": self.minutes, "first_mib": round(self.first_mib, 1), "last_mib": round(self.last_mib, 1),
            "growth": round(self.growth, 3), "mib_an_hour": round(self.mib_an_hour, 1), "flat": self.flat,
            "leap_mib": round(self.leap_mib, 1), "mib_by_minute": [round(mib) for mib in self.mib],
        }  # fmt: skip


def judge(life: Sequence[tuple[float, float]]) -> Life | None:
    """What (seconds, MiB) of a process say; None for a life too short.

    Medians of minutes: a fault fills buffers for seconds. The slope is the median of all slopes between two minutes.
    """
    warm_s = min(WARM_S, life[-1][0] / 4) if life else 0.0
    by_minute: dict[int, list[float]] = {}
    for at_s, mib in life:
        if at_s >= warm_s:
            by_minute.setdefault(int((at_s - warm_s) / MINUTE_S), []).append(mib)
    minutes = [(minute, statistics.median(sizes)) for minute, sizes in sorted(by_minute.items())]
    if len(minutes) < JUDGED_MINUTES:
        return None
    sizes, third = [mib for _, mib in minutes], max(1, len(minutes) // 3)
    slopes = [
        (later - mib) / (at - minute) for n, (minute, mib) in enumerate(minutes) for at, later in minutes[n + 1 :]
    ]
    first, last = statistics.median(sizes[:third]), statistics.median(sizes[-third:])
    return Life(tuple(sizes), first, last, statistics.median(slopes) * MINUTE_S)


def resident_mib(pids: Sequence[int]) -> dict[int, float]:
    """Resident memory by process id; without those that are gone."""
    listed = ",".join(map(str, pids))
    done = subprocess.run(["ps", "-o", "pid=,rss=", "-p", listed], capture_output=True, text=True, check=False)
    return {int(pid): int(kib) / 1024 for pid, kib in (line.split() for line in done.stdout.splitlines())}
