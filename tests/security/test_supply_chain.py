"""What is installed is what was locked, and the SBOM lists all of it; each check is shown to bite."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import lock
import supply_chain

GOOD = "click==8.1.8 \\\n    --hash=sha256:" + "a" * 64 + "\n    # via x\n"


@pytest.mark.parametrize("name", [lock.DEVELOPMENT, lock.RUNTIME])
def test_every_requirement_of_our_locks_is_pinned_by_digest(name: str) -> None:
    text = (lock.ROOT / name).read_text(encoding="utf-8")
    assert len(supply_chain.pins(text)) > 50
    assert supply_chain.lock_troubles(name, text) == []


@pytest.mark.parametrize(
    "line",
    ["click==8.1.8", "click>=8 \\\n --hash=sha256:" + "a" * 64, "git+https://code.example/click@main", "-e ../click",
     "click @ https://files.example/click.whl", "click==8.1.8 --hash=md5:" + "a" * 32],
)  # fmt: skip
def test_what_is_not_pinned_is_found(line: str) -> None:
    assert supply_chain.lock_troubles("x.lock", GOOD) == []
    assert len(supply_chain.lock_troubles("x.lock", GOOD + line + "\n")) == 1


def test_what_runs_these_tests_is_what_is_locked() -> None:
    locked = supply_chain.pins((lock.ROOT / lock.DEVELOPMENT).read_text(encoding="utf-8"))
    assert supply_chain.installed_troubles(distributions(), locked, strict=False) == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory with one installed package of one module."""
    (tmp_path / "pack.py").write_bytes(b"VALUE = 1\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"VALUE = 1\n").digest()).rstrip(b"=").decode()
    info = tmp_path / "pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"pack.py,sha256={digest},10\npack-1.0.dist-info/RECORD,,\n")
    return tmp_path


def _found(package: Path) -> list[Distribution]:
    return list(distributions(path=[str(package)]))


def test_a_module_that_was_changed_after_it_was_installed_is_found(package: Path) -> None:
    assert supply_chain.changed_files(_found(package)) == []
    (package / "pack.py").write_bytes(b"VALUE = 2\n")
    assert supply_chain.changed_files(_found(package)) == [
        "pack: pack.py is not what was installed: run make clean install"
    ]
    (package / "pack.py").unlink()
    assert len(supply_chain.changed_files(_found(package))) == 1


def test_another_version_and_in_ci_a_stranger_are_found(package: Path) -> None:
    def ask(locked: dict[str, set[str]], *, strict: bool) -> int:
        return len(supply_chain.installed_troubles(_found(package), locked, strict=strict))

    assert ask({"pack": {"1.0"}}, strict=True) == 0
    assert ask({"pack": {"2.0"}}, strict=False) == 1
    assert ask({}, strict=True) == 1
    assert ask({}, strict=False) == 0


def test_the_sbom_is_valid_and_lists_what_is_deployed_and_no_more(tmp_path: Path) -> None:
    target = tmp_path / "sbom" / "tollhouse.cdx.json"
    assert supply_chain.main(["sbom", str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    made = json.loads(text)
    assert made["metadata"]["component"]["name"] == "tollhouse"
    listed = {supply_chain.normal(part["name"]): part["version"] for part in made["components"]}
    locked = supply_chain.pins((lock.ROOT / lock.RUNTIME).read_text(encoding="utf-8"))
    assert set(listed) == set(locked)
    assert all(version in locked[name] for name, version in listed.items())
    assert all(reference["hashes"] for part in made["components"] for reference in part["externalReferences"])
    assert "pytest" not in listed


def _answering(monkeypatch: pytest.MonkeyPatch, folder: Path, answers: dict[str, str]) -> None:
    """In pip-audit's place a program that prints the answer of the service it is told to ask, or fails without one."""
    for service, answer in answers.items():
        (folder / service).write_text(answer)
    program = folder / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "service = sys.argv[sys.argv.index('--vulnerability-service') + 1]\n"
        f"answer = pathlib.Path({str(folder)!r}) / service\n"
        "print(answer.read_text()) if answer.exists() else sys.exit('ConnectionError: nobody is there')\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(supply_chain, "PIP_AUDIT", program)


def _known(vulnerable: str = "", unknown: str = "") -> str:
    locked = supply_chain.pins((lock.ROOT / lock.RUNTIME).read_text(encoding="utf-8"))
    bad = [{"id": "PYSEC-1", "fix_versions": ["9.9"], "aliases": [], "description": ""}]
    return json.dumps(
        {"dependencies": [
            {"name": name, "version": min(versions), "vulns": bad if name == vulnerable else []}
            for name, versions in locked.items() if name != unknown
        ]}
    )  # fmt: skip


def test_where_nobody_can_be_asked_it_says_so_and_with_must_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answering(monkeypatch, tmp_path, {})
    assert supply_chain.main(["audit"]) == 0
    said = capsys.readouterr().err
    assert "known vulnerabilities: NOT LOOKED FOR" in said
    assert "pypi: ConnectionError: nobody is there; osv: ConnectionError" in said
    assert supply_chain.main(["audit", "--must"]) == 1
    monkeypatch.setattr(supply_chain, "PIP_AUDIT", tmp_path / "not-installed")
    assert supply_chain.main(["audit", "--must"]) == 1
    assert "NOT LOOKED FOR" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["{}", '{"dependencies": []}', "[]", "<html>"])
def test_an_answer_that_leaves_packages_out_is_no_answer(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answering(monkeypatch, tmp_path, {"pypi": answer, "osv": _known(unknown="click")})
    assert supply_chain.main(["audit", "--must"]) == 1
    said = capsys.readouterr().err
    assert "NOT LOOKED FOR" in said
    assert "osv: it does not know click" in said


def test_a_known_vulnerability_is_named_and_fails_and_none_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answering(monkeypatch, tmp_path, {"osv": _known(vulnerable="click")})
    assert supply_chain.main(["audit"]) == 1
    assert "PYSEC-1, mended in 9.9" in capsys.readouterr().err
    _answering(monkeypatch, tmp_path, {"pypi": _known()})
    assert supply_chain.main(["audit", "--must"]) == 0
    assert "0 known vulnerabilities, says pypi" in capsys.readouterr().err


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert supply_chain.main([]) == 2
    assert "usage" in capsys.readouterr().out
