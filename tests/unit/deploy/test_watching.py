"""Dashboard, rules and manual speak of what the code exports: each metric, label and setting by its true name."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import operating
from tests import services
from tollhouse import settings
from tollhouse.settings_help import HELP, SECRET_HELP

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "tollhouse.json"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
# Of the client library's own collectors, and of Prometheus itself.
STANDARD = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
METRIC = re.compile(r"\b(?:tollhouse|process)_[a-z_]+\b|\bup\b")


@cache
def _exported() -> dict[str, set[str]]:
    """Labels by sample name."""
    found = {name: set[str]() for name in STANDARD}
    for metrics in operating.exported().values():
        for metric in metrics:
            for name in metric.names:
                found.setdefault(name, set()).update(metric.labels, {"le"} if name.endswith("_bucket") else set())
    return found


def _panels() -> list[dict[str, Any]]:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def _expressions() -> list[tuple[str, str]]:
    """(where, expression) of every panel and rule."""
    panels = [(panel["title"], target["expr"]) for panel in _panels() for target in panel["targets"]]
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return panels + [(rule["alert"], rule["expr"]) for group in rules for rule in group["rules"]]


@pytest.mark.parametrize(("where", "expression"), _expressions())
def test_each_metric_and_label_is_one_that_we_export(where: str, expression: str) -> None:
    named = set(METRIC.findall(expression))
    assert named, f"{where} reads nothing of ours"
    assert named <= set(_exported()), f"{where}: {named - set(_exported())} is not exported"
    labels = set().union(*(_exported()[name] for name in named)) | {"job", "instance"}
    used = set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)", expression))
    used |= {word for group in re.findall(r"by \(([^)]*)\)", expression) for word in re.findall(r"\w+", group)}
    assert used <= labels, f"{where}: no metric has {used - labels}"


def test_each_panel_is_prometheus_can_read_and_shows_a_unit(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in _panels() for target in panel["targets"]]
    groups = [
        {"name": "panels", "rules": [
            {"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "1m")}
            for n, expression in enumerate(expressions)
        ]}
    ]  # fmt: skip
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": groups}))
    program = Path(services.require(services.PROMETHEUS)) / "promtool"
    done = subprocess.run(
        [str(program), "check", "rules", str(tmp_path / "panels.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(expressions)} rules found" in done.stdout
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in _panels())


def test_no_two_panels_share_a_place_or_a_number() -> None:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(numbers) == len(set(numbers))


def test_no_label_names_a_tenant() -> None:
    assert not {"tenant", "subject", "customer", "user"} & set().union(*_exported().values())


def test_the_pages_of_settings_and_metrics_say_what_the_code_does() -> None:
    stale = [n for n, text in operating.pages().items() if (operating.DOCS / n).read_text(encoding="utf-8") != text]
    assert stale == [], "run python scripts/operating.py"


def test_every_setting_and_secret_is_explained_and_nothing_else() -> None:
    assert set(HELP) == set(operating.defaults())
    assert set(SECRET_HELP) == set(settings.SECRETS)


def test_a_page_that_is_out_of_date_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operating, "DOCS", tmp_path)
    monkeypatch.setattr(operating, "pages", lambda: {"configuration.md": "a", "metrics.md": "b"})
    assert operating.main([]) == 0
    assert operating.main(["--check"]) == 0
    (tmp_path / "metrics.md").write_text("older")
    assert operating.main(["--check"]) == 1
    assert "docs/metrics.md is out of date" in capsys.readouterr().err
    assert operating.main(["--wrong"]) == 2


def test_each_rule_leads_to_a_section_of_the_runbook() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r"\{#([a-z-]+)\}", text))
    for heading in re.findall(r"^#+ (.+?)(?: *\{#[a-z-]+\})?$", text, re.MULTILINE):
        anchors.add(re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-"))
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    wanted = {rule["annotations"]["runbook"] for group in rules for rule in group["rules"]}
    assert wanted <= anchors, f"docs/runbook.md has no section for {sorted(wanted - anchors)}"
