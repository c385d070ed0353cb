"""The audit log's chain: each line carries a digest over itself and the digest of the line before it.

A line that was altered, removed or put in by hand breaks the chain at its place. Lines cut off at the end leave a whole
chain, so the last line's number and digest are kept apart: in the database (a hand that forgets it is found) and, for a
hand that does not, wherever the operator keeps what `tollhouse audit` prints.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, insert, select, text

from pipeline.ledger import books
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import audit_log

KIND: Final = "audit"
HEAD: Final = "head"

_l = audit_log.c


class Anchor(NamedTuple):
    """The chain's end: the last line's number (0: there is none) and its digest, hexadecimal."""

    n: int
    hash: str

    def text(self) -> str:
        """`N:DIGEST`, as `tollhouse audit --anchor` takes it."""
        return f"{self.n}:{self.hash}"


def link(before: str, line: tuple[int, int, str, str, str, str]) -> str:
    """The digest of a line (n, at_us, who, action, subject, detail) after one whose digest is `before`."""
    return sha256(f"{before}\n{json.dumps(line, separators=(',', ':'))}".encode()).hexdigest()


def append(connection: Connection, at_us: int, who: str, action: str, subject: str, detail: str = "") -> Anchor:
    """One more line; writers take turns until their transactions end, so that no two follow the same line."""
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tollhouse audit log'))"))
    last = connection.execute(select(_l.n, _l.hash).order_by(_l.n.desc()).limit(1)).first()
    n, before = (int(last.n), last.hash) if last is not None else (0, "")
    anchor = Anchor(n + 1, link(before, (n + 1, at_us, who, action, subject, detail)))
    connection.execute(
        insert(audit_log).values(
            n=anchor.n, at_us=at_us, who=who, action=action, subject=subject, detail=detail, hash=anchor.hash
        )
    )
    books.put(connection, KIND, HEAD, anchor.text())
    return anchor


def head(connection: Connection) -> Anchor:
    """The chain's end as the table has it."""
    last = connection.execute(select(_l.n, _l.hash).order_by(_l.n.desc()).limit(1)).first()
    return Anchor(int(last.n), last.hash) if last is not None else Anchor(0, "")


def verify(connection: Connection, anchor: Anchor | None = None) -> Iterator[str]:
    """A line for each place where the chain does not hold. anchor: an end that was seen before, kept elsewhere."""
    before, expected = "", 1
    seen = anchor is None or anchor.n == 0
    for row in connection.execute(select(audit_log).order_by(_l.n)):
        n = int(row.n)
        if n != expected:
            yield f"lines {expected} to {n - 1} are missing" if n > expected else f"line {n} is one too many"
        if link(before, (n, int(row.at_us), row.who, row.action, row.subject, row.detail)) != row.hash:
            yield f"line {n} ({row.action} of {row.subject}) is not what was written, or does not follow the one before"
        if anchor is not None and n == anchor.n:
            seen = True
            if row.hash != anchor.hash:
                yield f"line {n} has another digest than the anchor"
        before, expected = row.hash, n + 1
    if not seen:
        assert anchor is not None  # without one nothing is looked for
        yield f"the anchor's line {anchor.n} is missing"
    kept, end = books.get(connection, KIND, HEAD), Anchor(expected - 1, before)
    if (kept or Anchor(0, "").text()) != end.text():
        yield f"it ends with line {end.n}, the last that was written is {(kept or '0').partition(':')[0]}"


def parse_anchor(said: str) -> Anchor:
    """An anchor out of `N:DIGEST`; ValueError for anything else."""
    n, mark, digest = said.partition(":")
    if not (mark and n.isdecimal() and len(digest) in (0, 64)):
        raise ValueError(f"{said!r} is no anchor: give N:DIGEST as `tollhouse audit` printed it")
    return Anchor(int(n), digest)


def lines_of(connection: Connection, action: str) -> list[dict[str, Any]]:
    """Lines of one action, in their order."""
    query = select(audit_log).where(_l.action == action).order_by(_l.n)
    return [dict(row) for row in connection.execute(query).mappings()]
