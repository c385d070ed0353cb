"""A ledger from a backup under real workers: they go back in the topic to where it stands, and count on exactly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.ledger import Ledger
from pipeline.ledger.archive import export, figures, restore
from pipeline.ledger.auditing import differences
from pipeline.ledger.tables import metadata
from tests.simulation.driver import Driver
from tests.simulation.world import World

COMPARED = ("events", "rollups", "quota_windows", "intake", "reservations", "catalogs", "audit_log")


@pytest.fixture
def world(kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[World]:
    """Kafka and PostgreSQL: the embedded broker keeps nothing that could be older than a backup."""
    made = World(kafka, postgresql_url, tmp_path, topic_prefix, embedded=False)
    yield made
    made.close()


def test_backup_destroy_restore_and_replay_gives_the_same_digests(world: World, tmp_path: Path) -> None:
    driver = Driver(41, datetime.now(UTC))
    world.publish(driver.traffic(200))
    process = world.start_worker()
    world.settle()
    export(world.database_url, tmp_path / "backup", "now")
    world.publish(driver.traffic(200))
    world.settle()
    process.terminate()
    assert process.wait(20) == 0, world.logs()
    ledger = Ledger(world.database_url)
    lived = ledger.read(figures)

    with ledger.engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    restore(world.database_url, tmp_path / "backup")
    assert ledger.read(figures)["events"] != lived["events"]
    assert world.committed() == world.end_offsets()  # the broker thinks that everything was taken
    world.start_worker()
    world.check()
    found = ledger.read(figures)
    assert {name: found[name] for name in COMPARED} == {name: lived[name] for name in COMPARED}
    assert ledger.read(differences) == []
    ledger.close()
