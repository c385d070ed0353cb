"""A house for each test, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.integration.api.kit import House


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium, for the tests of a file."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """An API over a fresh ledger."""
    made = House(database_url, tmp_path)
    yield made
    made.close()
