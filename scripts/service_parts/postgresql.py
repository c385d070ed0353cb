"""PostgreSQL from the system's packages: a cluster of our own on its own loopback port, trust for loopback only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from hashlib import sha256
from pathlib import Path

from service_parts.base import (
    HOME,
    LOOPBACK,
    ROOT,
    UnavailableError,
    Up,
    answers,
    ask,
    debian_install,
    port_of,
    remember,
    remembered,
    run,
    say,
    start,
    stop,
    succeeds,
    wait_until,
)

NAME = "postgresql"
required_in_ci = True
ACCOUNT = "postgres"  # the package's system account: the server refuses to run as root
ROLE = "tollhouse"
DATABASE = "postgres"
START_TIMEOUT_S = 60.0
INITDB_TIMEOUT_S = 120.0
# Debian keeps the server's programs of each version here, outside the search path.
_DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
_LOG = HOME / "logs" / "postgresql.log"


def up() -> Up:
    """PostgreSQL with the role `tollhouse`, which may create databases."""
    programs = _programs()
    if programs is None:
        debian_install(NAME, ["postgresql"])
        programs = _programs()
    if programs is None:
        raise UnavailableError("no program initdb on this machine: install PostgreSQL 14 or later")
    version = ask([str(programs / "postgres"), "--version"])
    if answers(NAME):
        say(NAME, "already up")
        return _answer(version)
    user = ACCOUNT if os.geteuid() == 0 else None
    data = _data_dir(user)
    if not (data / "PG_VERSION").exists():
        say(NAME, "initdb")
        account: dict[str, object] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        command = [str(programs / "initdb"), "-D", str(data), "-U", ROLE, "-A", "trust"]
        command += ["--encoding=UTF8", "--locale=C"]  # text sorts by bytes, as in SQLite
        run(command, "initdb", timeout_s=INITDB_TIMEOUT_S, log=_LOG, cwd=data, **account)
    port = port_of(NAME)
    say(NAME, "start")
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",  # loopback only: a socket's path may be too long for the system
        "max_connections": "200",
        "log_min_messages": "warning",
    }
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    start(NAME, command, _LOG, user=user, cwd=data)
    ready = [str(programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port), "-d", DATABASE, "-U", ROLE]
    wait_until(NAME, lambda: succeeds(ready), timeout_s=START_TIMEOUT_S, log=_LOG)
    return _answer(version)


def down() -> bool:
    """Fast shutdown (open sessions are ended) of the server that we started; its data stays."""
    return stop(NAME, signal.SIGINT)


def _answer(version: str) -> Up:
    url = f"postgresql+psycopg://{ROLE}@{LOOPBACK}:{remembered(NAME)['port']}/{DATABASE}"
    return Up(version.replace("postgres (PostgreSQL)", "PostgreSQL"), {"TOLLHOUSE_TEST_DATABASE_URL": url})


def _programs() -> Path | None:
    """The directory with initdb and postgres of the newest version, or None."""
    debian = sorted(_DEBIAN_PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _data_dir(user: str | None) -> Path:
    """Under `.services/`; for root, in the home of the server's account, which may not reach this checkout."""
    if user is None:
        data = HOME / "postgresql"
        data.mkdir(parents=True, exist_ok=True)
    else:
        account = pwd.getpwnam(user)
        checkout = sha256(str(ROOT).encode()).hexdigest()[:12]
        data = Path(account.pw_dir) / f"tollhouse-services-{checkout}"
        data.mkdir(parents=True, exist_ok=True)
        os.chown(data, account.pw_uid, account.pw_gid)
    data.chmod(0o700)
    remember(NAME, data=str(data))
    return data
