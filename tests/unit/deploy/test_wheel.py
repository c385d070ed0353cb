"""What is installed is whole: every tracked file of a room is in the wheel, data files too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _tracked(folder: Path, *names: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", "-z", *names], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return {name for name in done.stdout.split("\0") if name and (folder / name).is_file()}
    found = (path for name in names for path in (folder / name).rglob("*"))
    return {path.relative_to(folder).as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    ("folder", "packages"),
    [
        (ROOT, ("schemas", "pipeline", "streams", "billing", "tollhouse")),
        (ROOT / "sdk", ("tollhouse_client", "tollhouse_redaction")),
    ],
    ids=["service", "client"],
)
def test_the_wheel_holds_every_file_of_its_packages(folder: Path, packages: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tracked = _tracked(folder, *packages)
    assert tracked, "no file was found"
    assert tracked - inside == set()
    strangers = {name for name in inside if name.split("/")[0] not in packages and ".dist-info/" not in name}
    assert strangers == set()
