"""Processes that open a new SQLite file at the same moment all get it (the race itself: streams/test_states.py)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.ledger.engine import TRIES, set_wal


class Busy(sqlite3.Cursor):
    """Refuses some times before it does what it is told."""

    refusals, why, asked = 0, "database is locked", 0

    def execute(self, sql: str, *values: object) -> Busy:  # type: ignore[override]
        self.asked += 1
        if self.asked <= self.refusals:
            raise sqlite3.OperationalError(self.why)
        super().execute(sql, *values)
        return self


@pytest.fixture
def busy(tmp_path: Path) -> Busy:
    return sqlite3.connect(tmp_path / "ledger.db").cursor(Busy)


def test_a_file_that_another_changes_at_once_is_asked_again(busy: Busy) -> None:
    busy.refusals, waits = TRIES - 1, list[float]()
    set_wal(busy, waits.append)
    assert len(waits) == TRIES - 1
    assert busy.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(("refusals", "why", "asked"), [(TRIES, "database is locked", TRIES), (1, "disk I/O error", 1)])
def test_what_does_not_pass_is_told(busy: Busy, refusals: int, why: str, asked: int) -> None:
    busy.refusals, busy.why = refusals, why
    with pytest.raises(sqlite3.OperationalError, match=why):
        set_wal(busy, lambda _s: None)
    assert busy.asked == asked
