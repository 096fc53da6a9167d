"""Where text stands when it is set on pages: in a fixed-width font, wide (CJK) characters in two columns.

Pure, and knows no PDF library: the server asks it for places without loading one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from millrace.workloads.documents.document import Box, Page

PAGE = (595.0, 842.0)
MARGIN, SIZE, LEADING = 40.0, 8.5, 11.0
ADVANCE = 0.602
ROWS = int((PAGE[1] - 2 * MARGIN) / LEADING)
_COLUMNS = int((PAGE[0] - 2 * MARGIN) / (ADVANCE * SIZE))
_SHEET_ROWS = 400

Row = tuple[int, str]
"""A row: the offset in the page's text of its first character (-1: not of the text), and what it shows."""


def rows_of(page: Page) -> list[Row]:
    """Return a page's text as rows, below a title that says which page it is."""
    return [(-1, f"— {page.part or 'page'} · {page.number} —"), (-1, ""), *_wrap(page.text)]


def sheet(page: Page) -> tuple[tuple[float, float], list[Row]]:
    """Return a page's text as one sheet as long as it takes: its size in points, and its rows.

    After 400 rows it is cut, and says so.
    """
    rows = rows_of(page)
    if len(rows) > _SHEET_ROWS:
        rows = [*rows[: _SHEET_ROWS - 1], (-1, f"… {len(rows) - _SHEET_ROWS + 1} more lines")]
    return (PAGE[0], max(PAGE[1] / 3, 2 * MARGIN + len(rows) * LEADING)), rows


def boxes(rows: Iterable[Row], spans: Sequence[tuple[int, int]]) -> list[list[Box]]:
    """Return for each stretch of the text the boxes it fills on a sheet with these rows, in points."""
    found: list[list[Box]] = [[] for _ in spans]
    for number, (offset, text) in enumerate(rows):
        if offset < 0:
            continue
        top = MARGIN + number * LEADING
        for place, (start, end) in enumerate(spans):
            if start < offset + len(text) and offset < end:
                left = columns(text[: max(0, start - offset)])
                right = columns(text[: end - offset])
                x0, x1 = (MARGIN + column * ADVANCE * SIZE for column in (left, right))
                found[place].append((x0, top, x1, top + LEADING))
    return found


def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def columns(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def runs(text: str) -> list[str]:
    """Cut a line where the width of characters changes, each wide one alone, so that columns stay true."""
    if text.isascii():
        return [text]
    found: list[str] = []
    for char in text:
        if found and _width(char) == 1 and _width(found[-1][-1]) == 1:
            found[-1] += char
        else:
            found.append(char)
    return found


def _wrap(text: str) -> list[Row]:
    """Cut a text into rows of at most the page's columns, each with its offset; tabs become blanks."""
    rows: list[Row] = []
    offset = 0
    for line in text.split("\n"):
        shown = "".join(char if char.isprintable() else " " for char in line)
        start = 0
        while True:
            end = _fit(shown, start)
            rows.append((offset + start, shown[start:end]))
            start = end
            if start >= len(shown):
                break
        offset += len(line) + 1
    return rows


def _fit(line: str, start: int) -> int:
    if len(line) - start <= _COLUMNS // 2 or (line.isascii() and len(line) - start <= _COLUMNS):
        return len(line)
    used, end = 0, start
    while end < len(line) and used + _width(line[end]) <= _COLUMNS:
        used += _width(line[end])
        end += 1
    if end < len(line):
        blank = line.rfind(" ", start + 1, end)
        if blank > start + (end - start) // 2:
            return blank + 1
    return max(end, start + 1)
