"""A house for each test, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.kit import House


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """An API over a fresh ledger."""
    made = House(database_url, tmp_path)
    yield made
    made.close()
