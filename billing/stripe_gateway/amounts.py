"""Our exact amounts in Stripe's integers, and back (https://docs.stripe.com/currencies).

Stripe's minor unit differs from ISO 4217's in a few places: it writes ISK and UGX in hundredths that must be 00, takes
MGA whole, and wants 0 as the last digit of three-decimal currencies. What cannot be said exactly is refused, not bent.
"""

from decimal import Decimal
from typing import Final

from schemas.money import EXACT

_ZERO_DECIMAL: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_WHOLE_IN_HUNDREDTHS: Final = frozenset({"ISK", "UGX"})
_THREE_DECIMAL: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})


class NotExact(ValueError):
    """The amount has no exact form at Stripe."""


def places(currency: str) -> int:
    """Decimal places of Stripe's integer amounts: 2 for USD, 0 for JPY, 3 for KWD, 2 for ISK."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def to_stripe(amount: Decimal, currency: str) -> int:
    """Stripe's integer for the amount; NotExact says why there is none."""
    scaled = amount.scaleb(places(currency), context=EXACT)
    whole = int(scaled)
    if scaled != whole:
        raise NotExact(f"{amount} {currency} is finer than Stripe's unit of that currency")
    if currency in _WHOLE_IN_HUNDREDTHS and whole % 100:
        raise NotExact(f"{amount} {currency}: Stripe takes whole {currency} only")
    if currency in _THREE_DECIMAL and whole % 10:
        raise NotExact(f"{amount} {currency}: Stripe takes three-decimal amounts only with 0 as the last digit")
    return whole


def from_stripe(amount: int, currency: str) -> Decimal:
    """The exact amount of Stripe's integer."""
    return Decimal(amount).scaleb(-places(currency), context=EXACT)
