"""Token classes and meters: the nouns in which usage is counted.

No token is in two classes; their sum is what the provider bills (contract, section 2). The order is fixed: it is the
order of the ledger's columns and the order in which an allowance is used up inside one event.
"""

from operator import itemgetter
from typing import Final

TOKEN_CLASSES: Final = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_long",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
)
COUNTERS: Final = ("web_searches",)
"""Counted in requests, not tokens; not part of the meter `tokens`."""

CLASSES: Final = TOKEN_CLASSES + COUNTERS
"""Everything an event can count, in ledger order."""

AGGREGATE_METERS: Final = ("tokens", "requests", "cost")
METERS: Final = CLASSES + AGGREGATE_METERS
"""What plans and quotas can measure."""

Classes = tuple[int, ...]
"""Counts in the order of CLASSES: ten token classes, then web_searches; each 0 to COUNT_MAX for one event."""

ZERO: Final[Classes] = (0,) * len(CLASSES)
COUNT_MAX: Final = 2**53 - 1
"""Largest count of one event: the largest integer that every JSON reader keeps exact."""

INPUT_SIDE: Final = ("input", "cache_read", "cache_write", "cache_write_long", "input_audio", "input_image")
"""Classes that a request sends: their sum is the size that decides a provider's long-context price."""

OUTPUT_SIDE: Final = ("output", "reasoning", "output_audio", "output_image")

_INDEX: Final = {name: i for i, name in enumerate(CLASSES)}
_input_counts: Final = itemgetter(*(_INDEX[name] for name in INPUT_SIDE))


def index_of(name: str) -> int:
    """Position of a class in CLASSES; KeyError for a name that is no class."""
    return _INDEX[name]


def input_side(classes: Classes) -> int:
    """Tokens on the request's side, all classes of INPUT_SIDE."""
    return sum(_input_counts(classes))


def total_tokens(classes: Classes) -> int:
    """The meter `tokens`: the sum of the token classes, without counters."""
    return sum(classes[: len(TOKEN_CLASSES)])


def as_dict(classes: Classes, *, zeros: bool = False) -> dict[str, int]:
    """Counts by name, without the zero ones unless asked."""
    return {name: n for name, n in zip(CLASSES, classes, strict=True) if n or zeros}
