"""The one entry to the pricing models: segments of one charge, version by version, to priced parts."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pipeline.rating import flat, graduated, markup, package, per_unit, volume
from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge

PricingModel = Callable[[Charge, Quantity, Position], list[Priced]]

PRICING_MODELS: Final[dict[str, PricingModel]] = {
    "per_unit": per_unit.price,
    "graduated": graduated.price,
    "volume": volume.price,
    "package": package.price,
    "flat": flat.price,
    "markup": markup.price,
}


class Segment(NamedTuple):
    """Units of one charge under one version of its plan."""

    charge: Charge
    quantity: Quantity


def price_segments(segments: Sequence[Segment]) -> list[list[Priced]]:
    """Parts of each segment, in order of time. All segments are one charge: counters go on from one to the next.

    Call it within `localcontext(EXACT)`: then every amount is exact.
    """
    position = Position(total=sum(segment.quantity for segment in segments))
    priced: list[list[Priced]] = []
    for charge, quantity in segments:
        priced.append(PRICING_MODELS[charge.model](charge, quantity, position) if quantity > 0 else [])
        position.before += quantity
    return priced
