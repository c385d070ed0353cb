"""The provider's bill beside our reckoning of it: by key and model, with the bill's own lines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.prices.names import model_names
from pipeline.reconcile.compare import NO_KEY
from pipeline.reconcile.rows import CostRow, MeteredRow
from schemas.money import Money


@dataclass(frozen=True, slots=True)
class CostLine:
    """billed: by the provider, unrounded; reckoned: our usage at its prices. lines: the bill's own, with amounts."""

    key: str
    model: str
    billed: Money
    reckoned: Money
    lines: tuple[tuple[str, Money], ...]


def compare_costs(
    bill: Iterable[CostRow], metered: Iterable[MeteredRow], keys: Mapping[str, str], *, by_key: bool = True
) -> list[CostLine]:
    """A line for each key and model. by_key False: the bill does not tell keys apart, so neither does this.

    ValueError where the bill is in more than one currency.
    """
    lines: dict[tuple[str, str], dict[str, Money]] = {}
    ours: dict[tuple[str, str], Money] = {}
    currencies = set()
    for row in bill:
        key = NO_KEY if row.key is None else keys.get(row.key, row.key)
        at = (key if by_key else "(all keys)", model_names(row.model)[-1] if row.model else "(no model)")
        currencies.add(row.amount.currency)
        part = lines.setdefault(at, {})
        part[row.line] = part[row.line] + row.amount if row.line in part else row.amount
    if len(currencies) > 1:
        raise ValueError(f"the bill is in {', '.join(sorted(currencies))}: reconcile one currency at a time")
    currency = next(iter(currencies), "USD")
    for one in metered:
        at = (one.key if by_key else "(all keys)", model_names(one.model)[-1])
        ours[at] = ours.get(at, Money.of(0, one.cost.currency)) + one.cost
    return [
        CostLine(
            *at,
            billed=sum(lines.get(at, {}).values(), Money.of(0, currency)),
            reckoned=ours.get(at, Money.of(0, "USD")),
            lines=tuple(sorted(lines.get(at, {}).items())),
        )
        for at in sorted({*lines, *ours})
    ]
