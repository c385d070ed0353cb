"""Write the two lock files out of pyproject.toml: every version, with the digests of its files.

The development lock is resolved first; the runtime lock takes its versions, so that one is part of the other.
No index address may get into them: a checkout installs from whatever index its machine is set up for.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = "requirements-dev.lock"
RUNTIME = "requirements.lock"
TIMEOUT_S = 600


def main() -> int:
    """Resolve both; the exit status."""
    compile_lock(DEVELOPMENT, "--extra", "dev", "--extra", "build")
    compile_lock(RUNTIME, "--extra", "build", "-c", DEVELOPMENT)
    addresses = [f"{name}: {line}" for name in (DEVELOPMENT, RUNTIME) for line in addresses_in(ROOT / name)]
    if addresses:
        print(f"an address got into a lock file: {addresses[0]}", file=sys.stderr)
        return 1
    return 0


def compile_lock(target: str, *options: str) -> None:
    """Resolve into `target` with the `uv` of this environment."""
    program = Path(sys.executable).with_name("uv")
    command = [str(program), "pip", "compile", "pyproject.toml", *options, "--generate-hashes", "--universal"]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet", "-o", target]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)


def addresses_in(lock: Path) -> list[str]:
    """The lines that name an address."""
    return [
        line for line in lock.read_text(encoding="utf-8").splitlines() if re.search(r"://|--index|--find-links", line)
    ]


if __name__ == "__main__":
    sys.exit(main())
