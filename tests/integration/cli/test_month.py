"""A month by the command line, over SQLite and without a broker: use, look, bill, prove, export, void, mend."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pypdf
import pytest

from billing.stripe_gateway.calls import Unreachable
from tests.integration.cli.installation import CATALOG, Installation, event
from tests.unit.cli.command import refused

ROOT = Path(__file__).resolve().parents[3]
# acme, input: 1 million at 2.00 and 1 million at 1.00; output: 200,000 at 9.00 a million; fee 31.00; VAT 19 %.
ACME = {"subtotal": "35.80", "tax": "6.80", "total": "42.60"}
BOLT = {"subtotal": "33.00", "tax": "0.00", "total": "33.00"}
FORMATS = ("csv", "xlsx", "pdf", "focus", "json", "usage-csv", "focus-parquet")


def _closed(installation: Installation) -> Installation:
    result = installation.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10")
    assert result.code == 0, result
    return installation


def test_usage_as_json_counts_the_duplicate_once(october: Installation) -> None:
    records = october("usage", "--json", "--by", "tenant").json()["usage"]
    assert [(r["tenant"], r["tokens"]["input"], r["tokens"]["output"], r["requests"]) for r in records] == [
        ("acme", 2_000_000, 200_000, 2),
        ("bolt", 1_000_000, 0, 1),
    ]
    assert records[0]["provider_cost"] == "0.9"  # 2 million at 0.25, 200,000 at 2.00 a million


def test_usage_by_day_and_model_within_bounds(october: Installation) -> None:
    result = october(
        "usage", "--json", "--tenant", "acme", "--by", "day,model", "--from", "2026-10-20", "--to", "2026-10-21"
    )
    assert [(r["day"], r["model"], r["tokens"]["input"]) for r in result.json()["usage"]] == [
        ("2026-10-20", "gpt-5-mini", 500_000)
    ]


def test_usage_as_a_table_shows_figures_for_people(october: Installation) -> None:
    result = october("usage")
    assert result.code == 0
    assert "2,200,000" in result.out
    assert result.out.splitlines()[0].split()[:2] == ["tenant", "model"]


def test_usage_as_csv(october: Installation) -> None:
    rows = list(csv.DictReader(io.StringIO(october("usage", "--format", "csv").out)))
    assert [(r["tenant"], r["model"], r["input"], r["provider_cost"]) for r in rows] == [
        ("acme", "gpt-5-mini", "2000000", "0.9"),
        ("bolt", "gpt-5-mini", "1000000", "0.25"),
    ]


def test_usage_as_parquet_reads_back_exactly(october: Installation, tmp_path: Path) -> None:
    path = tmp_path / "usage.parquet"
    assert october("usage", "--format", "parquet", "--out", path).code == 0
    piped = october("usage", "--format", "parquet").raw
    for source in (path, io.BytesIO(piped)):
        rows = pq.read_table(source).to_pylist()
        assert [(r["tenant"], r["input"], r["provider_cost"]) for r in rows] == [
            ("acme", 2_000_000, Decimal("0.9")),
            ("bolt", 1_000_000, Decimal("0.25")),
        ]


def test_usage_of_nobody_yet_is_empty_in_every_format(installation: Installation) -> None:
    assert installation("usage", "--json").json() == {"usage": []}
    for form in ("table", "csv", "parquet", "json"):
        assert installation("usage", "--format", form).code == 0


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_usage_draws_a_plot(october: Installation, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"usage.{suffix}"
    assert october("usage", "--plot", path, "--from", "2026-10-01", "--to", "2026-11-01").code == 0
    assert path.read_bytes()[:4] == (b"\x89PNG" if suffix == "png" else b"<?xm")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--by", "colour"], 2, "--by colour: use tenant"),
        (["--tenant", "nobody"], 1, "--tenant nobody: no such tenant"),
        (["--from", "soon"], 2, "--from: "),
        (["--plot", "usage.gif"], 2, ".png or .svg"),
        (["--from", "2026-11-01", "--to", "2026-10-01"], 2, "--from 2026-11-01 is not before --to 2026-10-01"),
    ],
)
def test_usage_refuses_in_one_line(october: Installation, arguments: list[str], code: int, said: str) -> None:
    assert said in refused(october("usage", *arguments), code)


def test_quotas_show_the_window_that_is_now(october: Installation) -> None:
    rows = october.at("2026-10-20T12:00:00Z")("quotas", "--tenant", "acme", "--json").json()["quotas"]
    assert [(r["name"], r["used"], r["limit"], r["window_start"]) for r in rows] == [
        ("daily", "600000", "5000000", "2026-10-19T22:00:00Z")
    ]


def test_a_draft_is_made_anew_each_time(october: Installation) -> None:
    for _ in range(2):
        result = october("invoices", "run", "--month", "2026-10", "--json").json()
        assert [(i["tenant"], i["status"], i["revision"]) for i in result["invoices"]] == [
            ("acme", "draft", 1),
            ("bolt", "draft", 1),
        ]
    october.take(event("late", "2026-10-31T10:00:00Z", output=1_000_000))
    drafts = october("invoices", "run", "--month", "2026-10", "--tenant", "acme", "--json").json()["invoices"]
    assert [(i["tenant"], i["subtotal"]) for i in drafts] == [("acme", "44.80")]


def test_finalising_before_the_grace_is_over_is_refused(october: Installation) -> None:
    result = october("invoices", "finalise", "--month", "2026-10", "--json")
    assert result.code == 1
    assert [i["status"] for i in result.json()["invoices"]] == ["draft", "draft"]
    assert len(result.json()["refused"]) == 2
    assert any("grace" in line for line in result.said)


def test_the_grace_ends_to_the_second_in_the_tenants_zone(october: Installation) -> None:
    assert (
        october.at("2026-11-02T22:50:00Z")("invoices", "finalise", "--month", "2026-10", "--tenant", "acme").code == 1
    )
    assert (
        october.at("2026-11-02T23:00:01Z")("invoices", "finalise", "--month", "2026-10", "--tenant", "acme").code == 0
    )


def test_finalised_invoices_are_right_and_listed(october: Installation) -> None:
    found = _closed(october)("invoices", "list", "--month", "2026-10", "--json").json()["invoices"]
    assert [i["status"] for i in found] == ["finalised", "finalised"]
    assert [{k: i[k] for k in ACME} for i in found] == [ACME, BOLT]
    assert "INV-2026-000001" in october("invoices", "list").out
    assert october("invoices", "run", "--month", "2026-10").code == 0  # a closed month stays as it is
    again = october("invoices", "list", "--month", "2026-10", "--json").json()["invoices"]
    assert again == found


def test_show_finds_by_number_and_by_tenant_and_month(october: Installation) -> None:
    _closed(october)
    by_month = october("invoices", "show", "acme/2026-10", "--json").json()
    by_number = october("invoices", "show", by_month["number"], "--json").json()
    by_revision = october("invoices", "show", "acme/2026-10/r1", "--json").json()
    assert by_month == by_number == by_revision
    assert [(line["type"], line["amount"]) for line in by_month["lines"]][:3] == [
        ("usage", "3.00"), ("usage", "1.80"), ("fee", "31.00"),
    ]  # fmt: skip
    table = october("invoices", "show", "acme/2026-10").out
    assert "Input tokens, gpt-5*" in table
    line = refused(october("invoices", "show", "acme/2026-09"))
    assert "no such invoice" in line
    assert "tollhouse invoices list" in line


@pytest.mark.parametrize("month", ["2026-13", "October", "2026-1", ""])
def test_a_month_that_is_none_is_wrong_use(installation: Installation, month: str) -> None:
    result = installation("invoices", "run", "--month", month)
    assert result.code == 2
    assert result.raw == b""
    assert "--month" in result.said[-1]


def test_explain_proves_every_line(october: Installation) -> None:
    _closed(october)
    result = october("explain", "acme/2026-10", "--json").json()
    assert result["invoice"] == "INV-2026-000001"
    lines = {line["description"]: line for line in result["lines"]}
    proof = lines["Input tokens, gpt-5*"]
    assert proof["events"]["count"] == 2
    assert (proof["events"]["first"], proof["events"]["last"]) == ("usage.events/0@0", "usage.events/0@1")
    assert sum(Decimal(part["amount"]) for part in proof["parts"]) == Decimal(3)
    one = october("explain", "acme/2026-10", "1", "--json").json()["lines"]
    assert one == [proof]
    text = october("explain", "acme/2026-10").out
    assert f"sha256 {proof['events']['digest']}" in text
    assert refused(october("explain", "acme/2026-10", "99")).endswith(f"lines 1 to {len(result['lines'])}")


def test_tables_show_whole_minor_units_and_cut_endless_decimals(october: Installation) -> None:
    _closed(october)
    (row,) = [line for line in october("invoices", "list").out.splitlines() if line.startswith("bolt")]
    assert row.split()[5:] == ["33.00", "0.00", "33.00", "EUR"]
    assert "33.00" in october("invoices", "show", "bolt/2026-10").out


def test_explain_fails_loudly_where_an_event_was_tampered_with(october: Installation) -> None:
    _closed(october)
    with sqlite3.connect(october.database) as connection:
        assert connection.execute("UPDATE events SET input = input - 1 WHERE id = 'a2'").rowcount == 1
    assert "does not add up" in refused(october("explain", "acme/2026-10"))
    assert october("explain", "bolt/2026-10").code == 0  # nobody touched bolt's


def test_explain_of_a_draft(october: Installation) -> None:
    october("invoices", "run", "--month", "2026-10")
    lines = october("explain", "bolt/2026-10", "--json").json()["lines"]
    assert [line["amount"] for line in lines if line["type"] == "usage"] == ["2.00"]


@pytest.mark.parametrize("form", FORMATS)
def test_export_writes_one_readable_file_each(october: Installation, tmp_path: Path, form: str) -> None:
    _closed(october)
    out = tmp_path / "out"
    result = october("invoices", "export", "--month", "2026-10", "--format", form, "--out", out)
    assert result.code == 0, result
    paths = [Path(line) for line in result.out.splitlines()]
    assert len(paths) == len(set(paths)) == 2
    assert all(_reads_back(path, form) for path in paths)


def _reads_back(path: Path, form: str) -> bool:
    if form == "json":
        return json.loads(path.read_text())["month"] == "2026-10"
    if form == "xlsx":
        return len(openpyxl.load_workbook(path).sheetnames) >= 2
    if form == "pdf":
        text = pypdf.PdfReader(path).pages[0].extract_text()
        return "INV-2026-00000" in text and "Example Cloud Ltd" in text
    if form == "focus-parquet":
        return pq.read_table(path).num_rows > 0
    return len(list(csv.DictReader(io.StringIO(path.read_text())))) > 0


def test_export_without_invoices_says_what_to_run(october: Installation, tmp_path: Path) -> None:
    line = refused(october("invoices", "export", "--month", "2026-09", "--out", tmp_path))
    assert "tollhouse invoices run --month 2026-09" in line


def test_void_gives_a_credit_note_once(october: Installation) -> None:
    _closed(october)
    arguments = ("invoices", "void", "--tenant", "acme", "--month", "2026-10", "--reason", "wrong address")
    (note,) = october(*arguments, "--json").json()["credit_notes"]
    assert (note["tenant"], note["month"], note["amount"]) == ("acme", "2026-10", ACME["total"])
    refused(october(*arguments))
    assert october("invoices", "run", "--month", "2026-10", "--finalise").code == 0
    found = october("invoices", "list", "--tenant", "acme", "--json").json()["invoices"]
    assert [(i["revision"], i["status"]) for i in found] == [(1, "void"), (2, "finalised")]
    assert found[0]["number"] != found[1]["number"]


def test_void_of_nothing_is_refused(october: Installation) -> None:
    refused(october("invoices", "void", "--tenant", "acme", "--month", "2026-09"))


def test_a_rejected_event_is_shown_mended_and_counts_once(october: Installation) -> None:
    stranger = event("n1", "2026-10-21T10:00:00Z", "newco", input=10)
    october.take(stranger)
    (row,) = october("rejected", "list", "--json").json()["rejected"]
    assert (row["reason"], row["tenant"], row["id"]) == ("unknown_tenant", "newco", "n1")
    shown = october("rejected", "show", row["n"])
    assert json.loads(shown.out) == stranger
    assert shown.said == [f"unknown_tenant: {row['detail']}"]

    result = october("rejected", "replay", "--json")
    assert result.code == 1  # still unknown
    assert result.json()["rejected"] == 1
    assert len(october("rejected", "list", "--json").json()["rejected"]) == 1

    mended = CATALOG.replace("  bolt:", "  newco: {name: Newco, tier: standard, plan: team}\n  bolt:")
    assert october.apply(mended).code == 0
    assert october("rejected", "replay", "--json").json() == {"counted": 1, "duplicates": 0, "held": 0, "rejected": 0}
    assert october("rejected", "replay", "--json").json() == {"counted": 0, "duplicates": 0, "held": 0, "rejected": 0}
    assert october("rejected", "list", "--json").json() == {"rejected": []}
    everything = october("rejected", "list", "--all", "--json").json()["rejected"]
    assert {r["state"] for r in everything} == {"replayed"}
    used = october("usage", "--tenant", "newco", "--by", "tenant", "--json").json()["usage"]
    assert [(r["tokens"]["input"], r["requests"]) for r in used] == [(10, 1)]


def test_no_such_rejected_event(installation: Installation) -> None:
    assert "tollhouse rejected list" in refused(installation("rejected", "show", "17"))


def test_alerts_are_listed_acknowledged_and_muted(october: Installation) -> None:
    october.take(event("big", "2026-10-22T10:00:00Z", input=3_000_000))
    found = october("alerts", "list", "--json").json()["alerts"]
    (alert,) = [a for a in found if a["kind"] == "quota"]
    assert alert["state"] == "open"
    assert "acme" in alert["subject"]
    assert october("alerts", "ack", alert["id"]).code == 0
    assert alert["id"] not in {a["id"] for a in october("alerts", "list", "--state", "open", "--json").json()["alerts"]}
    assert october("alerts", "mute", alert["id"], "--until", "2026-12-01T00:00:00Z").code == 0
    assert "--until" in refused(october("alerts", "mute", alert["id"], "--until", "tomorrow"), 2)
    assert "no such alert" in refused(october("alerts", "ack", "leak:nobody"))


def test_a_test_alert_needs_a_sink(installation: Installation) -> None:
    assert "alerts.sinks" in refused(installation("alerts", "test"))


def test_a_sink_that_does_not_answer_is_told_without_its_secrets(installation: Installation) -> None:
    sink = 'alerts: {sinks: [{url: "json://user:hunter2@127.0.0.1:9/path/token", kinds: ["leak"]}]}\n'
    assert installation.apply(CATALOG + sink).code == 0
    result = installation("alerts", "test")
    assert result.code == 1
    assert "NOT delivered" in result.out
    assert "hunter2" not in result.out + result.err
    assert "path" not in result.out


def test_unrated_usage_holds_the_invoice_and_says_so(october: Installation) -> None:
    october.take(event("odd", "2026-10-23T10:00:00Z", model="mystery-1", input=5))
    result = october.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10", "--tenant", "acme")
    assert result.code == 1
    assert any("mystery-1" in line for line in result.said)
    (draft,) = october("invoices", "list", "--tenant", "acme", "--json").json()["invoices"]
    assert draft["status"] == "draft"


def test_apply_shows_its_plan_and_refuses_to_rewrite_the_past(october: Installation) -> None:
    changed = CATALOG.replace('price: "9.00"', 'price: "8.00"')
    plan = october("apply", "-", "--dry-run", "--json", stdin=changed.encode())
    assert plan.json()["version"] is None
    assert plan.json()["changes"]
    result = october.apply(changed)
    assert result.code == 1, "a price of the past is not edited"
    assert "dated entries" in result.said[-1]
    again = october("apply", "-", "--json", stdin=CATALOG.encode())
    assert (again.code, again.json()["changes"]) == (0, [])


def test_keys_are_listed_and_change_state(installation: Installation) -> None:
    assert [(k["key"], k["state"]) for k in installation("keys", "list", "--json").json()] == [("pool-1", "active")]
    for verb, state in (("suspend", "suspended"), ("resume", "active"), ("rotate", "rotating"), ("revoke", "revoked")):
        result = installation("keys", verb, "pool-1", "--reason", "a drill", "--json")
        assert (result.code, result.json()["state"]) == (0, state)
    assert "no-such" in refused(installation("keys", "suspend", "no-such"))


def test_a_token_is_printed_alone_on_one_line(installation: Installation) -> None:
    for arguments in (
        ["--tenant", "acme", "--ttl", "1h"],
        ["--proxy", "eu-1"],
        ["--operator", "ada", "--role", "admin"],
    ):
        result = installation("token", "issue", *arguments)
        assert result.code == 0, result
        assert result.err == ""
        assert result.out.count("\n") == 1
        assert result.out.count(".") == 2
    assert "nobody" in refused(installation("token", "issue", "--tenant", "nobody"))
    refused(installation("token", "issue", "--tenant", "acme", "--proxy", "eu-1"), 2)


@pytest.mark.parametrize(
    "command", [["quotas"], ["invoices", "list"], ["invoices", "run", "--month", "2026-10"], ["usage"]], ids=" ".join
)
def test_a_tenant_that_nobody_knows_is_an_error_and_not_an_empty_list(
    command: list[str], october: Installation
) -> None:
    assert "--tenant nobody: no such tenant" in refused(october(*command, "--tenant", "nobody"))


def test_a_tenant_that_left_the_catalog_keeps_its_invoices(october: Installation) -> None:
    _closed(october)
    without = CATALOG.replace("  bolt: {name: Bolt Inc, tier: standard, plan: team, timezone: America/New_York}\n", "")
    assert october.apply(without).code in (0, 1)
    found = october("invoices", "list", "--tenant", "bolt", "--json").json()["invoices"]
    assert [i["total"] for i in found] == [BOLT["total"]]


def test_a_number_that_is_not_rejected_cannot_be_replayed(october: Installation) -> None:
    assert "there is no open rejected event 99" in refused(october("rejected", "replay", "99"))


def test_stripe_that_does_not_answer_is_one_line(october: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_arguments: object, **_more: object) -> None:
        raise Unreachable("Stripe did not answer in 8 tries:\nconnection refused")

    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_" + "test_x")
    monkeypatch.setattr("billing.stripe_gateway.sync", nobody)
    line = refused(october("stripe", "sync"))
    assert line == ("tollhouse: Stripe did not answer in 8 tries: connection refused: run it again when Stripe answers")


def test_apply_reports_new_provider_prices_and_what_last_month_would_cost_by_them(october: Installation) -> None:
    new = (
        "provider_prices:\n"
        '  - {provider: openai, model: gpt-5-mini, from: 2026-12-01, per: 1000000, input: "0.50", output: "2.00"}\n'
    )
    report = october("apply", "-", "--dry-run", "--json", stdin=(CATALOG + new).encode()).json()["price_changes"]
    assert report["month"] == "2026-10"
    changed = {(c["class"], c["after"]["amount"]) for c in report["prices"] if c["after"] is not None}
    assert ("input", "0.5") in changed
    (cost,) = report["costs"]
    # 3 million of input at 0.25 and then at 0.50, 200,000 of output at 2.00 a million.
    assert (cost["before"], cost["after"]) == (
        [{"amount": "1.15", "currency": "USD"}],
        [{"amount": "1.9", "currency": "USD"}],
    )
    text = october("apply", "-", "--dry-run", stdin=(CATALOG + new).encode()).out
    assert "Provider prices, and the usage of 2026-10 by them:" in text
    assert "openai gpt-5-mini: the usage cost 1.15 USD, now 1.9" in text


def test_runs_at_the_same_time_make_each_invoice_once(october: Installation) -> None:
    october.at("2026-11-04T06:00:00Z")
    program = [sys.executable, "-m", "tollhouse", "invoices", "run", "--month", "2026-10", "--finalise", "--json"]
    runs = [
        subprocess.Popen(
            [*program, "--dir", str(october.dir)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    told = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    numbers = [{(i["tenant"], i["number"], i["total"]) for i in answer["invoices"]} for answer in told]
    assert numbers[0] == numbers[1] == numbers[2]
    assert {number for _, number, _ in numbers[0]} == {"INV-2026-000001", "INV-2026-000002"}
    assert len(october("invoices", "list", "--json").json()["invoices"]) == 2
