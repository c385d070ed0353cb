"""Provider keys by fingerprint: registered, recognised where they are sent by mistake, and stored nowhere."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from pipeline.ledger.tables import alerts, metadata
from tests.integration.api.kit import House, catalog
from tollhouse.cli.provider_keys import keys
from tollhouse.errors import UserError
from tollhouse.own_keys import FILE, Fingerprints, register
from tollhouse.settings import Settings

OPAQUE = "7f3e9a1c5b2d4866a0c1e2f3948576aa"
"""A key without a form that anybody knows: only its fingerprint tells what it is."""
OWN = {"acme-own-1": {"provider": "anthropic", "kind": "byok", "tenant": "acme"},
       "globex-own-1": {"provider": "openai", "kind": "byok", "tenant": "globex"}}  # fmt: skip


@pytest.fixture
def owned(house: House) -> House:
    house.ledger.apply(catalog(keys=OWN), house.now_us, "test")
    return house


def everything(house: House) -> str:
    """All that the database holds, and all files beside it."""
    tables = [house.ledger.read(lambda db, t=t: db.execute(select(t)).all()) for t in metadata.sorted_tables]
    files = [path.read_bytes() for path in house.settings.dir.rglob("*") if path.is_file()]
    return repr(tables) + repr(files)


def test_a_tenant_registers_its_own_key_and_nobody_elses(owned: House) -> None:
    address, body = "/v1/keys/acme-own-1/register", {"secret": OPAQUE}
    made = owned.client.post(address, json=body, headers=owned.tenant("acme"))
    assert (made.status_code, made.json()["last_four"], made.json()["registered_by"]) == (200, "76aa", "tenant:acme")
    assert made.json()["fingerprint"].startswith("fp_")
    for who, status in (
        (owned.tenant("globex"), 403),
        (owned.operator("viewer"), 403),
        (owned.proxy(), 403),
        ({}, 401),
    ):
        assert owned.client.post(address, json=body, headers=who).status_code == status
    assert owned.client.post(address, json=body, headers=owned.operator("oncall")).status_code == 200
    (row,) = [r for r in owned.client.get("/v1/keys", headers=owned.operator("viewer")).json()["keys"]
              if r["key"] == "acme-own-1"]  # fmt: skip
    assert (row["fingerprint"], row["last_four"]) == (made.json()["fingerprint"], "76aa")
    assert OPAQUE not in everything(owned) + made.text


def test_one_key_has_one_id(owned: House) -> None:
    headers, body = owned.operator("oncall"), {"secret": OPAQUE}
    assert owned.client.post("/v1/keys/acme-own-1/register", json=body, headers=headers).status_code == 200
    other = owned.client.post("/v1/keys/globex-own-1/register", json=body, headers=headers)
    assert (other.status_code, other.json()["detail"]) == (
        409,
        "this provider key is registered as acme-own-1: one key has one id",
    )
    for secret in ("short", "x" * 513, "with a space in the middle", "käse" * 8):
        answer = owned.client.post("/v1/keys/globex-own-1/register", json={"secret": secret}, headers=headers)
        assert answer.status_code == 409
        assert secret not in answer.text
    assert owned.client.post("/v1/keys/no-such/register", json=body, headers=headers).status_code == 404


def test_a_registered_key_is_recognised_in_the_tokens_place_and_named(owned: House) -> None:
    register(owned.settings, owned.ledger, "acme-own-1", OPAQUE, owned.now_us, "test")
    assert owned.ask(token=OPAQUE[::-1]).json()["detail"].startswith("this is no JWT")
    assert owned.ledger.rows(alerts) == []
    answer = owned.ask(token=OPAQUE)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_invalid")
    assert "a provider's key" in answer.json()["detail"]
    (alert,) = owned.ledger.rows(alerts)
    assert (alert["kind"], alert["severity"]) == ("secret_in_event", "page")
    assert "acme-own-1" in alert["detail"]
    assert OPAQUE not in everything(owned) + answer.text


@pytest.mark.parametrize("member", ["model", "id"])
def test_a_secret_in_another_member_is_refused_and_somebody_is_told(owned: House, member: str) -> None:
    secret = "sk-proj-" + "Ab3" * 14
    answer = owned.ask(**{member: secret})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:tollhouse:problem:secret_sent")
    (alert,) = owned.ledger.rows(alerts)
    assert f"sent as {member}" in alert["detail"]
    assert secret not in everything(owned) + answer.text


def test_the_command_reads_the_key_from_standard_input(owned: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", owned.settings.database_url)
    arguments = ["register", "acme-own-1", "--dir", str(owned.settings.dir)]
    done = CliRunner().invoke(keys, arguments, input=OPAQUE + "\n", catch_exceptions=False)
    assert done.output.startswith("key acme-own-1 is registered: fp_")
    assert done.output.endswith("ends in 76aa\n")
    assert owned.ask(token=OPAQUE).json()["reason"] == "token_invalid"
    assert len(owned.ledger.rows(alerts)) == 1
    assert OPAQUE not in everything(owned)


def test_fingerprints_are_keyed(tmp_path: Path) -> None:
    here, there = Settings(dir=tmp_path / "a"), Settings(dir=tmp_path / "b")
    first = Fingerprints(here).of(OPAQUE)
    assert first == Fingerprints(here).of(OPAQUE) != Fingerprints(there).of(OPAQUE)
    assert (here.dir / FILE).stat().st_mode & 0o077 == 0
    shared = {"TOLLHOUSE_FINGERPRINT_KEY": "k" * 32}
    told = [Fingerprints(Settings(dir=s.dir, environment=shared)).of(OPAQUE) for s in (here, there)]
    assert told[0] == told[1] != first
    (here.dir / FILE).chmod(0o644)
    with pytest.raises(UserError, match="can be read by others"):
        Fingerprints(here).of(OPAQUE)
    with pytest.raises(UserError, match="less than 16 bytes"):
        Fingerprints(Settings(dir=tmp_path, environment={"TOLLHOUSE_FINGERPRINT_KEY": "short"})).of(OPAQUE)
