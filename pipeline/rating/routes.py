"""Which charge covers which class of a model's usage: each class once.

By the first matching charge of its own meter, else by `tokens`, else by its part of a `cost` charge. A class that none
of these covers is charged as its fallback class by that class's own meter (`tokens` and `cost` were asked already).
What is still uncovered is unrated. `requests` are charged beside the classes, by their own meter only, and are not
unrated without one: a plan that does not charge calls is no fault.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from pipeline.catalog import matches
from schemas.catalog import Charge
from schemas.tokens import CLASSES, TOKEN_CLASSES

NONE: Final = -1
"""No charge: the class is unrated."""

FALLBACK: Final = {
    "reasoning": "output",
    "cache_write": "cache_write_long",
    "cache_write_long": "cache_write",
    "input_audio": "input",
    "output_audio": "output",
    "input_image": "input",
    "output_image": "output",
}


class Route(NamedTuple):
    """Positions in a version's charges. classes: in the order of CLASSES. cost: the cost charge that is in use."""

    classes: tuple[int, ...]
    requests: int
    cost: int


def first_match(charges: Sequence[Charge], meter: str, model: str) -> int:
    """Position of the first charge of the meter whose models match; NONE if there is none."""
    for position, charge in enumerate(charges):
        if charge.meter == meter and matches(charge.models, model):
            return position
    return NONE


def route(charges: Sequence[Charge], model: str) -> Route:
    """The route of a model's usage through a rate card."""
    tokens = first_match(charges, "tokens", model)
    cost = first_match(charges, "cost", model)
    found = []
    for name in CLASSES:
        position = first_match(charges, name, model)
        if position == NONE and name in TOKEN_CLASSES:
            position = tokens
        if position == NONE:
            position = cost
        if position == NONE and name in FALLBACK:
            position = first_match(charges, FALLBACK[name], model)
        found.append(position)
    used = cost if cost != NONE and cost in found else NONE
    return Route(tuple(found), first_match(charges, "requests", model), used)
