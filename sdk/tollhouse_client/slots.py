"""Spool directories for a proxy with several worker processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from tollhouse_client.errors import SpoolLockedError

SLOTS_MAX: Final = 256
"""More worker processes than one host runs; a guard against an endless search, not a tuning knob."""

Opened = TypeVar("Opened")


def open_in_free_slot(parent: str | Path, opened: Callable[[Path], Opened]) -> Opened:
    """What `opened` makes of the first of parent/slot-0, parent/slot-1, … that no living process holds.

    A restarted proxy takes the same directories in the same order, so what a killed worker left is sent by its
    successor. A slot beyond the number of workers keeps its events until that many run again. Opening is the test,
    so two workers that start at once cannot take the same one. SpoolLockedError when all are held.
    """
    for number in range(SLOTS_MAX):
        try:
            return opened(Path(parent) / f"slot-{number}")
        except SpoolLockedError:
            continue
    raise SpoolLockedError(f"all {SLOTS_MAX} slots of {parent} are held; end the old workers, or use another directory")
