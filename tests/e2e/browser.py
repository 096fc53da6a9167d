"""A real Chromium for tests of the dashboard, driven by Playwright; what it complains about is kept."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *(
        "--disable-sync",
        "--no-first-run",
        "--disable-default-apps",
        "--mute-audio",
        "--disable-dev-shm-usage",
    ),
    "--autoplay-policy=no-user-gesture-required",
]
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Looker:
    """Opens pages and keeps what their consoles say; ``forgive`` names complaints that a test provokes."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.complaints: list[str] = []
        self.forgiven: list[str] = []

    def open(self, address: str, **context: Any) -> Page:
        """Open a page in a window of its own."""
        made = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        made.set_default_timeout(30_000)
        self._contexts.append(made)
        page = made.new_page()
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.goto(address)
        return page

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def forgive(self, pattern: str) -> None:
        """Expect complaints of this form."""
        self.forgiven.append(pattern)

    def close(self) -> None:
        """Close the windows, and fail where a console had something to say."""
        for context in self._contexts:
            context.close()
        left = [c for c in self.complaints if not any(re.search(pattern, c) for pattern in self.forgiven)]
        assert left == [], left


def until(page: Page, expression: str, timeout: float = 30.0) -> None:
    """Wait until an expression holds. (The pages' policy forbids ``wait_for_function``, which uses eval.)"""
    deadline = time.monotonic() + timeout
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not true after {timeout:g} s: {expression}"
        page.wait_for_timeout(50)


def fits(page: Page) -> bool:
    """Whether the page is no wider than its window."""
    found: bool = page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return found
