"""Commands over what is outside: Stripe (its double over HTTP), both databases; and JSON that is nothing but JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.figures import figures
from schemas.instants import parse_instant
from tests.integration.cli.installation import CATALOG, Installation, event
from tests.unit.cli.command import tollhouse
from tollhouse import stripe_double

SPEAKS_JSON = [
    ["usage"], ["quotas"], ["alerts", "list"], ["rejected", "list"], ["rejected", "replay"], ["keys", "list"],
    ["token", "keys", "list"], ["token", "issue", "--tenant", "acme"], ["token", "revoke", "--tenant", "acme"],
    ["invoices", "run", "--month", "2026-10"], ["invoices", "list"], ["invoices", "show", "acme/2026-10"],
    ["explain", "acme/2026-10"], ["keys", "suspend", "pool-1"],
]  # fmt: skip


@pytest.mark.parametrize("command", SPEAKS_JSON, ids=" ".join)
def test_json_is_one_document_and_nothing_else(command: list[str], october: Installation) -> None:
    october("invoices", "run", "--month", "2026-10")
    result = october(*command, "--json")
    assert result.code == 0, result
    assert isinstance(result.json(), dict | list)
    assert result.err == ""
    assert not _floats(json.loads(result.out, parse_float=_Float))


class _Float(str):
    """Marks a number with a fraction: money is text, counts are whole."""

    __slots__ = ()


def _floats(value: object) -> list[object]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _floats(item)]
    if isinstance(value, list):
        return [found for item in value for found in _floats(item)]
    return [value] if isinstance(value, _Float) else []


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[stripe_double.StripeDouble]:
    """A Stripe of our own on a loopback port, and a key for it."""
    handle = stripe_double.start()
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_" + "test_cli")
    monkeypatch.setenv("TOLLHOUSE_STRIPE_API_BASE", handle.url)
    yield handle.double
    handle.stop()


def test_a_month_goes_to_stripe_once_and_agrees_to_the_cent(
    october: Installation, stripe: stripe_double.StripeDouble
) -> None:
    month = ("--month", "2026-10")
    october.apply(CATALOG.replace("name: Bolt Inc,", "name: Bolt Inc, billing: {email: ap@bolt.example},"))
    assert october.at("2026-11-04T06:00:00Z")("invoices", "finalise", *month).code == 0

    preview = october("invoices", "push", *month, "--dry-run", "--json")
    assert preview.code == 0, preview
    listed = october("invoices", "list", "--json").json()["invoices"]
    assert {i["status"] for i in listed} == {"finalised"}, "a preview changes nothing"

    pushed = october("invoices", "push", *month, "--json").json()
    assert {(r["tenant"], r["outcome"], r["total_minor"]) for r in pushed["results"]} == {
        ("acme", "pushed", 4260),
        ("bolt", "pushed", 3300),
    }
    again = october("invoices", "push", *month, "--json")
    assert (again.code, {r["outcome"] for r in again.json()["results"]}) == (0, {"already"})
    assert {i["status"] for i in october("invoices", "list", "--json").json()["invoices"]} == {"pushed"}
    assert october("stripe", "drift", *month, "--json").json() == {"drift": []}
    assert october("stripe", "sync").code == 0
    table = october("invoices", "push", *month).out
    assert "already" in table


def test_what_differs_at_stripe_is_a_figure_until_it_is_mended(
    october: Installation, stripe: stripe_double.StripeDouble
) -> None:
    """The alert rule reads what the comparison kept, by month and kind; and how long nobody has compared."""
    ledger = Ledger(october.database_url)

    def shown(at: str) -> tuple[dict[tuple[str, ...], float], float]:
        found = {figure.name: figure.values for figure in ledger.read(lambda c: figures(c, parse_instant(at)))}
        return dict(found["stripe_drift"]), round(found["stripe_uncompared_seconds"][()], -2)

    october.apply(CATALOG.replace("name: Bolt Inc,", "name: Bolt Inc, billing: {email: ap@bolt.example},"))
    assert october.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10").code == 0
    assert shown("2026-11-20T06:00:00Z") == ({}, 0)  # nothing is there to be compared
    assert october("stripe", "drift").code == 1
    assert shown("2026-11-04T06:00:00Z")[0] == {("missing",): 2}
    assert october("invoices", "push", "--month", "2026-10").code == 0
    assert october("stripe", "drift", "--month", "2026-09").code == 0  # another month settles nothing of this one
    assert shown("2026-11-04T06:00:00Z")[0] == {("missing",): 2}
    assert october.at("2026-11-05T06:00:00Z")("stripe", "drift").code == 0
    assert shown("2026-11-05T07:00:00Z") == ({}, 3600)
    next(one for one in stripe.invoices() if one["total"] == 3300)["total"] = 3301
    assert october.at("2026-11-06T06:00:00Z")("stripe", "drift", "--month", "2026-10").code == 1
    assert shown("2026-11-06T06:00:00Z") == ({("total",): 1}, 86_400)  # one month is not all of them
    ledger.close()


def test_push_before_finalising_has_nothing_to_do(october: Installation, stripe: stripe_double.StripeDouble) -> None:
    october("invoices", "run", "--month", "2026-10")
    result = october("invoices", "push", "--month", "2026-10", "--json")
    assert (result.code, result.json()["results"]) == (0, [])


def test_a_month_from_catalog_to_credit_note_on_both_databases(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", database_url)
    office = Installation(tmp_path / "data", monkeypatch.setenv, database_url)
    assert office.at("2026-10-01T00:00:00Z").apply().code == 0
    office.take(
        event("a1", "2026-10-02T10:00:00Z", input=1_500_000, output=200_000),
        event("a1", "2026-10-02T10:00:00Z", input=1_500_000, output=200_000),
        event("n1", "2026-10-02T10:00:00Z", "newco", input=1),
    )
    office.at("2026-11-04T06:00:00Z")
    assert office("usage", "--by", "tenant", "--json").json()["usage"][0]["requests"] == 1
    assert office("invoices", "finalise", "--month", "2026-10").code == 0
    found = office("invoices", "list", "--tenant", "acme", "--json").json()["invoices"]
    assert [(i["status"], i["total"]) for i in found] == [("finalised", "42.01")]  # (2.50 + 1.80 + 31.00) and 19 %
    assert office("explain", "acme/2026-10").code == 0
    assert office("invoices", "void", "--tenant", "acme", "--month", "2026-10").code == 0
    assert [r["reason"] for r in office("rejected", "list", "--json").json()["rejected"]] == ["unknown_tenant"]
    compared = office("simulate", "--compare", "-", "--month", "2026-10", "--json", stdin=CATALOG.encode())
    assert compared.code == 0
    assert {r["difference"] for r in compared.json()["tenants"]} == {"0.00"}


def test_doctor_over_an_installation_without_a_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", "127.0.0.1:9")
    checks = {c["name"]: c for c in tollhouse("doctor", "--dir", tmp_path, "--json").json()["checks"]}
    assert not checks["catalog"]["ok"]
    assert "apply" in checks["catalog"]["detail"]
