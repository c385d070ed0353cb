"""Each service does its whole work under its own database role, and may do nothing else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import yaml
from starlette.testclient import TestClient

import roles as script
from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from pipeline.ledger.roles import OWNER, OWNERS, ROLES, WORKER_KINDS, WRITES, roles_sql
from pipeline.ledger.tables import metadata
from schemas.usage_event import Delivery, Evidence
from tests.integration.api.kit import CATALOG as CATALOG_DATA
from tests.integration.api.kit import House, catalog
from tests.integration.cli.installation import CATALOG, Installation, event
from tests.security.ledger_roles import Roles, ledger_with_roles
from tests.services import ROOT
from tests.simulation.driver import Driver
from tests.simulation.world import World
from tollhouse.api.app import make_app
from tollhouse.settings import Settings
from tollhouse.stripe_double.server import start

DENIED = "permission denied"
NAMES = {"tenant": "acme", "month": "2026-10", "key": "openai-pool-1"}
FULL = {"I": "INSERT", "U": "UPDATE", "D": "DELETE"}


@pytest.fixture(scope="module")
def roles() -> Iterator[Roles]:
    with ledger_with_roles() as made:
        yield made


def test_the_file_is_what_the_code_says() -> None:
    assert script.FILE.read_text(encoding="utf-8") == roles_sql(), "run python scripts/roles.py"


def test_of_every_table_it_is_decided_who_writes_it() -> None:
    written = {table for writes in WRITES.values() for table in writes}
    assert written | set(OWNERS) == set(metadata.tables), "decide in pipeline/ledger/roles.py"
    assert not written & set(OWNERS)


@pytest.mark.parametrize("prefix", ["x; DROP TABLE events", "Tollhouse", "", "a b", 'a"b'])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="no prefix"):
        roles_sql(prefix)


def _attempt(roles: Roles, role: str, statement: str) -> str:
    """What the database says to it; empty if it lets it happen. Nothing stays."""
    with roles.connect(role) as connection:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            return str(error)
        except psycopg.errors.IntegrityError:
            return ""  # allowed, had it been a whole row
    return ""


@pytest.mark.parametrize("role", ROLES)
def test_a_service_writes_only_what_is_listed(role: str, roles: Roles) -> None:
    """Every table, every way of writing: the listed ones pass, all others are denied."""
    wrong = []
    for name, table in metadata.tables.items():
        column = next(iter(table.columns)).name
        rights = WRITES[role].get(name, "")
        for letter, statement in {
            "I": f'INSERT INTO "{name}" DEFAULT VALUES',
            "U": f'UPDATE "{name}" SET "{column}" = "{column}"',
            "D": f'DELETE FROM "{name}"',
        }.items():
            allowed = not _attempt(roles, role, statement)
            if name == "billing_documents" and role == "worker" and letter == "I":
                continue  # decided row by row, see below
            if allowed != (letter in rights):
                wrong.append(f"{FULL[letter]} {name}: allowed {allowed}")
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE events",
        "DROP TABLE invoices",
        "ALTER TABLE events ADD COLUMN x INT",
        "CREATE TABLE mine (x INT)",
        "CREATE INDEX mine ON events (model)",
        "ALTER TABLE billing_documents DISABLE ROW LEVEL SECURITY",
        "CREATE ROLE another",
        "COPY events TO '/tmp/out'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "GRANT SELECT ON events TO PUBLIC",
        "UPDATE alembic_version SET version_num = 'x'",
    ],
)
def test_no_service_changes_the_schema_or_leaves_the_database(role: str, statement: str, roles: Roles) -> None:
    said = _attempt(roles, role, statement)
    assert said or (statement.startswith("GRANT") and _public_reads_nothing(roles)), statement


def _public_reads_nothing(roles: Roles) -> bool:
    """A grant by somebody without the right is a warning, and grants nothing."""
    with roles.connect() as connection:
        found = connection.execute(
            "SELECT grantee FROM information_schema.role_table_grants WHERE table_name = 'events'"
        ).fetchall()
    return found != [] and ("PUBLIC",) not in found


def test_nobody_edits_the_audit_log_or_deletes_an_invoice(roles: Roles) -> None:
    for role in ROLES:
        for statement in (
            "UPDATE audit_log SET who = 'another'",
            "DELETE FROM audit_log",
            "DELETE FROM invoices",
            "DELETE FROM credit_notes",
            "UPDATE credit_notes SET document = ''",
            "UPDATE catalogs SET document = ''",
            "DELETE FROM catalogs",
            "UPDATE signing_keys SET public_jwk = ''",
            "DELETE FROM revoked_tokens",
        ):
            assert DENIED in _attempt(roles, role, statement), (role, statement)


def test_a_worker_writes_no_billing_document_but_its_own(roles: Roles) -> None:
    for kind in (*WORKER_KINDS, "credit", "sequence", "stripe"):
        said = _attempt(roles, "worker", f"INSERT INTO billing_documents VALUES ('{kind}', 'x', '')")
        assert ("row-level security" in said) == (kind not in WORKER_KINDS), (kind, said)
    with roles.connect() as connection:
        connection.execute("INSERT INTO billing_documents VALUES ('sequence', 'kept', '7')")
    with roles.connect("worker") as connection:
        assert connection.execute("UPDATE billing_documents SET document = '9'").rowcount == 0
    with roles.connect("api") as connection:
        assert connection.execute("UPDATE billing_documents SET document = '8' WHERE id = 'kept'").rowcount == 1


def test_others_do_not_even_read(roles: Roles) -> None:
    name = f"{roles.prefix}_nobody"
    with roles.connect() as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        try:
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                roles.connect("nobody")
        finally:
            owner.execute(f"DROP ROLE {name}".encode())


@pytest.mark.timeout(240)
def test_the_worker_does_its_whole_work(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    """Events, duplicates, corrections, refusals, holds that end, alerts, states: exact, and nothing was denied."""
    with ledger_with_roles() as roles:
        world = World(kafka, roles.owner, tmp_path, topic_prefix, embedded=False)
        try:
            process = world.start_worker(TOLLHOUSE_DATABASE_URL=roles.url("worker"))
            world.publish(Driver(3, datetime.now(UTC), topic_prefix).traffic(400))
            world.check()
            process.terminate()
            assert process.wait(30) == 0
            assert DENIED not in world.logs()
            assert "row-level security" not in world.logs()
            ledger = Ledger(roles.url("worker"))
            after_us = time.time_ns() // 1000 + 40 * 86_400_000_000
            assert ledger.compact(after_us)
            ledger.sweep(after_us)
            ledger.close()
            world.check()
        finally:
            world.close()


def test_the_api_does_its_whole_work(tmp_path: Path) -> None:
    """Every address that reads, and every act of proxies, on-call and finance: none is a fault of the service."""
    with ledger_with_roles() as roles:
        house = House(roles.owner, tmp_path)
        house.count(house.event("e1"), house.event("e2", tenant="globex"))
        wrong = [house.event("w1", tenant="late-comer"), house.event("w2", tenant="late-comer"), house.event("w3")]
        wrong[1]["data"] |= {"replaces": {"source": "proxy/eu-1", "id": "w1"}}
        wrong[2] |= {"subject": "late-comer", "type": "com.tollhouse.usage.void.v1",
                     "data": {"voids": {"source": "proxy/eu-1", "id": "w2"}, "reason": "test"}}  # fmt: skip
        house.ledger.take(
            [Delivery(json.dumps(one).encode(), house.now_us, Evidence("usage.events", 0, 9, n))
             for n, one in enumerate(wrong)], house.now_us
        )  # fmt: skip
        tenants = CATALOG_DATA["tenants"] | {"late-comer": {"plan": "team"}}
        house.ledger.apply(catalog(tenants=tenants), house.now_us - 30 * 86_400_000_000, "test")
        alert = Alert("leak:x", house.now_us, "leak", "page", "acme/openai-pool-1", "test", {"since_us": house.now_us})
        house.ledger.raise_alerts([alert])
        ledger = Ledger(roles.url("api"))
        ledger.create()
        settings = Settings(dir=tmp_path, database_url=roles.url("api"))
        app = make_app(settings, ledger, lambda: house.now_us, house.publisher)
        client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
        admin, proxy = house.operator("admin"), house.proxy()
        try:
            faults = []
            for path, methods in app.openapi()["paths"].items():
                if "get" in methods:
                    where = re.sub(r"{(\w+)(:path)?}", lambda found: NAMES.get(found[1], "1"), path)
                    answer = client.get(where, headers=admin)
                    faults += [(where, answer.text)] if answer.status_code >= 500 and "readyz" not in where else []
            assert faults == []
            token = house.token("tenant", "acme")
            ask = {"token": token, "model": "gpt-5-mini", "estimate": {"tokens": 10}, "id": "r1"}
            events = proxy | {"Content-Type": "application/cloudevents+json"}
            acts = [
                ("POST", "/v1/authorize", ask, proxy, 200),
                ("DELETE", "/v1/reservations/r1?tenant=acme", None, proxy, 204),
                ("POST", "/v1/events", house.event("e3"), events, 202),
                ("POST", "/v1/events", house.event("e4", tenant="nobody"), events, 202),
                ("POST", "/v1/keys/openai-pool-2/suspend", {"reason": "test"}, admin, 200),
                ("POST", "/v1/keys/openai-pool-2/resume", {"reason": "test"}, admin, 200),
                ("POST", "/v1/authorize", ask | {"token": "sk-proj-" + "a1B2" * 12, "id": "r2"}, proxy, 401),
                (
                    "POST",
                    "/v1/leases",
                    {"token": token, "model": "gpt-5-mini", "id": "lease_1", "amount": {"tokens": 100, "requests": 2}},
                    proxy,
                    200,
                ),
                ("POST", "/v1/leases/lease_1/renew", {"token": token}, proxy, 200),
                ("POST", "/v1/leases/lease_1/close", {"tenant": "acme"}, proxy, 204),
                ("POST", "/v1/keys/openai-pool-1/register", {"secret": "made-up-provider-key-of-a-test"}, admin, 200),
                ("POST", "/v1/rejected/1/replay", None, admin, 200),
                ("POST", "/v1/rejected/2/replay", None, admin, 200),
                ("POST", "/v1/rejected/3/replay", None, admin, 200),
                ("POST", "/v1/alerts/leak:x/ack", {"feedback": "leak"}, admin, 200),
                ("POST", "/v1/alerts/leak:x/mute", {"for_s": 60}, admin, 200),
                ("POST", "/v1/alerts/leak:x/resolve", {}, admin, 200),
            ]
            for method, path, body, headers, expected in acts:
                answer = client.request(method, path, json=body, headers=headers)
                assert answer.status_code < 500, (path, answer.text)
                assert answer.status_code == expected, (path, answer.status_code, answer.text)
            alerts = client.get("/v1/alerts", headers=admin).json()
            assert alerts
            house.now_us += 5 * 86_400_000_000
            finance = house.operator("finance")
            for path, body in (
                ("/v1/invoices/run", {"month": "2026-10"}),
                ("/v1/invoices/acme/2026-10/finalise", {}),
                ("/v1/invoices/acme/2026-10/void", {"reason": "test"}),
            ):
                made = client.post(path, json=body, headers=finance)
                assert made.status_code == 200, (path, made.text)
        finally:
            client.close()
            ledger.close()
            house.close()


def with_usage(roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation with usage of October that the worker has counted; it goes on as `finance`."""
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url(OWNER))
    office = Installation(tmp_path / "office", monkeypatch.setenv, roles.url("worker"))
    assert office.at("2026-09-01T00:00:00Z").apply(CATALOG).code == 0
    office.take(event("e1", "2026-10-05T10:00:00Z", input=1000))
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url("finance"))
    return office


def test_finance_does_its_whole_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Invoices run, looked at, finalised, exported, explained, pushed, voided; usage; the audit: by `finance` alone."""
    with ledger_with_roles() as roles:
        office = with_usage(roles, tmp_path, monkeypatch)
        stripe = start()
        monkeypatch.setenv("TOLLHOUSE_STRIPE_API_BASE", stripe.url)
        monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_" + "e5" * 12)
        request.addfinalizer(stripe.stop)
        office.at("2026-11-04T06:00:00Z")
        for words in (
            ["usage", "--json"],
            ["invoices", "run", "--month", "2026-10"],
            ["invoices", "list", "--json"],
            ["invoices", "finalise", "--month", "2026-10"],
            ["invoices", "show", "acme/2026-10", "--json"],
            ["invoices", "export", "--month", "2026-10", "--format", "csv", "--out", str(tmp_path / "out")],
            ["explain", "acme/2026-10"],
            ["invoices", "push", "--month", "2026-10"],
            ["stripe", "sync"],
            ["stripe", "drift"],
            ["invoices", "void", "--tenant", "acme", "--month", "2026-10"],
            ["audit"],
        ):
            done = office(*words)
            assert done.code == 0, (words, done.out, done.err)
        denied = office("keys", "suspend", "pool-1")
        assert denied.code == 1
        assert DENIED in denied.err
        assert len(denied.said) == 1
        assert json.loads(office("keys", "list", "--json").out)


def test_only_the_migration_role_drops_months(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nightly job's very command: done as its role, denied in a line as any other, where nothing is changed."""
    manifest = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "nightly.yaml").read_text(encoding="utf-8"))
    job = next(one for one in manifest if one["metadata"]["name"] == "retention")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    with ledger_with_roles() as roles:
        office = with_usage(roles, tmp_path, monkeypatch)
        assert office.at("2026-11-04T06:00:00Z")("invoices", "finalise", "--month", "2026-10").code == 0
        office.at("2028-06-10T02:30:00Z")
        for role in ROLES:
            monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url(role))
            denied = office(*container["args"])
            assert denied.code == 1, role
            assert DENIED in denied.err
            assert len(denied.said) == 1
        with roles.connect() as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
            assert connection.execute("SELECT count(*) FROM dropped_months").fetchone() == (0,)
        monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url(OWNER))
        done = office(*container["args"], "--json")
        assert done.code == 0, done.err
        assert [m["month"] for m in done.json()["months"] if m["dropped"]] == ["2026-10"]
        monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url("worker"))
        assert office("audit", "--no-broker").code == 0


def test_the_migration_role_makes_and_changes_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger_with_roles() as roles:
        monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", roles.url(OWNER))
        office = Installation(tmp_path / "office", monkeypatch.setenv, roles.url(OWNER))
        for words in (["migrate", "--to", "base", "--yes"], ["migrate"]):
            done = office(*words)
            assert done.code == 0, done.err
        roles.grant()
        assert office.at("2026-09-01T00:00:00Z").apply(CATALOG).code == 0
        office.take(event("e1", "2026-10-05T10:00:00Z", input=1000))
        assert office("usage", "--json", "--from", "2026-10-01", "--to", "2026-11-01").json()["usage"]
