"""A fuzzer's run under atheris (libFuzzer): started by `python -m tests.fuzz.run` where atheris is installed.

    python -m tests.fuzz.by_coverage TARGET SECONDS SEED

libFuzzer ends the process: with 0 after its time, otherwise after it has told what it found.
"""

from __future__ import annotations

import importlib
import sys
import tempfile


def main(target: str, seconds: int, seed: int) -> None:
    """Does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["pipeline", "schemas"]):
        targets = importlib.import_module("tests.fuzz.targets")
    run = importlib.import_module("tests.fuzz.run")

    def one(value: bytes) -> None:
        try:
            targets.TARGETS[target](value)
        except Exception:
            print(f"kept as {run.keep(target, value)}", file=sys.stderr)
            raise

    with tempfile.TemporaryDirectory() as grown:
        words = [sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=8192", "-verbosity=1"]
        atheris.Setup([*words, grown, str(targets.KEPT / target)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
