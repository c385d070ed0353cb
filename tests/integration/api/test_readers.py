"""Operators by role, tenants on their own things only; usage, quotas, invoices, alerts, keys, rejected."""

import io
import time
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.alerting import Alert
from pipeline.ledger.tables import audit_log
from tests.integration.api.kit import CATALOG, House, catalog
from tollhouse.api.pace import Pace
from tollhouse.tokens.revoked import revoke_before

READS = [
    "/v1/tenants", "/v1/tenants/acme/usage", "/v1/tenants/acme/quotas", "/v1/invoices", "/v1/invoices/acme/2026-11",
    "/v1/invoices/acme/2026-11.csv", "/v1/alerts", "/v1/keys", "/v1/rejected",
]  # fmt: skip
WRITES = {
    "finance": [("/v1/invoices/run", {"month": "2026-11"}), ("/v1/invoices/acme/2026-11/finalise", None),
                ("/v1/invoices/acme/2026-11/void", {"reason": "test"})],
    "oncall": [("/v1/alerts/a:1/ack", {}), ("/v1/alerts/a:1/mute", {"for_s": 60}),
               ("/v1/keys/openai-pool-1/suspend", {"reason": "test"}), ("/v1/rejected/1/replay", None)],
}  # fmt: skip


@pytest.fixture
def filled(house: House) -> House:
    """With usage, a draft, an alert and a rejected event."""
    house.count(house.event("e1"), house.event("e2", tokens={"input": 7}), house.event("g1", "globex"))
    house.ledger.raise_alerts([Alert("a:1", house.now_us, "leak", "page", "acme/openai-pool-1", "a leak", {"n": "3"})])
    house.client.post("/v1/invoices/run", json={"month": "2026-11"}, headers=house.operator("finance"))
    bad = house.event("bad", "nobody")
    house.client.post("/v1/events", json=bad, headers=house.proxy() | {"Content-Type": "application/cloudevents+json"})
    return house


def get(house: House, path: str, headers: dict[str, str]) -> Any:
    return house.client.get(path, headers=headers)


@pytest.mark.parametrize("role", ["viewer", "finance", "oncall", "admin"])
def test_every_role_reads_everything(filled: House, role: str) -> None:
    headers = filled.operator(role)
    for path in READS:
        assert get(filled, path, headers).status_code == 200, path


@pytest.mark.parametrize("role", ["viewer", "finance", "oncall", "admin"])
def test_a_role_does_its_own_work_and_an_admin_all(filled: House, role: str) -> None:
    headers = filled.operator(role)
    for needed, calls in WRITES.items():
        for path, body in calls:
            answer = filled.client.post(path, json=body, headers=headers)
            if role in (needed, "admin"):
                assert answer.status_code in (200, 409), (path, answer.text)
            else:
                assert (answer.status_code, answer.json()["type"]) == (403, "urn:tollhouse:problem:role_needed"), path


def test_a_proxy_and_a_stranger_read_nothing(filled: House) -> None:
    for path in READS:
        assert get(filled, path, filled.proxy()).status_code == 403
        assert get(filled, path, {}).status_code == 401
        assert get(filled, path, {"Authorization": "Basic YWRhOmFkYQ=="}).status_code == 401


def test_a_tenant_sees_its_own_things_and_nobody_elses(filled: House) -> None:
    own = filled.tenant("acme")
    for path in ("/v1/tenants/acme/usage", "/v1/tenants/acme/quotas", "/v1/invoices/acme/2026-11.csv"):
        assert get(filled, path, own).status_code == 200, path
    for path in (
        "/v1/tenants/globex/usage", "/v1/tenants/globex/quotas", "/v1/invoices/globex/2026-11", "/v1/tenants",
        "/v1/invoices/globex/2026-11.pdf", "/v1/invoices?tenant=globex", "/v1/alerts", "/v1/keys", "/v1/rejected",
        "/v1/tenants/no-such/usage", "/v1/tenants/acme/../globex/usage", "/v1/tenants/acme%2F..%2Fglobex/usage",
    ):  # fmt: skip
        assert get(filled, path, own).status_code == 403, path
    seen = get(filled, "/v1/invoices", own).json()["invoices"]
    assert {invoice["tenant"] for invoice in seen} == {"acme"}
    for needed in WRITES.values():
        for path, body in needed:
            assert filled.client.post(path, json=body, headers=own).status_code == 403, path


def test_usage_is_exact_and_shows_cost_to_operators_only(filled: House) -> None:
    shown = get(filled, "/v1/tenants/acme/usage?by=day,model", filled.operator("viewer")).json()["usage"]
    assert len(shown) == 1
    assert (shown[0]["day"], shown[0]["tokens"]["input"], shown[0]["requests"]) == ("2026-11-01", 1007, 2)
    assert shown[0]["provider_cost"] == "0.00065175"
    own = get(filled, "/v1/tenants/acme/usage?by=month", filled.tenant("acme")).json()["usage"][0]
    assert "provider_cost" not in own
    assert get(filled, "/v1/tenants/acme/usage?by=key", filled.tenant("acme")).status_code == 422
    for query in ("by=", "by=colour", "by=day,day", "from=yesterday", "to=2026-13-01", "from=9999"):
        assert get(filled, f"/v1/tenants/acme/usage?{query}", filled.operator("viewer")).status_code == 422, query
    assert get(filled, "/v1/tenants/acme/usage?from=2026-11-02", filled.operator("viewer")).json()["usage"] == []
    assert get(filled, "/v1/tenants/nobody/usage", filled.operator("viewer")).status_code == 404


def test_a_tenant_whose_id_needs_quoting_has_addresses(filled: House) -> None:
    viewer = filled.operator("viewer")
    assert get(filled, "/v1/tenants/a%2Fb%20c/quotas", viewer).json() == {"tenant": "a/b c", "quotas": []}
    assert get(filled, "/v1/invoices/a%2Fb%20c/2026-11", viewer).json()["tenant"] == "a/b c"


def test_an_invoice_has_lines_with_parts_and_documents(filled: House) -> None:
    viewer = filled.operator("viewer")
    invoice = get(filled, "/v1/invoices/acme/2026-11", viewer).json()
    assert invoice["status"] == "draft"
    assert invoice["lines"][0]["parts"]
    pdf = get(filled, "/v1/invoices/acme/2026-11.pdf", viewer)
    assert pdf.headers["content-type"] == "application/pdf"
    assert "Acme GmbH" in PdfReader(io.BytesIO(pdf.content)).pages[0].extract_text()
    for suffix in ("csv", "xlsx", "json", "usage.csv", "focus.csv", "focus.parquet"):
        answer = get(filled, f"/v1/invoices/acme/2026-11.{suffix}", viewer)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="acme-2026-11-draft.{suffix}"'
    for name in ("2026-11.exe", "2026-13", "2026-10", "nonsense", "2026-11?revision=7"):
        assert get(filled, f"/v1/invoices/acme/{name}", viewer).status_code == 404, name


def test_finance_closes_a_month_and_voids_it_once(filled: House) -> None:
    finance = filled.operator("finance")
    early = filled.client.post("/v1/invoices/acme/2026-11/finalise", headers=finance)
    assert (early.status_code, early.json()["type"]) == (409, "urn:tollhouse:problem:refused")
    filled.now_us += 34 * 86_400_000_000
    finance = filled.operator("finance")
    closed = filled.client.post("/v1/invoices/acme/2026-11/finalise", headers=finance)
    assert (closed.status_code, closed.json()["status"]) == (200, "finalised")
    body = {"reason": "wrong buyer"}
    voided = filled.client.post("/v1/invoices/acme/2026-11/void", json=body, headers=finance)
    assert voided.json()["credit_notes"][0]["amount"] == closed.json()["total"]
    assert filled.client.post("/v1/invoices/acme/2026-11/void", json=body, headers=finance).status_code == 409
    actions = [row["action"] for row in filled.ledger.rows(audit_log, audit_log.c.who == "operator:ada")]
    assert "invoice.finalise" in actions
    assert "invoice.void" in actions


def test_oncall_takes_and_mutes_an_alert(filled: House) -> None:
    oncall = filled.operator("oncall")
    assert [a["id"] for a in get(filled, "/v1/alerts?state=open&kind=leak", oncall).json()["alerts"]] == ["a:1"]
    done = filled.client.post("/v1/alerts/a:1/ack", json={"feedback": "key rotated"}, headers=oncall).json()
    assert (done["state"], done["feedback"], done["facts"]) == ("acked", "key rotated", {"n": "3"})
    muted = filled.client.post("/v1/alerts/a:1/mute", json={"for_s": 60}, headers=oncall).json()
    assert muted["muted_until"] == "2026-11-01T10:01:00Z"
    assert filled.client.post("/v1/alerts/none/ack", headers=oncall).status_code == 404
    assert get(filled, "/v1/alerts?state=odd", oncall).status_code == 422


def test_oncall_changes_a_key_and_the_gate_follows_at_once(filled: House) -> None:
    oncall = filled.operator("oncall")
    for key in ("openai-pool-1", "openai-pool-2"):
        done = filled.client.post(f"/v1/keys/{key}/suspend", json={"reason": "seen"}, headers=oncall).json()
        assert (done["state"], done["changed_by"], done["reason"]) == ("suspended", "operator:ada", "seen")
    assert filled.ask().json()["reason"] == "key_unavailable"
    filled.client.post("/v1/keys/openai-pool-2/resume", headers=oncall)
    assert filled.ask().json()["key"] == "openai-pool-2"
    assert filled.client.post("/v1/keys/openai-pool-1/revoke", headers=oncall).json()["state"] == "revoked"
    assert filled.client.post("/v1/keys/openai-pool-1/resume", headers=oncall).status_code == 409
    assert filled.client.post("/v1/keys/none/revoke", headers=oncall).status_code == 404
    assert filled.client.post("/v1/keys/openai-pool-2/explode", headers=oncall).status_code == 404


def test_a_rejected_event_is_shown_whole_and_replayed_after_the_catalog_was_mended(filled: House) -> None:

    oncall = filled.operator("oncall")
    (row,) = get(filled, "/v1/rejected?reason=unknown_tenant&state=open", oncall).json()["rejected"]
    whole = get(filled, f"/v1/rejected/{row['n']}", oncall).json()
    assert '"nobody"' in whole["event"]
    tenants = CATALOG["tenants"] | {"nobody": {"plan": "team"}}
    filled.ledger.apply(catalog(tenants=tenants), filled.now_us, "test")
    done = filled.client.post(f"/v1/rejected/{row['n']}/replay", headers=oncall).json()
    assert done["counted"] == 1
    assert filled.client.post(f"/v1/rejected/{row['n']}/replay", headers=oncall).status_code == 409
    assert get(filled, "/v1/rejected/999999", oncall).status_code == 404


def test_a_revoked_operator_is_out_within_two_seconds(filled: House) -> None:

    headers = filled.operator("admin")
    assert get(filled, "/v1/keys", headers).status_code == 200
    filled.now_us += 1
    revoke_before(filled.ledger, "operator:ada", filled.now_us, filled.now_us, "test")
    time.sleep(1.1)
    answer = get(filled, "/v1/keys", headers)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_revoked")
    assert get(filled, "/v1/keys", filled.operator("admin")).status_code == 200


def test_a_token_that_asks_too_often_is_slowed_down(filled: House) -> None:
    headers = filled.operator("viewer")
    filled.app.state.api.pace = Pace(burst=3, per_s=0.001)  # however slow the machine is
    statuses = [get(filled, "/v1/keys", headers).status_code for _ in range(10)]
    assert statuses[0] == 200
    assert 429 in statuses
