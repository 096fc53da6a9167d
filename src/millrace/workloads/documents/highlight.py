"""Mark findings where they stand: on a copy of a PDF or picture, or on the extracted text set as pages.

Formats without pages of their own (DOCX, XLSX, PPTX, HTML, TXT, EML) are set in a fixed-width font; what
the font lacks shows as a box there, and rightly in ``highlighted.html``, which browsers shape themselves.
"""

from __future__ import annotations

import ctypes
import html
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from millrace.workloads.documents import layout
from millrace.workloads.documents.document import METADATA, Box, Document, Finding, Page
from millrace.workloads.documents.extract.image import open_image

_COLOURS = {
    "personal": (255, 205, 60), "health": (255, 205, 60), "payroll": (255, 205, 60), "secret": (255, 120, 90),
    "mark": (120, 190, 255), "legal": (170, 215, 255), "unsafe": (255, 90, 120),
}  # fmt: skip
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    "/usr/share/fonts/dejavu-sans-mono-fonts/DejaVuSansMono.ttf",
    "/usr/share/fonts/TTF/DejaVuSansMono.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
    "/System/Library/Fonts/Supplemental/Courier New.ttf",
    "C:/Windows/Fonts/cour.ttf",
)
_MAX_SET = 2000


def highlight(
    path: Path,
    document: Document,
    findings: Sequence[Finding],
    out: Path,
    font: str | None = None,
    opened: Any = None,
) -> None:
    """Write the document as PDF with its findings marked to ``out``.

    Findings on pages of embedded files are marked on text pages set after the document's own.
    ``opened`` is the document at ``path`` where the caller has it open already; it is changed and closed.
    """
    pdf = opened or (pdfium.PdfDocument(path) if document.format == "pdf" else pdfium.PdfDocument.new())
    try:
        if document.format in ("png", "jpeg"):
            _picture_page(pdf, open_image(path, path.name, 1 << 31))
        typesetter = Typesetter(pdf, font)
        by_page: dict[int, list[Finding]] = {}
        for finding in findings:
            by_page.setdefault(finding.page, []).append(finding)
        for page in _shown(document, by_page):
            own = document.format in ("pdf", "png", "jpeg") and page.index is not None and not page.part
            if own and page.number in by_page:
                with_boxes = [(f, f.boxes) for f in by_page[page.number]]
                _mark(pdf, page.index or 0, with_boxes)
            elif not own and (page.text.strip() or document.format != "pdf"):
                typesetter.add(page, by_page.get(page.number, ()))
        if not len(pdf):
            pdf.new_page(*layout.PAGE).close()
        pdf.save(out)
    finally:
        pdf.close()


def _shown(document: Document, by_page: Mapping[int, Sequence[Finding]]) -> Iterator[Page]:
    """Yield the pages, and the metadata where something stands in it."""
    yield from document.pages
    if document.metadata is not None and METADATA in by_page:
        yield document.metadata


def _mark(pdf: Any, index: int, marks: Iterable[tuple[Finding, Sequence[Box]]]) -> None:
    page = pdf[index]
    try:
        size = page.get_size()
        for finding, boxes in marks:
            rects = [rect for box in boxes if (rect := _to_page(page, size, box)) is not None]
            if rects:
                _annotate(page, rects, finding)
    finally:
        page.close()


def _annotate(page: Any, rects: list[tuple[float, float, float, float]], finding: Finding) -> None:
    annotation = raw.FPDFPage_CreateAnnot(page.raw, raw.FPDF_ANNOT_HIGHLIGHT)
    if not annotation:
        return
    try:
        red, green, blue = _COLOURS.get(finding.group, (255, 205, 60))
        raw.FPDFAnnot_SetColor(annotation, raw.FPDFANNOT_COLORTYPE_Color, red, green, blue, 110)
        for left, bottom, right, top in rects:
            points = raw.FS_QUADPOINTSF(left, top, right, top, left, bottom, right, bottom)
            raw.FPDFAnnot_AppendAttachmentPoints(annotation, points)
        whole = raw.FS_RECTF(min(r[0] for r in rects), max(r[3] for r in rects), max(r[2] for r in rects),
                             min(r[1] for r in rects))  # fmt: skip
        raw.FPDFAnnot_SetRect(annotation, whole)
        note = f"{finding.type} ({finding.rule}, weight {finding.weight:.2f}, {finding.stance})"
        _set_string(annotation, b"Contents", note)
        _set_string(annotation, b"T", "Millrace")
    finally:
        raw.FPDFPage_CloseAnnot(annotation)


def _set_string(annotation: Any, key: bytes, value: str) -> None:
    data = value.encode("utf-16-le") + b"\0\0"
    buffer = ctypes.create_string_buffer(data, len(data))
    raw.FPDFAnnot_SetStringValue(annotation, key, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)))


def _to_page(page: Any, size: tuple[float, float], box: Box) -> tuple[float, float, float, float] | None:
    """Turn a box of the displayed page into a rectangle of page space: the inverse of ``to_display``."""
    precision = 100.0
    width, height = round(size[0] * precision), round(size[1] * precision)
    x, y = ctypes.c_double(), ctypes.c_double()
    corners = []
    for px, py in ((box[0], box[1]), (box[2], box[3])):
        if not raw.FPDF_DeviceToPage(
            page.raw, 0, 0, width, height, 0, round(px * precision), round(py * precision), x, y
        ):
            return None
        corners.append((x.value, y.value))
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _picture_page(pdf: Any, image: Any) -> None:
    """Append a page of the picture's size in points, so that pixel boxes are page boxes."""
    picture_to_page(pdf, image, (float(image.width), float(image.height)))


def picture_to_page(pdf: Any, image: Any, size: tuple[float, float]) -> None:
    """Append a page of ``size`` points that shows an RGB picture and nothing else."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    buffer.seek(0)
    shown = pdfium.PdfImage.new(pdf)
    shown.load_jpeg(buffer, inline=True)
    shown.set_matrix(pdfium.PdfMatrix().scale(*size))
    page = pdf.new_page(*size)
    page.insert_obj(shown)
    page.gen_content()
    page.close()


class Typesetter:
    """Sets text on pages as ``layout`` places it, in a fixed-width font of the system, else Courier."""

    def __init__(self, pdf: Any, font: str | None) -> None:
        self._pdf = pdf
        self._wanted = font
        self._font: Any = None
        self._data: Any = None
        self._encodable: Callable[[str], str] = lambda text: text

    def add(self, page: Page, findings: Sequence[Finding]) -> None:
        """Append the pages of one page of text, with its findings marked."""
        rows = layout.rows_of(page)
        for first in range(0, len(rows), layout.ROWS):
            if len(self._pdf) >= _MAX_SET:
                return
            some = rows[first : first + layout.ROWS]
            self.sheet(some, layout.PAGE)
            places = layout.boxes(some, [(f.start, f.end) for f in findings])
            _mark(self._pdf, len(self._pdf) - 1, zip(findings, places, strict=True))

    def sheet(self, rows: Sequence[layout.Row], size: tuple[float, float]) -> None:
        """Append one page of ``size`` points with these rows."""
        if self._font is None:
            self._load()
        page = self._pdf.new_page(*size)
        for number, (_, text) in enumerate(rows):
            self._row(page, text, size[1] - layout.MARGIN - (number + 0.78) * layout.LEADING)
        page.gen_content()
        page.close()

    def _row(self, page: Any, text: str, baseline: float) -> None:
        column = 0
        for run in layout.runs(text):
            if run.strip():
                written = raw.FPDFPageObj_CreateTextObj(self._pdf.raw, self._font, layout.SIZE)
                data = self._encodable(run).encode("utf-16-le") + b"\0\0"
                buffer = ctypes.create_string_buffer(data, len(data))
                raw.FPDFText_SetText(written, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)))
                x = layout.MARGIN + column * layout.ADVANCE * layout.SIZE
                raw.FPDFPageObj_Transform(written, 1, 0, 0, 1, x, baseline)
                raw.FPDFPage_InsertObject(page.raw, written)
            column += layout.columns(run)

    def _load(self) -> None:
        path = next((p for p in (self._wanted, *_FONTS) if p and Path(p).is_file()), None)
        if path is not None:
            data = Path(path).read_bytes()
            self._data = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
            self._font = raw.FPDFText_LoadFont(
                self._pdf.raw, self._data, len(data), raw.FPDF_FONT_TRUETYPE, 1
            )
        if not self._font:
            self._font = raw.FPDFText_LoadStandardFont(self._pdf.raw, b"Courier")
            self._encodable = lambda text: text.encode("latin-1", "replace").decode("latin-1")


def highlight_html(document: Document, findings: Sequence[Finding], name: str) -> str:
    """Return the extracted text as a standalone HTML page with the findings marked."""
    by_page: dict[int, list[Finding]] = {}
    for finding in findings:
        by_page.setdefault(finding.page, []).append(finding)
    sections = []
    for page in _shown(document, by_page):
        title = html.escape(page.part or f"Page {page.number}")
        sections.append(f'<section><h2>{title}</h2><pre dir="auto">'
                        f"{_marked(page.text, by_page.get(page.number, []))}</pre></section>")  # fmt: skip
    colours = "".join(f".{group}{{background:rgb{rgb}}}" for group, rgb in _COLOURS.items())
    return (
        '<!doctype html><html><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(name)}</title><style>"
        "body{font:14px system-ui;max-width:60rem;margin:2rem auto}"
        f"pre{{white-space:pre-wrap;unicode-bidi:plaintext}}mark{{color:inherit}}{colours}</style></head>"
        f"<body><h1>{html.escape(name)}</h1>{''.join(sections)}</body></html>"
    )


def _marked(text: str, findings: list[Finding]) -> str:
    pieces, at = [], 0
    for finding in sorted(findings, key=lambda f: (f.start, -f.end)):
        start = max(at, finding.start)
        if finding.end <= at:
            continue
        pieces.append(html.escape(text[at:start]))
        note = html.escape(f"{finding.type} ({finding.rule})", quote=True)
        pieces.append(
            f'<mark class="{finding.group}" title="{note}">{html.escape(text[start : finding.end])}</mark>'
        )
        at = finding.end
    return "".join([*pieces, html.escape(text[at:])])
