"""Mutation testing of the code that makes money: each small fault put in must fail a test.

    python -m bench.mutation [MODULE ...] [--quick] [--again REPORT.json] [--json]

Mutants come from mutmut's operators. mutmut's own runner starts pytest anew for every mutant; this one collects the
tests once, notes which of them call which function, and forks for each mutant a process that swaps the function's code
and runs those tests until one fails. One process at a time, with low priority; about a tenth of a second a mutant.

--quick: unit tests alone. --again: only what a former report (--json) has as alive. Exit 1 where 5 % or more are alive,
or one is alive that docs/mutation.md does not explain.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings

from bench.mutants import Mutant, function_object, mutants_of

ROOT: Final = Path(__file__).resolve().parents[1]
REASONS: Final = ROOT / "docs" / "mutation.md"
ALIVE_MAX: Final = 0.05
"""The share of mutants that may live: what the money path promises."""
CPU_MAX_S: Final = 20
"""CPU time for one mutant; all its tests together take less than half of it, so beyond is an endless loop."""
MEMORY_MAX: Final = 6 << 30
"""An endless list must not take the machine."""
UNIT: Final = ("tests/unit/rating", "tests/unit/billing")
WIDER: Final = ("tests/golden/test_scenarios.py", "tests/properties/test_money.py")

# What most money hangs on comes first.
MODULES: Final = (
    *(
        f"pipeline.rating.{name}"
        for name in ("usage", "pricing", "per_unit", "graduated", "volume", "package", "flat", "markup")
    ),
    *(f"pipeline.rating.{name}" for name in ("allowances", "routes", "slots", "spans", "conversion", "card", "ndjson")),
    *(f"billing.{name}" for name in ("lines", "credits", "taxes", "adjustments", "invoicing", "runs", "periods")),
    *(f"billing.{name}" for name in ("book", "charges", "numbers", "lifecycle", "later_prices", "records", "explain")),
    "billing.render",
)


@dataclass(slots=True)
class Verdicts:
    """Of one module. alive: survivors, and those that no test calls."""

    killed: int = 0
    timeouts: int = 0
    alive: list[Mutant] = field(default_factory=list)

    @property
    def all(self) -> int:
        return self.killed + self.timeouts + len(self.alive)


class Runner:
    """A pytest plugin: in place of one run of the tests, a run for each mutant."""

    def __init__(self, modules: Sequence[str], only: set[str] | None) -> None:
        self.modules = modules
        self.only = only
        self.verdicts: dict[str, Verdicts] = {}
        self._calls: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self._killers: dict[tuple[str, str], list[int]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Tests that start a process of their own do not see the mutant."""
        items[:] = [item for item in items if "through_the_command" not in item.nodeid]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        self._trace(items)
        for module in self.modules:
            path = ROOT / (module.replace(".", "/") + ".py")
            verdicts = self.verdicts[module] = Verdicts()
            started = time.monotonic()
            for mutant in mutants_of(path, module):
                if self.only is None or mutant.key in self.only:
                    self._judge(mutant, items, verdicts)
            took = time.monotonic() - started
            print(f"{module}: {verdicts.all - len(verdicts.alive)}/{verdicts.all} in {took:.0f} s", file=sys.stderr)
            for mutant in verdicts.alive:
                print(f"  {mutant.line}: {mutant.function}: {mutant.before}  ->  {mutant.after}", file=sys.stderr)
        return True

    def _trace(self, items: list[pytest.Item]) -> None:
        """Run every test once; note the functions that it calls, and how long it takes."""
        by_file = {str(ROOT / (name.replace(".", "/") + ".py")): name for name in self.modules}
        called: set[tuple[str, str]] = set()

        def note(frame: FrameType, _event: str, _arg: Any) -> None:
            module = by_file.get(frame.f_code.co_filename)
            if module is not None:
                called.add((module, frame.f_code.co_qualname.split(".<locals>")[0]))

        for position, item in enumerate(items):
            called.clear()
            after = items[position + 1] if position + 1 < len(items) else None
            started = time.process_time()
            sys.settrace(note)
            try:
                reports = runtestprotocol(item, log=False, nextitem=after)
            finally:
                sys.settrace(None)
            failed = [report.longreprtext for report in reports if report.failed]
            if failed:
                raise SystemExit(f"{item.nodeid} fails without any mutant:\n{failed[0]}")
            for function in called:
                self._calls.setdefault(function, []).append((time.process_time() - started, position))

    def _judge(self, mutant: Mutant, items: list[pytest.Item], verdicts: Verdicts) -> None:
        function = (mutant.module, mutant.function)
        killers = self._killers.setdefault(function, [])
        by_time = [position for _, position in sorted(self._calls.get(function, []))]
        order = [*killers, *(p for p in by_time if p not in killers)]
        status, killer = _forked(mutant, [items[p] for p in order])
        if killer is not None:
            position = order[killer]
            killers[:] = [position, *(p for p in killers if p != position)][:8]
        if status == "alive":
            verdicts.alive.append(mutant)
        elif status == "timeout":
            verdicts.timeouts += 1
        else:
            verdicts.killed += 1


def _forked(mutant: Mutant, items: list[pytest.Item]) -> tuple[str, int | None]:
    """(killed, timeout or alive; position of the test that failed) of the tests run on the mutant in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, str(_first_failure(mutant, items)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return "timeout", None
    if told == "None":
        return "alive", None
    return "killed", int(told) if told else None


def _first_failure(mutant: Mutant, items: list[pytest.Item]) -> int | None:
    """In the child: the position of the first test that fails."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_MAX_S)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    function_object(mutant.module, mutant.function).__code__ = mutant.code
    for position, item in enumerate(items):
        after = items[position + 1] if position + 1 < len(items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return position
    return None


def explained() -> set[str]:
    """Keys of the survivors that the document gives a reason for."""
    if not REASONS.exists():
        return set()
    lines = REASONS.read_text(encoding="utf-8").splitlines()
    return {line.strip().removeprefix("- `").split("`")[0] for line in lines if line.startswith("- `")}


def report_of(verdicts: dict[str, Verdicts]) -> dict[str, Any]:
    """Figures a module and over all, and the survivors."""
    known = explained()
    alive = [mutant for found in verdicts.values() for mutant in found.alive]
    mutants = sum(found.all for found in verdicts.values())
    return {
        "modules": [
            {"module": name, "mutants": v.all, "killed": v.killed, "timeouts": v.timeouts, "alive": len(v.alive)}
            for name, v in verdicts.items()
        ],
        "mutants": mutants,
        "alive": len(alive),
        "alive_share": f"{len(alive) / max(mutants, 1):.4f}",
        "survivors": [{"key": m.key, "line": m.line, "explained": _told(m.key) in known} for m in alive],
    }


def _told(key: str) -> str:
    """A key as the document writes it: in code marks, so without any of its own."""
    return key.replace("`", "'")


def _print(report: dict[str, Any]) -> None:
    width = max(len(row["module"]) for row in report["modules"])
    print(f"{'module':{width}}  mutants  killed  timeouts  alive")
    for row in [*report["modules"], _sum(report["modules"])]:
        figures = f"{row['mutants']:7}  {row['killed']:6}  {row['timeouts']:8}  {row['alive']:5}"
        print(f"{row['module']:{width}}  {figures}")
    unexplained = [s["key"] for s in report["survivors"] if not s["explained"]]
    print(f"alive: {float(report['alive_share']):.2%}, {len(unexplained)} of them without a reason in docs/mutation.md")
    for key in unexplained:
        print(f"  {key}")


def _sum(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"module": "all"} | {
        name: sum(row[name] for row in rows) for name in ("mutants", "killed", "timeouts", "alive")
    }


def main() -> int:
    """Run; 0 if few enough live and each has its reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="default: all of the money path")
    parser.add_argument("--quick", action="store_true", help="unit tests alone")
    parser.add_argument("--again", type=Path, help="only the survivors of this report")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.nice(10)
    only = None
    modules = options.modules or list(MODULES)
    if options.again is not None:
        only = {survivor["key"] for survivor in json.loads(options.again.read_text())["survivors"]}
        modules = [name for name in modules if any(key.startswith(f"{name}.") for key in only)]
    hypothesis_settings.register_profile(
        "mutation", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate), deadline=None
    )
    hypothesis_settings.load_profile("mutation")
    runner = Runner(modules, only)
    tests = UNIT if options.quick else (*UNIT, *WIDER)
    arguments = [*tests, "-s", "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:xdist", "-o", "timeout=0"]
    code = pytest.main(arguments, plugins=[runner])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) or not runner.verdicts:
        print("the tests could not be collected or fail", file=sys.stderr)
        return 2
    report = report_of(runner.verdicts)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    few = only is not None or report["alive"] < ALIVE_MAX * report["mutants"]  # --again says nothing about the share
    return 0 if few and all(survivor["explained"] for survivor in report["survivors"]) else 1


if __name__ == "__main__":
    sys.exit(main())
