"""Money: an exact decimal and its currency. Never built from a float, rounded only where an invoice line is made."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, localcontext
from typing import Final

# Enough for 2**63 units at 10**-18 each, summed a million times: no step of a bill is ever inexact before its rounding.
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)

# ISO 4217: currencies whose minor unit is not a hundredth (list one, as published by the maintenance agency).
_EXPONENTS: Final = {
    **dict.fromkeys(
        ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF"], 0
    ),
    **dict.fromkeys(["XOF", "XPF"], 0),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
    **dict.fromkeys(["CLF", "UYW"], 4),
}
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_DECIMAL: Final = re.compile(r"-?(\d{1,30})(\.\d{1,30})?", re.ASCII)


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD."""
    return _EXPONENTS.get(currency, 2)


def is_currency(text: str) -> bool:
    """Whether the text has the form of an ISO 4217 code."""
    return _CURRENCY.fullmatch(text) is not None


def decimal(text: str | int | Decimal) -> Decimal:
    """An exact decimal from plain notation (no exponent, no float); ValueError says what is wrong."""
    if isinstance(text, bool) or not isinstance(text, (str, int, Decimal)):
        raise ValueError(f'{text!r} is not a decimal: write it in quotes, like "0.30"')
    if isinstance(text, str) and _DECIMAL.fullmatch(text.strip()) is None:
        raise ValueError(f'{text!r} is not a decimal like "0.30"')
    value = Decimal(text.strip() if isinstance(text, str) else text)
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite decimal")
    return value


def round_half_up(amount: Decimal, currency: str) -> Decimal:
    """The amount in whole minor units of the currency, halves away from zero (contract, money rule 1)."""
    with localcontext(EXACT):
        rounded = amount.quantize(Decimal(1).scaleb(-exponent(currency)), rounding=ROUND_HALF_UP)
    return rounded + 0  # no negative zero on an invoice


def plain(amount: Decimal) -> str:
    """The decimal in plain notation, without exponent and without trailing zeros beyond the point."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in one currency. Arithmetic between currencies is a TypeError, from a float a ValueError."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        given: object = self.amount
        if not isinstance(given, Decimal) or not given.is_finite():
            raise ValueError(f"money needs a finite Decimal, not {given!r}")
        if not is_currency(self.currency):
            raise ValueError(f"{self.currency!r} is not a currency code")

    @classmethod
    def of(cls, text: str | int | Decimal, currency: str) -> "Money":
        """Money from plain notation: Money.of("12.30", "USD")."""
        return cls(decimal(text), currency)

    def _same(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise TypeError(f"cannot mix {self.currency} and {other.currency}: convert at a dated rate first")

    def __add__(self, other: "Money") -> "Money":
        self._same(other)
        with localcontext(EXACT) as context:
            context.traps[Inexact] = True
            return Money(self.amount + other.amount, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return self + Money(-other.amount, other.currency)

    def __lt__(self, other: "Money") -> bool:
        self._same(other)
        return self.amount < other.amount

    def rounded(self) -> "Money":
        """In whole minor units, half up."""
        return Money(round_half_up(self.amount, self.currency), self.currency)

    def minor(self) -> int:
        """Whole minor units; ValueError if the amount is not whole in them."""
        scaled = self.amount.scaleb(exponent(self.currency))
        if scaled != scaled.to_integral_value():
            raise ValueError(f"{self} is not in whole minor units: round it first")
        return int(scaled)

    def text(self) -> str:
        """As JSON shows it: "12.30" for USD, "1235" for JPY; more places if it has them."""
        places = max(exponent(self.currency), -int(self.amount.as_tuple().exponent))
        return format(self.amount.quantize(Decimal(1).scaleb(-places), context=EXACT), "f")

    def __str__(self) -> str:
        return f"{self.text()} {self.currency}"
