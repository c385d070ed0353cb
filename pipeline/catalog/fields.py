"""Reading typed fields out of a document, gathering every error instead of stopping at the first.

Each reader returns the value, or a harmless stand-in after noting an error: a catalog with errors is never used, so the
stand-in only lets the reading go on. null means absent.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Final

from pipeline.catalog.document import CatalogError, Node, Scalar
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from schemas.money import decimal, is_currency, plain
from schemas.periods import parse_date_or_instant, zone

INTEGER_MAX: Final = 10**18
"""Limits, bounds and sizes stay within 64 bits, as the ledger keeps them."""
PLACES_MAX: Final = 18
WHOLE_DIGITS_MAX: Final = 15
"""Decimals of a catalog: 15 digits before the point, 18 behind it, so that no product of a month needs more than 60."""
PER_MAX: Final = 10**9
_ID_MAX: Final = 256

_DURATION: Final = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_DURATION_US: Final = (DAY_US, HOUR_US, MINUTE_US, SECOND_US)
_WHOLE: Final = re.compile(r"\d{1,19}(\.0{1,30})?")  # 5.0 counts as 5, and is kept as the text "5.0"
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


def suggestion(word: str, known: Collection[str]) -> str:
    """The end of a message about an unknown word: the near miss that was meant, else the words that are known."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    if near:
        return f": did you mean {near[0]!r}?"
    if not known:
        return ": there is none"
    shown = sorted(known) if isinstance(known, (set, frozenset)) else list(known)
    return f": use {', '.join(shown[:12])}{', …' if len(shown) > 12 else ''}"


def kind_of(value: "Scalar | list[Node] | dict[str, Node]") -> str:
    """What a value is, in the words of a catalog's author."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value) if isinstance(value, (str, bool)) else format(value, "f" if isinstance(value, Decimal) else "d")


@dataclass(frozen=True, slots=True)
class At:
    """A place in the document: its node, and its path from the root."""

    node: Node
    path: str

    @property
    def line(self) -> int | None:
        """Line of the value, where it has one."""
        return self.node.line


class Fields:
    """Typed access to a document. errors: all that was found wrong so far."""

    def __init__(self, errors: list[CatalogError]) -> None:
        self.errors = errors

    def error(self, at: At, message: str) -> None:
        """Notes an error at a place."""
        self.errors.append(CatalogError(at.node.line, at.path, message))

    # Structure

    def mapping(self, at: At, known: Collection[str]) -> dict[str, At]:
        """The fields that are given (null: not given); unknown ones are errors."""
        if not isinstance(at.node.value, dict):
            self.error(at, f"needs a mapping with {', '.join(list(known)[:4])}, …, not {kind_of(at.node.value)}")
            return {}
        found: dict[str, At] = {}
        for key, node in at.node.value.items():
            place = At(node, f"{at.path}.{key}" if at.path else key)
            if key not in known:
                self.error(place, f"unknown field {key!r}{suggestion(key, known)}")
            elif node.value is not None:
                found[key] = place
        return found

    def entries(self, at: At | None) -> dict[str, At]:
        """A mapping by id, like tenants; the ids are checked."""
        if at is None:
            return {}
        if not isinstance(at.node.value, dict):
            self.error(at, f"needs a mapping of ids to their settings, not {kind_of(at.node.value)}")
            return {}
        found: dict[str, At] = {}
        for key, node in at.node.value.items():
            place = At(node, f"{at.path}.{key}")
            if not key.strip() or len(key) > _ID_MAX or not key.isprintable():
                self.error(place, f"an id is 1 to {_ID_MAX} printable characters")
            else:
                found[key] = place
        return found

    def items(self, at: At | None) -> Iterator[At]:
        """The places of a list's items."""
        if at is None:
            return
        if not isinstance(at.node.value, list):
            self.error(at, f"needs a list, not {kind_of(at.node.value)}: start each entry with '- '")
            return
        for i, node in enumerate(at.node.value):
            yield At(node, f"{at.path}[{i}]")

    def required(self, owner: At, fields: dict[str, At], name: str, example: str) -> At | None:
        """The field's place, or an error that says what to add."""
        found = fields.get(name)
        if found is None and isinstance(owner.node.value, dict):
            self.error(owner, f"{name} is missing: add {name}: {example}")
        return found

    # Scalars

    def text(self, at: At | None, default: str = "") -> str:
        """Text; a bare number is taken as it is written (tax_id: 12345)."""
        if at is None:
            return default
        value = at.node.value
        if isinstance(value, (dict, list, bool)) or value is None:
            self.error(at, f"needs text, not {kind_of(value)}: put it in quotes")
            return default
        text = value if isinstance(value, str) else kind_of(value)
        if "\x00" in text:
            self.error(at, "holds a NUL character: remove it")
            return default
        return text

    def name(self, at: At | None, default: str = "") -> str:
        """Text that is not blank."""
        text = self.text(at, default)
        if at is not None and not text.strip() and not isinstance(at.node.value, (dict, list)):
            self.error(at, "must not be blank")
            return default
        return text.strip()

    def choice(self, at: At | None, known: Collection[str], default: str) -> str:
        """One of the known words."""
        if at is None:
            return default
        value = at.node.value
        if not isinstance(value, str) or value not in known:
            hint = suggestion(value, known) if isinstance(value, str) else f": use {', '.join(known)}"
            self.error(at, f"{kind_of(value)} is not known here{hint}")
            return default
        return value

    def reference(self, at: At | None, known: Collection[str], what: str) -> str | None:
        """An id that must exist elsewhere in the document."""
        if at is None:
            return None
        value = self.text(at)
        if value not in known:
            if isinstance(at.node.value, (str, int, Decimal)) and not isinstance(at.node.value, bool):
                self.error(at, f"unknown {what} {value!r}{suggestion(value, known)}")
            return None
        return value

    def flag(self, at: At | None) -> bool:
        """true or false; absent is false."""
        if at is None:
            return False
        if not isinstance(at.node.value, bool):
            self.error(at, f"needs true or false, not {kind_of(at.node.value)}")
            return False
        return at.node.value

    def amount(self, at: At | None, *, least: Decimal | None = Decimal(0), above: bool = False) -> Decimal | None:
        """An exact decimal, quoted or not; not below `least` (above: nor equal to it)."""
        if at is None:
            return None
        value = at.node.value
        if isinstance(value, (dict, list, bool)) or value is None:
            self.error(at, f'needs a decimal like "0.30", not {kind_of(value)}')
            return None
        try:
            number = decimal(value)
        except ValueError as problem:
            self.error(at, str(problem))
            return None
        places = -int(number.as_tuple().exponent)
        if abs(number) >= 10**WHOLE_DIGITS_MAX or places > PLACES_MAX:
            self.error(at, f"has more than {WHOLE_DIGITS_MAX} digits before or {PLACES_MAX} behind the point")
            return None
        if least is not None and (number < least or (above and number == least)):
            self.error(at, f"{plain(number)} must be {'above' if above else 'at least'} {plain(least)}")
            return None
        return number

    def integer(self, at: At | None, *, least: int = 0, most: int = INTEGER_MAX) -> int | None:
        """A whole number in [least, most]."""
        if at is None:
            return None
        value = at.node.value
        number = Decimal(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else None
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            number = Decimal(value)
        if number is None or number != number.to_integral_value():
            self.error(at, f"needs a whole number, not {kind_of(value)}")
            return None
        if not least <= number <= most:
            bounds = f"{least} to {most}" if number > most else f"at least {least}"
            self.error(at, f"{plain(number)} must be {bounds}")
            return None
        return int(number)

    def per(self, at: At | None, default: int) -> int:
        """How many units a price is for: a product of twos and fives, so that price / per is an exact decimal."""
        number = self.integer(at, least=1, most=PER_MAX)
        if at is None or number is None:
            return default
        rest = number
        for factor in (2, 5):
            while rest % factor == 0:
                rest //= factor
        if rest != 1:
            self.error(at, f"{number} does not divide a decimal exactly: use 1, 1000 or 1000000")
        return number

    def currency(self, at: At | None, default: str) -> str:
        """An ISO 4217 code."""
        text = self.text(at, default)
        if at is not None and not is_currency(text):
            hint = f": write {text.upper()}" if is_currency(text.upper()) else ", like USD"
            self.error(at, f"{text!r} is not a currency code{hint}")
            return default
        return text

    def country(self, at: At | None) -> str:
        """An ISO 3166 code of two letters."""
        text = self.text(at)
        if at is not None and _COUNTRY.fullmatch(text) is None:
            hint = f": write {text.upper()}" if _COUNTRY.fullmatch(text.upper()) else ", like DE"
            self.error(at, f"{text!r} is not a country code{hint}")
            return ""
        return text

    def timezone(self, at: At | None) -> str:
        """An IANA zone; UTC where none is given."""
        text = self.text(at, "UTC")
        try:
            zone(text)
        except ValueError as problem:
            if at is not None:
                self.error(at, str(problem))
            return "UTC"
        return text

    def instant(self, at: At | None, zone_name: str) -> int | None:
        """A date (midnight in the zone) or an RFC 3339 time, as UTC microseconds."""
        if at is None:
            return None
        value = at.node.value
        if not isinstance(value, str):
            self.error(at, f"needs a date like 2026-10-01, not {kind_of(value)}")
            return None
        try:
            if not 1900 <= int(value[:4] if value[:4].isdecimal() else 0) <= 9000:
                raise ValueError(value)
            return parse_date_or_instant(value, zone_name)
        except (ValueError, OverflowError):
            self.error(at, f"{value!r} is not a date like 2026-10-01 or a time like 2026-10-01T00:00:00Z")
            return None

    def duration(self, at: At | None, default_us: int) -> int:
        """Microseconds of 48h, 30m, 2d or 1d12h; 0 needs no unit."""
        if at is None:
            return default_us
        value = at.node.value
        if isinstance(value, int) and not isinstance(value, bool) and value == 0:
            return 0
        match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
        if match is None:
            self.error(at, f"{kind_of(value)} is not a duration: write it with a unit, like 48h, 30m or 2d")
            return default_us
        return sum(int(n) * unit for n, unit in zip(match.groups("0"), _DURATION_US, strict=True))

    def globs(self, at: At | None, default: tuple[str, ...] = ("*",)) -> tuple[str, ...]:
        """Patterns of model names: one, or a list."""
        if at is None:
            return default
        places = list(self.items(at)) if isinstance(at.node.value, list) else [at]
        found = tuple(self.name(place) for place in places)
        if not found:
            self.error(at, 'an empty list matches no model: name some, or leave it out for all ("*")')
        for place, text in zip(places, found, strict=True):
            if any(character.isspace() or not character.isprintable() for character in text):
                self.error(place, f"{text!r} holds white space: a pattern is like gpt-5*")
        return found

    def unique(self, places: Collection[tuple[object, At]], what: str) -> None:
        """An error at each place whose value stood before."""
        seen: dict[object, At] = {}
        for value, place in places:
            if value in seen:
                self.error(place, f"{what} already stands at {seen[value].path}: keep one of the two")
            else:
                seen[value] = place
