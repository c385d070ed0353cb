"""The messages of the events' topic in order and without holes, from where the ledger stands.

Faust drops what its buffers hold when partitions move and when it stops, and a message that was on its way then can
still come through; it also counts messages that it did not see as acknowledged, and may commit past them (faust#606).
A message that comes before one that was dropped would move the ledger's offset over it. So the ledger's own offset
decides what is next in a partition; a message further on is put back, and the partition is read again from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SURE: Final = 2
"""So often a partition is read again before a hole in it is believed: the first answer may have been on its way."""


STANDSTILL: Final = 5
"""So often the end of a partition is read again."""


@dataclass(slots=True)
class _Hole:
    """We wait for `wanted`; the topic gave us `found` in its place so many times after we asked."""

    wanted: int
    found: int
    times: int = 0


class Order:
    """Per partition, what comes next. stands: the ledger's next offset of a partition (read once an assignment)."""

    def __init__(self, stands: Callable[[int], int]) -> None:
        self._stands = stands
        self._next: dict[int, int] = {}
        self._holes: dict[int, _Hole] = {}
        self._stood: dict[int, tuple[int, int, int]] = {}

    def reset(self) -> None:
        """Partitions moved: the ledger is asked again."""
        self._next.clear()
        self._holes.clear()
        self._stood.clear()

    def knows(self, partition: int) -> bool:
        """Whether `expect` would answer without the ledger."""
        return partition in self._next

    def expect(self, partition: int) -> int:
        """The offset of the partition's next message. LedgerUnavailable when that is not known yet and cannot be."""
        if partition not in self._next:
            self._next[partition] = self._stands(partition)
        return self._next[partition]

    def admit(self, partition: int, offset: int) -> tuple[bool, int | None]:
        """Whether the message is to be taken; if not, from where the partition is to be read again (None: that was
        asked for already).

        What is known already (offset below the next) is taken: the ledger tells it from new.
        A hole that is there after SURE times reading again is one of the topic itself: the mark of a transaction (our
        client makes none; each costs that much), or messages that it no longer keeps.
        """
        wanted = self.expect(partition)
        if offset <= wanted:
            if offset == wanted:
                self._pass(partition, offset)
            return True, None
        hole = self._holes.get(partition)
        if hole is None or hole.wanted != wanted or offset < hole.found:
            self._holes[partition] = _Hole(wanted, offset)
            return False, wanted
        if offset > hole.found:
            return False, None  # buffered behind the first
        hole.times += 1
        if hole.times < SURE:
            return False, wanted
        self._pass(partition, offset)
        return True, None

    def _pass(self, partition: int, offset: int) -> None:
        self._next[partition] = offset + 1
        self._holes.pop(partition, None)

    def behind(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Partitions that are read further than they were passed on, and did not move since the last call: from where
        each is to be read again. Such a partition's last messages were dropped, and none came after them.

        positions: what would be fetched next. A standstill is told STANDSTILL times: then what is left is no message.
        """
        found = {}
        for partition, position in positions.items():
            wanted = self.expect(partition)
            if position <= wanted:
                self._stood.pop(partition, None)
                continue
            before = self._stood.get(partition)
            looks = before[2] + 1 if before is not None and before[:2] == (wanted, position) else 0
            self._stood[partition] = (wanted, position, looks)
            if 0 < looks <= STANDSTILL:
                found[partition] = wanted
        return found
