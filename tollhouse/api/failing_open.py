"""When the database is away: refuse everything (fail closed), or admit up to an allowance (fail open).

Setting `fail_mode`: `closed` (default), `open` (100 calls a tenant) or `open:N`. The allowance is for one outage and
one process; it is full again once the database has answered. What is admitted so is not reserved: its usage counts
when it arrives, so a quota can be passed by at most N calls a tenant and process in an outage.
"""

import threading
import uuid
from dataclasses import replace
from typing import Final

from pipeline.admission import Ask, Decision, candidates, refuse_early
from pipeline.context import Context
from schemas.instants import SECOND_US
from tollhouse.errors import UserError

DEFAULT_ALLOWANCE: Final = 100


def allowance_of(fail_mode: str) -> int:
    """Calls a tenant in an outage; 0 for closed. UserError for a mode that does not exist."""
    mode, _, number = fail_mode.partition(":")
    if fail_mode == "closed":
        return 0
    if mode == "open" and (not number and ":" not in fail_mode):
        return DEFAULT_ALLOWANCE
    if mode == "open" and number.isascii() and number.isdigit() and len(number) < 10:
        return int(number)
    raise UserError(f"setting fail_mode: {fail_mode!r} is neither closed, nor open, nor open:N")


class FailOpen:
    """Thread-safe. Needs to have seen the catalog once: before that, an outage refuses everything."""

    def __init__(self, fail_mode: str) -> None:
        self.allowance = allowance_of(fail_mode)
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        self._context: Context | None = None

    def remember(self, context: Context) -> None:
        """The database answered: keep the catalog, and fill the allowance again."""
        self._context = context
        if self._used:
            with self._lock:
                self._used.clear()

    def decide(self, ask: Ask, now_us: int) -> Decision | None:
        """An answer without the database; None: fail closed, or the allowance is used up."""
        context = self._context
        if not self.allowance or context is None:
            return None
        if (reason := refuse_early(ask, context)) is not None:
            return Decision(ask.id, allowed=False, reason=reason, tenant=ask.tenant)
        keys = candidates(ask, context, now_us)
        if not keys:
            return Decision(ask.id, allowed=False, reason="key_unavailable", tenant=ask.tenant)
        with self._lock:
            used = self._used.get(ask.tenant, 0)
            if used >= self.allowance:
                return None
            self._used[ask.tenant] = used + 1
        decision = Decision(f"open_{uuid.uuid4()}", allowed=True, reason="ok", tenant=ask.tenant, key=keys[0].id)
        return replace(decision, expires_us=now_us + ask.ttl_s * SECOND_US)
