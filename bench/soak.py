"""Two hundred seeds of the fault simulation: `make soak`, or `python -m bench.soak [FIRST_SEED [SEEDS]]`."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """The exit code of the test run; a failure prints its seed."""
    first, seeds = (*sys.argv[1:3], *("1", "200")[len(sys.argv[1:3]) :])
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=600", "tests/simulation"]
    return subprocess.run(
        command, cwd=root, env=os.environ | {"FIRST_SEED": first, "SEEDS": seeds}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
