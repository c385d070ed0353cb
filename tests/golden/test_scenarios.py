"""Golden scenarios: a catalog and what happens, and by hand what must come out.

Each line of `scenarios.jsonl` is `{"id", "why", "source"?, "scenario", "expect"}`. `why` is the fault that the case
guards against, `source` the reading of the contract and the arithmetic by which the answer was worked out without this
program, `expect` maps a path into the result of `tollhouse simulate` to its value.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest

from tollhouse.simulate import run_scenario

FILE = Path(__file__).with_name("scenarios.jsonl")
TEXT = FILE.read_text(encoding="utf-8").splitlines()
CASES = [json.loads(line, parse_float=Decimal) for line in TEXT]
LINES = {case["id"]: line for case, line in zip(CASES, TEXT, strict=True)}
BY_ID = {case["id"]: case for case in CASES}
THROUGH_THE_COMMAND = ("tier-graduated-edges", "void-before-its-event", "quota-day-berlin", "numbers-are-json-numbers")


def same(got: Any, wanted: Any) -> bool:
    """Equal as JSON, numbers and decimal strings by value: "4.00" is "4"."""
    if isinstance(got, bool) or isinstance(wanted, bool) or got is None or wanted is None:
        return got is wanted
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(same(got[name], wanted[name]) for name in got)
    try:
        return Decimal(str(got)) == Decimal(str(wanted))
    except InvalidOperation:
        return bool(got == wanted)


def resolve(value: Any, path: str) -> Any:
    """What a path names: `a.b`, `a[0]`, `a[#]` (how many), `a[x=1,y=2]` (the one match, null if none)."""
    for name, selector in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", path):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        elif selector == "#":
            value = len(value or [])
        elif selector.isdigit():
            value = value[int(selector)] if len(value or []) > int(selector) else None
        else:
            wanted = dict(part.split("=", 1) for part in selector.split(","))
            found = [x for x in value or [] if all(str(x.get(k)) == v for k, v in wanted.items())]
            assert len(found) < 2, f"{len(found)} elements match [{selector}] in {path}"
            value = found[0] if found else None
    return value


def differences(result: dict[str, Any], expect: dict[str, Any]) -> list[str]:
    """A line for each path whose value is another one."""
    return [
        f"{path} is {got!r}, not {wanted!r}"
        for path, wanted in expect.items()
        if not same(got := resolve(result, path), wanted)
    ]


def test_the_set_is_large_and_told_apart() -> None:
    assert len(CASES) == len(BY_ID) >= 120
    assert all(case["why"] and case["expect"] for case in CASES)


@pytest.mark.parametrize("name", BY_ID)
def test_scenario(name: str) -> None:
    case = BY_ID[name]
    result = run_scenario(case["scenario"])
    assert differences(result, case["expect"]) == []


def test_a_secret_in_an_event_is_cut_and_alerted_on_and_the_event_counts() -> None:
    """Here and not in the file, which is to hold nothing that looks like a secret."""
    secret = "sk-" + "ant-api03-" + "Ab3dE6gH9j" * 5
    scenario = json.loads(LINES["error-with-usage"])["scenario"]
    scenario["steps"][1]["event"]["data"] |= {"labels": {"note": f"key {secret}"}, "agent": secret}
    result = run_scenario(scenario)
    (alert,) = result["alerts"]
    assert (alert["kind"], alert["severity"], alert["subject"]) == ("secret_in_event", "page", "acme")
    assert "data.labels.note" in alert["detail"]
    assert secret[8:] not in json.dumps(result)
    assert resolve(result, "invoices[tenant=acme,month=2026-07].total") == "0.07"


@pytest.mark.parametrize("name", THROUGH_THE_COMMAND)
def test_scenario_through_the_command(name: str, tmp_path: Path) -> None:
    case = BY_ID[name]
    file = tmp_path / "scenario.json"
    file.write_text(json.dumps(json.loads(LINES[name])["scenario"]), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "tollhouse", "simulate", str(file)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert differences(json.loads(run.stdout), case["expect"]) == []
