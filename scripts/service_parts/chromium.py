"""Chromium and a font from the system's packages, for the browser tests. A program, not a server."""

from __future__ import annotations

import shutil

from service_parts.base import UnavailableError, Up, ask, debian_install, say

NAME = "chromium"
required_in_ci = True
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def up() -> Up:
    """The path of a Chromium that answers with its version."""
    program = _program()
    if program is None:
        # Without a font, pages render empty boxes and measure wrong.
        debian_install(NAME, ["chromium", "fonts-dejavu-core", "fonts-liberation"])
        program = _program()
    else:
        say(NAME, "installed")
    version = ask([program, "--version"]) if program is not None else ""
    if program is None or not version:
        raise UnavailableError("Chromium does not run here: install it with this system's package manager")
    return Up(version, {"TOLLHOUSE_TEST_CHROMIUM": program})


def down() -> bool:
    """Nothing runs: browsers belong to the tests that start them."""
    return False


def _program() -> str | None:
    return next((path for path in map(shutil.which, PROGRAMS) if path is not None), None)
