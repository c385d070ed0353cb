"""Every alert rule fires when it should, on series played to promtool, and is quiet on an installation that is well."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import services

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
API, WORKER = '{job="tollhouse-api", instance="api:8080"}', '{job="tollhouse-worker", instance="w1:9108"}'


def _series(name: str, job: str, **labels: str) -> str:
    inner = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return name + (job[:-1] + (", " + inner if inner else "") + "}")


# An installation that is well, as series of one sample a quarter of a minute: `a+bxn` grows by b with each.
WELL = {
    _series("up", API): "1x2000",
    _series("up", WORKER): "1x2000",
    _series("tollhouse_worker_ready", WORKER): "1x2000",
    _series("tollhouse_ready", API): "1x2000",
    _series("tollhouse_database_up", API): "1x2000",
    _series("tollhouse_broker_up", API): "1x2000",
    _series("process_resident_memory_bytes", WORKER): "3e8x2000",
    _series("process_resident_memory_bytes", API): "2e8x2000",
    _series("tollhouse_lag_messages", API, partition="0"): "0x2000",
    _series("tollhouse_lag_messages", API, partition="1"): "3x2000",
    _series("tollhouse_messages_received", API): "0+300x2000",
    _series("tollhouse_worker_ledger_seconds_bucket", WORKER, le="0.5"): "0+100x2000",
    _series("tollhouse_worker_ledger_seconds_bucket", WORKER, le="10.0"): "0+100x2000",
    _series("tollhouse_worker_ledger_seconds_bucket", WORKER, le="+Inf"): "0+100x2000",
    _series("tollhouse_worker_retries_total", WORKER): "0x2000",
    _series("tollhouse_worker_events_total", WORKER, outcome="counted"): "0+30000x2000",
    _series("tollhouse_worker_events_total", WORKER, outcome="rejected"): "0+3x2000",
    _series("tollhouse_worker_unpublished_total", WORKER): "0x2000",
    _series("tollhouse_spool_oldest_seconds", API): "1x2000",
    _series("tollhouse_spool_undeliverable_events", API): "0x2000",
    _series("tollhouse_authorize_fail_open_total", API): "0x2000",
    _series("tollhouse_authorize_decisions_total", API, reason="ok"): "0+1000x2000",
    _series("tollhouse_authorize_decisions_total", API, reason="quota"): "0+10x2000",
    _series("tollhouse_http_requests_total", API, status="200"): "0+1000x2000",
    _series("tollhouse_http_requests_total", API, status="503"): "0+1x2000",
    _series("tollhouse_http_request_seconds_bucket", API, route="/v1/authorize", le="0.01"): "0+100x2000",
    _series("tollhouse_http_request_seconds_bucket", API, route="/v1/authorize", le="+Inf"): "0+100x2000",
    _series("tollhouse_delivery_overdue_seconds", API): "0x2000",
    _series("tollhouse_deliveries_retrying", API): "0x2000",
    _series("tollhouse_alerts", API, kind="leak", severity="ticket", state="open"): "2x2000",
    _series("tollhouse_alerts", API, kind="leak", severity="page", state="acked"): "1x2000",
    _series("tollhouse_alerts", API, kind="unrated", severity="ticket", state="acked"): "1x2000",
    _series("tollhouse_residual_tokens", API): "0x2000",
    _series("tollhouse_invoice_unpushed_seconds", API): "3600x2000",
    _series("tollhouse_stripe_configured", API): "1x2000",
    _series("tollhouse_stripe_payments_failed", API): "0x2000",
    _series("tollhouse_stripe_drift", API, kind="total"): "0x2000",
    _series("tollhouse_stripe_uncompared_seconds", API): "80000x2000",
}


@dataclass(frozen=True)
class Case:
    """series: in the place of the well ones (None: gone). at: minutes until it fires. labels: beside its own."""

    series: dict[str, str | None]
    at: int
    labels: dict[str, str] = field(default_factory=dict)


AT_API, AT_WORKER = {"instance": "api:8080"}, {"instance": "w1:9108"}
OF_API, OF_WORKER = {"job": "tollhouse-api", **AT_API}, {"job": "tollhouse-worker", **AT_WORKER}


def _open(kind: str, severity: str) -> dict[str, str | None]:
    return {_series("tollhouse_alerts", API, kind=kind, severity=severity, state="open"): "1x2000"}


CASES = {
    "TollhouseApiDown": Case({_series("up", API): "0x2000"}, 2, OF_API),
    "TollhouseWorkerDown": Case({_series("up", WORKER): None}, 3, {"job": "tollhouse-worker"}),
    "TollhouseWorkerNotReady": Case({_series("tollhouse_worker_ready", WORKER): "0x2000"}, 3, OF_WORKER),
    "TollhouseApiNotReady": Case({_series("tollhouse_ready", API): "0x2000"}, 3, OF_API),
    "TollhouseDatabaseAway": Case({_series("tollhouse_database_up", API): "0x2000"}, 2),
    "TollhouseBrokerAway": Case({_series("tollhouse_broker_up", API): "0x2000"}, 2),
    "TollhouseMemoryGrows": Case(
        {_series("process_resident_memory_bytes", WORKER): "5e8+1e6x2000"}, 480, OF_WORKER
    ),
    "TollhouseStalled": Case(
        {_series("tollhouse_messages_received", API): "77x2000"}, 8
    ),
    "TollhouseLagGrows": Case({_series("tollhouse_lag_messages", API, partition="1"): "0+50x2000"}, 30),
    "TollhouseLedgerSlow": Case({_series("tollhouse_worker_ledger_seconds_bucket", WORKER, le="0.5"): "0x2000"}, 25),
    "TollhouseRetries": Case({_series("tollhouse_worker_retries_total", WORKER): "0+1x2000"}, 20, AT_WORKER),
    "TollhouseRejected": Case({_series("tollhouse_worker_events_total", WORKER, outcome="rejected"): "0+900x2000"}, 30),
    "TollhouseTopicsBehind": Case({_series("tollhouse_worker_unpublished_total", WORKER): "0+1x2000"}, 15),
    "TollhouseSpoolFills": Case({_series("tollhouse_spool_oldest_seconds", API): "0+15x2000"}, 10, AT_API),
    "TollhouseUndeliverable": Case({_series("tollhouse_spool_undeliverable_events", API): "1x2000"}, 1, AT_API),
    "TollhouseFailOpen": Case({_series("tollhouse_authorize_fail_open_total", API): "0x10 1x2000"}, 6),
    "TollhouseQuotaRefusals": Case(
        {_series("tollhouse_authorize_decisions_total", API, reason="quota"): "0+900x2000"}, 30
    ),
    "TollhouseApiErrors": Case({_series("tollhouse_http_requests_total", API, status="503"): "0+30x2000"}, 12),
    "TollhouseAuthorizeSlow": Case(
        {_series("tollhouse_http_request_seconds_bucket", API, route="/v1/authorize", le="0.01"): "0+90x2000",
         _series("tollhouse_http_request_seconds_bucket", API, route="/v1/authorize", le="0.5"): "0+100x2000"}, 20
    ),
    "TollhouseAlertsNotDelivered": Case({_series("tollhouse_deliveries_retrying", API): "1x2000"}, 6),
    "TollhouseLeak": Case(_open("secret_in_event", "page"), 1),
    "TollhouseResidual": Case({_series("tollhouse_residual_tokens", API): "70000x2000"}, 6),
    "TollhouseUnrated": Case(_open("unrated", "ticket"), 11),
    "TollhouseInstallation": Case(_open("pipeline", "page"), 1),
    "TollhouseInvoicesNotPushed": Case({_series("tollhouse_invoice_unpushed_seconds", API): "90000x2000"}, 11),
    "TollhouseStripeDrift": Case({_series("tollhouse_stripe_drift", API, kind="missing"): "2x2000"}, 6),
    "TollhouseStripeNotCompared": Case({_series("tollhouse_stripe_uncompared_seconds", API): "260000x2000"}, 61),
    "TollhousePaymentsFail": Case({_series("tollhouse_stripe_payments_failed", API): "1x2000"}, 61),
}  # fmt: skip


@cache
def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _play(tests: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    """promtool over the rules without their annotations, whose figures would have to be repeated here."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    (folder / "rules.yml").write_text(yaml.safe_dump(document))
    played = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": tests}
    (folder / "tests.yml").write_text(json.dumps(played))  # JSON is YAML
    return _promtool("test", "rules", str(folder / "tests.yml"))


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(services.require(services.PROMETHEUS)) / "promtool"
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=100, check=False)


def _inputs(over: dict[str, str | None], minutes: int) -> list[dict[str, str]]:
    """No more samples than the test looks at."""
    merged = {name: values for name, values in (WELL | over).items() if values is not None}
    return [{"series": n, "values": v.replace("x2000", f"x{4 * minutes + 4}")} for n, v in merged.items()]


def _severity(alert: str) -> str:
    return next(str(rule["labels"]["severity"]) for rule in _rules() if rule["alert"] == alert)


def test_the_rules_are_rules() -> None:
    done = _promtool("check", "config", str(RULES.with_name("prometheus.yml")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(_rules())} rules found" in done.stdout


def test_every_rule_says_how_bad_it_is_and_where_to_read_on() -> None:
    for rule in _rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert re.fullmatch(r"[a-z-]+", rule["annotations"]["runbook"]), rule["alert"]


def test_every_rule_has_its_case() -> None:
    assert set(CASES) == {rule["alert"] for rule in _rules()}


def test_each_rule_fires_in_its_case_and_none_does_where_all_is_well(tmp_path: Path) -> None:
    def expected() -> Iterator[dict[str, Any]]:
        for alert, case in CASES.items():
            labels = {"severity": _severity(alert), **case.labels}
            check = {"eval_time": f"{case.at}m", "alertname": alert, "exp_alerts": [{"exp_labels": labels}]}
            yield {
                "name": alert,
                "interval": "15s",
                "input_series": _inputs(case.series, case.at),
                "alert_rule_test": [check],
            }
        end = 60  # minutes: longer than every `for` but that of memory
        quiet = [{"eval_time": f"{at}m", "alertname": alert, "exp_alerts": []} for alert in CASES for at in (1, end)]
        yield {"name": "well", "interval": "15s", "input_series": _inputs({}, end), "alert_rule_test": quiet}

    done = _play(list(expected()), tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_a_case_that_does_not_fire_would_be_noticed(tmp_path: Path) -> None:
    """The player itself is tested: a rule that is expected to fire where all is well makes it fail."""
    check = {
        "eval_time": "5m",
        "alertname": "TollhouseDatabaseAway",
        "exp_alerts": [{"exp_labels": {"severity": "page"}}],
    }
    done = _play([{"interval": "15s", "input_series": _inputs({}, 5), "alert_rule_test": [check]}], tmp_path)
    assert done.returncode == 1
    assert "TollhouseDatabaseAway" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["TollhouseStalled", "TollhouseInvoicesNotPushed", "TollhouseStripeNotCompared"])
def test_rules_of_two_conditions_need_both(name: str, tmp_path: Path) -> None:
    still, pushed = _series("tollhouse_messages_received", API), _series("tollhouse_invoice_unpushed_seconds", API)
    one_of_two: dict[str, dict[str, str | None]] = {
        "TollhouseStalled": {still: "77x2000", _series("tollhouse_lag_messages", API, partition="1"): "0x2000"},
        "TollhouseInvoicesNotPushed": {pushed: "90000x2000", _series("tollhouse_stripe_configured", API): "0x2000"},
        "TollhouseStripeNotCompared": {
            _series("tollhouse_stripe_uncompared_seconds", API): "260000x2000",
            _series("tollhouse_stripe_configured", API): "0x2000",
        },
    }
    check = {"eval_time": "70m", "alertname": name, "exp_alerts": []}
    done = _play(
        [{"interval": "15s", "input_series": _inputs(one_of_two[name], 70), "alert_rule_test": [check]}], tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
