"""Faults are put in where they should be, and a function with one in it is the one that everybody calls."""

from pathlib import Path

import bench.mutants
from bench.mutants import function_object, mutants_of

SOURCE = """
def share(amount: int, parts: list[int] | None = None) -> list[int]:
    if amount < 0:
        raise ValueError("an amount is not negative")
    return [amount + part for part, _ in zip(parts or (), parts or (), strict=True)]


class Box:
    @property
    def size(self) -> int:
        return sum((1, 2), 0)
"""


def test_each_fault_once_and_none_that_changes_no_value(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    found = {(m.function, m.before, m.after) for m in mutants_of(file, "module")}
    assert {
        ("share", "< 0", "<= 0"),
        ("share", "0", "1"),
        ("share", "amount + part", "amount - part"),
        ("share", 'ValueError("an amount is not negative")', "ValueError(None)"),
        ("Box.size", "1", "2"),
        ("Box.size", "sum((1, 2), 0)", "sum(None, 0)"),
    } <= found
    changed = {after for _, _, after in found}
    assert not any("strict=False" in after or "strict=None" in after or "AN AMOUNT" in after for after in changed)
    assert "sum((1, 2), )" not in changed


def test_a_mutant_takes_the_place_of_the_function() -> None:
    path = Path(bench.mutants.__file__)
    mutant = next(m for m in mutants_of(path, "bench.mutants") if m.function == "_name_of" and m.before == '""')
    live = function_object("bench.mutants", "_name_of")
    kept = live.__code__
    try:
        live.__code__ = mutant.code
        assert bench.mutants._name_of(bench.mutants.cst.Name("x")) == "XXXX"
    finally:
        live.__code__ = kept
    assert bench.mutants._name_of(bench.mutants.cst.Name("x")) == ""
