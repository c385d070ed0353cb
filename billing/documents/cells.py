"""Cells that a spreadsheet does not run: text that would start a formula is marked as text, numbers stay numbers."""

from typing import Final

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheet programs take as the start of a formula, with the full-width forms that some of them fold."""


def safe_text(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would read it as a formula.

    Leading blanks do not help an attacker: some programs trim them on import. Control characters that no cell can hold
    are dropped, so they cannot hide the start.
    """
    kept = "".join(char for char in text if (char >= " " and char != "\x7f") or char in "\t\r\n")
    return "'" + kept if kept.startswith(_FORMULA_STARTS) or kept.lstrip().startswith(_FORMULA_STARTS) else kept
