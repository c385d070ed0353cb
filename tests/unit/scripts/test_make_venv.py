"""The environment is made where none works, and what stops it is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import make_venv


def test_a_python_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    assert make_venv.main([str(tmp_path / "venv")]) == 1
    words = capsys.readouterr().out
    assert words.startswith("tollhouse needs Python 3.11 or later, ")
    assert words.rstrip().endswith("is 3.10.13: run make PYTHON=python3.11")
    assert words.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_a_directory_that_cannot_be_made_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert make_venv.main([str(tmp_path / "file" / "venv")]) == 1
    words = capsys.readouterr().out
    assert words.startswith(f"cannot make {tmp_path / 'file' / 'venv'}: ")
    assert words.count("\n") == 1


def test_one_that_works_is_kept_and_one_left_half_made_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    monkeypatch.setattr(make_venv.venv.EnvBuilder, "create", lambda _self, where: made.append(where))
    half, whole = tmp_path / "half", tmp_path / "whole"
    for place, status in ((half, 1), (whole, 0)):
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").write_text(f"#!/bin/sh\nexit {status}\n")
        (place / "bin" / "python").chmod(0o755)
    assert [make_venv.main([str(place)]) for place in (half, whole)] == [0, 0]
    assert made == [str(half)]
