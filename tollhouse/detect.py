"""Leak detection over recorded usage: Parquet in, NDJSON out (contract, section 7).

minutes: columns minute, key, pool, network, model, agent, requests, tokens, one row for each combination with traffic.
provider: columns minute, available_at, pool, tokens; a row may be used from available_at on. Times are timestamps with
a zone (or UTC). Files need not be sorted; sorted ones are read as they stand.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.leaks import Finding, MinuteRow, ProviderRow, detect
from schemas.instants import format_instant

_BATCH = 65_536
_MINUTE_COLUMNS = ("minute", "key", "pool", "network", "model", "agent", "requests", "tokens")
_PROVIDER_COLUMNS = ("available_at", "minute", "pool", "tokens")
_TIMES = frozenset({"minute", "available_at"})
Progress = Callable[[int, int], None]
"""Called with rows read so far and rows in all."""


@dataclass
class Summary:
    """What a run found: rows read, findings by severity, the subjects with their worst severity."""

    rows: int = 0
    provider_rows: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    subjects: dict[str, str] = field(default_factory=dict)

    def note(self, finding: Finding) -> None:
        """Count a finding."""
        self.findings[finding.severity] += 1
        if self.subjects.get(finding.subject) != "page":
            self.subjects[finding.subject] = finding.severity


class DetectError(Exception):
    """The input cannot be used: one line that says what is wrong, where, and what to do."""


def run(minutes: str | Path, provider: str | Path | None, out: str | Path, progress: Progress | None = None) -> Summary:
    """Detect over the files and write one JSON object a finding to `out` ("-": standard output)."""
    summary = Summary()
    table = _table(minutes, _MINUTE_COLUMNS, "minute")
    reports = None if provider is None else _table(provider, _PROVIDER_COLUMNS, "available_at")
    summary.provider_rows = 0 if reports is None else reports.num_rows

    def usage() -> Iterator[MinuteRow]:
        for batch in table.to_batches(_BATCH):
            yield from zip(*(batch.column(i).to_pylist() for i in range(batch.num_columns)), strict=True)
            summary.rows += batch.num_rows
            if progress is not None:
                progress(summary.rows, table.num_rows)

    def reported() -> Iterator[ProviderRow]:
        for batch in [] if reports is None else reports.to_batches(_BATCH):
            yield from zip(*(batch.column(i).to_pylist() for i in range(batch.num_columns)), strict=True)

    with _writer(out) as stream:
        for finding in detect(usage(), reported()):
            summary.note(finding)
            stream.write(line(finding) + "\n")
    return summary


def line(finding: Finding) -> str:
    """The finding as the contract's JSON object (with incident, repeat and facts beside)."""
    return json.dumps(
        {
            "at": format_instant(finding.at_us),
            "subject": finding.subject,
            "kind": finding.kind,
            "severity": finding.severity,
            "score": finding.score,
            "explanation": finding.explanation,
            "incident": finding.incident,
            "repeat": finding.repeat,
            "facts": finding.facts,
        },
        ensure_ascii=False,
    )


def _table(path: str | Path, columns: tuple[str, ...], order: str) -> pa.Table:
    """The file's columns in our order, times as integer microseconds, sorted by `order`."""
    try:
        table = pq.read_table(path, columns=list(columns)).select(list(columns))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DetectError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DetectError(f"{path}: lacks the columns {', '.join(missing)}; it needs {', '.join(columns)}")
    for i, name in enumerate(columns):
        column = table.column(i)
        if column.null_count:
            raise DetectError(f"{path}: column {name} has empty values; every row needs one")
        try:
            if name in _TIMES:
                column = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
            elif name in ("requests", "tokens"):
                column = column.cast(pa.int64())
            else:
                column = column.cast(pa.string())
        except pa.ArrowException as error:
            raise DetectError(f"{path}: column {name} is not what it must be: {str(error).splitlines()[0]}") from error
        table = table.set_column(i, name, column)
    times = table.column(order).combine_chunks()
    if len(times) > 1 and not pc.all(pc.less_equal(times.slice(0, len(times) - 1), times.slice(1))).as_py():
        table = table.sort_by(order)
    return table


@contextmanager
def _writer(out: str | Path) -> Iterator[TextIO]:
    if str(out) == "-":
        yield sys.stdout
    else:
        with Path(out).open("w", encoding="utf-8") as stream:
            yield stream
