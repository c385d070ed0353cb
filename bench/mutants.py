"""Mutants of a module: its functions with one small fault put in, by mutmut's operators.

Faults go into the bodies of functions and methods, decorated ones and those of dataclasses among them. Left out are
annotations, default values and tables of modules (they run once, at import), `len` and `isinstance` (as mutmut does),
and prose in the messages of exceptions: words for people, which no test should fix letter by letter. So are two that
change no value: `zip` without `strict=True` (an assertion that lengths agree) and `sum` without its start `Decimal(0)`
(which equals the 0 that it starts from instead).
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

UNTOUCHED = ("len", "isinstance")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. function: its qualified name in the module. before, after: the source of the smallest node changed."""

    module: str
    function: str
    line: int
    before: str
    after: str
    code: CodeType

    @property
    def key(self) -> str:
        """The same from run to run, while the function stays as it is; lines may move."""
        return f"{self.module}.{self.function}: {self.before} -> {self.after}"


class _Finder(cst.CSTVisitor):
    """Collects (function, line, node, changed node)."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int, cst.CSTNode, cst.CSTNode]] = []
        self._scope: list[str] = []
        self._function = ""
        self._raising = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Parameters, cst.Decorator)):
            return False
        if isinstance(node, cst.Call) and _name_of(node) in UNTOUCHED:
            return False
        if isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "strict":
            return False
        self._raising += isinstance(node, (cst.Raise, cst.Assert))
        if self._function:
            self._mutate(node)
        elif isinstance(node, (cst.ClassDef, cst.FunctionDef)):
            self._scope.append(node.name.value)
            if isinstance(node, cst.FunctionDef):
                self._function = ".".join(self._scope)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, (cst.Annotation, cst.Parameters, cst.Decorator)):
            return
        self._raising -= isinstance(original_node, (cst.Raise, cst.Assert))
        scope = ".".join(self._scope)
        if (
            isinstance(original_node, (cst.ClassDef, cst.FunctionDef))
            and original_node.name.value == scope.split(".")[-1]
        ):
            self._scope.pop()
            self._function = ""

    def _mutate(self, node: cst.CSTNode) -> None:
        if self._raising and isinstance(node, cst.BaseString) and " " in str(getattr(node, "value", " ")):
            return
        place = self.get_metadata(PositionProvider, node, None)
        line = place.start.line if isinstance(place, CodeRange) else 0
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                told = (changed for changed in operator(node) if not _same_value(node, changed))
                self.found.extend((self._function, line, node, changed) for changed in told)


def _name_of(call: cst.CSTNode) -> str:
    return call.func.value if isinstance(call, cst.Call) and isinstance(call.func, cst.Name) else ""


def _same_value(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """zip without strict=True, sum without its start."""
    if not isinstance(node, cst.Call) or not isinstance(changed, cst.Call):
        return False
    if _name_of(node) == "zip":
        return [_source(arg) for arg in node.args if arg.keyword] != [
            _source(arg) for arg in changed.args if arg.keyword
        ]
    return _name_of(node) == "sum" and [_source(arg) for arg in changed.args] == [_source(node.args[0])]


def _source(arg: cst.Arg) -> str:
    return cst.Module([]).code_for_node(arg.value)


def mutants_of(path: Path, module: str) -> Iterator[Mutant]:
    """Every mutant of the file that compiles and differs; module: the name under which it is imported."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))
    finder = _Finder()
    wrapper.visit(finder)
    whole = wrapper.module
    for function, line, node, changed in finder.found:
        source = whole.deep_replace(node, changed)
        assert isinstance(source, cst.Module)
        try:
            tree = ast.parse(source.code)
            code = _code_of(compile(tree, str(path), "exec"), function)
        except SyntaxError:
            continue
        before, after = (" ".join(whole.code_for_node(n).split()) for n in (node, changed))
        yield Mutant(module, function, line, before, after, code)


def _code_of(whole: CodeType, name: str) -> CodeType:
    """The code of a function by its qualified name."""
    for constant in whole.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == name:
                return constant
            if name.startswith(f"{constant.co_qualname}."):
                return _code_of(constant, name)
    raise AssertionError(f"{name} is not in the compiled module")


def function_object(module: str, name: str) -> FunctionType:
    """The live function whose code a mutant replaces: all who imported it see the fault."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = vars(found)[part]
    for wrapped in ("fget", "__func__", "__wrapped__"):
        found = getattr(found, wrapped, found)
    assert isinstance(found, FunctionType), f"{module}.{name} is no function"
    return found
