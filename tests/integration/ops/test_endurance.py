"""Endurance in its short form: faults under load on Kafka and PostgreSQL end exact, and the shipped rules tell of them.

The hour is `python -m bench.endurance`; see docs/operate.md.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bench import endurance, endurance_faults
from bench.endurance_house import judge
from bench.endurance_report import Report
from bench.endurance_watch import RULES, smaller
from tests import services


@pytest.mark.timeout(600)
def test_faults_under_load_end_exact_and_are_told(
    kafka: str, postgresql_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    services.require(services.PROMETHEUS)
    code = endurance.main(["--short", "--out", str(tmp_path)])
    result = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["exact"], result
    assert result["alerts_missing"] == [], result
    assert result["failures"] == [], result
    assert result["audit"]["code"] == 0, result
    assert code == 0
    assert [one["fault"] for one in result["faults"]] == list(endurance_faults.SHORT)
    assert result["counted"] > 0
    assert result["api_answers"]["events 202"] > 0
    assert result["api_answers"]["authorize 200"] > 0


def test_rules_in_a_smaller_time_are_the_same_rules() -> None:
    text = RULES.read_text(encoding="utf-8")
    before, after = (
        {rule["alert"]: rule for group in yaml.safe_load(words)["groups"] for rule in group["rules"]}
        for words in (text, smaller(text, 60.0))
    )
    assert list(before) == list(after)
    assert after["TollhouseApiDown"]["for"] == "1000ms"
    assert after["TollhouseResidual"]["for"] == "5000ms"
    assert "[10000ms:1000ms]" in after["TollhouseLagGrows"]["expr"]
    assert "24 * 3600" in after["TollhouseMemoryGrows"]["expr"]
    assert {name: rule["labels"] for name, rule in before.items()} == {n: rule["labels"] for n, rule in after.items()}


def test_every_alert_that_a_fault_is_to_set_off_is_a_rule() -> None:
    known = {rule["alert"] for group in yaml.safe_load(Path(RULES).read_text())["groups"] for rule in group["rules"]}
    assert {alert for _, wanted in endurance_faults.FAULTS.values() for alert in wanted} <= known


def test_in_an_hour_every_fault_comes_and_one_worker_lives_long_enough_to_be_judged() -> None:
    names = endurance_faults.order(60)
    assert len(names) == 60
    assert set(names) == set(endurance_faults.FAULTS)
    ends = [turn for turn, name in enumerate(names) if name in endurance_faults.ENDS_THE_SECOND]
    assert max(later - turn for turn, later in pairwise(ends)) >= 35
    assert endurance_faults.order(5) == list(endurance_faults.FAULTS)[:5]


def _life(minutes: int, *mib: float) -> list[tuple[float, float]]:
    """Twelve samples a minute, on a line through the figures, which lie at equal distances."""
    count = 12 * minutes
    sizes = [mib[min(len(mib) - 1, n * len(mib) // count)] for n in range(count)]
    return [(n * 5.0, size) for n, size in enumerate(sizes)]


def test_memory_that_grows_after_the_warm_up_is_not_flat() -> None:
    grows = judge([(n * 5.0, 300 + n * 5.0 / 60) for n in range(12 * 60)])  # a MiB a minute for an hour
    assert grows is not None
    assert not grows.flat
    assert 59 < grows.mib_an_hour < 61
    assert grows.minutes == 55


def test_memory_that_warms_up_or_leaps_for_a_fault_is_flat() -> None:
    warm = judge([(n * 5.0, 100.0 if n < 60 else 300.0) for n in range(12 * 60)])
    leaps = judge([(n * 5.0, 600.0 if n % 120 < 5 else 300.0) for n in range(12 * 60)])
    assert warm is not None
    assert leaps is not None
    assert warm.flat
    assert leaps.flat
    assert (leaps.first_mib, leaps.last_mib, leaps.mib_an_hour) == (300, 300, 0)
    once = judge(_life(60, 300.0, 300.0, 390.0, 390.0))  # what a backlog took is kept
    twice = judge(_life(60, 300.0, 345.0, 390.0, 435.0))
    assert once is not None
    assert twice is not None
    assert once.flat
    assert not twice.flat
    assert judge(_life(2, 300.0)) is None
    assert judge([]) is None


def test_a_run_that_was_broken_off_has_told_what_it_saw(tmp_path: Path) -> None:
    report = Report(tmp_path / "out")
    report.write(events=7)
    report.write(state="broken off", reason="test")
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (kept["events"], kept["state"], kept["held"]) == (7, "broken off", None)


def test_a_fault_that_there_is_not_and_a_disk_without_room_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        endurance.main(["--faults", "rain", "--out", str(tmp_path)])
    assert "--faults rain: use workers killed" in capsys.readouterr().err
    monkeypatch.setattr(endurance.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 30))
    with pytest.raises(SystemExit):
        endurance.main(["--out", str(tmp_path)])
    assert "has 1 GiB free, 16 are needed" in capsys.readouterr().err
