"""Prometheus and promtool out of the system's package, unpacked and not installed: its service is not wanted here.

May be missing, like stripe-mock. Programs, not a server: tests start their own, and `promtool` checks and plays the
alert rules.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from service_parts.base import HOME, INSTALL_TIMEOUT_S, UnavailableError, Up, ask, run, say

NAME = "prometheus"
required_in_ci = False  # only where the system has a package of it; what it checks is asked of the files themselves too
PROGRAMS = ("prometheus", "promtool")
_HOME = HOME / "prometheus"
_LOG = HOME / "logs" / "prometheus.log"


def up() -> Up:
    """The folder with both programs."""
    folder = _folder()
    if folder is None:
        _fetch()
        folder = _folder()
    else:
        say(NAME, "there")
    version = ask([str(folder / "promtool"), "--version"]) if folder is not None else ""
    if folder is None or not version:
        raise UnavailableError("no prometheus and promtool on this machine: install Prometheus 2.40 or later")
    words = version.split()
    return Up(f"Prometheus {words[2] if len(words) > 2 else version}", {"TOLLHOUSE_TEST_PROMETHEUS": str(folder)})


def down() -> bool:
    """Nothing runs: servers belong to the tests that start them."""
    return False


def _folder() -> Path | None:
    own = _HOME / "usr" / "bin"
    if all((own / program).exists() for program in PROGRAMS):
        return own
    found = [shutil.which(program) for program in PROGRAMS]
    return Path(found[0]).parent if found[0] and found[1] else None


def _fetch() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise UnavailableError("not installed, and this is no Debian system: install Prometheus and run again")
    shutil.rmtree(_HOME, ignore_errors=True)
    _HOME.mkdir(parents=True)
    say(NAME, "apt-get download prometheus")
    command = ["apt-get", "download", "-q", "prometheus"]
    try:
        run(command, "apt-get download", timeout_s=INSTALL_TIMEOUT_S, log=_LOG, cwd=_HOME)
    except UnavailableError:
        if os.geteuid() != 0:
            raise
        run(["apt-get", "update", "-q"], "apt-get update", timeout_s=INSTALL_TIMEOUT_S, log=_LOG)
        run(command, "apt-get download", timeout_s=INSTALL_TIMEOUT_S, log=_LOG, cwd=_HOME)
    for package in _HOME.glob("prometheus_*.deb"):
        run(["dpkg", "-x", str(package), str(_HOME)], "dpkg", timeout_s=INSTALL_TIMEOUT_S, log=_LOG)
        package.unlink()
