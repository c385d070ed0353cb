"""Usage records as CSV and Parquet. Counts are integers, money is text or decimal: never a float."""

import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tokens import CLASSES

MONEY = ("provider_cost", "revenue", "margin")


def _flat(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        {**{k: v for k, v in record.items() if k != "tokens"}, **{name: record["tokens"][name] for name in CLASSES}}
        for record in records
    ]
    return pd.DataFrame(rows, dtype=object)


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """CSV with a header; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    frame = _flat(records)
    for name in frame.columns:
        if name not in MONEY and name not in CLASSES:
            frame[name] = [_safe(value) for value in frame[name]]
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def to_parquet(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Parquet: counts int64, money decimal128(38, 18)."""
    frame = _flat(records)
    columns: dict[str, pa.Array] = {}
    for name in frame.columns:
        values = [None if pd.isna(value) else value for value in frame[name]]
        if name in MONEY:
            columns[name] = pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(38, 18))
        elif name in CLASSES or name in ("requests", "errors"):
            columns[name] = pa.array(values, pa.int64())
        else:
            columns[name] = pa.array(values, pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()
