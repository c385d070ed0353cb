"""The faults of the endurance bench: each is in force until what it returns is run.

Each names the alerts that must fire meanwhile or soon after.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.endurance_house import House
from bench.endurance_traffic import Traffic
from tests.simulation.auditor import Books

ENDS_WITHIN_S: Final = 10.0
"""What a worker promises after SIGTERM."""
Fault = Callable[[House, Traffic], Callable[[], None]]


def _workers_killed(house: House, _: Traffic) -> Callable[[], None]:
    for place in (0, 1):
        worker = house.take_down(place)
        worker.kill()
        worker.wait()
    return lambda: [house.start_worker(place) for place in (0, 1)] and None


def _one_killed(house: House, _: Traffic) -> Callable[[], None]:
    worker = house.take_down(0)
    worker.kill()
    worker.wait()
    return lambda: house.start_worker(0)


def _one_upgraded(house: House, _: Traffic) -> Callable[[], None]:
    worker = house.take_down(1)
    worker.terminate()
    began_s = time.monotonic()
    try:
        code = worker.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        house.promises.append(f"a worker was still there {ENDS_WITHIN_S:.0f} s after SIGTERM")
        worker.kill()
        worker.wait()
    else:
        # -15: it was still importing, and had nothing in hand.
        if code not in (0, -signal.SIGTERM):
            house.promises.append(f"a worker ended with {code} after SIGTERM")
        print(f"a worker was gone {time.monotonic() - began_s:.1f} s after SIGTERM", file=sys.stderr, flush=True)
    house.start_worker(1)
    return lambda: None


def _one_frozen(house: House, _: Traffic) -> Callable[[], None]:
    worker = house.workers[0]
    worker.send_signal(signal.SIGSTOP)
    return lambda: worker.send_signal(signal.SIGCONT)


def _api_frozen(house: House, _: Traffic) -> Callable[[], None]:
    assert house.api is not None
    house.api.send_signal(signal.SIGSTOP)
    return lambda: house.api and house.api.send_signal(signal.SIGCONT)


def _database_stopped(house: House, _: Traffic) -> Callable[[], None]:
    house.postgres.stop()
    return house.postgres.start


def _database_frozen(house: House, _: Traffic) -> Callable[[], None]:
    house.postgres.freeze()
    return lambda: house.postgres.freeze(thaw=True)


def _broker_killed(house: House, _: Traffic) -> Callable[[], None]:
    house.kafka.kill()
    return house.kafka.start


def _rejected(_: House, traffic: Traffic) -> Callable[[], None]:
    traffic.reject(4 * traffic.rate)
    return lambda: None


def _secret(house: House, traffic: Traffic) -> Callable[[], None]:
    """Its page may be open already, for traffic that began at full rate: so the ledger is asked for this one too."""
    began_us = time.time_ns() // 1000
    traffic.send(agent="Bearer " + "a1B2c3D4" * 6)

    def told() -> None:
        found = Books(house.world.database_url).query("SELECT last_us FROM alerts WHERE kind = 'secret_in_event'")
        if not any(last_us >= began_us for (last_us,) in found):
            house.promises.append("a secret in an event raised no alert")

    return told


FAULTS: Final[dict[str, tuple[Fault, tuple[str, ...]]]] = {
    "workers killed": (_workers_killed, ("TollhouseWorkerDown",)),
    "database stopped": (
        _database_stopped,
        ("TollhouseDatabaseAway", "TollhouseWorkerNotReady", "TollhouseApiNotReady", "TollhouseApiErrors"),
    ),
    "broker killed": (_broker_killed, ("TollhouseBrokerAway", "TollhouseWorkerNotReady")),
    "a secret in an event": (_secret, ("TollhouseLeak", "TollhouseAlertsNotDelivered")),
    "one worker killed": (_one_killed, ("TollhouseWorkerDown",)),
    "database frozen": (_database_frozen, ("TollhouseDatabaseAway",)),
    "many rejected": (_rejected, ("TollhouseRejected",)),
    "API frozen": (_api_frozen, ("TollhouseApiDown",)),
    "one worker upgraded": (_one_upgraded, ()),
    "one worker frozen": (_one_frozen, ("TollhouseWorkerDown",)),
}
SHORT: Final = ("workers killed", "a secret in an event", "database stopped", "one worker upgraded")
ENDS_THE_SECOND: Final = ("workers killed", "one worker upgraded")


def order(turns: int, names: Sequence[str] = tuple(FAULTS)) -> list[str]:
    """The faults of a run, one a turn.

    In a long one, between the first round and the last, none ends the worker of the second place: its memory can then
    be judged over most of the run.
    """
    first = [names[turn % len(names)] for turn in range(turns)]
    if turns < 3 * len(names):
        return first
    sparing = [name for name in names if name not in ENDS_THE_SECOND] or list(names)
    middle = [sparing[turn % len(sparing)] for turn in range(turns - 2 * len(names))]
    return [*names, *middle, *names]
