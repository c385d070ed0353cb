"""Bring the real parts of the tests up and down: Apache Kafka, PostgreSQL, Chromium, Prometheus, stripe-mock.

    python scripts/services.py up       # idempotent; writes .services/env, prints the versions
    python scripts/services.py status
    python scripts/services.py down     # ends only what `up` started here
    python scripts/services.py purge    # the same, and removes what was fetched and all data

Standard library only, so it runs before anything is installed. Exit 0: every required part is up; 1: one is not;
2: wrong use. Outside CI (environment variable CI) a part that the platform cannot offer is said, not a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO, cast

from service_parts import chromium, kafka, postgresql, prometheus, stripe_mock
from service_parts.base import ENV_FILE, HOME, Part, UnavailableError, Up, only_one, remembered, running_pid, say

PARTS = cast("tuple[Part, ...]", (kafka, postgresql, chromium, prometheus, stripe_mock))


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit status."""
    commands = {"up": up, "down": down, "status": status, "purge": purge}
    if len(arguments) != 1 or arguments[0] not in commands:
        print("usage: services.py up|down|status|purge, for example: services.py up", file=sys.stderr)
        return 2
    with only_one():
        return commands[arguments[0]]()


def up() -> int:
    """Every part that this platform offers, its settings into `.services/env`."""
    began_s = time.monotonic()
    results: dict[str, Up | UnavailableError] = {}
    for part in PARTS:
        try:
            results[part.NAME] = part.up()
        except UnavailableError as error:
            part.down()
            results[part.NAME] = error
    lines = [f"{key}={value}" for result in results.values() if isinstance(result, Up) for key, value in _env(result)]
    ENV_FILE.write_text("\n".join(lines) + "\n")
    missing = [part for part in PARTS if isinstance(results[part.NAME], UnavailableError)]
    for part in PARTS:
        result = results[part.NAME]
        words = result.version if isinstance(result, Up) else f"NOT AVAILABLE: {result}"
        _line(part.NAME, words, sys.stdout)
    say("services", f"{len(PARTS) - len(missing)} of {len(PARTS)} parts in {time.monotonic() - began_s:.0f} s")
    in_ci = os.environ.get("CI", "").lower() in {"1", "true"}
    return 1 if in_ci and any(part.required_in_ci for part in missing) else 0


def _env(result: Up) -> list[tuple[str, str]]:
    # The version goes along, so that a test report can say what it ran on without asking every server.
    return [pair for key, value in result.env.items() for pair in ((key, value), (f"{key}_VERSION", result.version))]


def down() -> int:
    """End what `up` started; what it fetched and the data stay in `.services/`."""
    ENV_FILE.unlink(missing_ok=True)
    for part in reversed(PARTS):
        ended = part.down()
        say(part.NAME, "ended" if ended else "nothing of ours runs")
    return 0


def purge() -> int:
    """Down, then remove the data and what was fetched; installed packages stay, they are the system's."""
    down()
    for part in PARTS:
        data = remembered(part.NAME).get("data")
        if isinstance(data, str):
            shutil.rmtree(data, ignore_errors=True)
    shutil.rmtree(HOME, ignore_errors=True)
    say("services", f"removed {HOME.name}/ and the data")
    return 0


def status() -> int:
    """What runs, and the settings; exit 1 when nothing is up."""
    for part in PARTS:
        pid = running_pid(part.NAME)
        _line(part.NAME, f"up, process {pid}" if pid is not None else "no process of ours", sys.stdout)
    if not ENV_FILE.exists():
        print(f"not up ({HOME.name}/env is missing): run make services")
        return 1
    print(ENV_FILE.read_text(), end="")
    return 0


def _line(part: str, words: str, to: TextIO) -> None:
    print(f"{part:<12} {words}", file=to, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
