"""The schema that migrations make is the one that the program makes, on both databases, forward and back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from pipeline.ledger import Ledger
from pipeline.ledger.chain import verify
from pipeline.ledger.engine import make_engine, run_transaction
from pipeline.ledger.schema import HEAD, MIGRATIONS, VERSIONS, SchemaError, migrate, prepare, version_of
from pipeline.ledger.tables import metadata
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = make_engine(database_url)
    yield made
    made.dispose()


def shape(engine: Engine) -> dict[str, Any]:
    """Everything about the tables that this database knows: columns, keys, indexes with their conditions."""
    inspector = inspect(engine)
    found: dict[str, Any] = {}
    for name in inspector.get_table_names():
        columns = [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(name)]
        indexes = [
            (
                i["name"],
                i["column_names"],
                i["unique"],
                sorted(f"{k}={v}" for k, v in i.get("dialect_options", {}).items()),
            )
            for i in inspector.get_indexes(name)
        ]
        unique = sorted(u["column_names"] for u in inspector.get_unique_constraints(name))
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        found[name] = (columns, sorted(indexes), unique, key)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT name, wr FROM pragma_table_list WHERE schema = 'main'")).all()
        found["without rowid"] = sorted(name for name, without in rows if without)
    return found


def test_versions_are_the_revisions_in_their_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]
    assert tuple(r.revision for r in reversed(list(script.walk_revisions()))) == VERSIONS


def test_migrated_and_made_are_the_same_forward_and_back(engine: Engine) -> None:
    prepare(engine)
    made = shape(engine)
    assert migrate(engine, "base") == (HEAD, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    assert migrate(engine) == (None, HEAD)
    assert shape(engine) == made
    for version in reversed(VERSIONS[:-1]):
        migrate(engine, version)
    assert shape(engine) != made
    assert migrate(engine) == (VERSIONS[0], HEAD)
    assert shape(engine) == made
    prepare(engine)  # finds its version, and changes nothing


def test_what_is_in_the_ledger_survives_a_step_back_and_forward(database_url: str) -> None:
    ledger = Ledger(database_url)
    ledger.create()
    ledger.apply(catalog(), TIME_US, "test")
    ledger.set_key_state("k1", "suspended", TIME_US, "ada", "because")
    documents = [event(f"e{n}", input=n) for n in range(5)]
    ledger.take(
        [Delivery(json.dumps(d).encode(), ARRIVAL_US, Evidence("t", 0, n, 0)) for n, d in enumerate(documents)],
        ARRIVAL_US,
    )
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    before = {table.name: sorted(map(repr, ledger.rows(table))) for table in tables}
    migrate(ledger.engine, "0001")
    migrate(ledger.engine)
    assert {table.name: sorted(map(repr, ledger.rows(table))) for table in tables} == before
    assert ledger.read(lambda connection: list(verify(connection))) == []
    ledger.close()


def test_a_log_of_before_the_chain_is_chained_and_its_gaps_closed(engine: Engine) -> None:
    migrate(engine, "0001")
    insert = text("INSERT INTO audit_log (n, at_us, who, action, subject, detail) VALUES (:n, 1, 'a', 'b', 'c', 'd')")
    with engine.begin() as connection:
        for n in (1, 2, 5, 9):
            connection.execute(insert, {"n": n})
    migrate(engine)
    with engine.begin() as connection:
        assert [int(n) for n in connection.execute(text("SELECT n FROM audit_log ORDER BY n")).scalars()] == [
            1,
            2,
            3,
            4,
        ]
        assert list(verify(connection)) == []


def test_a_database_of_another_version_is_told_in_a_line(engine: Engine) -> None:
    prepare(engine)
    before = shape(engine)
    for version, said in (("0001", "run `tollhouse migrate`"), ("9999", "from a newer Tollhouse")):
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
        with pytest.raises(SchemaError, match=said) as raised:
            prepare(engine)
        assert "\n" not in str(raised.value)
    with pytest.raises(SchemaError, match="there is no such version: use 0001"):
        migrate(engine, "0099")
    with pytest.raises(SchemaError, match="newer Tollhouse"):
        migrate(engine)
    assert shape(engine) == before
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(SchemaError, match="before its versions were kept"):
        prepare(engine)


def test_a_database_without_a_version_is_taken_for_the_first_if_its_tables_are(engine: Engine) -> None:
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    assert migrate(engine) == (None, HEAD)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(SchemaError, match=r"its table audit_log is not that of version 0001 \(hash differ\)"):
        migrate(engine)


def test_a_migration_that_fails_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(engine, "0001")
    before = shape(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE dropped_places (x INTEGER)"))  # in the way of the last step
    with pytest.raises(Exception, match="dropped_places"):
        migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE dropped_places"))
    assert shape(engine) == before


def test_many_that_start_or_migrate_at_once_take_turns(database_url: str) -> None:
    barrier = threading.Barrier(6)

    def start(how: int) -> str | None:
        engine = make_engine(database_url)
        try:
            barrier.wait()
            migrate(engine) if how % 2 else prepare(engine)
            return run_transaction(engine, version_of)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(start, range(6))) == [HEAD] * 6


def test_revisions_are_frozen_apart_from_the_program() -> None:
    for file in (MIGRATIONS / "versions").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        assert "import pipeline" not in source, file
        assert "from pipeline" not in source, file
        assert "schemas" not in source, file
