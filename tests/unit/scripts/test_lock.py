"""The lock files pin every package by digest, name no index, and agree with one another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lock

ROOT = Path(__file__).resolve().parents[3]


def _pins(name: str) -> dict[str, set[str]]:
    """Package to the versions that the lock gives it (several where platforms differ)."""
    pins: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE):
        pins.setdefault(package, set()).add(version)
    return pins


@pytest.mark.parametrize("name", [lock.DEVELOPMENT, lock.RUNTIME])
def test_no_index_address_is_in_a_lock(name: str) -> None:
    assert lock.addresses_in(ROOT / name) == []


def test_an_index_address_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("--index-url https://packages.example/simple\nclick==8.1.8 \\\n")
    assert lock.addresses_in(tmp_path / "x.lock") == ["--index-url https://packages.example/simple"]


@pytest.mark.parametrize("name", [lock.DEVELOPMENT, lock.RUNTIME])
def test_every_package_has_digests(name: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)
    packages = [block for block in blocks if re.match(r"[a-z0-9._-]+(\[.*?\])?==", block)]
    assert len(packages) > 50
    assert [block.split()[0] for block in packages if "--hash=sha256:" not in block] == []


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    """So that installing one over the other changes nothing, and the tests run on what is deployed."""
    development = _pins(lock.DEVELOPMENT)
    differing = {
        name: versions for name, versions in _pins(lock.RUNTIME).items() if not versions <= development.get(name, set())
    }
    assert differing == {}


def test_what_builds_the_editable_installs_is_locked() -> None:
    assert {"hatchling", "editables"} <= set(_pins(lock.RUNTIME))


def test_every_declared_dependency_is_locked() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = re.findall(r'^  "([A-Za-z0-9._-]+)[^"]*",$', text.partition("[tool.ruff]")[0], re.MULTILINE)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in declared}
    assert len(names) > 30
    assert names - set(_pins(lock.DEVELOPMENT)) == set(), "run make lock"
