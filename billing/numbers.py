"""Document numbers: one gapless series a kind and year, never used twice."""

from typing import Final

from billing.book import BillingBook
from schemas.instants import to_datetime

INVOICE: Final = "INV"
CREDIT_NOTE: Final = "CN"


def take_number(book: BillingBook, kind: str, now_us: int) -> tuple[str, BillingBook]:
    """The next number of the kind in the UTC year of issue ("INV-2026-000001"), and the book in which it is taken."""
    series = f"{kind}-{to_datetime(now_us).year:04d}"
    number, book = book.numbered(series)
    return f"{series}-{number:06d}", book
