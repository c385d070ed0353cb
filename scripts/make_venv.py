"""Make the virtual environment in the given directory unless one works there; one line says why it cannot be made."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

OLDEST = (3, 11)


def main(arguments: list[str]) -> int:
    """Make the environment; the exit status."""
    if sys.version_info < OLDEST:
        found, needed = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, OLDEST))
        print(f"tollhouse needs Python {needed} or later, {sys.executable} is {found}: run make PYTHON=python{needed}")
        return 1
    if len(arguments) != 1:
        print("usage: make_venv.py DIRECTORY, for example: make_venv.py .venv")
        return 2
    if works(Path(arguments[0])):
        return 0
    try:
        venv.EnvBuilder(with_pip=True, clear=True).create(arguments[0])
    except Exception as error:  # noqa: BLE001 (whatever stops it: one line and no traceback)
        hint = "on Debian, install python3-venv; make sure that the directory can be written"
        print(
            f"cannot make {arguments[0]}: {str(error).splitlines()[0] if str(error) else type(error).__name__}; {hint}"
        )
        return 1
    return 0


def works(directory: Path) -> bool:
    """True when there is an environment with a pip; one whose making was interrupted has none."""
    command = [str(directory / "bin" / "python"), "-m", "pip", "--version"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
