"""Digests of many rows at once: the same whatever order they come in, so that no database has to sort for them."""

from hashlib import blake2b
from typing import Any, Final, NamedTuple

MASK: Final = 2**128 - 1


class TableFigures(NamedTuple):
    """rows: how many. digest: of the rows, whatever their order, hexadecimal."""

    rows: int
    digest: str


class Rows:
    """Counts rows and adds up their digests."""

    def __init__(self) -> None:
        self.rows, self._sum = 0, 0

    def add(self, row: tuple[Any, ...]) -> None:
        """One row of plain values."""
        self.rows += 1
        self._sum += int.from_bytes(blake2b(repr(row).encode(), digest_size=16).digest(), "big")

    @property
    def figures(self) -> TableFigures:
        """What was added so far."""
        return TableFigures(self.rows, f"{self._sum & MASK:032x}")
