"""package: started packages of `size` units, at a price each."""

from decimal import Decimal

from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, quantity: Quantity, position: Position) -> list[Priced]:
    """Packages that these units start; units that a package started earlier still covers start none.

    A package is paid by the version in force when its first unit is used.
    """
    assert charge.price is not None
    assert charge.size is not None
    covered = max(position.packages_until, position.before)
    beyond = position.before + quantity - covered
    if beyond <= 0:
        return []
    packages = int(-(-beyond // charge.size))
    position.packages_until = covered + packages * charge.size
    note = f"started packages of {charge.size}"
    return [Priced(packages, charge.price, 1, Decimal(packages) * charge.price, note=note)]
