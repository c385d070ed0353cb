"""Sessions and sign-ins in the ledger, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.ledger import Ledger, sessions
from pipeline.ledger.archive import figures
from pipeline.ledger.sessions import Session, SignIn
from pipeline.ledger.tables import PASSING
from pipeline.ledger.tables import sessions as table

ONE = Session("d1", "operator", "ada", "admin", "", "j1", "k1", 50, "f", 100, 100, 1000)
WAY = SignIn("s1", "b1", "n1", "v1", 500)


def test_a_session_is_found_as_it_was_begun_until_it_ends(ledger: Ledger) -> None:
    ledger.write(lambda c: sessions.begin(c, ONE))
    assert ledger.read(lambda c: sessions.find(c, "d1")) == ONE
    assert ledger.read(lambda c: sessions.find(c, "d2")) is None
    for now_us, seen_us in ((300, 300), (200, 300)):  # a process whose clock is behind does not make it older
        ledger.write(lambda c, n=now_us: sessions.seen(c, "d1", n))
        assert ledger.read(lambda c: sessions.find(c, "d1")) == replace(ONE, seen_us=seen_us)
    assert ledger.write(lambda c: sessions.end(c, "d1"))
    assert not ledger.write(lambda c: sessions.end(c, "d1"))
    assert ledger.rows(table) == []


def test_what_is_over_goes_when_somebody_comes(ledger: Ledger) -> None:
    ledger.write(lambda c: sessions.begin(c, ONE))
    ledger.write(lambda c: sessions.begin(c, replace(ONE, digest="d2", created_us=1001, ends_us=2000)))
    assert [row["digest"] for row in ledger.rows(table)] == ["d2"]


def test_a_token_or_subject_that_is_revoked_takes_its_sessions_along_and_no_others(ledger: Ledger) -> None:
    others = [
        replace(ONE, digest="later", jti="j2", issued_us=60),
        replace(ONE, digest="tenant", jti="j3", kind="tenant"),
        replace(ONE, digest="bob", jti="j4", subject="bob"),
    ]
    for one in (ONE, *others):
        ledger.write(lambda c, s=one: sessions.begin(c, s))
    ledger.write(lambda c: sessions.end_of_subject(c, "operator", "ada", 60))
    assert {row["digest"] for row in ledger.rows(table)} == {"later", "tenant", "bob"}
    ledger.write(lambda c: sessions.end_of_token(c, "j4"))
    assert {row["digest"] for row in ledger.rows(table)} == {"later", "tenant"}


def test_a_sign_in_comes_back_once_whoever_asks_at_once(ledger: Ledger) -> None:
    assert ledger.write(lambda c: sessions.open_sign_in(c, WAY, 0))
    assert ledger.write(lambda c: sessions.take_sign_in(c, "s1", "another browser")) is None
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: ledger.write(lambda c: sessions.take_sign_in(c, "s1", "b1")), range(8)))
    assert [one for one in taken if one is not None] == [WAY]


def test_sign_ins_that_never_come_back_go_and_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SIGN_INS_MAX", 2)
    entered = [ledger.write(lambda c, n=n: sessions.open_sign_in(c, replace(WAY, digest=f"s{n}"), 0)) for n in range(3)]
    assert entered == [True, True, False]
    assert ledger.write(lambda c: sessions.open_sign_in(c, replace(WAY, digest="new", ends_us=900), 501))


def test_no_archive_brings_a_session_back(ledger: Ledger) -> None:
    assert not set(PASSING) & set(ledger.read(figures))
