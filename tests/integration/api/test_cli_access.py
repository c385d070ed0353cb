"""`tollhouse token` and `tollhouse keys` as a person calls them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipeline.ledger import Ledger
from pipeline.ledger.tables import audit_log
from tests.integration.api.kit import NOW_US, catalog
from tollhouse.cli.main import run
from tollhouse.settings import Settings
from tollhouse.tokens import TokenRefused
from tollhouse.tokens.checker import TokenChecker
from tollhouse.tokens.keys import generate


class Desk:
    """A directory with a catalog, and the commands in it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.capsys = directory, capsys
        self.ledger = Ledger(f"sqlite:///{directory}/tollhouse.db")
        self.ledger.create()
        self.ledger.apply(catalog(), NOW_US, "test")

    def call(self, *words: str) -> tuple[int, str, str]:
        code = run([*words, "--dir", str(self.directory)])
        out = self.capsys.readouterr()
        return code, out.out, out.err

    def json(self, *words: str) -> Any:
        code, out, err = self.call(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def check(self, token: str) -> Any:

        checker = TokenChecker(self.ledger, Settings(dir=self.directory))
        return checker.check(token, time.time_ns() // 1000)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("TOLLHOUSE_DATABASE_URL", "TOLLHOUSE_SIGNING_KEY", "TOLLHOUSE_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path, capsys)


def test_a_token_is_printed_alone_on_one_line(desk: Desk) -> None:
    code, out, err = desk.call("token", "issue", "--tenant", "acme", "--ttl", "90s", "--models", "gpt-5*,claude-*")
    assert (code, err, out.count("\n")) == (0, "", 1)
    claims = desk.check(out.strip())
    assert (claims.tenant, claims.models) == ("acme", ("gpt-5*", "claude-*"))
    assert (claims.expires_us - claims.issued_us) // 1_000_000 in (89, 90)
    (row,) = desk.ledger.rows(audit_log, audit_log.c.action == "token.issue")
    assert (row["subject"], row["who"].startswith("cli")) == ("tenant:acme", True)
    assert out.strip() not in str(row)


def test_proxies_and_operators_get_theirs(desk: Desk) -> None:
    assert desk.check(desk.json("token", "issue", "--proxy", "eu-1")["token"]).kind == "proxy"
    operator = desk.check(desk.json("token", "issue", "--operator", "ada", "--role", "oncall")["token"])
    assert (operator.kind, operator.role) == ("operator", "oncall")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "exactly one of"),
        (["--tenant", "acme", "--proxy", "p"], 2, "exactly one of"),
        (["--operator", "ada"], 2, "--role"),
        (["--operator", "ada", "--role", "root"], 2, "root"),
        (["--tenant", "acme", "--role", "admin"], 2, "--role"),
        (["--tenant", "nobody"], 1, "no tenant of the catalog"),
        (["--tenant", "acme", "--ttl", "forever"], 2, "90s, 15m, 1h or 7d"),
        (["--tenant", "acme", "--ttl", "0s"], 2, "at least a second"),
        (["--tenant", "acme", "--ttl", "999d"], 2, "366 days"),
        (["--tenant", "acme", "--limit", "dollars=1"], 2, "no meter"),
        (["--tenant", "acme", "--limit", "cost=1e3"], 2, "decimal"),
        (["--tenant", "acme", "--label", "x"], 2, "NAME=VALUE"),
        (["--tenant", "acme", "--models", "a,,b"], 2, "patterns"),
        (["--proxy", "p", "--models", "a"], 2, "--tenant only"),
        (["--proxy", " "], 2, "printable"),
    ],
)
def test_wrong_use_is_one_clear_line(desk: Desk, words: list[str], code: int, says: str) -> None:
    got, out, err = desk.call("token", "issue", *words)
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_revoking_one_token_and_all_of_a_tenant(desk: Desk) -> None:
    first, second = (desk.json("token", "issue", "--tenant", "acme") for _ in range(2))
    assert desk.call("token", "revoke", first["jti"])[0] == 0
    with pytest.raises(TokenRefused) as refused:
        desk.check(first["token"])
    assert refused.value.reason == "token_revoked"
    assert desk.check(second["token"]).tenant == "acme"
    assert desk.call("token", "revoke", "--tenant", "acme", "--before", "now")[0] == 0
    with pytest.raises(TokenRefused, match="issued before"):
        desk.check(second["token"])
    third = desk.json("token", "issue", "--tenant", "acme")
    assert desk.check(third["token"]).tenant == "acme", "one issued right after counts"
    assert desk.call("token", "revoke", first["token"])[0] == 2
    assert desk.call("token", "revoke", "--tenant", "acme", "--before", "yesterday")[0] == 2
    assert desk.call("token", "revoke")[0] == 2


def test_rotating_the_signing_key_keeps_old_tokens_good_for_the_overlap(desk: Desk) -> None:
    old = desk.json("token", "issue", "--tenant", "acme")["token"]
    done = desk.json("token", "keys", "rotate", "--algorithm", "ES256", "--overlap", "1h")
    assert len(done["replaces"]) == 1
    assert desk.check(old).tenant == "acme"
    assert desk.check(desk.json("token", "issue", "--tenant", "acme")["token"]).kid == done["kid"]
    states = {row["kid"]: row["state"] for row in desk.json("token", "keys", "list")}
    assert states == {done["kid"]: "signs", done["replaces"][0]: "counts until retired"}
    assert not (desk.directory / "keys" / f"{done['replaces'][0]}.pem").exists()
    assert desk.json("token", "keys") == desk.json("token", "keys", "list")


def test_a_signing_key_from_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:

    key = generate("ES256")
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = desk.directory / "signing.pem"
    file.write_bytes(pem)
    file.chmod(0o644)
    monkeypatch.setenv("TOLLHOUSE_SIGNING_KEY_FILE", str(file))
    assert "can be read by others" in desk.call("token", "issue", "--tenant", "acme")[2]
    file.chmod(0o600)
    assert desk.check(desk.json("token", "issue", "--tenant", "acme")["token"]).kid == key.kid
    assert "put a new one there" in desk.call("token", "keys", "rotate")[2]
    monkeypatch.delenv("TOLLHOUSE_SIGNING_KEY_FILE")
    monkeypatch.setenv("TOLLHOUSE_SIGNING_KEY", "no key")
    code, out, err = desk.call("token", "issue", "--tenant", "acme")
    assert (code, out) == (1, "")
    assert "no private key in PEM" in err
    assert "no key" not in err


def test_provider_keys_change_their_state(desk: Desk) -> None:
    assert [row["state"] for row in desk.json("keys", "list")] == ["active", "active"]
    row = desk.json("keys", "suspend", "openai-pool-1", "--reason", "seen in public")
    assert (row["state"], row["reason"]) == ("suspended", "seen in public")
    assert desk.json("keys", "resume", "openai-pool-1")["state"] == "active"
    rotated = desk.json("keys", "rotate", "openai-pool-1")
    assert (rotated["state"], rotated["successors"]) == ("rotating", ["openai-pool-2"])
    code, out, err = desk.call("keys", "rotate", "openai-pool-2")
    assert (code, out) == (0, "key openai-pool-2 is rotating\n")
    assert "no other active key takes the new calls of openai-pool-2" in err
    assert desk.call("keys", "revoke", "openai-pool-1")[1] == "key openai-pool-1 is revoked\n"
    code, _, err = desk.call("keys", "resume", "openai-pool-1")
    assert (code, "revoked for good" in err) == (1, True)
    code, _, err = desk.call("keys", "suspend", "nothing")
    assert (code, "no key of the catalog" in err) == (1, True)
    assert "openai-pool-1" in desk.call("keys", "list")[1]


@pytest.mark.parametrize("words", [["token"], ["token", "issue"], ["token", "revoke"], ["token", "keys"], ["keys"],
                                   ["token", "keys", "rotate"], ["keys", "list"], ["keys", "suspend"]])  # fmt: skip
def test_help_answers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out
