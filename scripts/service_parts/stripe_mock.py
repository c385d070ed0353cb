"""stripe-mock, Stripe's own stateless double, built by Go from the module proxy. May be missing."""

from __future__ import annotations

import os
import shutil

from service_parts.base import (
    HOME,
    INSTALL_TIMEOUT_S,
    LOOPBACK,
    UnavailableError,
    Up,
    answers,
    listens,
    port_of,
    remembered,
    run,
    say,
    start,
    stop,
    wait_until,
)

NAME = "stripe-mock"
required_in_ci = False  # not every machine has Go; the tests have a stateful double of their own
VERSION = "v0.203.0"
START_TIMEOUT_S = 30.0
_BIN = HOME / "bin" / VERSION
_LOG = HOME / "logs" / "stripe-mock.log"


def up() -> Up:
    """stripe-mock on loopback HTTP."""
    if answers(NAME):
        say(NAME, "already up")
        return _answer()
    program = _BIN / "stripe-mock"
    if not program.exists():
        if shutil.which("go") is None:
            raise UnavailableError("needs Go to be built: install Go 1.22 or later; the tests that use it are left out")
        say(NAME, f"go install stripe-mock {VERSION}")
        env = os.environ | {"GOBIN": str(_BIN)}
        fetch = ["go", "install", f"github.com/stripe/stripe-mock@{VERSION}"]
        run(fetch, "go install", timeout_s=INSTALL_TIMEOUT_S, log=HOME / "logs" / "go.log", env=env)
    port = port_of(NAME)
    say(NAME, "start")
    start(NAME, command(str(program), port), _LOG)
    wait_until(NAME, lambda: listens(port), timeout_s=START_TIMEOUT_S, log=_LOG)
    return _answer()


def command(program: str, port: int) -> list[str]:
    """How it is started: HTTP on `port`. HTTPS goes to a loopback port of the system's choice, because unasked it
    would take a fixed one on every interface, where a second checkout could not start its own."""
    return [program, "-http-addr", f"{LOOPBACK}:{port}", "-https-addr", f"{LOOPBACK}:"]


def down() -> bool:
    """End the process that we started."""
    return stop(NAME)


def _answer() -> Up:
    url = f"http://{LOOPBACK}:{remembered(NAME)['port']}"
    return Up(f"stripe-mock {VERSION}", {"TOLLHOUSE_TEST_STRIPE_MOCK": url})
