"""Boxes lie on the text, marks are where findings are, and what is redacted is gone."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as raw
import pytest
from PIL import ImageChops, ImageStat

from millrace.workloads.documents.document import Document, Finding, Page
from millrace.workloads.documents.extract import extract
from millrace.workloads.documents.extract.pdf import PageBoxes
from millrace.workloads.documents.highlight import highlight, highlight_html, picture_to_page
from millrace.workloads.documents.pipeline import find
from millrace.workloads.documents.redact import redact
from tests.unit.documents import samples

FORM = "Application\nName: Maria Gomez\nSSN: 531-21-7351\ncard 4532276644577020\nNothing else to hide"


def read(path: Path, tmp_path: Path) -> tuple[Document, list[Finding]]:
    document = extract(path, path.name, tmp_path)
    return document, find(document, path if document.format == "pdf" else None)


def streams(path: Path) -> bytes:
    """Return a PDF's bytes with every Flate stream unpacked beside them."""
    data = path.read_bytes()
    unpacked = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            unpacked.append(zlib.decompress(match[1]))
        except zlib.error:
            unpacked.append(match[1])
    return data + b"\n".join(unpacked)


def ink(path: Path, box: tuple[float, float, float, float]) -> float:
    """Return how dark a place of page 1 is: 0 white, 1 black."""
    pdf = pdfium.PdfDocument(path)
    image = pdf[0].render(scale=2).to_pil().convert("L").crop(tuple(round(2 * x) for x in box))
    pdf.close()
    return 1 - ImageStat.Stat(image).mean[0] / 255


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_boxes_lie_on_the_text_however_the_page_is_turned(tmp_path: Path, turn: int) -> None:
    path = samples.pdf(tmp_path / "a.pdf", FORM)
    pdf = pdfium.PdfDocument(path)
    pdf[0].set_rotation(turn)
    turned = tmp_path / "turned.pdf"
    pdf.save(turned)
    pdf.close()
    document, findings = read(turned, tmp_path)
    ssn = next(f for f in findings if f.type == "US_SSN")
    assert len(ssn.boxes) == 1
    assert 0.1 < ink(turned, ssn.boxes[0]) < 0.7
    left, top, right, bottom = ssn.boxes[0]
    assert 0 <= left < right <= (document.pages[0].width or 0)
    assert 0 <= top < bottom <= (document.pages[0].height or 0)
    clear = pdfium.PdfDocument(turned)
    before = clear[0].render(scale=2).to_pil().convert("L")
    clear.close()
    out = tmp_path / "marked.pdf"
    highlight(turned, document, [ssn], out)
    marked = pdfium.PdfDocument(out)
    after = marked[0].render(scale=2).to_pil().convert("L")
    marked.close()
    changed = ImageChops.difference(before, after).getbbox()
    assert changed is not None
    assert all(abs(a - 2 * b) <= 4 for a, b in zip(changed, ssn.boxes[0], strict=True))


def test_offsets_survive_characters_beyond_the_basic_plane(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", "𝔘𝔫𝔦 SSN: 531-21-7351")
    document, findings = read(path, tmp_path)
    ssn = next(f for f in findings if f.type == "US_SSN")
    pdf = pdfium.PdfDocument(path)
    page = document.pages[0]
    places = PageBoxes(pdf, page)
    at = page.text.index("SSN")
    assert places.find(at, at + 3)[0][2] < ssn.boxes[0][0]
    places.close()
    pdf.close()


def test_a_marked_copy_keeps_the_text_and_names_the_findings(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", FORM, "second page")
    document, findings = read(path, tmp_path)
    out = tmp_path / "marked.pdf"
    highlight(path, document, findings, out)
    again = extract(out, "marked.pdf", tmp_path)
    assert "531-21-7351" in again.pages[0].text
    assert "US_SSN (personal.us_ssn" in again.pages[0].text
    assert again.page_count == 2
    pdf = pdfium.PdfDocument(out)
    first, second = pdf
    assert raw.FPDFPage_GetAnnotCount(first.raw) == len(findings)
    assert raw.FPDFPage_GetAnnotCount(second.raw) == 0
    pdf.close()


def test_text_formats_are_set_as_pages_and_as_html(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{FORM}\n<b>not bold</b>\n" + "long words " * 40)
    document, findings = read(path, tmp_path)
    out = tmp_path / "marked.pdf"
    highlight(path, document, findings, out)
    assert "531-21-7351" in extract(out, "m.pdf", tmp_path).pages[0].text
    page = highlight_html(document, findings, "a.txt")
    assert '<mark class="personal" title="US_SSN (personal.us_ssn)">531-21-7351</mark>' in page
    assert "&lt;b&gt;not bold" in page


def test_redacted_text_is_gone_by_extraction_and_by_bytes(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", FORM, "a page that keeps its text")
    document, findings = read(path, tmp_path)
    out = tmp_path / "redacted.pdf"
    assert redact(path, document, findings, out) == 3
    again = extract(out, "r.pdf", tmp_path)
    assert "531" not in again.pages[0].text
    assert "keeps its text" in again.pages[1].text
    raw_bytes = streams(out)
    for value in ("531-21-7351", "Maria", "4532276644577020"):
        assert value.encode() not in raw_bytes
        assert value.encode("utf-16-be") not in raw_bytes
        assert value.encode("utf-16-le").hex().encode() not in raw_bytes
    for finding in findings:
        assert ink(out, finding.boxes[0]) > 0.97


def test_a_value_found_once_is_removed_wherever_it_stands(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", "card 4532276644577020", "see 4532276644577020 above")
    document, findings = read(path, tmp_path)
    assert {f.page for f in findings if f.weight > 0.5} == {1}
    out = tmp_path / "redacted.pdf"
    assert redact(path, document, findings, out) == 2
    assert b"4532276644577020" not in streams(out)
    assert extract(out, "r.pdf", tmp_path).pages[1].text == ""


def test_form_fields_comments_attachments_and_metadata_do_not_survive(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "plain.pdf", "nothing on this page", "SSN: 531-21-7351")
    pdf = pdfium.PdfDocument(path)
    pdf.new_attachment("secret.txt").set_data(b"SSN 594-62-0140")
    first = pdf[0]
    note = raw.FPDFPage_CreateAnnot(first.raw, raw.FPDF_ANNOT_TEXT)
    raw.FPDFAnnot_SetRect(note, raw.FS_RECTF(10, 40, 40, 10))
    from millrace.workloads.documents.highlight import _set_string

    _set_string(note, b"Contents", "SSN 403-57-9558")
    raw.FPDFPage_CloseAnnot(note)
    first.close()
    full = tmp_path / "full.pdf"
    pdf.save(full)
    pdf.close()
    document, findings = read(full, tmp_path)
    texts = [page.text for page in document.pages]
    assert "403-57-9558" in texts[0]
    assert "594-62-0140" in texts[2]
    assert document.pages[2].part == "attachment: secret.txt"
    out = tmp_path / "redacted.pdf"
    redact(full, document, findings, out)
    again = extract(out, "r.pdf", tmp_path)
    assert again.embedded == ()
    for value in (b"403-57-9558", b"594-62-0140", b"531-21-7351", b"secret.txt"):
        assert value not in streams(out)
        assert value.decode().encode("utf-16-be") not in streams(out)


def test_a_value_whose_place_is_unknown_withholds_the_page(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", FORM)
    document, findings = read(path, tmp_path)
    out = tmp_path / "redacted.pdf"
    redact(path, document, [replace(f, boxes=()) for f in findings], out)
    assert ink(out, (0, 0, 595, 842)) > 0.99


def test_text_formats_become_redacted_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(FORM)
    document, findings = read(path, tmp_path)
    out = tmp_path / "redacted.txt"
    redact(path, document, findings, out)
    assert (
        out.read_text()
        == "Application\nName: █████ █████\nSSN: ███████████\ncard ████████████████\nNothing else to hide"
    )


def test_pictures_are_painted_over(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(samples.png("SSN: 531-21-7351"))
    box = (140.0, 40.0, 400.0, 90.0)
    page = Page(1, "SSN: 531-21-7351", index=0, source="ocr")
    document = Document("png", (page,), 1, 1)
    finding = replace(find(document, None)[0], boxes=(box,))
    out = tmp_path / "redacted.pdf"
    redact(path, document, [finding], out)
    assert ink(out, box) > 0.99


def test_a_rotated_scan_is_painted_where_it_shows(tmp_path: Path) -> None:
    target = pdfium.PdfDocument.new()
    picture_to_page(target, samples.picture("x"), (500, 200))
    target[0].set_rotation(90)
    path = tmp_path / "scan.pdf"
    target.save(path)
    target.close()
    page = Page(1, "SSN: 531-21-7351", index=0, width=200, height=500)
    document = Document("pdf", (page,), 1, 1)
    box = (20.0, 30.0, 60.0, 300.0)
    finding = replace(find(Document("png", (page,), 1, 1), None)[0], boxes=(box,))
    out = tmp_path / "redacted.pdf"
    redact(path, document, [finding], out)
    assert ink(out, box) > 0.99
    assert ink(out, (100, 30, 190, 490)) < 0.1
