"""The house rules, checked: who imports whom, who may read a clock, how large a module gets, what no file says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "pipeline", "streams", "billing", "tollhouse")
LINES_MAX = 400
# Modules over the limit, each with the reason why it is better in one piece.
LONG_MODULES = {
    "pipeline/ledger/tables.py": "a list of tables, and the one place where they stand",
    "pipeline/ledger/migrations/versions/0001_baseline.py": "that list as it was, frozen",
}
# Folders of the pure rooms whose business is the outside world.
IMPURE = ("pipeline/ledger/", "billing/stripe_gateway/", "billing/provider_reports/", "billing/documents/")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")]), "NO_COLOR": "1"}
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def _tracked(*patterns: str) -> list[Path]:
    """Files under version control; in an unpacked archive without it, every file outside what make produces."""
    done = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    made = {".venv", ".services", "__pycache__", ".git"}
    found = [path for pattern in patterns or ("*",) for path in ROOT.rglob(pattern)]
    return [path for path in found if path.is_file() and not made & set(path.relative_to(ROOT).parts)]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _texts() -> list[tuple[str, str]]:
    texts = []
    for path in _tracked():
        try:
            texts.append((_name(path), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # pictures and the like
    return texts


def test_the_rooms_import_one_way() -> None:
    done = _run("lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_clock_and_no_chance_where_they_are_arguments() -> None:
    done = _run("ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "concise", *ROOMS, "sdk")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("call", ["time.time()", "datetime.datetime.now()", "random.random()", "secrets.token_hex()"])
@pytest.mark.parametrize("room", ["schemas", "pipeline", "billing"])
def test_the_check_for_clocks_and_chance_bites(room: str, call: str) -> None:
    source = f"import {call.split('.', 1)[0]}\nprint({call})\n"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ruff")), "check", "--no-cache", "--select", "TID251", "--stdin-filename",
         f"{room}/probe.py", "-"],
        cwd=ROOT, input=source, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "TID251" in done.stdout


def test_pure_modules_open_no_files() -> None:
    """Data that comes with a package is read through importlib.resources; anything else is an argument."""
    folders = ("schemas/**/*.py", "schemas/*.py", "pipeline/**/*.py", "pipeline/*.py", "billing/*.py")
    pure = [path for path in _tracked(*folders) if not _name(path).startswith(IMPURE)]
    calls = [
        (path, node.lineno, node.func.id)
        for path in pure
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    offenders = [f"{_name(path)}:{line} {call}()" for path, line, call in calls if call in {"open", "input", "print"}]
    assert offenders == []


def test_modules_stay_readable_in_one_sitting() -> None:
    folders = [f"{room}/*.py" for room in (*ROOMS, "sdk", "scripts")]
    sizes = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _tracked(*folders)}
    assert sizes, "no module was found"
    too_long = {name: lines for name, lines in sizes.items() if lines > LINES_MAX and name not in LONG_MODULES}
    assert too_long == {}, f"over {LINES_MAX} lines: split them, or list them here with a reason"
    outdated = [name for name in LONG_MODULES if sizes.get(name, 0) <= LINES_MAX]
    assert outdated == [], "no longer too long: take them off the list"


def test_nothing_is_left_half_done() -> None:
    mark = re.compile("TO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b")
    marks = [name for name, text in _texts() if not name.endswith(".lock") and name != "LICENSE" and mark.search(text)]
    assert marks == []


def test_no_file_knows_where_packages_come_from_or_this_machine() -> None:
    hosts = ["py" + "pi.org", "pythonho" + "sted.org", "repo1." + "maven.org", "repo.maven." + "apache.org",
             "proxy." + "golang.org", "deb." + "debian.org", "registry." + "npmjs.org"]  # fmt: skip
    words = [*hosts, "/work/" + "main", "/work/" + "shared", "/root" + "/", "/home/" + "runner"]
    offenders = [f"{name}: {word}" for name, text in _texts() for word in words if word in text]
    assert offenders == []


def test_nothing_that_looks_like_a_private_key_is_tracked() -> None:
    mark = re.compile("-----BEGIN " + r"(?:[A-Z]+ )*PRIVATE KEY-----\n[A-Za-z0-9+/=]{40}")
    assert [name for name, text in _texts() if mark.search(text)] == []
