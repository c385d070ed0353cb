"""How fast one caller may ask: a token bucket for each, in this process.

For readers always. Proxies are paced by the quotas, as their requests are the product's work, and by a bound of their
own where the setting proxy_requests_per_s gives one: against one that runs wild.
"""

import threading
import time
from collections import OrderedDict
from typing import Final

BURST: Final = 100
PER_S: Final = 20
"""A page with its pictures takes a dozen requests; a script that reads every tenant's usage stays below this."""
CALLERS_MAX: Final = 10_000


class Pace:
    """Buckets by caller; the ones used longest ago are forgotten, which only ever gives somebody a full bucket."""

    def __init__(self, burst: int = BURST, per_s: float = PER_S) -> None:
        self._burst, self._per_s = burst, per_s
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now_s: float | None = None) -> int:
        """0 if the caller may go on, else whole seconds to wait."""
        now = time.monotonic() if now_s is None else now_s
        with self._lock:
            level, at = self._buckets.pop(caller, (float(self._burst), now))
            level = min(float(self._burst), level + (now - at) * self._per_s)
            allowed = level >= 1
            self._buckets[caller] = (level - 1 if allowed else level, now)
            if len(self._buckets) > CALLERS_MAX:
                self._buckets.popitem(last=False)
        return 0 if allowed else max(1, int((1 - level) / self._per_s) + 1)
