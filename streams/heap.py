"""Memory that a backlog took, given back once it has been counted.

glibc gives each thread that allocates a heap of its own, up to eight a core, and each keeps what it once needed; a
worker has a dozen threads, and whichever of them reads a backlog makes one more heap large. CPython looks through
old objects only when a quarter as many are new, so that errors met while the database was away keep their batches.
"""

import asyncio
import ctypes
import gc
import sys
from typing import Final

HEAPS: Final = 2
GIVE_BACK_S: Final = 60.0
"""A look through all objects of a worker is some tens of milliseconds: seldom enough to be noticed by nobody."""
_M_ARENA_MAX: Final = -8
"""Of mallopt, in glibc's malloc.h."""


def few_heaps() -> bool:
    """Let all threads share HEAPS heaps from now on. False where the C library is another one than glibc."""
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(_M_ARENA_MAX, HEAPS))


async def give_back() -> None:
    """Free what only cycles hold, and return free memory of every heap to the system."""
    gc.collect()  # here and in no other thread: what it ends may belong to the event loop
    if (libc := _glibc()) is not None:
        await asyncio.to_thread(libc.malloc_trim, 0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
