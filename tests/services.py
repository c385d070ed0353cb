"""Which real parts the tests can run on, and what a missing one means.

`make services` writes `.services/env`; the same names in the environment win over it. A variant on a part that is
not up is skipped on a developer's machine, with the reason, and fails in CI (environment variable CI).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

ROOT: Final = Path(__file__).resolve().parents[1]
ENV_FILE: Final = ROOT / ".services" / "env"
# Said of the parts that a platform may lack (one is built with Go, one comes out of the system's packages): that they
# are absent is reported, in CI too, and fails nothing.
MAY_BE_MISSING: Final = "is not available on this platform"


@dataclass(frozen=True)
class RealPart:
    """A part that `make services` brings up: what people call it, and the setting that says where it is."""

    name: str
    setting: str


KAFKA: Final = RealPart("Apache Kafka", "TOLLHOUSE_TEST_BROKER")
POSTGRESQL: Final = RealPart("PostgreSQL", "TOLLHOUSE_TEST_DATABASE_URL")
CHROMIUM: Final = RealPart("Chromium", "TOLLHOUSE_TEST_CHROMIUM")
PROMETHEUS: Final = RealPart("Prometheus", "TOLLHOUSE_TEST_PROMETHEUS")
STRIPE_MOCK: Final = RealPart("stripe-mock", "TOLLHOUSE_TEST_STRIPE_MOCK")
OPTIONAL_PARTS: Final = (STRIPE_MOCK, PROMETHEUS)
REAL_PARTS: Final = (KAFKA, POSTGRESQL, CHROMIUM, PROMETHEUS, STRIPE_MOCK)


def in_ci() -> bool:
    """True where every part must be up and nothing may be skipped."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def settings() -> dict[str, str]:
    """What `.services/env` and the environment say about the real parts."""
    lines = ENV_FILE.read_text(encoding="utf-8").splitlines() if ENV_FILE.exists() else []
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    names = [name for part in REAL_PARTS for name in (part.setting, f"{part.setting}_VERSION")]
    return found | {name: os.environ[name] for name in names if os.environ.get(name)}


def describe() -> list[str]:
    """One line a part for the head of a test report: the version it runs on, or that it is not up."""
    known = settings()
    return [
        f"{part.name}: {known.get(f'{part.setting}_VERSION', known[part.setting])}"
        if part.setting in known
        else f"{part.name}: not up (make services)"
        for part in REAL_PARTS
    ]


def require(part: RealPart) -> str:
    """Where the part is; skips the test where it is not up, and fails it in CI."""
    known = settings()
    if part.setting in known:
        return known[part.setting]
    if part in OPTIONAL_PARTS:
        pytest.skip(f"{part.name} {MAY_BE_MISSING}")
    return absent(f"{part.name} is not up: run make services (no {part.setting} in .services/env)")


def absent(reason: str) -> NoReturn:
    """Skip for `reason`; in CI fail instead."""
    if in_ci():
        pytest.fail(f"{reason}; in CI nothing is skipped", pytrace=False)
    pytest.skip(reason)


@contextmanager
def fresh_postgresql() -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty database; dropped afterwards, with whatever still holds it open."""
    server = make_url(require(POSTGRESQL))
    name = f"test_{secrets.token_hex(8)}"
    identifier = sql.Identifier(name)
    address = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
