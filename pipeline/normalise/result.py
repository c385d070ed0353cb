"""What normalising gives: exclusive classes, or a rejection that says why not."""

from typing import Final, NamedTuple

from schemas.tokens import CLASSES, ZERO, Classes

__all__ = ["INCONSISTENT", "MALFORMED", "NEGATIVE", "NOTHING", "NO_USAGE", "REASONS", "Classes", "Rejection"]

NO_USAGE: Final = "no_usage"
INCONSISTENT: Final = "inconsistent_usage"
NEGATIVE: Final = "negative_usage"
MALFORMED: Final = "malformed"
NOTHING: Final = ZERO
"""The classes of a parser that has rejected: never seen by a caller."""
REASONS: Final = (NO_USAGE, INCONSISTENT, NEGATIVE, MALFORMED)


class Rejection(NamedTuple):
    """Usage that cannot be counted: a reason of REASONS and one line with the field and its figures."""

    reason: str
    detail: str


assert len(NOTHING) == len(CLASSES) == 11  # parsers build the tuple themselves: a new class must find its place in each
