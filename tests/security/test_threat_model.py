"""Each row of the threat model names a test, and there is such a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
SECTIONS = ("Proxy", "Tenant", "Operator", "Network", "Database", "Supply chain")
NODE = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


def rows() -> dict[str, list[list[str]]]:
    """The cells of each section's rows."""
    found: dict[str, list[list[str]]] = {}
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
        if lines:
            found[title] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


def test_every_row_names_what_threatens_what_answers_and_one_test() -> None:
    found = rows()
    assert tuple(found) == SECTIONS
    for title, lines in found.items():
        assert len(lines) >= 5, title
        for cells in lines:
            assert len(cells) == 3, cells
            assert all(cells), cells
            assert NODE.fullmatch(cells[2].strip(" |")), cells


def test_every_named_test_is_one() -> None:
    """Defined at the top of a file that pytest collects, and left out nowhere."""
    names = sorted(set(NODE.findall(PAGE)))
    assert len(names) > 40
    lost = []
    for name in names:
        file, _, function = name.partition("::")
        path = ROOT / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() and path.name.startswith("test_") else None
        found = [node for node in tree.body if getattr(node, "name", "") == function] if tree is not None else []
        marks = [ast.unparse(mark) for node in found for mark in getattr(node, "decorator_list", ())]
        if len(found) != 1 or not function.startswith("test_") or any("skip" in m or "xfail" in m for m in marks):
            lost.append(name)
    assert lost == []
