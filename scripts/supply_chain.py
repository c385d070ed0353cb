"""What we run on: checked against the locks, and listed as an SBOM. Needs the development environment, and no network.

    python scripts/supply_chain.py verify        # locks, installed versions, installed files; exit 1 for a difference
    python scripts/supply_chain.py sbom FILE     # CycloneDX 1.6 of the runtime lock, the same bytes each time

Known vulnerabilities need a service that knows them: `make audit-dependencies` asks for each locked version, and fails
where it gets no answer.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from lock import DEVELOPMENT, ROOT, RUNTIME

OURS = {"tollhouse", "tollhouse-client"}
# What makes an environment, and comes with Python.
TOOLS = {"pip", "setuptools", "wheel"}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
TIMEOUT_S = 120
SPEC = "1.6"


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> Iterator[str]:
    """The requirements of a lock, each on one line."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield " ".join(line.split())


def lock_troubles(name: str, text: str) -> list[str]:
    """Requirements without an exact version or a digest, and whatever is no requirement."""
    pinned = re.compile(r"[A-Za-z0-9._-]+(\[[^\]]*\])?==[^ ;]+( ;[^#]*?)? " + HASH.pattern)
    return [
        f"{name}: {entry.split()[0]} is not pinned by version and digest: run make lock"
        for entry in entries(text)
        if not pinned.match(entry)
    ]


def pins(text: str) -> dict[str, set[str]]:
    """Package to its locked versions (several where platforms differ)."""
    found: dict[str, set[str]] = {}
    for entry in entries(text):
        name, _, rest = entry.partition("==")
        found.setdefault(normal(name.partition("[")[0]), set()).add(rest.split()[0].rstrip(";"))
    return found


def installed_troubles(installed: Iterable[Distribution], locked: dict[str, set[str]], *, strict: bool) -> list[str]:
    """Other versions than the lock's. strict: packages that are in no lock, too."""
    found = []
    for one in installed:
        name = normal(one.metadata["Name"])
        if name in OURS | TOOLS:
            continue
        if name not in locked:
            found += [f"{name} {one.version} is installed and in no lock: run make clean install"] if strict else []
        elif one.version not in locked[name]:
            wanted = " or ".join(sorted(locked[name]))
            found.append(f"{name} {one.version} is installed, the lock says {wanted}: run make clean install")
    return found


def changed_files(installed: Iterable[Distribution]) -> list[str]:
    """Files of packages that are not what was installed (by the digests that were written down then)."""
    found = []
    for one in installed:
        if normal(one.metadata["Name"]) in OURS:
            continue
        # The record itself, since `files` leaves out the missing ones where another finder of metadata is installed.
        for name, recorded, *_ in csv.reader((one.read_text("RECORD") or "").splitlines()):
            if not recorded.startswith("sha256="):
                continue
            path = Path(str(one.locate_file(name)))
            content = path.read_bytes() if path.is_file() else b""
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            if digest != recorded.removeprefix("sha256="):
                found.append(f"{one.metadata['Name']}: {name} is not what was installed: run make clean install")
    return found


def verify() -> int:
    """Everything that can be known without a network; the exit status."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in (DEVELOPMENT, RUNTIME)}
    troubles = [trouble for name, text in texts.items() for trouble in lock_troubles(name, text)]
    installed = list(distributions())
    strict = os.environ.get("CI", "").lower() in {"1", "true"}
    troubles += installed_troubles(installed, pins(texts[DEVELOPMENT]), strict=strict)
    troubles += changed_files(installed)
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


def sbom(target: Path) -> int:
    """Write the SBOM of the runtime lock; the exit status."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", RUNTIME, "--sv", SPEC]
    command += ["--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        print(f"cyclonedx-py failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    made = json.loads(done.stdout)
    for component in made["components"]:
        component.pop("description", None)  # the lock's line, with every digest once more
        for reference in component.get("externalReferences", ()):
            reference["url"] = component["purl"]  # a lock does not say where its packages come from, so nor do we
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(made['components'])} components in {target}", file=sys.stderr)
    return 0


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit status."""
    if arguments == ["verify"]:
        return verify()
    if len(arguments) == 2 and arguments[0] == "sbom":
        return sbom(Path(arguments[1]))
    print("usage: supply_chain.py verify | sbom FILE, for example: supply_chain.py sbom .sbom/tollhouse.cdx.json")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
