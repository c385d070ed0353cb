"""The clock of a process: real time, or real time moved by a fixed offset (only the demo does that)."""

import time
from collections.abc import Callable


def clock(offset_s: int = 0) -> Callable[[], int]:
    """Now in UTC microseconds, moved by offset_s."""
    offset_us = offset_s * 1_000_000
    return lambda: time.time_ns() // 1000 + offset_us
