"""Ctrl-C before a command runs, while its modules are imported: one exit code and no traceback."""

import subprocess
import sys
from pathlib import Path

from tollhouse.start import INTERRUPTED

IN_AN_EXEC = """
import os, signal, sys
import tollhouse.cli.main, tollhouse.start

def interrupted():
    # What a named tuple does while a module is imported: code from a string, and Ctrl-C arrives in it.
    exec("import os, signal; os.kill(os.getpid(), signal.SIGINT)\\nfor _ in range(10**6): pass")

sys.modules["tollhouse.cli.main"].cli.main = lambda **_: interrupted()
tollhouse.start.main()
"""
IN_AN_IMPORT = """
import builtins, os, signal
import tollhouse.start
real = builtins.__import__

def slow(name, *rest, **more):
    if name == "tollhouse.cli.main":
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest, **more)

builtins.__import__ = slow
tollhouse.start.main()
"""


def test_ctrl_c_in_code_made_from_a_string_is_130(tmp_path: Path) -> None:
    (tmp_path / "begun.py").write_text(IN_AN_EXEC)
    # As a module: only there does the interpreter look at what it remembers.
    done = subprocess.run([sys.executable, "-m", "begun"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"")


def test_ctrl_c_while_the_command_line_is_imported_is_130() -> None:
    done = subprocess.run([sys.executable, "-c", IN_AN_IMPORT], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"")
