"""A PostgreSQL ledger with the roles of deploy/postgres/roles.sql, under names of this test's own (roles are the
server's, and other tests run beside this one)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from sqlalchemy.engine import make_url

from pipeline.ledger import Ledger
from pipeline.ledger.roles import OWNER, ROLES, roles_sql
from tests.services import fresh_postgresql

EVERY = (*ROLES, OWNER)


@dataclass(frozen=True)
class Roles:
    """owner: the URL of the superuser that made it all."""

    owner: str
    prefix: str

    def url(self, role: str) -> str:
        return make_url(self.owner).set(username=f"{self.prefix}_{role}").render_as_string(hide_password=False)

    def connect(self, role: str = "") -> psycopg.Connection[tuple[object, ...]]:
        url = self.url(role) if role else self.owner
        return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def grant(self) -> None:
        """Run the file, which may be done at any time."""
        with self.connect() as connection:
            connection.execute(roles_sql(self.prefix).encode())


@contextmanager
def ledger_with_roles() -> Iterator[Roles]:
    """A fresh database with its tables and roles that may sign in."""
    with fresh_postgresql() as url:
        made = Roles(url, f"t{secrets.token_hex(5)}")
        ledger = Ledger(url)
        ledger.create()
        ledger.close()
        made.grant()
        try:
            with made.connect() as connection:
                for role in EVERY:
                    connection.execute(f"ALTER ROLE {made.prefix}_{role} LOGIN".encode())
            yield made
        finally:
            with made.connect() as connection:
                for role in EVERY:
                    connection.execute(f"REASSIGN OWNED BY {made.prefix}_{role} TO CURRENT_USER".encode())
                    connection.execute(f"DROP OWNED BY {made.prefix}_{role}".encode())
                    connection.execute(f"DROP ROLE {made.prefix}_{role}".encode())
