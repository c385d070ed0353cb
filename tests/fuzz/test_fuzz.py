"""Every kept input, and a few hundred changed ones, through each target; longer by `python -m tests.fuzz.run`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import run
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS, kept

CHANGED = 400
CASES = [(target, path) for target in TARGETS for path in kept(target)]


@pytest.mark.parametrize(("target", "path"), CASES, ids=lambda value: value.name if isinstance(value, Path) else value)
def test_what_was_kept_stays_mended(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_breaks_on_changed_inputs(target: str) -> None:
    seeds, rng = [path.read_bytes() for path in kept(target)], Random(20261003)
    inputs = [mutated(seeds, rng) for _ in range(CHANGED)]
    assert len(set(inputs)) > CHANGED // 2
    for value in inputs:
        TARGETS[target](value)


def test_a_fault_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer bites: a decoder that breaks on a sign is caught at it within a thousand tries."""

    def broken(value: bytes) -> None:
        assert b"NaN" not in value, "it cannot take NaN"

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "seed").write_bytes(b'{"a": 1}')
    monkeypatch.setitem(TARGETS, "broken", broken)
    monkeypatch.setattr("tests.fuzz.targets.KEPT", tmp_path)
    monkeypatch.setattr(run, "KEPT", tmp_path)
    assert run.by_mutation("broken", seconds=600, seed=1) == 1
    (found,) = (tmp_path / "broken").glob("found-*")
    assert b"NaN" in found.read_bytes()
