"""Checked whole numbers, and the ways in which a whole splits into parts.

A parser reads its counts through one Reading. The first thing wrong is kept as the fault, reading goes on with zeros,
and the caller asks for the fault before it looks at the classes: faults are values, nothing is raised.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from pipeline.normalise.result import INCONSISTENT, MALFORMED, NEGATIVE, NO_USAGE, Rejection
from schemas.tokens import COUNT_MAX

Fields = Mapping[str, Any]
"""A decoded JSON object. Its values are anything that JSON can hold until a Reading has checked them."""

EMPTY: Final[Fields] = {}
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_SHOWN_BITS_MAX: Final = 128
"""Largest integer that a detail repeats; thousands of digits would not even convert."""


def shown(value: object) -> str:
    """A wrong value for a detail line: short, on one line."""
    if isinstance(value, str):
        return "a string"  # never its text: it may hold a prompt or a secret
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS_MAX:
        return "a huge number"
    return str(value)


def shown_name(name: object) -> str:
    """A field's name for a detail line; one that is no plain name is not repeated."""
    return name if isinstance(name, str) and _PLAIN_NAME.fullmatch(name) else "an odd name"


class Reading:
    """Reads counts out of one usage object and keeps the first fault."""

    __slots__ = ("fault",)

    def __init__(self) -> None:
        self.fault: Rejection | None = None

    def reject(self, reason: str, detail: str) -> None:
        """Keep the fault, unless one was found before it."""
        if self.fault is None:
            self.fault = Rejection(reason, detail)

    def count(self, fields: Fields, key: str, where: str = "") -> int:
        """A count that may be absent or null (then 0)."""
        value = fields.get(key)
        if type(value) is int and 0 <= value <= COUNT_MAX:
            return value
        return 0 if value is None else self._unusual(value, where + key)

    def optional(self, fields: Fields, key: str, where: str = "") -> int | None:
        """A count, or None where it is absent or null: for fields whose absence means something."""
        value = fields.get(key)
        if type(value) is int and 0 <= value <= COUNT_MAX:
            return value
        return None if value is None else self._unusual(value, where + key)

    def required(self, fields: Fields, key: str, where: str = "") -> int:
        """A count without which the usage says nothing certain."""
        value = fields.get(key)
        if type(value) is int and 0 <= value <= COUNT_MAX:
            return value
        if value is None:
            self.reject(MALFORMED, f"{where}{key} is missing beside other counts")
            return 0
        return self._unusual(value, where + key)

    def section(self, fields: Fields, key: str, where: str = "") -> Fields:
        """A nested object; EMPTY where it is absent or null."""
        value = fields.get(key)
        if type(value) is dict:
            return value
        if value is not None:
            self.reject(MALFORMED, f"{where}{key} is {shown(value)}, not an object")
        return EMPTY

    def entries(self, fields: Fields, key: str, where: str = "") -> list[Fields]:
        """A nested list of objects; empty where it is absent or null."""
        value = fields.get(key)
        if value is None:
            return []
        if isinstance(value, list) and all(type(entry) is dict for entry in value):
            return value
        self.reject(MALFORMED, f"{where}{key} is not a list of objects")
        return []

    def one_of(self, *spellings: tuple[Fields, str, str]) -> int | None:
        """One count that has several names, each (fields, key, where). None if none is there; they must agree."""
        found: int | None = None
        first = ""
        for fields, key, where in spellings:
            value = self.optional(fields, key, where)
            if value is None:
                continue
            if found is None:
                found, first = value, where + key
            elif value != found:
                self.reject(INCONSISTENT, f"{first} is {found} but {where}{key}, the same count, is {value}")
        return found

    def within(self, parts: int, whole: int, what: str) -> bool:
        """Whether the parts fit in their whole; `what` names both ("cached_tokens in prompt_tokens")."""
        if parts <= whole:
            return True
        self.reject(INCONSISTENT, f"{what}: {parts} exceeds {whole}")
        return False

    def not_tokens(self, what: str) -> None:
        """Usage in another unit: it cannot be priced by tokens, and it is not zero tokens either."""
        self.reject(NO_USAGE, f"{what} is not a count of tokens")

    def _unusual(self, value: object, path: str) -> int:
        if type(value) is float and isfinite(value):
            if not value.is_integer():
                self.reject(NEGATIVE if value < 0 else MALFORMED, f"{path} is {shown(value)}, not a whole number")
                return 0
            value = int(value)
        if type(value) is not int:
            self.reject(MALFORMED, f"{path} is {shown(value)}, not a whole number")
            return 0
        if value < 0:
            self.reject(NEGATIVE, f"{path} is {shown(value)}, below zero")
            return 0
        if value > COUNT_MAX:
            self.reject(MALFORMED, f"{path} is {shown(value)}, above 2^53 - 1")
            return 0
        return value


class Modalities(NamedTuple):
    """Tokens of one side by modality; text is everything that is neither audio nor image."""

    text: int
    audio: int
    image: int


def split_input(
    reading: Reading,
    whole: int,
    audio: int,
    image: int,
    cached: int,
    known: Modalities | None,
    what: str,
) -> Modalities:
    """Uncached tokens by modality of an input side of `whole` tokens, `cached` of them read from or written to a cache.

    `known` says in which modality cached tokens lie, where the provider tells; the rest comes out of text first, then
    audio, then image (contract, section 2). A cached audio token counts as cached and as audio in the report, so the
    parts may overlap; each part and the cached sum must still fit in the whole.
    """
    text = whole - audio - image
    if text < 0:
        reading.within(audio + image, whole, f"audio and image in {what}")
        return _NOTHING
    if cached > whole:
        reading.within(cached, whole, f"cached tokens in {what}")
        return _NOTHING
    if known is not None:
        if not reading.within(sum(known), cached, f"cached tokens by modality in the cached tokens of {what}"):
            return _NOTHING
        for name, part, of in zip(Modalities._fields, known, (text, audio, image), strict=True):
            if not reading.within(part, of, f"cached {name} in the {name} of {what}"):
                return _NOTHING
        text, audio, image = text - known.text, audio - known.audio, image - known.image
        cached -= sum(known)
    taken = min(text, cached)
    text, cached = text - taken, cached - taken
    taken = min(audio, cached)
    return Modalities(text, audio - taken, image - (cached - taken))


_NOTHING: Final = Modalities(0, 0, 0)


def split_write(reading: Reading, total: int | None, short: int, long: int, what: str) -> tuple[int, int]:
    """(short-lived, long-lived) cache writes. What the split does not explain is short-lived; it must not exceed."""
    if total is None:
        return short, long
    if not reading.within(short + long, total, f"cache writes by lifetime in {what}"):
        return 0, 0
    return total - long, long
