"""Backup, destroyed, restored, read on from where the backup stands: the digests are those of a ledger that lived."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text

from pipeline.admission import Ask
from pipeline.ledger import Ledger
from pipeline.ledger.archive import ArchiveError, export, figures, load_manifest, restore
from pipeline.ledger.auditing import differences
from pipeline.ledger.schema import migrate
from pipeline.ledger.tables import events, metadata, rejected
from schemas.instants import DAY_US, MINUTE_US
from schemas.tokens import CLASSES
from schemas.usage_event import Message
from tests.unit.cli.command import tollhouse
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event, ref

QUOTAS = [
    {"name": "t", "meter": "tokens", "limit": 10**9, "window": "day"},
    {"name": "c", "meter": "cost", "limit": "50", "window": "month"},
]


def messages(first: int, last: int) -> list[Message]:
    """Messages of one partition by their offsets: single events and arrays, corrections, duplicates, refusals."""
    made = []
    for n in range(first, last):
        documents = [event(f"e{n}-{i}", input=n + i, output=3, upstream_id=f"u{n}-{i}") for i in range(3)]
        if n % 5 == 1:
            documents.append(event(f"v{n}", kind="void", voids=ref(f"e{n - 1}-0")))
        if n % 7 == 2:
            documents += [event("bad", key="k9", input=1), event(f"w{n}", kind="void", voids=ref("unseen"))]
        if n % 3 == 0:
            documents.append(event("e0-0", input=0, output=3, upstream_id="u0-0"))
        made.append(Message(json.dumps(documents).encode(), ARRIVAL_US + n, "usage.events", 0, n))
    return made


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    tenants = {"acme": {"plan": "p", "quotas": QUOTAS}, "own": {"plan": "p", "tier": "byok"}}
    made.apply(catalog(tenants=tenants), TIME_US - DAY_US, "t")
    made.set_key_state("k1", "active", TIME_US, "ada", 'tab\tquote" back\\slash\nline')
    yield made
    made.close()


def count(ledger: Ledger, first: int, last: int) -> None:
    """As a worker does it, some messages a batch."""
    for start in range(first, last, 4):
        ledger.take_messages(messages(start, min(start + 4, last)), ARRIVAL_US + MINUTE_US)


def destroyed(url: str) -> None:
    """As good as gone: no table is left."""
    other = Ledger(url)
    with other.engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    other.close()


def without_outbox(found: dict[str, Any]) -> dict[str, Any]:
    """Numbers that the database gives differ where transactions were undone; what they number does not."""
    return {name: figure for name, figure in found.items() if name not in ("outbox", "rejected", "deliveries")}


def test_restored_and_read_on_it_is_the_ledger_that_lived(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    count(ledger, 0, 20)
    assert ledger.authorize(Ask(id="r", tenant="acme", model="m", estimate={"tokens": Decimal(10)}), ARRIVAL_US).allowed
    then = ledger.read(figures)
    manifest = export(database_url, tmp_path / "backup", "2026-10-03T00:00:00Z")
    assert {name: (t["rows"], t["digest"]) for name, t in manifest["tables"].items()} == then
    count(ledger, 20, 40)
    lived = ledger.read(figures)
    refused = [(row["offset"], row["item"], row["reason"]) for row in ledger.rows(rejected, order=[rejected.c.n])]
    assert lived != then
    destroyed(database_url)
    restore(database_url, tmp_path / "backup")
    assert ledger.read(figures) == then
    assert ledger.read(differences) == []
    count(ledger, 20, 40)
    assert without_outbox(ledger.read(figures)) == without_outbox(lived)
    assert [(row["offset"], row["item"], row["reason"]) for row in ledger.rows(rejected)] == refused
    assert ledger.read(differences) == []
    count(ledger, 10, 40)  # and what is read again changes nothing
    assert without_outbox(ledger.read(figures)) == without_outbox(lived)


def test_to_the_other_database_and_back(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    count(ledger, 0, 10)
    export(database_url, tmp_path / "one", "2026-10-03T00:00:00Z")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    restore(other, tmp_path / "one")
    export(other, tmp_path / "two", "2026-10-03T00:00:00Z")
    destroyed(database_url)
    restore(database_url, tmp_path / "two")
    one, two = load_manifest(tmp_path / "one"), load_manifest(tmp_path / "two")
    assert {n: t["digest"] for n, t in one["tables"].items()} == {n: t["digest"] for n, t in two["tables"].items()}
    assert ledger.read(figures)["events"].digest == one["tables"]["events"]["digest"]
    count(ledger, 10, 12)  # numbers go on after those that came in
    assert ledger.read(differences) == []


def test_another_tool_reads_the_same_totals(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    count(ledger, 0, 10)
    export(database_url, tmp_path / "out", "2026-10-03T00:00:00Z")
    frame = pq.read_table(tmp_path / "out" / "events.parquet").to_pandas()
    counted = frame[(frame.state == "counted") & (frame.kind == "usage")]
    rows = ledger.rows(events, events.c.state == "counted", events.c.kind == "usage")
    assert {name: int(counted[name].sum()) for name in CLASSES} == {
        name: sum(row[name] for row in rows) for name in CLASSES
    }
    windows = pq.read_table(tmp_path / "out" / "quota_windows.parquet")
    assert str(windows.schema.field("used").type) == "decimal128(38, 0)"


def test_what_is_not_whole_is_refused_and_nothing_is_changed(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    count(ledger, 0, 3)
    out, empty = tmp_path / "out", f"sqlite:///{tmp_path / 'empty.db'}"
    export(database_url, out, "2026-10-03T00:00:00Z")
    with pytest.raises(ArchiveError, match="is there already"):
        export(database_url, out, "2026-10-03T00:00:00Z")
    with pytest.raises(ArchiveError, match="has a ledger already"):
        restore(database_url, out)
    with pytest.raises(ArchiveError, match="is no whole backup"):
        restore(empty, tmp_path / "nothing")
    path = out / "events.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ArchiveError, match=r"events.parquet is not what was written"):
        restore(empty, out)
    path.write_bytes(whole)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["tables"]["rollups"]["digest"] = "0" * 32
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArchiveError, match="rollups: the database has"):
        restore(empty, out)
    other = Ledger(empty)
    assert other.read(lambda connection: connection.execute(select(events)).all()) == []
    other.close()


def test_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    made = Ledger(f"sqlite:///{tmp_path / 'a' / 'tollhouse.db'}")
    made.create()
    made.apply(catalog(), TIME_US - DAY_US, "t")
    count(made, 0, 5)
    done = tollhouse("backup", tmp_path / "out", "--dir", tmp_path / "a")
    assert (done.code, "written:" in done.out) == (0, True)
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    again = tollhouse("backup", tmp_path / "out", "--dir", tmp_path / "a")
    assert (again.code, len(again.said)) == (1, 1)
    back = tollhouse("restore", tmp_path / "out", "--dir", tmp_path / "b", "--json")
    assert back.code == 0
    assert back.json()["tables"]["events"]["rows"] == made.read(figures)["events"].rows
    assert tollhouse("audit", "--no-broker", "--dir", tmp_path / "b").code == 0
    migrate(made.engine, "0001")
    old = tollhouse("backup", tmp_path / "old", "--dir", tmp_path / "a")
    assert old.code == 1
    assert "run `tollhouse migrate`" in old.err or "at version 0001" in old.err
    made.close()
