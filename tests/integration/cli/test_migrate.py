"""`tollhouse migrate`, and what every other command says of a database at another version: one line."""

import sqlite3

from pipeline.ledger.schema import HEAD
from tests.integration.cli.installation import Installation


def test_another_version_is_one_line_everywhere_and_migrate_is_the_way(october: Installation) -> None:
    usage = october("usage", "--format", "json").json()
    assert october("migrate", "--check").code == 0
    refused = october("migrate", "--to", "0001")
    assert (refused.code, len(refused.said)) == (2, 1)
    assert october("migrate", "--to", "0001", "--yes").code == 0
    for command in (("usage",), ("up", "--port", "0", "--broker-port", "0"), ("worker",), ("backup", "x"), ("audit",)):
        said = october(*command)
        assert said.code == 1, said
        assert "version 0001" in said.said[-1], said
    doctor = october("doctor")
    assert doctor.code == 1
    assert "run `tollhouse migrate`" in doctor.out
    assert october("migrate", "--check").code == 1
    done = october("migrate", "--json").json()
    assert (done["before"], done["after"]) == ("0001", HEAD)
    assert october("usage", "--format", "json").json() == usage
    assert october("audit", "--no-broker").code == 0


def test_a_database_of_a_newer_program_is_left_alone(october: Installation) -> None:
    with sqlite3.connect(october.database) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (("migrate",), ("usage",)):
        said = october(*command)
        assert said.code == 1
        assert "from a newer Tollhouse" in said.said[-1]
    assert october("migrate", "--to", "0042").code == 1
