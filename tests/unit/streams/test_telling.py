"""Quota states after commits: at once when nothing waits, of each window the newest once a second when messages do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from pipeline.context import WindowKey
from pipeline.ledger.record import QuotaState
from schemas.catalog import Quota
from streams.telling import TELL_S, Telling

QUOTA = Quota("daily", "tokens", Decimal(1000), "day")
NOW_US = 86_400_000_000


class World:
    """What was sent, as (tenant, used, version), and what was noted as told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.sent: list[tuple[str, str, int]] = []
        self.noted: list[QuotaState] = []
        self.away = False
        self.telling = Telling(self.send, lambda: NOW_US, self.noted.extend, lambda: self.now_s)

    async def send(self, messages: Sequence[tuple[bytes, bytes]]) -> None:
        if self.away:
            raise ConnectionError("nobody answers")
        for key, value in messages:
            await asyncio.sleep(0)
            body = json.loads(value)
            self.sent.append((key.decode(), body["used"], body["version"]))

    def add(self, *states: QuotaState, behind: bool) -> list[tuple[str, str, int]]:
        """What it sends."""
        self.sent = []
        asyncio.run(self.telling.add(states, behind=behind))
        return self.sent


def state(tenant: str, used: int, version: int, start_us: int = NOW_US) -> QuotaState:
    window = WindowKey(f"tenant:{tenant}", "daily", "tokens/*/day", start_us, start_us + 86_400_000_000)
    return QuotaState(window, QUOTA, used, 0, version)


def test_without_a_backlog_each_state_is_told_at_once() -> None:
    world = World()
    for version in (1, 2, 3):
        assert world.add(state("acme", 10 * version, version), behind=False) == [
            ("tenant:acme/daily", str(10 * version), version)
        ]
    assert [one.version for one in world.noted] == [1, 2, 3]


def test_with_a_backlog_a_window_is_told_once_a_second_with_its_newest_state() -> None:
    world = World()
    assert world.add(state("acme", 10, 1), behind=True) == [("tenant:acme/daily", "10", 1)]
    assert world.add(state("acme", 20, 2), state("globex", 5, 1), behind=True) == []
    assert world.add(state("acme", 30, 3), behind=True) == []
    world.now_s += TELL_S
    assert world.add(state("globex", 6, 2), behind=True) == [
        ("tenant:acme/daily", "30", 3),
        ("tenant:globex/daily", "6", 2),
    ]


def test_what_waits_is_told_when_the_backlog_ends_and_by_the_timer() -> None:
    world = World()
    world.add(state("acme", 10, 1), behind=True)
    world.add(state("acme", 20, 2), behind=True)
    assert world.add(behind=False) == [("tenant:acme/daily", "20", 2)]
    world.add(state("acme", 30, 3), behind=True)
    asyncio.run(world.telling.tell())
    assert world.sent == [("tenant:acme/daily", "30", 3)]
    world.sent = []
    asyncio.run(world.telling.tell())
    assert world.sent == []


def test_a_window_that_is_over_or_to_come_is_not_told() -> None:
    world = World()
    over, coming = state("acme", 1, 1, start_us=0), state("globex", 1, 1, start_us=2 * NOW_US)
    assert world.add(over, coming, behind=False) == []
    assert world.noted == []


def test_an_older_state_does_not_come_after_a_newer_one() -> None:
    world = World()

    async def both() -> None:
        first = asyncio.create_task(world.telling.add([state("a", 1, 1), state("b", 1, 1)], behind=False))
        await asyncio.sleep(0)
        await world.telling.add([state("b", 2, 2)], behind=False)
        await first

    asyncio.run(both())
    assert [version for name, _, version in world.sent if name == "tenant:b/daily"] == [1, 2]


def test_what_the_broker_did_not_take_is_not_noted_as_told() -> None:
    world = World()
    world.away = True
    with pytest.raises(ConnectionError):
        world.add(state("acme", 10, 1), behind=False)
    assert world.noted == []
