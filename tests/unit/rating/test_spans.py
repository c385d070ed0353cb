"""A period cut where terms change, and nowhere else."""

from pipeline.rating import Stretch, stretches
from schemas.periods import Period
from tests.unit.rating.catalogs import catalog_of
from tests.unit.rating.test_usage import JULY, at


def test_the_same_terms_again_make_no_cut() -> None:
    tenant = {"plan": [{"plan": "p", "from": "2026-01-01"}, {"plan": "p", "from": "2026-07-11"}]}
    catalog = catalog_of({"p": {"charges": []}}, tenant=tenant)
    (only,) = stretches(catalog.tenants["acme"], catalog.plans, JULY)
    assert only == Stretch(JULY.start_us, JULY.end_us, "p", catalog.plans["p"].versions[0])


def test_each_change_of_plan_and_of_version_cuts_once() -> None:
    tenant = {"plan": [{"plan": "p", "from": "2026-07-05"}, {"plan": "q", "from": "2026-07-20"}]}
    plans = {
        "p": [{"from": "2026-01-01", "charges": []}, {"from": "2026-07-10", "charges": []}],
        "q": [{"from": "2026-07-10", "charges": []}, {"from": "2026-08-01", "charges": []}],
    }
    catalog = catalog_of(plans, tenant=tenant)
    found = stretches(catalog.tenants["acme"], catalog.plans, JULY)
    p, q = (catalog.plans[name].versions for name in "pq")
    assert found == (
        Stretch(JULY.start_us, at("2026-07-05"), "", None),
        Stretch(at("2026-07-05"), at("2026-07-10"), "p", p[0]),
        Stretch(at("2026-07-10"), at("2026-07-20"), "p", p[1]),
        Stretch(at("2026-07-20"), JULY.end_us, "q", q[0]),
    )


def test_an_empty_period_has_no_stretch() -> None:
    catalog = catalog_of({"p": {"charges": []}})
    empty = Period(JULY.start_us, JULY.start_us)
    assert stretches(catalog.tenants["acme"], catalog.plans, empty) == ()
