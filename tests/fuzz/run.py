"""Fuzz for as long as you like; what is found is kept, and from then on part of every test run.

    python -m tests.fuzz.run message --seconds 600
    python -m tests.fuzz.run catalog --seconds 600 --seed 7

By coverage with atheris where that is installed (`pip install atheris`), by mutation of the kept inputs otherwise.
Exit 1 when something was found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import subprocess
import sys
import time
from random import Random

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import KEPT, TARGETS, kept


def keep(target: str, value: bytes) -> str:
    """Write a found input down; where it is."""
    path = KEPT / target / f"found-{hashlib.sha256(value).hexdigest()[:12]}"
    path.write_bytes(value)
    return str(path)


def by_mutation(target: str, seconds: float, seed: int) -> int:
    """Until the time is over or something is found; the exit status."""
    seeds, rng, tried = [path.read_bytes() for path in kept(target)], Random(seed), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = mutated(seeds, rng)
        tried += 1
        try:
            TARGETS[target](value)
        except Exception as error:  # noqa: BLE001 - whatever comes out is what we look for
            print(f"{type(error).__name__}: {error}\nkept as {keep(target, value)}", file=sys.stderr)
            return 1
    print(f"{target}: {tried:,} inputs by mutation, nothing found", file=sys.stderr)
    return 0


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.run", description="Fuzz one of the decoders.")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        return by_mutation(options.target, options.seconds, options.seed)
    # In a process of its own: what is fuzzed must not be imported before it is instrumented.
    words = [options.target, str(int(options.seconds)), str(options.seed)]
    return subprocess.run([sys.executable, "-m", "tests.fuzz.by_coverage", *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
