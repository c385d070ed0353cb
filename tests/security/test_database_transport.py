"""The ledger on a PostgreSQL that wants TLS and a password; the password apart from the URL, and shown nowhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from pipeline.ledger import Ledger, LedgerUnavailable
from tests.security.certificates import Authority
from tests.simulation.own_parts import OwnPostgres, own_postgres
from tests.unit.cli.command import refused, tollhouse
from tollhouse.errors import UserError
from tollhouse.settings import load

PASSWORD = "planted-/@:%-password"


@dataclass
class Server:
    """A PostgreSQL that takes users by TLS and SCRAM only."""

    port: int
    authority: Authority
    stranger: Authority

    def url(self, query: str, host: str = "127.0.0.1") -> str:
        return f"postgresql+psycopg://service@{host}:{self.port}/postgres?{query}"

    def trusting(self, authority: Authority, mode: str = "verify-full") -> str:
        return self.url(f"sslmode={mode}&sslrootcert={authority.file}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("postgres-tls")
    authority = Authority(home / "ca")
    pair = authority.pair("server")
    with own_postgres() as node:
        _secure(node, pair.certificate, pair.key)
        yield Server(node.port, authority, Authority(home / "stranger", "Another CA"))


def _secure(node: OwnPostgres, certificate: Path, key: Path) -> None:
    with psycopg.connect(node.url.replace("+psycopg", ""), autocommit=True) as connection:
        literal = PASSWORD.replace("'", "''")
        connection.execute(f"CREATE ROLE service LOGIN PASSWORD '{literal}'".encode())
        connection.execute("GRANT CREATE ON SCHEMA public TO service")
        for name, file in (("server.crt", certificate), ("server.key", key)):
            target = node.data / name
            shutil.copy(file, target)
            shutil.chown(target, *_owner(node))
            target.chmod(0o600)
        rules = "hostssl all service 127.0.0.1/32 scram-sha-256\nhost all tollhouse 127.0.0.1/32 trust\n"
        (node.data / "pg_hba.conf").write_text(rules)
        connection.execute("ALTER SYSTEM SET ssl = on")
        assert connection.execute("SELECT pg_reload_conf()").fetchone() == (True,)
    for _ in range(300):
        with psycopg.connect(node.url.replace("+psycopg", "")) as connection:
            if connection.execute("SHOW ssl").fetchone() == ("on",):
                return
    raise AssertionError("PostgreSQL does not switch TLS on")


def _owner(node: OwnPostgres) -> tuple[int, int]:
    found = node.data.stat()
    return found.st_uid, found.st_gid


def environment(url: str, **more: str) -> dict[str, str]:
    return {"TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_DATABASE_PASSWORD": PASSWORD} | more


def test_the_ledger_goes_by_tls_with_the_servers_name_checked(server: Server) -> None:
    ledger = Ledger(load(None, environment=environment(server.trusting(server.authority))).database)
    ledger.create()
    with ledger.engine.connect() as connection:
        used = connection.exec_driver_sql("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").one()
    ledger.close()
    assert used[0] is True
    assert used[1] in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("wrong", ["another authority", "another name", "in the clear", "another password"])
def test_anything_less_is_refused_in_a_line_without_the_password(wrong: str, server: Server) -> None:
    values = {
        "another authority": environment(server.trusting(server.stranger)),
        "another name": environment(
            server.url(f"sslmode=verify-full&sslrootcert={server.authority.file}", host="localhost")
        ),
        "in the clear": environment(server.url("sslmode=disable")),
        "another password": environment(server.trusting(server.authority), TOLLHOUSE_DATABASE_PASSWORD="guess"),
    }[wrong]
    ledger = Ledger(load(None, environment=values).database)
    with pytest.raises(LedgerUnavailable) as error:
        ledger.create()
    ledger.close()
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert "guess" not in str(error.value)


def test_a_command_that_is_refused_shows_neither_password_nor_url(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(server.trusting(server.stranger)).items():
        monkeypatch.setenv(name, value)
    said = refused(tollhouse("quotas"))
    assert "planted" not in said
    assert "certificate verify failed" in said


def test_the_password_comes_from_a_file_that_only_its_owner_can_read(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    values = {
        "TOLLHOUSE_DATABASE_URL": server.trusting(server.authority),
        "TOLLHOUSE_DATABASE_PASSWORD_FILE": str(file),
    }
    for mode in (0o644, 0o640, 0o604, 0o622):
        file.chmod(mode)
        with pytest.raises(UserError, match=r"can be read by others: run chmod 600") as error:
            _ = load(None, environment=values).database
        assert "planted" not in str(error.value)
    for mode in (0o600, 0o400):
        file.chmod(mode)
        ledger = Ledger(load(None, environment=values).database)
        ledger.create()
        ledger.close()


def test_a_settings_file_with_a_password_must_be_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "tollhouse.toml"
    file.write_text('database_url = "postgresql+psycopg://service:planted@db.example/tollhouse"\n')
    file.chmod(0o644)
    with pytest.raises(UserError, match=r"holds a database's password and can be read by others") as error:
        load(tmp_path, environment={})
    assert "planted" not in str(error.value)
    file.chmod(0o600)
    assert load(tmp_path, environment={}).database.startswith("postgresql+psycopg://service:planted@")
    file.write_text('database_url = "postgresql+psycopg://service@db.example/tollhouse"\n')
    file.chmod(0o644)
    assert load(tmp_path, environment={}).database == "postgresql+psycopg://service@db.example/tollhouse"


def test_settings_are_not_printed_with_what_is_secret(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql+psycopg://service:planted@db.example/tollhouse"
    settings = load(None, environment={"TOLLHOUSE_DATABASE_URL": url, "STRIPE_SECRET_KEY": "planted"})
    assert settings.database == url
    print(settings)
    assert "planted" not in capsys.readouterr().out
