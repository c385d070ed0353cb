"""Every alert leads to a section of the runbook, every section names the alerts that lead there. Its commands are run
by tests/unit/test_readme.py, as those of every page."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline.alerting import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
SECTIONS = {
    re.sub(r"[^a-z]+", "-", title.lower()): text
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
RULES = {
    rule["alert"]: rule["annotations"]["runbook"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
WANTED = {
    "broker-away", "database-full", "lag-grows", "stripe-drift", "leaked-key", "wrong-price", "duplicate-tenant",
    "restore",
}  # fmt: skip


def test_every_alert_leads_to_a_section_that_names_it() -> None:
    assert RULES
    lost = {alert: section for alert, section in RULES.items() if f"`{alert}`" not in SECTIONS.get(section, "")}
    assert lost == {}, "name the alert in the section that its annotation `runbook` names"


def test_no_section_names_an_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"`(Tollhouse\w+)`", PAGE)) <= set(RULES)
    kinds = re.findall(r"alerts? of the kinds? ((?:`\w+`(?:, )?)+)", PAGE)
    assert {kind for found in kinds for kind in re.findall(r"`(\w+)`", found)} <= set(KINDS)


def test_every_section_says_which_alert_leads_there_and_has_a_command() -> None:
    assert set(SECTIONS) >= WANTED
    for name, text in SECTIONS.items():
        assert re.match(r"\n\*(Alerts?: `Tollhouse|No alert: )", text), name
        if name != "memory-grows":
            assert "\ntollhouse " in text or "undeliverable" in text, name
