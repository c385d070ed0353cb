"""A worker's memory after a backlog."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref

import pytest

from streams.heap import give_back

GROWN = """
import asyncio, threading
from pathlib import Path
from streams.heap import few_heaps, give_back

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

def backlog():
    kept = [b"x" * 20_000 for _ in range(5_000)]  # a hundred MiB, too small each to be mapped alone; zeros take no room
    wait.wait()
    lasting.append(bytes(600))  # at the heap's end: it cannot shrink from there
    del kept

assert few_heaps()
before, lasting = resident_mib(), []
wait = threading.Barrier(3)
threads = [threading.Thread(target=backlog) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
asyncio.run(give_back())
print(resident_mib() - before)
"""


class Node:
    """Something that can hold itself."""

    own: Node | None = None


def test_what_only_a_cycle_holds_is_freed() -> None:
    node = Node()
    node.own = node
    gone = weakref.ref(node)
    gc.disable()
    try:
        del node
        assert gone() is not None
        asyncio.run(give_back())
    finally:
        gc.enable()
    assert gone() is None


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_room_that_threads_needed_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 50
