"""What a provider reports and what was metered, in one shape.

A report seldom tells all classes apart (none of the known ones has reasoning beside output). A class that a report does
not have is counted within its parent, on both sides, so that like is compared with like.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.money import Money
from schemas.tokens import CLASSES, COUNTERS, Classes

PARENTS: Final = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_long": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "input_image": "input",
    "output_audio": "output",
    "output_image": "output",
}
"""Where a class is counted by a report that does not have it."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What the provider counted in [start_us, end_us). key: the provider's id of it; None: use without a key.

    counts: by class, only those that the report has. requests: None where it does not tell.
    """

    start_us: int
    end_us: int
    key: str | None
    model: str | None
    counts: Mapping[str, int]
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class CostRow:
    """A line of the provider's own bill. line: in its words; model: as far as the line names one."""

    start_us: int
    end_us: int
    key: str | None
    line: str
    amount: Money
    model: str | None = None
    quantity: str = ""


@dataclass(frozen=True, slots=True)
class MeteredRow:
    """What was metered of one key and model. key: the catalog's id. cost: at our prices of the provider, in USD."""

    key: str
    model: str
    classes: Classes
    requests: int
    cost: Money


def merged(counts: Mapping[str, int], has: Collection[str]) -> dict[str, int]:
    """Counts by the classes that a report has; the others within their parents. Counters it lacks are left out."""
    found: dict[str, int] = {}
    for name, count in counts.items():
        at = name
        while at not in has and at in PARENTS:
            at = PARENTS[at]
        if at in has or at not in COUNTERS:
            found[at] = found.get(at, 0) + count
    return found


def by_name(classes: Classes) -> dict[str, int]:
    """Counts by the name of their class."""
    return dict(zip(CLASSES, classes, strict=True))
