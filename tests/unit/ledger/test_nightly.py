"""The night's work: once a night over all workers, from the night after the first look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.tables import alerts
from schemas.instants import parse_instant
from tollhouse.errors import UserError
from tollhouse.nightly import Nightly, commands
from tollhouse.settings import Settings, load


def test_one_worker_does_it_once_a_night(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger(database_url)
    ledger.create()
    now = {"us": 0}
    ran: list[str] = []

    def run(command: Sequence[str]) -> int:
        ran.append(command[3])
        return 0

    settings = Settings(dir=tmp_path, retention_months=12, audit_at="03:30")
    workers = [Nightly(settings, ledger, lambda: now["us"], run) for _ in range(2)]

    def look(at: str) -> list[bool]:
        now["us"] = parse_instant(at)
        return [worker.look() for worker in workers]

    assert look("2026-10-05T12:00:00Z") == [False, False]  # not at once: an audit must not stand in the way of a start
    assert look("2026-10-06T03:29:59Z") == [False, False]
    assert look("2026-10-06T03:30:00Z") == [True, False]
    assert look("2026-10-06T03:31:00Z") == [False, False]
    assert look("2026-10-09T00:00:00Z") == [True, False]  # nights when nobody was there are not made up for
    assert look("2026-10-08T12:00:00Z") == [False, False]  # a clock that goes back
    assert ran == ["retention", "audit"] * 2
    ledger.close()


def test_a_retention_that_fails_is_told_and_the_audit_runs_all_the_same(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger(database_url)
    ledger.create()
    now = {"us": parse_instant("2026-10-05T12:00:00Z")}
    codes = {"retention": 1, "audit": 0}
    ran: list[str] = []

    def run(command: Sequence[str]) -> int:
        ran.append(command[3])
        return codes[command[3]]

    nightly = Nightly(Settings(dir=tmp_path, retention_months=12, audit_at="03:30"), ledger, lambda: now["us"], run)
    assert nightly.look() is False
    now["us"] = parse_instant("2026-10-06T03:30:00Z")
    assert nightly.look() is True
    assert ran == ["retention", "audit"]
    (told,) = ledger.rows(alerts)
    assert (told["id"], told["kind"], told["state"]) == ("nightly:retention", "pipeline", "open")
    assert "exit code 1" in told["detail"]
    ledger.close()


def test_while_the_database_is_away_nothing_is_done(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'nothing' / 'there.db'}")
    nightly = Nightly(Settings(dir=tmp_path, audit_at="03:30"), ledger, lambda: 0, lambda _: 1)
    assert nightly.look() is False


def test_without_a_retention_it_only_audits(tmp_path: Path) -> None:
    assert [command[3:5] for command in commands(Settings(dir=tmp_path))] == [["audit", "--alert"]]


@pytest.mark.parametrize("said", ["24:00", "3:30", "03:60", "night", "03:30:00"])
def test_what_is_no_time_of_day_is_refused(said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no time of day like 03:30"):
        load(tmp_path, {}, {"TOLLHOUSE_AUDIT_AT": said})
    assert load(tmp_path, {}, {"TOLLHOUSE_AUDIT_AT": ""}).audit_at == ""
