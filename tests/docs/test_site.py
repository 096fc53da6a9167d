"""The built site: complete, without a broken link, and nothing in it comes from elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from millrace.engine import lifecycle
from millrace.engine.lifecycle import IllegalTransition, Position
from millrace.engine.model import State
from millrace.engine.workload import Retry
from tests.docs.pages import DOCS, README, ROOT, name, pages, text

pytest.importorskip("mkdocs")
pytest.importorskip("material")

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``make docs`` builds it: a broken link or anchor fails the build."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    made = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")} - {Path("404")}
    assert made == {page.relative_to(DOCS).with_suffix("") for page in pages() if page != README}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)", html)
        loaded += re.findall(
            r"<link\b[^>]*\brel=\"(?:stylesheet|icon|preload|preconnect)\"[^>]*href=\"([^\"]+)", html
        )
        loaded += re.findall(r"<link\b[^>]*\bhref=\"([^\"]+)\"[^>]*\brel=\"(?:stylesheet|icon|preload)", html)
        assert loaded
        assert [address for address in loaded if "//" in address] == [], page
    for sheet in site.rglob("*.css"):
        assert (
            re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == []
        )


def test_a_browser_asks_nobody_else_and_finds_words(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with served(site) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/state-machine.html")
        assert page.locator("img[src$='item-states.svg']").evaluate("image => image.naturalWidth") > 0
        page.goto(f"{address}/index.html")
        page.keyboard.press("/")
        page.keyboard.type("lease")
        page.locator(".md-search-result__item").first.wait_for()
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert problems == []


def test_links_from_the_readme_lead_somewhere() -> None:
    for page in (README, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", text(page)):
            assert (ROOT / target).exists(), f"{name(page)} links to {target}"


def test_pictures_are_drawings_of_our_own() -> None:
    for page in pages():
        assert "```mermaid" not in text(page), name(page)
    for picture in DOCS.rglob("*.svg"):
        tree = ElementTree.parse(picture)
        assert tree.find(f"{SVG}title") is not None, picture
        assert not tree.findall(f".//{SVG}script")
        assert 'href="http' not in picture.read_text(encoding="utf-8")


def test_the_drawing_of_an_items_states_is_what_the_code_does() -> None:
    assert drawn("item-states.svg") == moves() | {("failed", "queued"), ("cancelled", "queued")}


def test_the_drawing_of_a_jobs_states_names_all_there_are() -> None:
    states = {state.value for state in State} - {"skipped"}  # a job is never skipped
    assert {state for move in drawn("job-states.svg") for state in move} == states


def drawn(picture: str) -> set[tuple[str, str]]:
    """Return the moves that a drawing shows."""
    tree = ElementTree.parse(DOCS / "images" / picture)
    return {
        (path.get("data-from", ""), path.get("data-to", ""))
        for path in tree.iter(f"{SVG}path")
        if path.get("data-to")
    }


def moves() -> set[tuple[str, str]]:
    """Return the moves that the functions of the lifecycle make, and that of a claim."""
    found = {("queued", "running")}
    for state in State:
        for losses in range(lifecycle.MAX_LOSSES):
            here = Position(state, 0, losses=losses)
            for move in (
                lambda p: lifecycle.succeed(p, 1),
                lambda p: lifecycle.succeed(p, 2),
                lifecycle.skip,
                lambda p: lifecycle.fail(p, retryable=False, retry=Retry(), now=0.0),
                lambda p: lifecycle.fail(p, retryable=True, retry=Retry(), now=0.0),
                lambda p: lifecycle.lose(p, blame=True),
                lifecycle.cancel,
            ):
                try:
                    there = move(here)
                except IllegalTransition:
                    continue
                if there != here:
                    found.add((state.value, there.state.value))
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class served:  # noqa: N801 - a context manager, read as a verb
    """Serve a folder on a free port."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
