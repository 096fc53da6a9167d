"""A browser for the tests of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.browser import Looker, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def look(browser: Browser) -> Iterator[Looker]:
    """Open pages; at the end no console may have complained."""
    looker = Looker(browser)
    yield looker
    looker.close()
