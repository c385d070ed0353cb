"""What we run on: checked against the locks, listed as an SBOM, asked about. Needs the development environment.

    python scripts/supply_chain.py verify        # locks, installed versions, installed files; exit 1 for a difference
    python scripts/supply_chain.py sbom FILE     # CycloneDX 1.6 of the runtime lock, the same bytes each time
    python scripts/supply_chain.py audit         # known vulnerabilities of the runtime lock; exit 1 if there are any
    python scripts/supply_chain.py audit --must  # exit 1 also where nobody could be asked

`audit` needs a service that knows advisories, so a network. Where none answers, or one that does not know a package (a
mirror of an index), it says that nothing was looked for and why; only --must makes that a failure.
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
from typing import Any

from lock import DEVELOPMENT, ROOT, RUNTIME

OURS = {"tollhouse", "tollhouse-client"}
# What makes an environment, and comes with Python.
TOOLS = {"pip", "setuptools", "wheel"}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
TIMEOUT_S = 120
SPEC = "1.6"
PIP_AUDIT = Path(sys.executable).with_name("pip-audit")
ADVISORIES = ("pypi", "osv")  # asked in turn, until one knows every package
ASK_TIMEOUT_S = 10


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


def audit(*, must: bool) -> int:
    """Ask for known vulnerabilities of the runtime lock; the exit status. must: that nobody answers is a failure."""
    reasons = []
    for service in ADVISORIES:
        found = _advisories(service)
        if isinstance(found, str):
            reasons.append(f"{service}: {found}")
            continue
        troubles = [
            f"{one['name']} {one['version']}: {known['id']}, mended in {' '.join(known['fix_versions']) or 'none'}"
            for one in found
            for known in one["vulns"]
        ]
        for trouble in troubles:
            print(trouble, file=sys.stderr)
        print(f"{len(found)} locked packages, {len(troubles)} known vulnerabilities, says {service}", file=sys.stderr)
        return 1 if troubles else 0
    print(f"known vulnerabilities: NOT LOOKED FOR, nobody could be asked ({'; '.join(reasons)})", file=sys.stderr)
    print("run `make audit-dependencies` where there is a network, before a release", file=sys.stderr)
    return 1 if must else 0


def _advisories(service: str) -> list[dict[str, Any]] | str:
    """What a service knows, package by package; or why it knows nothing of all or some of them."""
    command = [str(PIP_AUDIT), "--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    command += ["--timeout", str(ASK_TIMEOUT_S), "--vulnerability-service", service, "--format", "json", "-r", RUNTIME]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return ([line.strip()[:200] for line in done.stderr.splitlines() if line.strip()] or ["no answer"])[-1]
    entry = [
        line for line in entries((ROOT / RUNTIME).read_text(encoding="utf-8")) if ";" not in line.partition(" --")[0]
    ]
    asked = {normal(one["name"]) for one in found if "vulns" in one}
    left = sorted({normal(line.partition("==")[0].partition("[")[0]) for line in entry} - asked)
    return f"it does not know {', '.join(left[:5])}" if left else found


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit status."""
    if arguments in (["audit"], ["audit", "--must"]):
        return audit(must="--must" in arguments)
    if arguments == ["verify"]:
        return verify()
    if len(arguments) == 2 and arguments[0] == "sbom":
        return sbom(Path(arguments[1]))
    print(
        "usage: supply_chain.py verify | sbom FILE | audit [--must]; for example: supply_chain.py sbom tollhouse.json"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
