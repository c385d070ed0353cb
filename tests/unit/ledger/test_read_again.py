"""What is read again after a rebalance is recognised in bulk, and nothing passes for known that is not there."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.ledger.tables import events, rollups
from pipeline.plain import Batch, Plain
from pipeline.screen import Screened
from schemas.usage_event import Message
from tests.unit.ledger.test_plain_rows import contents, made
from tests.unit.pipeline.events import ARRIVAL_US, event


def message(offset: int, *names: str, tokens: int = 10) -> Message:
    raws = [msgspec.json.encode(event(name, input=tokens)) for name in names]
    return Message(b"[" + b",".join(raws) + b"]", ARRIVAL_US, "t", 0, offset)


def test_messages_that_are_read_again_change_nothing_and_are_not_taken_singly(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = made(database_url)
    sent = [message(0, "a", "b"), message(1, "c")]
    assert ledger.take_messages(sent, ARRIVAL_US).counted == 3
    before = contents(ledger)

    def singly(_batch: Batch, plain: Plain) -> Screened:
        raise AssertionError(f"{plain.identity} was taken singly")

    monkeypatch.setattr(Batch, "again", singly)
    done = ledger.take_messages([*sent, message(2, "d")], ARRIVAL_US)
    assert (done.counted, done.reread, done.duplicates) == (1, 3, 0)
    assert done.minutes
    assert {m.requests for m in done.minutes} == {1}
    assert sum(row["requests"] for row in ledger.rows(rollups)) == 4
    again = ledger.take_messages(sent, ARRIVAL_US)
    assert (again.counted, again.reread) == (0, 3)
    assert len(ledger.rows(events)) == 4
    assert before != contents(ledger)
    ledger.close()


def test_what_is_not_in_the_ledger_from_that_place_is_looked_at_closely(database_url: str) -> None:
    ledger = made(database_url)
    ledger.take_messages([message(0, "a", "b"), message(1, "c")], ARRIVAL_US)
    ledger.write(lambda c: c.execute(events.delete().where(events.c.id == "b")))
    done = ledger.take_messages([message(0, "a", "b"), message(1, "a"), message(1, "c", tokens=11)], ARRIVAL_US)
    assert (done.counted, done.reread, done.duplicates) == (1, 2, 0)  # b is new; a came from two places
    assert [refused.reason for refused in done.rejected] == ["conflict"]
    ledger.close()
