"""Make a copy in which the values that were found are really gone, not only covered.

PDF and pictures: every page with something to remove is rendered, the places are painted over, and the
picture alone becomes the page, so that no text, hidden layer, comment or form field of it is left. Pages
with nothing to remove are copied without their annotations, or become pictures too where they carry layers,
metadata, private data or scripts; attachments, metadata, bookmarks and scripts of the document are not
copied. A page where the place of a value is not known is withheld whole. Other formats become plain text
with the characters replaced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from millrace.workloads.documents.document import METADATA, Box, Document, Finding, Page
from millrace.workloads.documents.extract.image import open_image
from millrace.workloads.documents.extract.pdf import PageBoxes
from millrace.workloads.documents.highlight import picture_to_page

GROUPS = frozenset(("personal", "secret"))
_CARRIED = re.compile(
    rb"/(?:Metadata|PieceInfo|AA|JavaScript|JS|OCG|OCMD|OCProperties|Thumb|EmbeddedFiles?|Filespec)\b"
    rb"|Exif\0\0|ns\.adobe\.com/xap|Photoshop 3\.0"
)
_SCALE = 150 / 72
_PAD = 1.5
_MAX_PIXELS = 25_000_000
_LEAST_LENGTH = 5


@dataclass(frozen=True, slots=True)
class Removal:
    """A stretch of a page's text to remove; ``boxes`` empty: its place is not known."""

    start: int
    end: int
    boxes: tuple[Box, ...]


def redact(path: Path, document: Document, findings: Sequence[Finding], out: Path,
           groups: frozenset[str] = GROUPS) -> int:  # fmt: skip
    """Write a redacted copy to ``out`` (PDF for PDF and pictures, else UTF-8 text).

    Returns how many stretches were removed, repetitions of a value found elsewhere included.
    """
    values = _values(document, [f for f in findings if f.group in groups])
    if document.format == "pdf":
        return _redact_pdf(path, document, findings, groups, values, out)
    removals = {p.number: _removals(p, findings, groups, values, None) for p in document.pages}
    if document.format in ("png", "jpeg"):
        _redact_picture(path, removals.get(1, []), out)
    else:
        texts = [_blacked(page, removals[page.number]) for page in document.pages]
        out.write_text("\f".join(texts), encoding="utf-8")
    return sum(map(len, removals.values()))


def suffix(document: Document) -> str:
    """Return the name ending of the redacted copy of a document: ``.pdf`` or ``.txt``."""
    return ".pdf" if document.format in ("pdf", "png", "jpeg") else ".txt"


def _values(document: Document, findings: Sequence[Finding]) -> frozenset[str]:
    pages = {page.number: page.text for page in document.searched}
    found = {
        pages[f.page][f.start : f.end].strip()
        for f in findings
        if f.page != METADATA or f.type != "PERSON"  # an author named "user" must not black out the word
    }
    return frozenset(value for value in found if len(value) >= _LEAST_LENGTH)


def _removals(
    page: Page,
    findings: Sequence[Finding],
    groups: frozenset[str],
    values: frozenset[str],
    places: PageBoxes | None,
) -> list[Removal]:
    """Return what goes from a page: its findings, and every other occurrence of a value found anywhere."""
    spans = {(f.start, f.end): f.boxes for f in findings if f.page == page.number and f.group in groups}
    for value in values:
        at = page.text.find(value)
        while at >= 0:
            end = at + len(value)
            if not any(start <= at and end <= stop for start, stop in spans):
                spans[at, end] = places.find(at, end) if places else tuple(
                    span.box for span in page.spans if span.start < end and at < span.end
                )  # fmt: skip
            at = page.text.find(value, end)
    return [Removal(start, end, boxes) for (start, end), boxes in sorted(spans.items())]


def _redact_pdf(
    path: Path,
    document: Document,
    findings: Sequence[Finding],
    groups: frozenset[str],
    values: frozenset[str],
    out: Path,
) -> int:
    source, target = pdfium.PdfDocument(path), pdfium.PdfDocument.new()
    removed = 0
    try:
        for page in document.pages:
            if page.part:
                continue
            places = PageBoxes(source, page)
            removals = _removals(page, findings, groups, values, places)
            places.close()
            removed += len(removals)
            if page.index is None:
                target.new_page(595, 842).close()
            elif removals or not _copy(source, page.index, target):
                _paint(source, page.index, removals, target)
        target.save(out)
    finally:
        target.close()
        source.close()
    return removed


def _copy(source: Any, index: int, target: Any) -> bool:
    """Copy a page without its annotations; False, and nothing copied, where it carries more than it shows.

    What PDFium writes is plain enough to look for the names of what may hide text: metadata of the page
    or its pictures, private data of programs, layers, scripts, thumbnails.
    """
    alone = pdfium.PdfDocument.new()
    try:
        alone.import_pages(source, [index])
        page = alone[0]
        for number in reversed(range(raw.FPDFPage_GetAnnotCount(page.raw))):
            raw.FPDFPage_RemoveAnnot(page.raw, number)
        page.close()
        written = io.BytesIO()
        alone.save(written)
        if _CARRIED.search(written.getbuffer()):
            return False
        target.import_pages(alone, [0])
    finally:
        alone.close()
    return True


def _paint(source: Any, index: int, removals: Sequence[Removal], target: Any) -> None:
    from PIL import Image, ImageDraw

    page = source[index]
    size = page.get_size()
    scale = min(_SCALE, (_MAX_PIXELS / max(1.0, size[0] * size[1])) ** 0.5)
    if all(removal.boxes for removal in removals):
        bitmap = page.render(scale=scale, may_draw_forms=False, draw_annots=False)
        image = bitmap.to_pil().convert("RGB")
        bitmap.close()
        draw = ImageDraw.Draw(image)
        for removal in removals:
            for left, top, right, bottom in removal.boxes:
                draw.rectangle(
                    tuple(x * scale for x in (left - _PAD, top - _PAD, right + _PAD, bottom + _PAD)),
                    fill="black",
                )
    else:
        image = Image.new("RGB", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), "black")
    page.close()
    picture_to_page(target, image, size)


def _redact_picture(path: Path, removals: Sequence[Removal], out: Path) -> None:
    from PIL import Image, ImageDraw

    image = open_image(path, path.name, 1 << 31)
    if all(removal.boxes for removal in removals):
        draw = ImageDraw.Draw(image)
        for removal in removals:
            for left, top, right, bottom in removal.boxes:
                draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill="black")
    else:
        image = Image.new("RGB", image.size, "black")
    target = pdfium.PdfDocument.new()
    try:
        picture_to_page(target, image, (float(image.width), float(image.height)))
        target.save(out)
    finally:
        target.close()


def _blacked(page: Page, removals: Sequence[Removal]) -> str:
    chars = list(page.text)
    for removal in removals:
        for place in range(removal.start, min(removal.end, len(chars))):
            if not chars[place].isspace():
                chars[place] = "█"
    return "".join(chars)
