"""The auditor: what the ledger must hold, from the driver's own list, and what it does hold, read with plain SQL.

It shares no code with the product: it folds over whole histories where the product works in batches, and it reads the
tables with the database's driver.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from tests.simulation.driver import CLASSES, Sent

Sums = dict[tuple[str, str, str], Counter[str]]


class Expected:
    """The truth about a list of deliveries, in any order of arrival."""

    def __init__(self, deliveries: Iterable[Sent]) -> None:
        usage: dict[tuple[str, str, str], Sent] = {}
        corrections: list[Sent] = []
        self.rejected: set[tuple[str, str, str, str]] = set()
        for sent in deliveries:
            if sent.reason:
                self.rejected.add((sent.reason, *sent.name))
            elif sent.kind == "void" or sent.target is not None:
                corrections.append(sent)
                if sent.kind == "usage":
                    usage.setdefault(sent.name, sent)
            else:
                usage.setdefault(sent.name, sent)
        self.distinct = {*usage, *(c.name for c in corrections)}
        gone = {(c.tenant, *c.target) for c in corrections if c.target is not None}
        voided = {(c.tenant, *c.target) for c in corrections if c.kind == "void" and c.target is not None}
        self.counted = {
            name: sent
            for name, sent in usage.items()
            if name not in gone and (sent.target is None or (sent.tenant, *sent.target) not in voided)
        }
        self.sums: Sums = {}
        for sent in self.counted.values():
            total = self.sums.setdefault((sent.tenant, sent.key, sent.model), Counter())
            total.update(sent.classes)
            total.update(requests=sent.requests, errors=sent.errors, events=1)

    def tokens(self, tenant: str) -> int:
        """All tokens of a tenant."""
        return sum(
            n for (t, _, _), c in self.sums.items() if t == tenant for name, n in c.items() if name in CLASSES[:10]
        )

    def requests(self, tenant: str) -> int:
        """All requests of a tenant."""
        return sum(c["requests"] for (t, _, _), c in self.sums.items() if t == tenant)


class Books:
    """The ledger's tables, by URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query in a transaction of its own; raises while the database is away."""
        if self._url.startswith("sqlite"):
            with sqlite3.connect(
                f"file:{self._url.removeprefix('sqlite:///')}?mode=ro", uri=True, timeout=30
            ) as database:
                return database.execute(sql).fetchall()
        with psycopg.connect(self._url.replace("+psycopg", ""), connect_timeout=5) as server:
            return server.execute(sql).fetchall()

    def taken(self) -> dict[int, int]:
        """Next offset by partition, of the newest generation of the topic."""
        # "usage.events" sorts before "usage.events~1"; a later row wins.
        return {int(p): int(n) for p, n in self.query("SELECT partition, next_offset FROM intake ORDER BY topic")}

    def sums(self) -> Sums:
        """Rollups summed over time."""
        names = (*CLASSES, "requests", "errors", "events")
        columns = ", ".join(f"sum({name})" for name in names)
        rows = self.query(f"SELECT tenant, key, model, {columns} FROM rollups GROUP BY tenant, key, model")
        return {
            (row[0], row[1], row[2]): +Counter(dict(zip(names, map(int, row[3:]), strict=True)))
            for row in rows
            if row[-1]
        }


def audit(url: str, deliveries: Sequence[Sent], *, poison: int = 0) -> None:
    """AssertionError with the difference if the ledger is not the fold over the distinct accepted events."""
    expected, books = Expected(deliveries), Books(url)
    assert books.sums() == {key: +value for key, value in expected.sums.items()}
    entries = books.query("SELECT tenant, source, id, state, kind FROM events")
    assert {tuple(row[:3]) for row in entries} == expected.distinct
    assert len(entries) == len(expected.distinct)
    counted = {tuple(row[:3]) for row in entries if row[3] == "counted" and row[4] == "usage"}
    assert counted == set(expected.counted)
    assert [row for row in entries if row[3] == "held"] == []
    rejected = books.query('SELECT reason, tenant, source, id, topic, partition, "offset", item FROM rejected')
    assert {tuple(row[:4]) for row in rejected if row[0] != "malformed"} == expected.rejected
    assert len([row for row in rejected if row[0] == "malformed"]) == poison
    _audit_intake(books, len(expected.distinct))
    _audit_quotas(books, expected)


def _audit_intake(books: Books, distinct: int) -> None:
    for topic, partition, received, counted, duplicates, rejected, held in books.query(
        "SELECT topic, partition, received, counted, duplicates, rejected, held FROM intake"
    ):
        assert received == counted + duplicates + rejected + held, (topic, partition)
    # A held correction counts as held when it arrives; it becomes an entry without another delivery.
    ((taken,),) = books.query("SELECT sum(counted + held) FROM intake")
    assert taken == distinct
    ((listed,),) = books.query("SELECT count(*) FROM rejected")
    ((refused,),) = books.query("SELECT sum(rejected) FROM intake")
    assert listed == refused


def _audit_quotas(books: Books, expected: Expected) -> None:
    used: Counter[tuple[str, str]] = Counter()
    for scope, name, units in books.query("SELECT scope, name, sum(used) FROM quota_windows GROUP BY scope, name"):
        used[scope.removeprefix("tenant:"), name] += int(units)
    for tenant in {key[0] for key in expected.sums}:
        assert used[tenant, "monthly"] == expected.tokens(tenant), tenant
    assert used["beta", "requests"] == expected.requests("beta")


def audit_states(url: str, messages: Iterable[bytes | None], now_us: int) -> None:
    """The last state of each quota window that is open now is on the topic, as the ledger has it."""
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for state in (json.loads(value) for value in messages if value):
        if "clock" in state:
            continue
        mark = (state["scope"], state["name"], state["window_start"])
        if mark not in last or state["version"] > last[mark]["version"]:
            last[mark] = state
    columns = "scope, name, used, version"
    rows = Books(url).query(
        f"SELECT {columns} FROM quota_windows WHERE version > 0 AND start_us <= {now_us} AND end_us > {now_us}"
    )
    found = {(scope, name, str(used), int(version)) for scope, name, used, version in rows}
    assert found
    assert found <= {(s["scope"], s["name"], s["used"], s["version"]) for s in last.values()}


def audit_told(url: str, rejected: Iterable[bytes], alerts: Iterable[bytes]) -> None:
    """Every rejected delivery and every version of an alert is on its topic, repeats are equal, and nothing else is."""
    books = Books(url)
    numbers: dict[int, bytes] = {}
    for value in rejected:
        assert numbers.setdefault(json.loads(value)["number"], value) == value
    assert set(numbers) == {n for (n,) in books.query("SELECT n FROM rejected")}
    told = {(body["id"], body["version"]) for body in map(json.loads, alerts)}
    assert told == set(books.query("SELECT alert, version FROM deliveries WHERE sink = ''"))
    assert books.query("SELECT count(*) FROM outbox") == [(0,)]


def audit_evidence(url: str, messages: dict[tuple[int, int], bytes], deliveries: Sequence[Sent], topic: str) -> int:
    """The place of each event of this topic leads to the very bytes that were sent under its name; how many there are.

    messages: (partition, offset) to value.
    """
    sent: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in deliveries:
        sent.setdefault(one.name, []).append(one.body)
    query = f"SELECT tenant, source, id, partition, \"offset\", item FROM events WHERE topic = '{topic}'"
    rows = Books(url).query(query)
    assert rows
    for tenant, source, name, partition, offset, item in rows:
        value = json.loads(messages[int(partition), int(offset)])
        body = value[int(item)] if isinstance(value, list) else value
        assert isinstance(value, list) or item == 0
        assert body in sent[tenant, source, name]
    return len(rows)
