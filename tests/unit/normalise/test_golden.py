"""Golden cases: a provider's payload and the classes it means, each with the rule behind it and its source."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.normalise import REASONS, Rejection, normalise
from pipeline.normalise.ndjson import answer_line
from schemas.tokens import CLASSES, as_dict

GOLDEN = Path(__file__).parents[2] / "golden" / "usage.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
IDS = [case["id"] for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_case(case: dict[str, Any]) -> None:
    result = normalise(case["provider"], case["api"], case["raw"])
    if case.get("error"):
        assert isinstance(result, Rejection), f"counted as {result}, but {case['note']}"
        assert result.reason in REASONS
        assert result.reason == case.get("reason", result.reason)
        assert result.detail
        assert "\n" not in result.detail
    else:
        assert not isinstance(result, Rejection), result
        assert as_dict(result) == case["expected"], case["note"]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_line_answers_alike(case: dict[str, Any]) -> None:
    answer = json.loads(answer_line(json.dumps(case).encode()))
    assert answer["id"] == case["id"]
    assert answer.get("tokens") == case.get("expected")
    assert ("error" in answer) is bool(case.get("error"))


def test_cases_are_whole() -> None:
    assert len(IDS) == len(set(IDS))
    assert all(case["note"] and case["source"] for case in CASES)
    assert all(set(case.get("expected", {})) <= set(CLASSES) for case in CASES)
    assert all(("expected" in case) is not bool(case.get("error")) for case in CASES)
