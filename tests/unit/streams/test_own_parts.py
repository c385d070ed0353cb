"""What the tests stop and freeze ends and goes on, whatever its children do meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation import own_parts
from tests.simulation.own_parts import freeze_family, thaw_family

_RESTLESS = """
import subprocess
print("up", flush=True)
while True:
    subprocess.run(["sleep", "0.002"])
"""


@pytest.fixture
def restless() -> Iterator[subprocess.Popen[str]]:
    """A process whose children end all the time."""
    with subprocess.Popen([sys.executable, "-c", _RESTLESS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_a_child_that_ended_before_the_signal_is_no_failure(
    restless: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(own_parts, "children_of", lambda parent: [ended.pid])
    freeze_family(restless.pid)
    _, status = os.waitpid(restless.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    thaw_family(restless.pid)
    restless.terminate()
    assert restless.wait(20) == -signal.SIGTERM


def test_a_family_frozen_and_thawed_many_times_can_still_end(restless: subprocess.Popen[str]) -> None:
    for _ in range(30):
        freeze_family(restless.pid)
        thaw_family(restless.pid)
    restless.terminate()
    assert restless.wait(20) == -signal.SIGTERM
