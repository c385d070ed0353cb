"""What goes on when a plan gets a new version: a charge or an allowance is the same one if its meter and models are.

Where a version has exactly one charge of a meter without a namesake, and the version before has exactly one of that
meter that is gone, it is the same charge with new models: a new version does not restart tiers (money rule 2).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class Metered(Protocol):
    """A charge or an allowance."""

    @property
    def meter(self) -> str: ...
    @property
    def models(self) -> str: ...


Key = tuple[str, str, int]


def _keys(items: Sequence[Metered]) -> list[Key]:
    """(meter, models, how many namesakes stand before it)."""
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for item in items:
        name = (item.meter, item.models)
        keys.append((*name, seen[name]))
        seen[name] += 1
    return keys


def link(versions: Sequence[Sequence[Metered]]) -> tuple[list[list[int]], int]:
    """For each version the slot of each item, and how many slots there are. Same slot: same counter."""
    slot_of: dict[Key, int] = {}
    linked: list[list[int]] = []
    before: list[Key] = []
    count = 0
    for items in versions:
        keys = _keys(items)
        gone = [key for key in before if key not in keys]
        new = [key for key in keys if key not in slot_of]
        for key in new:
            rivals = [other for other in new if other[0] == key[0]]
            ancestors = [other for other in gone if other[0] == key[0]]
            if len(rivals) == len(ancestors) == 1:
                slot_of[key] = slot_of[ancestors[0]]
            else:
                slot_of[key] = count
                count += 1
        linked.append([slot_of[key] for key in keys])
        before = keys
    return linked, count
