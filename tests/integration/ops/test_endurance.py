"""Endurance in its short form: faults under load on Kafka and PostgreSQL end exact, and the shipped rules tell of them.

The hour is `python -m bench.endurance`; see docs/operate.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bench import endurance
from bench.endurance_watch import RULES, smaller
from tests import services


@pytest.mark.timeout(600)
def test_faults_under_load_end_exact_and_are_told(
    kafka: str, postgresql_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    services.require(services.PROMETHEUS)
    code = endurance.main(["--short"])
    result = json.loads(capsys.readouterr().out)
    assert result["exact"], result
    assert result["alerts_missing"] == [], result
    assert code == 0
    assert result["faults"] == list(endurance.SHORT)
    assert result["counted"] > 0


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
    assert {alert for _, wanted in endurance.FAULTS.values() for alert in wanted} <= known
