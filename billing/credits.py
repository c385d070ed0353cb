"""Credits: what they pay, in which order, and what is left of them (money rule 5).

Burn order: priority, expiry (none: last), from (none: first), id. A credit pays usage only of the time in which it is
valid; fees, true-up and adjustments of an invoice whose period it was valid in at any time. Usage is paid from the
earliest on, so that a credit that comes later in burn order finds what the month would have left it, had the month
ended at its expiry.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from billing.book import BillingBook
from schemas.catalog import Credit
from schemas.money import EXACT, exponent
from schemas.periods import Period


@dataclass(frozen=True, slots=True)
class CreditBalance:
    """granted = used + remaining + expired. remaining: what can still be used; expired: what lapsed unused."""

    id: str
    tenant: str
    granted: Decimal
    used: Decimal
    remaining: Decimal
    expired: Decimal


@dataclass(frozen=True, slots=True)
class Stage:
    """Usage charges that came in [start_us, end_us): the month's charges at its end less those at its start."""

    start_us: int
    end_us: int
    amount: Decimal


def burn_order(granted: Sequence[Credit]) -> list[Credit]:
    """In the order in which they are used up."""

    def key(credit: Credit) -> tuple[int, bool, int, bool, int, str]:
        expires, start = credit.expires_us, credit.from_us
        return (credit.priority, expires is None, expires or 0, start is not None, start or 0, credit.id)

    return sorted(granted, key=key)


def valid_in(credit: Credit, period: Period) -> bool:
    """Whether the credit is valid at any time of the period."""
    started = credit.from_us is None or credit.from_us < period.end_us
    return started and (credit.expires_us is None or credit.expires_us > period.start_us)


def stages(granted: Sequence[Credit], period: Period, charges_until: Callable[[int], Decimal]) -> list[Stage]:
    """The month's usage charges, cut at the credits' bounds. charges_until(t): the charges, had the month ended at t.

    Charges can fall while usage grows (a volume price): then the latest earlier stages are reduced, so that each stage
    is what is still owed for its time.
    """
    bounds = {bound for credit in granted for bound in (credit.from_us, credit.expires_us) if bound is not None}
    cuts = [period.start_us, *sorted(b for b in bounds if period.start_us < b < period.end_us), period.end_us]
    found: list[Stage] = []
    before = Decimal(0)
    for start, end in itertools.pairwise(cuts):
        until = charges_until(end)
        found.append(Stage(start, end, until - before))
        before = until
    return _settled(found)


def _settled(found: Sequence[Stage]) -> list[Stage]:
    """No stage below zero: what is negative is taken off the latest stages before it."""
    settled: list[Stage] = []
    for stage in found:
        settled.append(stage)
        debt = -stage.amount
        if debt > 0:
            settled[-1] = Stage(stage.start_us, stage.end_us, Decimal(0))
            settled[:-1] = reduce_latest(settled[:-1], debt)
    return settled


def reduce_latest(found: Sequence[Stage], amount: Decimal) -> list[Stage]:
    """The stages less the amount, taken from the latest on."""
    rest = list(found)
    for i in range(len(rest) - 1, -1, -1):
        taken = min(rest[i].amount, amount)
        rest[i] = Stage(rest[i].start_us, rest[i].end_us, rest[i].amount - taken)
        amount -= taken
    return rest


def burn(
    granted: Sequence[Credit],
    available: Mapping[str, Decimal],
    period: Period,
    usage: Sequence[Stage],
    other: Decimal,
) -> list[tuple[Credit, Decimal]]:
    """What each credit pays, in burn order; only those that pay.

    usage: charges by time. other: true-up, fees and adjustments; where it is negative, it lowers the usage to be paid.
    """
    owed = reduce_latest(usage, -other) if other < 0 else list(usage)
    rest = max(other, Decimal(0))
    paid: list[tuple[Credit, Decimal]] = []
    for credit in burn_order([c for c in granted if valid_in(c, period)]):
        left = available[credit.id]
        for i, stage in enumerate(owed):
            after_start = credit.from_us is None or credit.from_us <= stage.start_us
            if after_start and (credit.expires_us is None or stage.end_us <= credit.expires_us):
                part = min(left, stage.amount)
                owed[i] = Stage(stage.start_us, stage.end_us, stage.amount - part)
                left -= part
        part = min(left, rest)
        rest -= part
        left -= part
        if left < available[credit.id]:
            paid.append((credit, available[credit.id] - left))
    return paid


def whole_minor_units(amount: Decimal, currency: str) -> Decimal:
    """The amount without fractions of the minor unit: what a line can show."""
    return amount.quantize(Decimal(1).scaleb(-exponent(currency)), rounding=ROUND_FLOOR, context=EXACT)


def balances(granted: Sequence[Credit], book: BillingBook, now_us: int) -> list[CreditBalance]:
    """Each credit as of now, by the book. Drafts have used nothing yet: they may still change."""
    found = []
    for credit in granted:
        used = book.credit_used(credit.id, credit.tenant)
        left = max(credit.amount - used, Decimal(0))
        over = credit.expires_us is not None and credit.expires_us <= now_us
        zero = Decimal(0)
        remaining, expired = (zero, left) if over else (left, zero)
        found.append(CreditBalance(credit.id, credit.tenant, credit.amount, used, remaining, expired))
    return found
