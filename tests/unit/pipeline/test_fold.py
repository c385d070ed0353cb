"""Corrections and repetitions: every order of arrival makes the same book."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from pipeline.fold import HOLD_US, Book
from pipeline.screen import Identity, Screened, screen
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, SOURCE, TIME_US, context, event, ref

CONTEXT = context()


def seen(document: dict[str, Any], offset: int = 0, arrival_us: int = ARRIVAL_US) -> Screened:
    found, _ = screen(Delivery(json.dumps(document).encode(), arrival_us, Evidence("t", 0, offset, 0)), CONTEXT)
    assert isinstance(found, Screened), found
    return found


def fold(*documents: dict[str, Any]) -> Book:
    book = Book()
    for offset, document in enumerate(documents):
        book.take(seen(document, offset))
    return book


def states(book: Book) -> dict[str, str]:
    return {identity.id: entry.state for identity, entry in book.entries.items()}


def reasons(book: Book) -> list[tuple[str, str]]:
    return [(o.event.id, o.event.reason) for o in book.verdicts() if o.verdict == "rejected"]  # type: ignore[union-attr]


E1, R1, R2, V = (
    event("e1", input=100, upstream_id="u"),
    event("r1", input=70, upstream_id="u", replaces=ref("e1"), time_us=TIME_US + 1_000_000),
    event("r2", input=60, upstream_id="u", replaces=ref("r1"), time_us=TIME_US + 2_000_000),
    event("v", kind="void", voids=ref("e1")),
)
V1 = event("v1", kind="void", voids=ref("r1"))


@pytest.mark.parametrize(
    ("documents", "ends"),
    [
        ([E1, R1], {"e1": "replaced", "r1": "counted"}),
        ([E1, R1, R2], {"e1": "replaced", "r1": "replaced", "r2": "counted"}),
        ([E1, V], {"e1": "voided", "v": "applied"}),
        ([E1, R1, V], {"e1": "voided", "r1": "voided", "v": "applied"}),
        ([E1, R1, V1], {"e1": "replaced", "r1": "voided", "v1": "applied"}),
        ([E1, R1, R2, V1], {"e1": "replaced", "r1": "voided", "r2": "voided", "v1": "applied"}),
        ([E1, R1, R2, V], {"e1": "voided", "r1": "voided", "r2": "voided", "v": "applied"}),
        ([E1, R1, V, V1], {"e1": "voided", "r1": "voided", "v": "applied", "v1": "applied"}),
    ],
)
def test_every_order_of_corrections_ends_the_same(documents: list[dict[str, Any]], ends: dict[str, str]) -> None:
    for order in itertools.permutations(documents):
        book = fold(*order)
        assert states(book) == ends
        assert reasons(book) == []
        assert [o.verdict for o in book.verdicts()] == ["counted"] * len(order)
        counts = {entry.event.identity.id: sign for entry, sign in book.movements()}
        assert counts == {name: 1 for name, state in ends.items() if state == "counted"}
        assert all(entry.time_us == TIME_US for entry, _ in book.movements())


def test_a_second_replacement_is_a_conflict_whatever_it_carries() -> None:
    other = event("r9", input=60, upstream_id="u", replaces=ref("e1"))
    book = fold(E1, R1, other)
    assert reasons(book) == [("r9", "conflict")]
    assert states(book) == {"e1": "replaced", "r1": "counted"}


def test_of_two_replacements_that_wait_the_first_stands() -> None:
    other = event("r9", input=60, replaces=ref("e1"))
    book = fold(R1, other, E1)
    assert states(book) == {"e1": "replaced", "r1": "counted"}
    assert [o.verdict for o in book.verdicts()] == ["counted", "counted", "rejected"]
    assert reasons(book) == [("r9", "conflict")]


def test_a_repetition_and_a_conflict() -> None:
    book = fold(E1, E1, event("e1", input=99, upstream_id="u"))
    assert [o.verdict for o in book.outcomes] == ["counted", "duplicate", "rejected"]
    assert reasons(book) == [("e1", "conflict")]
    assert book.entries[Identity("acme", SOURCE, "e1")].redelivered == 1


def test_a_duplicate_is_one_however_late_it_comes() -> None:
    book = Book()
    book.take(seen(E1))
    late = seen(E1, 1, ARRIVAL_US + 60 * 86_400 * 1_000_000)
    assert late.late == "too_old"
    book.take(late)
    assert [o.verdict for o in book.outcomes] == ["counted", "duplicate"]


@pytest.mark.parametrize("reread", [True, False])
def test_the_same_message_read_again_is_no_second_delivery(reread: bool) -> None:
    book = Book()
    book.take(seen(E1, 0))
    book.take(seen(E1, 5 if reread else 0), reread=reread)
    assert [o.verdict for o in book.outcomes] == ["counted", "reread"]
    assert not any(entry.redelivered for entry in book.entries.values())


def test_another_call_with_the_same_response_is_refused() -> None:
    book = fold(E1, event("x", input=1, upstream_id="u"))
    assert reasons(book) == [("x", "duplicate_upstream")]
    assert states(book) == {"e1": "counted"}


def test_a_correction_that_waits_shuts_no_call_out_and_is_judged_when_its_event_comes() -> None:
    waiting = event("w", input=1, upstream_id="u", replaces=ref("ghost"))
    book = fold(waiting, E1, event("ghost", input=5))
    assert states(book) == {"e1": "counted", "ghost": "counted"}
    assert reasons(book) == [("w", "duplicate_upstream")]


@pytest.mark.parametrize(("wait_us", "ends"), [(HOLD_US, "voided"), (HOLD_US + 1, "counted")])
def test_the_end_of_the_wait(wait_us: int, ends: str) -> None:
    book = Book()
    book.take(seen(V))
    book.take(seen(E1, 1, ARRIVAL_US + wait_us))
    assert states(book)["e1"] == ends
    assert reasons(book) == ([] if ends == "voided" else [("v", "unknown_event")])


def test_one_that_was_dropped_and_comes_again_is_another_entry() -> None:
    book = Book()
    first = Book()
    first.take(seen(V, 3))
    book.load(first.entries.values())
    book.take(seen(E1, 4, ARRIVAL_US + HOLD_US + 1))
    book.take(seen(V, 5, ARRIVAL_US + HOLD_US + 2))
    assert states(book) == {"e1": "voided", "v": "applied"}
    assert [i.id for i in book.dropped()] == ["v"]
    assert sorted(entry.event.identity.id for entry in book.added()) == ["e1", "v"]
    assert book.changed() == []
    assert book.decided() == [(Evidence("t", 0, 3, 0), "rejected")]


def test_what_waited_in_the_ledger_is_noted_as_counted_when_its_event_comes() -> None:
    before = Book()
    before.take(seen(V, 3))
    book = Book()
    book.load(before.entries.values())
    book.take(seen(E1, 4))
    assert book.decided() == [(Evidence("t", 0, 3, 0), "counted")]
    assert [o.verdict for o in book.verdicts()] == ["counted"]
    assert [entry.event.identity.id for entry in book.changed()] == ["v"]


def test_a_void_of_a_void_names_no_usage() -> None:
    book = fold(E1, V, event("vv", kind="void", voids=ref("v")))
    assert reasons(book) == [("vv", "unknown_event")]


def test_two_that_name_each_other_wait_for_ever() -> None:
    book = fold(event("a", input=1, replaces=ref("b")), event("b", input=2, replaces=ref("a")))
    assert states(book) == {"a": "held", "b": "held"}
    assert list(book.movements()) == []


def test_a_reservation_is_settled_by_the_first_delivery_alone() -> None:
    reserved = event("e1", input=1, reservation="r")
    book = fold(reserved, reserved)
    assert book.released == [("acme", "r")]


def test_events_of_others_are_not_touched() -> None:
    book = fold(E1, event("v9", kind="void", subject="beta", voids=ref("e1")))
    assert states(book) == {"e1": "counted", "v9": "held"}
