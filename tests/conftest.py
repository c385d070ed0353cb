"""Shared fixtures: each integration test runs on embedded parts, and on the real ones when they are up.

- `broker`: `host:port`, once on the embedded broker and once on Apache Kafka.
- `database_url`: a fresh, empty database for each test, once on SQLite and once on PostgreSQL.
- `embedded_broker`, `kafka`, `sqlite_url`, `postgresql_url`: one of them alone.
- `topic_prefix`: a prefix of its own for the topics and groups of one test; the brokers are shared by all tests.
- `ledger`: an empty ledger at a `database_url`.
- `chromium`, `stripe_mock`: the program's path; the base address.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from pipeline.ledger import Ledger
from streams.embedded_broker import EmbeddedBroker
from tests import services

# structlog's own formatter draws every frame's local variables: half a minute for one traceback through a ledger.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# A shell that starts the run in the background has it ignore Ctrl-C, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says nothing on a busy machine, and the first one loads engines: no test of a law is timed.
settings.register_profile("tollhouse", deadline=None)
settings.load_profile("tollhouse")


def pytest_report_header() -> list[str]:
    """Say which versions this run is on."""
    return ["real parts:", *(f"  {line}" for line in services.describe()), f"  CI: {services.in_ci()}"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip is a failure: what does not run proves nothing. Only stripe-mock and Prometheus may be missing."""
    report = yield
    if services.in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if services.MAY_BE_MISSING not in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped in CI: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out, so that a green run cannot hide it."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"not run: {report.nodeid}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def _embedded_broker_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as broker:
        yield broker


@pytest.fixture
def embedded_broker(_embedded_broker_process: EmbeddedBroker) -> str:
    """`host:port` of the embedded broker that all tests of the session share."""
    _embedded_broker_process.start()  # does nothing unless a test's fault has killed it
    return _embedded_broker_process.bootstrap


@pytest.fixture
def kafka() -> str:
    """`host:port` of Apache Kafka."""
    return services.require(services.KAFKA)


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> str:
    """`host:port` of a broker; the test runs once on each kind."""
    fixture = {"embedded": "embedded_broker", "kafka": "kafka"}[request.param]
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses, for topics and consumer groups."""
    return f"t{secrets.token_hex(6)}."


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """The SQLAlchemy URL of a fresh PostgreSQL database."""
    with services.fresh_postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of a fresh, empty database; the test runs once on each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """An empty ledger, on each kind of database."""
    made = Ledger(database_url)
    made.create()
    yield made
    made.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium's program."""
    return services.require(services.CHROMIUM)


@pytest.fixture(scope="session")
def stripe_mock() -> str:
    """The base address of stripe-mock."""
    return services.require(services.STRIPE_MOCK)
