"""Usage by day: the rows behind a document's second sheet, and their pivots.

Counts stay Python integers in object columns, so a sum is exact whatever its size.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import pandas as pd

from schemas.tokens import CLASSES, TOKEN_CLASSES

COLUMNS: Final = ("date", "model", "key", *CLASSES, "tokens", "requests")
"""Columns of the sheet in order; the classes in ledger order, then the sum of the token classes."""


@dataclass(frozen=True, slots=True)
class UsageDay:
    """One local day's counts of a model on a provider key. classes: counts by class name, absent ones zero."""

    date: date
    model: str
    key: str
    classes: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.classes) - set(CLASSES))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a token class: use {', '.join(CLASSES)}")

    def tokens(self) -> int:
        """The sum of the token classes."""
        return sum(self.classes.get(name, 0) for name in TOKEN_CLASSES)

    def record(self) -> dict[str, Any]:
        """The row by column name."""
        counts = {name: self.classes.get(name, 0) for name in CLASSES}
        return {"date": self.date, "model": self.model, "key": self.key, **counts} | {
            "tokens": self.tokens(),
            "requests": self.requests,
        }


def usage_frame(rows: Iterable[UsageDay]) -> pd.DataFrame:
    """One line a (date, model, key), summed and in that order; columns COLUMNS, counts as Python integers."""
    frame = pd.DataFrame([row.record() for row in rows], columns=list(COLUMNS), dtype=object)
    if frame.empty:
        return frame
    keys = ["date", "model", "key"]
    summed = frame.groupby(keys, sort=True, as_index=False).agg(dict.fromkeys(COLUMNS[3:], "sum"))
    return summed.astype(dict.fromkeys(COLUMNS[3:], object))[list(COLUMNS)]


def pivot_by_day(rows: Iterable[UsageDay], by: str = "model", values: str = "tokens") -> pd.DataFrame:
    """Days down, one column for each model or key (or class, with by="class"), zeros filled, and `total`.

    By class the values are its counts, and the total is that of the token classes: counters are no tokens.
    """
    if by not in ("model", "key", "class"):
        raise ValueError(f"{by!r} is not a column to pivot by: use model, key or class")
    frame = usage_frame(rows)
    if by == "class":
        wide = frame.groupby("date", sort=True)[list(CLASSES)].sum()
        wide = wide.loc[:, [bool(wide[name].sum()) for name in CLASSES]]
    else:
        wide = frame.pivot_table(index="date", columns=by, values=values, aggfunc="sum", fill_value=0, sort=True)
    wide.columns = pd.Index([str(name) for name in wide.columns], name=by)
    added = [name for name in wide.columns if by != "class" or name in TOKEN_CLASSES]
    label = "total"
    while label in wide.columns:  # a model may be called so
        label += " (all)"
    wide[label] = [sum(int(value) for value in row) for row in wide[added].itertuples(index=False)]
    return wide.astype(object)
