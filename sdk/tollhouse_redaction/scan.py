"""Looking for traces of secrets in events that are much alike, as one proxy's are.

What stands between quotation marks comes again and again: names of members, tenants, models. A piece in which no trace
was found need not be looked at twice; no trace has a quotation mark in it, so none goes across pieces.
"""

from collections.abc import Sequence
from typing import Final

from tollhouse_redaction.forms import suspicious

KNOWN_MAX: Final = 20_000
"""Pieces remembered, of some fifty bytes each; a call brings a handful of new ones (ids, times, counts)."""
PIECE_MAX: Final = 100


class Scan:
    """For one thread."""

    def __init__(self) -> None:
        self._clean: set[bytes] = set()

    def suspects(self, raws: Sequence[bytes]) -> list[int]:
        """Places of the events that may hold a secret; every other one is certain to hold none."""
        new = set(b'"'.join(raws).split(b'"')) - self._clean
        if not suspicious(b'"'.join(new)):
            if len(self._clean) > KNOWN_MAX:
                self._clean.clear()
            self._clean.update(piece for piece in new if len(piece) <= PIECE_MAX)
            return []
        return [place for place, raw in enumerate(raws) if suspicious(raw)]
