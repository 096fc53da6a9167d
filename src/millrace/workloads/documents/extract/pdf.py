"""Read PDF through PDFium: text layer, form fields, comments, attachments, and OCR where a page needs it.

Whether a page is read by OCR is decided page by page: it has next to no text but something drawn
(a scan); its text layer is mostly unmapped glyphs; or pictures cover much of it beside little text
(mixed: layer and OCR are both kept). PDFium is not thread-safe: one thread of a process at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from millrace.errors import BadInput
from millrace.workloads.documents.document import Box, Page, Source, Span
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.metadata import of_pdf
from millrace.workloads.documents.legibility import garbled, letters

_FEW_LETTERS = 25
_LITTLE_TEXT = 600
_MUCH_PICTURE = 0.35
_MANY_PATHS = 60
_MAX_OBJECTS = 4000
_MAX_ATTACHMENT = 64 << 20
_MAX_SIDE = 14_400.0
_OCR_SCALE = 200 / 72
# PDFium writes U+0002 or U+FFFE for a hyphen at the end of a line; NUL for glyphs it cannot map.
_CLEAN = {0x02: "-", 0xFFFE: "-", 0x00: "\ufffd", 0xAD: "-"}


def open_pdf(path: Path, name: str) -> pdfium.PdfDocument:
    """Open a PDF; BadInput ``password_protected`` or ``broken_file``."""
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise BadInput(
                f"{name} is protected by a password; save it without one", code="password_protected"
            ) from error
        raise BadInput(f"{name} is a broken PDF: {error}", code="broken_file") from error


def read(path: Path, name: str, out: Collector) -> None:
    """Read a PDF, then its attachments, into ``out``."""
    document = open_pdf(path, name)
    try:
        total = len(document)
        out.expect(total)
        if not total:
            raise BadInput(f"{name} is a PDF without pages", code="broken_file")
        form = None
        if document.get_formtype():
            document.init_forms()
            form = document.formenv
        for index in range(total):
            _read_page(document, index, form, name, out)
            out.progress((index + 1) / total)
        out.note(of_pdf(path, document))
        _attachments(document, out)
    finally:
        document.close()


def _read_page(document: Any, index: int, form: Any, name: str, out: Collector) -> None:
    try:
        page = document[index]
    except pdfium.PdfiumError:
        out.warn(f"Page {index + 1} is broken and was not read.")
        out.add("", index=None, source="unread")
        return
    try:
        size = page.get_size()
        layer = layer_text(page)
        drawn = _drawn(page, size)
        extra, spans = _annotations(page, form, size, len(layer))
        text = layer + extra
        source = _source(layer, drawn)
        trust = None
        kept = len(layer)
        if source in ("ocr", "mixed"):
            if max(size) > _MAX_SIDE or not out.may_ocr():
                out.add(text, index=index, layer=kept, spans=tuple(spans), source="unread" if source == "ocr"
                        else "text", images=drawn.images, size=size)  # fmt: skip
                return
            if source == "ocr" and garbled(layer):
                kept = 0
                text, spans = _annotations(page, form, size, 0)
            elif source == "ocr" and layer.strip():
                source = "mixed"
            text, trust = _with_ocr(page, text, spans, size, out)
        out.add(text, index=index, layer=kept, spans=tuple(spans), source=source, images=drawn.images,
                size=size, trust=trust)  # fmt: skip
    finally:
        page.close()


def layer_text(page: Any) -> str:
    """Return the text layer; each character stands at the index that ``PageBoxes`` is asked for."""
    textpage = page.get_textpage()
    try:
        text: str = textpage.get_text_range()
    finally:
        textpage.close()
    return text.translate(_CLEAN)


@dataclass(frozen=True, slots=True)
class _Drawn:
    images: int
    coverage: float
    paths: int


def _drawn(page: Any, size: tuple[float, float]) -> _Drawn:
    """Count pictures and paths of a page, with the share of it that pictures cover (0–1, capped)."""
    images, paths, area, seen = 0, 0, 0.0, 0
    bounds = tuple(ctypes.c_float() for _ in range(4))
    left, bottom, right, top = bounds
    kind_of = raw.FPDFPageObj_GetType  # looked up once: this runs for every piece of text on every page
    text, picture, path = raw.FPDF_PAGEOBJ_TEXT, raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH
    levels = [(raw.FPDFPage_GetObject, page.raw, raw.FPDFPage_CountObjects(page.raw))]
    while levels and seen < _MAX_OBJECTS:
        object_at, holder, count = levels.pop()
        for number in range(min(count, _MAX_OBJECTS - seen)):
            item = object_at(holder, number)
            kind = kind_of(item)
            if kind == text:
                continue
            if kind == picture:
                images += 1
                if raw.FPDFPageObj_GetBounds(item, *bounds):
                    area += max(0.0, right.value - left.value) * max(0.0, top.value - bottom.value)
            elif kind == path:
                paths += 1
            elif kind == raw.FPDF_PAGEOBJ_FORM:
                levels.append((raw.FPDFFormObj_GetObject, item, raw.FPDFFormObj_CountObjects(item)))
        seen += count
    whole = max(1.0, size[0] * size[1])
    return _Drawn(images, min(1.0, area / whole), paths)


def _source(layer: str, drawn: _Drawn) -> Source:
    few = len(layer) < 4 * _FEW_LETTERS and letters(layer) < _FEW_LETTERS
    if few:
        return "ocr" if drawn.images or drawn.paths >= _MANY_PATHS else "text"
    if garbled(layer):
        return "ocr"
    if drawn.coverage >= _MUCH_PICTURE and len(layer) < _LITTLE_TEXT:
        return "mixed"
    return "text"


def _with_ocr(
    page: Any, text: str, spans: list[Span], size: tuple[float, float], out: Collector
) -> tuple[str, float]:
    assert out.ocr is not None
    scale = min(_OCR_SCALE, (out.limits.max_pixels / max(1.0, size[0] * size[1])) ** 0.5)
    bitmap = page.render(scale=scale)
    try:
        lines = out.ocr.read(bitmap.to_pil().convert("RGB"))
    finally:
        bitmap.close()
    trust = sum(line.confidence * len(line.text) for line in lines) / max(1, sum(len(x.text) for x in lines))
    for line in lines:
        if text and not text.endswith("\n"):
            text += "\n"
        for start, end, box in line.places(len(text)):
            left, top, right, bottom = (x / scale for x in box)
            spans.append(Span(start, end, (left, top, right, bottom)))
        text += line.text
    return text, trust


def _annotations(page: Any, form: Any, size: tuple[float, float], start: int) -> tuple[str, list[Span]]:
    """Return form-field values and comments as text to append, each with its place."""
    pieces: list[str] = []
    spans: list[Span] = []
    at = start
    for number in range(min(raw.FPDFPage_GetAnnotCount(page.raw), _MAX_OBJECTS)):
        annotation = raw.FPDFPage_GetAnnot(page.raw, number)
        if not annotation:
            continue
        try:
            values = _annotation_values(annotation, form)
            if not values:
                continue
            rect = raw.FS_RECTF()
            raw.FPDFAnnot_GetRect(annotation, rect)
            box = to_display(page, size, [(rect.left, rect.bottom, rect.right, rect.top)])[0]
            for value in values:
                pieces.append("\n" + value)
                spans.append(Span(at + 1, at + 1 + len(value), box))
                at += 1 + len(value)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return "".join(pieces), spans


def _annotation_values(annotation: Any, form: Any) -> list[str]:
    subtype = raw.FPDFAnnot_GetSubtype(annotation)
    if subtype == raw.FPDF_ANNOT_POPUP or subtype == raw.FPDF_ANNOT_LINK:
        return []
    values = []
    if subtype == raw.FPDF_ANNOT_WIDGET:
        if form is not None:
            values.append(_string(lambda b, n: raw.FPDFAnnot_GetFormFieldValue(form.raw, annotation, b, n)))
    else:
        values.append(_string(lambda b, n: raw.FPDFAnnot_GetStringValue(annotation, b"Contents", b, n)))
    return [value for value in values if value.strip() and value not in ("Off", "Yes")]


def _string(call: Any) -> str:
    size = call(None, 0)
    if size <= 2 or size > 1 << 20:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _attachments(document: Any, out: Collector) -> None:
    for number in range(min(document.count_attachments(), out.limits.max_embedded + 1)):
        try:
            attachment = document.get_attachment(number)
            name = attachment.get_name()
            size = ctypes.c_ulong()
            if not raw.FPDFAttachment_GetFile(attachment.raw, None, 0, size):
                raise pdfium.PdfiumError("it holds no data")
            if size.value > _MAX_ATTACHMENT:
                out.warn(f"The embedded file {name} was not opened: it is {size.value} bytes large.")
                continue
            data = bytes(attachment.get_data())
        except pdfium.PdfiumError as error:
            out.warn(f"Embedded file number {number + 1} could not be read: {error}.")
            continue
        out.embed(name, data)


def to_display(
    page: Any, size: tuple[float, float], rects: Sequence[tuple[float, float, float, float]]
) -> list[Box]:
    """Turn rectangles of page space into boxes from the top-left of the page as displayed, in points."""
    precision = 100.0
    width, height = round(size[0] * precision), round(size[1] * precision)
    x, y = ctypes.c_int(), ctypes.c_int()
    boxes: list[Box] = []
    for left, bottom, right, top in rects:
        corners = []
        for px, py in ((left, bottom), (right, top)):
            raw.FPDF_PageToDevice(page.raw, 0, 0, width, height, 0, px, py, x, y)
            corners.append((x.value / precision, y.value / precision))
        xs, ys = zip(*corners, strict=True)
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    return boxes


class PageBoxes:
    """Where stretches of a page's text stand: opens the page of the PDF once, when first asked."""

    def __init__(self, document: Any, page: Page) -> None:
        self._document = document
        self._info = page
        self._page: Any = None
        self._textpage: Any = None
        self._wide: bool = not page.text.isascii() and max(page.text[: page.layer], default="") > "\uffff"

    def find(self, start: int, end: int) -> tuple[Box, ...]:
        """Return the boxes of ``text[start:end]``, one for each line it runs over."""
        boxes = [span.box for span in self._info.spans if span.start < end and start < span.end]
        if start < self._info.layer and self._info.index is not None:
            boxes = [*self._layer_boxes(start, min(end, self._info.layer)), *boxes]
        return tuple(dict.fromkeys(boxes))

    def close(self) -> None:
        """Close the page."""
        if self._textpage is not None:
            self._textpage.close()
            self._page.close()
            self._page = self._textpage = None

    def _layer_boxes(self, start: int, end: int) -> list[Box]:
        if self._page is None:
            self._page = self._document[self._info.index]
            self._textpage = self._page.get_textpage()
        first, last = self._char(start), self._char(end - 1)
        if first < 0 or last < first:
            return []
        handle = self._textpage.raw
        count = raw.FPDFText_CountRects(handle, first, last - first + 1)
        left, top, right, bottom = (ctypes.c_double() for _ in range(4))
        rects = []
        for number in range(count):
            if raw.FPDFText_GetRect(handle, number, left, top, right, bottom):
                rects.append((left.value, bottom.value, right.value, top.value))
        return to_display(self._page, self._page.get_size(), rects)

    def _char(self, offset: int) -> int:
        if self._wide:
            offset = len(self._info.text[:offset].encode("utf-16-le", "surrogatepass")) // 2
        return int(raw.FPDFText_GetCharIndexFromTextIndex(self._textpage.raw, offset))
