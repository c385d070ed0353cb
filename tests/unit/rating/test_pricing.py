"""Each pricing model at its edges, and over versions of one plan."""

from decimal import Decimal, localcontext

import pytest

from pipeline.rating.pricing import Segment, price_segments
from pipeline.rating.terms import Priced, Quantity
from schemas.catalog import Charge, Tier
from schemas.money import EXACT

GRADUATED = Charge(
    "input", "*", "graduated", per=1, tiers=(Tier(10, Decimal(3)), Tier(20, Decimal(2)), Tier(None, Decimal(1)))
)
VOLUME = Charge("input", "*", "volume", per=1, tiers=GRADUATED.tiers)
PACKAGE = Charge("input", "*", "package", price=Decimal("0.50"), size=1000)
FLAT = Charge("input", "*", "flat", price=Decimal(7))
PER_UNIT = Charge("input", "*", "per_unit", price=Decimal("0.30"), per=1_000_000)


def amounts(*segments: tuple[Charge, int | Decimal]) -> list[Decimal]:
    """The amount of each segment."""
    with localcontext(EXACT):
        priced = price_segments([Segment(charge, quantity) for charge, quantity in segments])
        return [sum((part.amount for part in parts), Decimal(0)) for parts in priced]


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [(0, "0"), (1, "3"), (9, "27"), (10, "30"), (11, "32"), (20, "50"), (21, "51"), (30, "60")],
)
def test_graduated_bounds_are_inclusive(quantity: int, amount: str) -> None:
    assert amounts((GRADUATED, quantity)) == [Decimal(amount)]


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [(0, "0"), (1, "3"), (10, "30"), (11, "22"), (20, "40"), (21, "21"), (30, "30")],
)
def test_volume_takes_one_price_for_all(quantity: int, amount: str) -> None:
    assert amounts((VOLUME, quantity)) == [Decimal(amount)]


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [(0, "0"), (1, "0.50"), (999, "0.50"), (1000, "0.50"), (1001, "1.00"), (2000, "1.00"), (2001, "1.50")],
)
def test_package_counts_started_packages(quantity: int, amount: str) -> None:
    assert amounts((PACKAGE, quantity)) == [Decimal(amount)]


@pytest.mark.parametrize(("quantity", "amount"), [(0, "0"), (1, "7"), (5000, "7")])
def test_flat_is_charged_once_and_only_for_usage(quantity: int, amount: str) -> None:
    assert amounts((FLAT, quantity)) == [Decimal(amount)]


def test_per_unit_is_exact_beyond_a_float() -> None:
    assert amounts((PER_UNIT, 2**53 - 1)) == [Decimal(2**53 - 1) * Decimal("0.30") / 1_000_000]
    assert amounts((PER_UNIT, 1)) == [Decimal("0.0000003")]


def test_markup_is_cost_and_a_share_of_it() -> None:
    charge = Charge("cost", "*", "markup", markup=Decimal("0.20"))
    assert amounts((charge, Decimal("1.2345"))) == [Decimal("1.48140")]


def test_tiers_name_their_number_units_and_price() -> None:
    with localcontext(EXACT):
        (parts,) = price_segments([Segment(GRADUATED, 25)])
        (volume,) = price_segments([Segment(VOLUME, 25)])
    assert [(part.tier, part.quantity, part.unit_price) for part in parts] == [(1, 10, 3), (2, 10, 2), (3, 5, 1)]
    assert [(part.tier, part.quantity, part.unit_price) for part in volume] == [(3, 25, 1)]


def test_graduated_goes_on_over_versions() -> None:
    cheaper = Charge("input", "*", "graduated", per=1, tiers=(Tier(10, Decimal("0.3")), Tier(None, Decimal("0.1"))))
    assert amounts((GRADUATED, 8), (cheaper, 4)) == [Decimal(24), Decimal("0.8")]


def test_volume_tier_is_reached_by_the_sum_of_versions() -> None:
    other = Charge("input", "*", "volume", per=1, tiers=(Tier(15, Decimal(30)), Tier(None, Decimal(20))))
    assert amounts((VOLUME, 8), (other, 8)) == [Decimal(16), Decimal(160)]


def test_package_started_before_a_new_version_is_used_up_first() -> None:
    dearer = Charge("input", "*", "package", price=Decimal(9), size=500)
    assert amounts((PACKAGE, 1500), (dearer, 500), (dearer, 1), (PACKAGE, 499), (PACKAGE, 1)) == [
        Decimal("1.00"),
        Decimal(0),
        Decimal(9),
        Decimal(0),
        Decimal("0.50"),
    ]


def test_package_does_not_cover_units_priced_one_by_one_between() -> None:
    single = Charge("input", "*", "per_unit", price=Decimal(1), per=1)
    assert amounts((PACKAGE, 10), (single, 2000), (PACKAGE, 1)) == [Decimal("0.50"), Decimal(2000), Decimal("0.50")]


def test_flat_is_charged_once_over_versions() -> None:
    dearer = Charge("input", "*", "flat", price=Decimal(9))
    assert amounts((FLAT, 0), (dearer, 1), (FLAT, 1)) == [Decimal(0), Decimal(9), Decimal(0)]


def test_flat_after_another_model_is_still_charged() -> None:
    assert amounts((PACKAGE, 1), (FLAT, 1), (PACKAGE, 1000)) == [Decimal("0.50"), Decimal(7), Decimal("0.50")]


def part(charge: Charge, quantity: Quantity, *earlier: tuple[Charge, Quantity]) -> list[Priced]:
    """The parts of the last segment, in full."""
    segments = [Segment(*pair) for pair in (*earlier, (charge, quantity))]
    with localcontext(EXACT):
        return price_segments(segments)[-1]


def test_parts_say_how_each_amount_came_about() -> None:
    tiers = (Tier(10, Decimal(3)), Tier(None, Decimal(2)))
    graduated = Charge("input", "*", "graduated", per=1000, tiers=tiers)
    volume = Charge("input", "*", "volume", per=1000, tiers=tiers)
    markup = Charge("cost", "*", "markup", markup=Decimal("0.2"))
    assert part(PACKAGE, 1001) == [Priced(2, Decimal("0.50"), 1, Decimal("1.00"), 0, "started packages of 1000")]
    assert part(FLAT, 12) == [Priced(1, Decimal(7), 1, Decimal(7), 0, "for the period")]
    assert part(graduated, 12) == [
        Priced(10, Decimal(3), 1000, Decimal("0.03"), 1, ""),
        Priced(2, Decimal(2), 1000, Decimal("0.004"), 2, ""),
    ]
    assert part(graduated, 2, (graduated, 10)) == [Priced(2, Decimal(2), 1000, Decimal("0.004"), 2, "")]
    assert part(graduated, 10) == [Priced(10, Decimal(3), 1000, Decimal("0.03"), 1, "")]
    assert part(volume, 11) == [Priced(11, Decimal(2), 1000, Decimal("0.022"), 2, "")]
    assert part(volume, 10) == [Priced(10, Decimal(3), 1000, Decimal("0.03"), 1, "")]
    assert part(markup, Decimal("0.5")) == [Priced(Decimal("0.5"), Decimal("1.2"), 1, Decimal("0.6"), 0, "")]


def test_units_that_a_package_still_covers_make_no_part() -> None:
    assert part(PACKAGE, 999, (PACKAGE, 1)) == []
