"""`tollhouse simulate --compare`: a month's usage under another catalog, worked out by hand."""

import pytest

from tests.integration.cli.installation import CATALOG, Installation, event
from tests.unit.cli.command import Result, refused, tollhouse


def _compare(installation: Installation, catalog: str, *arguments: str) -> Result:
    return installation("simulate", "--compare", "-", "--month", "2026-10", *arguments, stdin=catalog.encode())


def _rows(result: Result) -> dict[str, tuple[str, str, str]]:
    assert result.code == 0, result
    return {r["tenant"]: (r["now"], r["then"], r["difference"]) for r in result.json()["tenants"]}


def test_the_same_catalog_makes_no_difference(october: Installation) -> None:
    result = _compare(october, CATALOG, "--json")
    assert _rows(result) == {"acme": ("35.80", "35.80", "0.00"), "bolt": ("33.00", "33.00", "0.00")}
    assert result.json()["totals"] == [{"currency": "EUR", "now": "68.80", "then": "68.80", "difference": "0.00"}]


def test_another_price_and_fee(october: Installation) -> None:
    other = CATALOG.replace('price: "9.00"', 'price: "4.00"').replace('amount: "31.00"', 'amount: "40.00"')
    # acme: output 200,000 at 4.00 is 0.80 instead of 1.80, fee 40 instead of 31; bolt: the fee alone.
    assert _rows(_compare(october, other, "--json")) == {
        "acme": ("35.80", "43.80", "8.00"),
        "bolt": ("33.00", "42.00", "9.00"),
    }


def test_it_is_a_table_for_people(october: Installation) -> None:
    lines = _compare(october, CATALOG.replace('price: "9.00"', 'price: "4.00"')).out.splitlines()
    assert lines[0].split() == ["tenant", "currency", "now", "then", "difference"]
    assert [line.split() for line in lines[1:]] == [
        ["acme", "EUR", "35.80", "34.80", "-1.00"],
        ["bolt", "EUR", "33.00", "33.00", "0.00"],
        ["(all)", "EUR", "68.80", "67.80", "-1.00"],
    ]


def test_nothing_is_changed_by_looking(october: Installation) -> None:
    _compare(october, CATALOG.replace('price: "9.00"', 'price: "4.00"'))
    assert october("invoices", "list", "--json").json() == {"invoices": []}
    assert october("apply", "-", "--dry-run", "--json", stdin=CATALOG.encode()).json()["changes"] == []


def test_a_closed_month_is_compared_at_the_terms_that_it_was_closed_at(october: Installation) -> None:
    october.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10")
    renamed = CATALOG.replace("plan: team", "plan: [{plan: team}, {plan: dear, from: 2026-12-01}]")
    dear = '  dear: {fee: {amount: "99.00", proration: daily}}\n'
    assert october.apply(renamed.replace("taxes:", f"{dear}taxes:")).code == 0
    assert _rows(_compare(october, CATALOG, "--json"))["acme"] == ("35.80", "35.80", "0.00")


def test_tenants_of_either_catalog_are_shown(october: Installation) -> None:
    other = CATALOG.replace("  bolt: {name: Bolt Inc", "  cargo: {name: Cargo Ltd")
    rows = {r["tenant"]: r for r in _compare(october, other, "--json").json()["tenants"]}
    assert (rows["bolt"]["now"], rows["bolt"]["then"], rows["bolt"]["difference"]) == ("33.00", None, None)
    assert (rows["cargo"]["now"], rows["cargo"]["then"], rows["cargo"]["difference"]) == (None, "31.00", None)


def test_amounts_of_two_currencies_are_not_subtracted(october: Installation) -> None:
    other = CATALOG.replace("currency: EUR", "currency: JPY").replace('"31.00"', '"31"')
    (row,) = _compare(october, other, "--tenant", "acme", "--json").json()["tenants"]
    assert (row["now_currency"], row["currency"], row["difference"]) == ("EUR", "JPY", None)
    assert row["then"] == "36"  # 3 + 1.80 rounded to 2 + 31


def test_usage_without_a_price_is_named_and_exits_1(october: Installation) -> None:
    result = _compare(
        october, CATALOG.replace('{meter: output, models: "gpt-5*"', '{meter: output, models: "other"'), "--json"
    )
    assert result.code == 1
    assert result.json()["tenants"][0]["unrated"] == [{"model": "gpt-5-mini", "meter": "output"}]
    assert "no price for acme: gpt-5-mini, output" in result.said[-1]


SIZES = """\
currency: EUR
tenants: {bolt: {name: Bolt Inc, tier: standard, plan: team, timezone: America/New_York}}
plans: {team: {charges: [{meter: cost, models: "*", model: markup, markup: "0"}]}}
exchange_rates: [{from: USD, to: EUR, rate: "1", date: 2026-01-01}]
provider_prices:
  - {provider: openai, model: own-1, from: 2026-01-01, per: 1000000, input: "1.00"}
  - {provider: openai, model: own-1, over_input: 200000, from: 2026-01-01, per: 1000000, input: "2.00"}
"""


def test_other_sizes_of_requests_are_told_apart_by_event(october: Installation) -> None:
    """Two calls of one quarter of an hour share a rollup; a catalog with a threshold between them prices them apart."""
    october.take(
        event("s1", "2026-10-25T10:00:00Z", "bolt", model="own-1", input=100_000),
        event("s2", "2026-10-25T10:01:00Z", "bolt", model="own-1", input=1_000_000),
    )
    (row,) = _compare(october, SIZES, "--tenant", "bolt", "--json").json()["tenants"]
    # gpt-5-mini 1,000,000 at 0.25 is 0.25; own-1 100,000 at 1.00 is 0.10 and 1,000,000 at 2.00 is 2.00.
    assert row["then"] == "2.35"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either a scenario FILE, or --compare"),
        (["--compare", "x.yaml"], "--compare needs --month"),
        (["scenario.yaml", "--month", "2026-10"], "go with --compare"),
        (["scenario.yaml", "--compare", "x.yaml"], "give either"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str) -> None:
    assert said in refused(tollhouse("simulate", *arguments), 2)


def test_a_month_that_is_none(october: Installation) -> None:
    line = refused(october("simulate", "--compare", "-", "--month", "2026-13", stdin=CATALOG.encode()), 2)
    assert line.startswith("tollhouse: --month: ")
