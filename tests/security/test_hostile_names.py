"""Names that would be SQL, a format or a column's end somewhere else: they go in and come out as they are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect

from pipeline.ledger.tables import events, metadata, reservations, rollups
from tests.integration.api.kit import House, catalog

HOSTILE = (
    "'; DROP TABLE events; --",
    '"; DELETE FROM rollups; --',
    "x' OR '1'='1",
    "\\N",
    "\\.",
    "a\\tb\\\\c",
    "%s %(tenant)s %%",
    "$1 :tenant ?",
    "{0} {tenant}",
    "é–𝔘",
    "../../etc/passwd",
)


def test_sql_in_every_name_is_text(database_url: str, tmp_path: Path) -> None:
    house = House(database_url, tmp_path)
    try:
        tenants = {name: {"plan": "team", "models": ["*"]} for name in HOSTILE}
        keys = {name: {"provider": "openai", "kind": "pooled"} for name in HOSTILE}
        house.ledger.apply(catalog(tenants=tenants, keys=keys), house.now_us - 35 * 86_400_000_000, "test")
        for number, name in enumerate(HOSTILE):
            data = {
                "key": name, "model": name, "user": name, "network": name, "agent": name, "upstream_id": name,
                "reservation": name, "labels": {name: name},
            }  # fmt: skip
            house.count(house.event(f"{name} {number}", tenant=name, **data) | {"source": name})
        found = {row["tenant"]: row for row in house.ledger.rows(events)}
        assert set(found) == set(HOSTILE)
        for name, row in found.items():
            assert [row[column] for column in ("source", "key", "model", "user", "network", "agent")] == [name] * 6
            assert (row["upstream_id"], row["reservation"]) == (name, name)
        assert {(row["tenant"], row["key"], row["model"]) for row in house.ledger.rows(rollups)} == {
            (name, name, name) for name in HOSTILE
        }
        for name in HOSTILE:
            answer = house.ask(name, model=name, id=name, estimate={"tokens": 5})
            assert answer.json()["allowed"] is True, answer.text
        assert {(row["tenant"], row["id"]) for row in house.ledger.rows(reservations)} == {
            (name, name) for name in HOSTILE
        }
        assert set(metadata.tables) <= set(inspect(house.ledger.engine).get_table_names())
    finally:
        house.close()
