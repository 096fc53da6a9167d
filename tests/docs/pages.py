"""The documentation's pages and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n+\Z", re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. ``not_run`` says why it is only looked at, where a comment before it says so."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page, the README first."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def name(page: Path) -> str:
    """Return a page's path from the root, as a reader would name it."""
    return str(page.relative_to(ROOT))


@cache
def text(page: Path) -> str:
    """Return a page as it is written."""
    return page.read_text(encoding="utf-8")


def whole() -> str:
    """Return all pages below ``docs`` as one text."""
    return "\n".join(text(page) for page in pages() if page != README)


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """Yield the blocks of a page, of these languages or of all."""
    for found in _FENCE.finditer(text(page)):
        if languages and found[1] not in languages:
            continue
        before = text(page)[: found.start()]
        reason = _NOT_RUN.search(before)
        yield Block(
            name(page),
            before.count("\n") + 1,
            found[1],
            found[2],
            " ".join(reason[1].split()) if reason else None,
        )
