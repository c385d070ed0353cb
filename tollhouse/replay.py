"""Replaying rejected events: judged anew from their kept bytes, in the ledger's own way, with their old evidence.

Their arrival stays what it was, so that what was in time then is in time now. An event that counts leaves the open
list; one that is rejected again stays on it with the new reason.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.ledger import Ledger
from pipeline.ledger.rejected import list_rejected, mark_replayed
from schemas.usage_event import Delivery, Evidence
from tollhouse.errors import UserError


def replay_rejected(
    ledger: Ledger, *, reason: str | None = None, numbers: Sequence[int] | None = None
) -> dict[str, int]:
    """How many were counted, were duplicates, were held, were rejected again."""
    rows = ledger.read(lambda connection: list_rejected(connection, reason=reason, state="open"))
    if numbers is not None:
        open_ = {row["n"] for row in rows}
        if missing := sorted(set(numbers) - open_):
            raise UserError(
                f"there is no open rejected event {missing[0]} (`tollhouse rejected list` shows their numbers)"
            )
        rows = [row for row in rows if row["n"] in set(numbers)]
    totals = {"counted": 0, "duplicates": 0, "held": 0, "rejected": 0}
    for row in rows:
        outcome = _one(ledger, row)
        totals[outcome] += 1
        if outcome != "rejected":
            ledger.write(lambda connection, n=row["n"]: mark_replayed(connection, [n]))  # type: ignore[misc]
    return totals


def _one(ledger: Ledger, row: dict[str, Any]) -> str:
    evidence = Evidence(row["topic"], row["partition"], row["offset"], row["item"])
    recorded = ledger.take([Delivery(row["raw"], row["arrival_us"], evidence)], row["arrival_us"])
    if recorded.counted:
        return "counted"
    if recorded.held:
        return "held"
    return "duplicates" if recorded.duplicates or recorded.reread else "rejected"
