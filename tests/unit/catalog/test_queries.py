"""Which plan, version, quotas and models a catalog means at an instant."""

import pytest

from pipeline.catalog import (
    PlanSpan,
    allowed_model,
    assignments,
    matches,
    parse_yaml,
    plan_at,
    plan_id_at,
    quotas_of,
    version_at,
)
from schemas.catalog import Catalog
from schemas.instants import parse_instant as at

TEXT = """
plans:
  a:
    - {from: 2026-01-01, minimum: 1, quotas: [{name: day, meter: tokens, limit: 5, window: day}]}
    - {from: 2026-03-01, minimum: 2}
  b: {minimum: 3}
tenants:
  t:
    plan:
      - {plan: a, from: 2026-01-15}
      - {plan: b, from: 2026-02-01}
      - {plan: b, from: 2026-02-10}
      - {plan: a, from: 2026-02-20}
    quotas: [{name: month, meter: cost, limit: 9, window: month}]
  own: {plan: a, quotas: [{name: day, meter: tokens, limit: 7, window: day}]}
  none: {}
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    found = parse_yaml(TEXT)
    assert isinstance(found, Catalog)
    return found


@pytest.mark.parametrize(
    ("time", "plan"),
    [
        ("2026-01-14T23:59:59.999999Z", None),
        ("2026-01-15T00:00:00Z", "a"),
        ("2026-01-31T23:59:59.999999Z", "a"),
        ("2026-02-01T00:00:00Z", "b"),
        ("2026-02-20T00:00:00Z", "a"),
        ("2030-01-01T00:00:00Z", "a"),
    ],
)
def test_a_plan_holds_from_its_instant_until_the_next(catalog: Catalog, time: str, plan: str | None) -> None:
    assert plan_id_at(catalog.tenants["t"], at(time)) == plan


def test_the_terms_are_those_of_the_version_in_force(catalog: Catalog) -> None:
    def minimum(time: str) -> int | None:
        version = plan_at(catalog, "t", at(time))
        return int(version.minimum) if version is not None and version.minimum is not None else None

    assert minimum("2026-01-14T00:00:00Z") is None
    assert minimum("2026-01-15T00:00:00Z") == 1
    assert minimum("2026-02-05T00:00:00Z") == 3
    assert minimum("2026-02-28T23:59:59Z") == 1
    assert minimum("2026-03-01T00:00:00Z") == 2
    assert version_at(catalog.plans["a"], at("2025-12-31T23:59:59Z")) is None
    assert plan_at(catalog, "none", at("2026-03-01T00:00:00Z")) is None


def test_spans_cover_the_period_from_the_first_plan_on(catalog: Catalog) -> None:
    start, end = at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z")
    assert assignments(catalog, "t", start, end) == (
        PlanSpan("a", at("2026-01-15T00:00:00Z"), at("2026-02-01T00:00:00Z")),
        PlanSpan("b", at("2026-02-01T00:00:00Z"), at("2026-02-20T00:00:00Z")),
        PlanSpan("a", at("2026-02-20T00:00:00Z"), end),
    )
    assert assignments(catalog, "own", start, end) == (PlanSpan("a", start, end),)
    assert assignments(catalog, "none", start, end) == ()


def test_a_tenants_own_quota_stands_in_for_its_plans_of_the_same_name(catalog: Catalog) -> None:
    time = at("2026-01-20T00:00:00Z")
    assert [f"{q.name} {q.limit}" for q in quotas_of(catalog, "t", time)] == ["month 9", "day 5"]
    assert [f"{q.name} {q.limit}" for q in quotas_of(catalog, "own", time)] == ["day 7"]
    # The version of March has no quotas, nor has plan b.
    assert [q.name for q in quotas_of(catalog, "t", at("2026-03-02T00:00:00Z"))] == ["month"]
    assert [q.name for q in quotas_of(catalog, "t", at("2026-02-02T00:00:00Z"))] == ["month"]


@pytest.mark.parametrize(
    ("models", "model", "expected"),
    [
        ("*", "anything/at:all", True),
        ("gpt-5*", "gpt-5-mini", True),
        ("gpt-5", "gpt-5-mini", False),
        ("*-mini", "gpt-5-mini", True),
        ("*-mini", "gpt-5-mini-2026", False),
        ("gpt-5|claude-*", "claude-x", True),
        ("gpt-5|claude-*", "o3", False),
        ("GPT-5", "gpt-5", False),
        ("gpt-[45]", "gpt-4", True),
    ],
)
def test_patterns(models: str, model: str, expected: bool) -> None:
    assert matches(models, model) is expected
    assert allowed_model((models, "never"), model) is expected


def test_no_pattern_allows_nothing() -> None:
    assert allowed_model((), "gpt-5") is False
