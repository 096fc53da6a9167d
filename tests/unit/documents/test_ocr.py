"""Scanned and mixed pages and pictures, read by the OCR engine that ships, and by Tesseract where it is."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as raw
import pytest

from millrace.workloads.documents.detectors import detect
from millrace.workloads.documents.extract import extract, ocr
from millrace.workloads.documents.extract.pdf import _Drawn, _source
from millrace.workloads.documents.highlight import picture_to_page
from millrace.workloads.documents.limits import Limits
from millrace.workloads.documents.pipeline import find
from tests.unit.documents import samples

pytest.importorskip("rapidocr")


@pytest.fixture(scope="module")
def engine() -> ocr.Ocr:
    return ocr.load("rapidocr", 2)


def test_scans_text_and_blank_pages_are_told_apart_page_by_page(engine: ocr.Ocr, tmp_path: Path) -> None:
    texts = samples.pdf(tmp_path / "text.pdf", "This page has a text layer of its own and needs no reading")
    scan = samples.scan(tmp_path / "scan.pdf", "SSN 531-21-7351")
    joined = pdfium.PdfDocument.new()
    for path in (texts, scan):
        source = pdfium.PdfDocument(path)
        joined.import_pages(source)
        source.close()
    joined.new_page(300, 300).close()
    path = tmp_path / "joined.pdf"
    joined.save(path)
    joined.close()
    document = extract(path, "joined.pdf", tmp_path, ocr=engine)
    assert [page.source for page in document.pages] == ["text", "ocr", "blank"]
    assert "531-21-7351" in document.pages[1].text
    assert (document.pages[1].legibility or 0) > 0.7
    ssn = next(f for f in find(document, path) if f.type == "US_SSN")
    left, top, right, bottom = ssn.boxes[0]
    assert ssn.page == 2
    assert 40 < left < 70
    assert 130 < right < 200
    assert 10 < top < 25
    assert 30 < bottom < 50


def test_a_picture_is_read_with_boxes_in_its_pixels(engine: ocr.Ocr, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(samples.png("CONFIDENTIAL\nBudget of the mill"))
    page = extract(path, "a.png", tmp_path, ocr=engine).pages[0]
    assert "CONFIDENTIAL" in page.text
    assert [f.type for f in detect(page)] == ["MARK_CONFIDENTIAL"]
    assert page.spans[0].box[1] < 60
    assert page.spans[-1].box[1] > 80


def test_a_picture_beside_little_text_is_read_too(engine: ocr.Ocr, tmp_path: Path) -> None:
    target = pdfium.PdfDocument.new()
    picture_to_page(target, samples.picture("TOP SECRET"), (500, 200))
    page = target[0]
    note = raw.FPDFPageObj_NewTextObj(target.raw, b"Helvetica", 10)
    words = "A short note above a large picture".encode("utf-16-le") + b"\0\0"
    buffer = ctypes.create_string_buffer(words, len(words))
    raw.FPDFText_SetText(note, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)))
    raw.FPDFPageObj_Transform(note, 1, 0, 0, 1, 20, 20)
    raw.FPDFPage_InsertObject(page.raw, note)
    page.gen_content()
    page.close()
    path = tmp_path / "mixed.pdf"
    target.save(path)
    target.close()
    read = extract(path, "mixed.pdf", tmp_path, ocr=engine).pages[0]
    assert read.source == "mixed"
    assert read.text.startswith("A short note above a large picture\n")
    assert "TOP SECRET" in read.text[read.layer :]


@pytest.mark.parametrize(
    ("text", "drawn", "source"),
    [
        ("some words on a page", _Drawn(1, 0.1, 0), "ocr"),
        ("some words on a page", _Drawn(0, 0.0, 3), "text"),
        ("a text of its own " * 5, _Drawn(1, 0.5, 0), "mixed"),
        ("a text of its own " * 5, _Drawn(1, 0.1, 0), "text"),
        ("a text of its own " * 100, _Drawn(1, 0.9, 0), "text"),
        ("", _Drawn(0, 0.0, 3), "text"),
        ("", _Drawn(0, 0.0, 200), "ocr"),
        ("\ue001\ue002\ue003" * 40, _Drawn(0, 0.0, 0), "ocr"),
    ],
)
def test_ocr_is_decided_by_what_is_drawn(text: str, drawn: _Drawn, source: str) -> None:
    assert _source(text, drawn) == source


def test_a_scan_pasted_into_a_letter_is_read(engine: ocr.Ocr, tmp_path: Path) -> None:
    picture = {"word/media/image1.png": samples.png("CONFIDENTIAL")}
    body = "<w:p><w:r><w:drawing><a:blip xmlns:a='x'/></w:drawing></w:r></w:p>"
    path = samples.docx(tmp_path / "a.docx", body, picture)
    document = extract(path, "a.docx", tmp_path, ocr=engine)
    assert [(page.part, page.source) for page in document.pages][1] == ("attachment: image1.png", "ocr")
    assert "CONFIDENTIAL" in document.pages[1].text
    wordy = samples.docx(tmp_path / "b.docx", samples.paragraph("words " * 60) + body, picture)
    document = extract(wordy, "b.docx", tmp_path, ocr=engine)
    assert len(document.pages) == 1
    assert "not read" in document.warnings[0]


def test_the_ocr_budget_ends_with_a_warning(engine: ocr.Ocr, tmp_path: Path) -> None:
    path = samples.scan(tmp_path / "s.pdf", "one", "two")
    document = extract(path, "s.pdf", tmp_path, ocr=engine, limits=Limits(max_ocr_pages=1))
    assert [page.source for page in document.pages][1] == "unread"
    assert "first 1 scanned pages" in document.warnings[0]


def test_tesseract(tmp_path: Path) -> None:
    if not ocr.available("tesseract") or not any(place.is_dir() for place in ocr._tessdata()):
        pytest.skip("tesserocr and Tesseract's language data are not installed")
    path = tmp_path / "a.png"
    path.write_bytes(samples.png("SSN 531-21-7351"))
    assert "531-21-7351" in extract(path, "a.png", tmp_path, ocr=ocr.load("tesseract")).pages[0].text


def test_settings_choose_the_engine() -> None:
    assert ocr.choose("off") is None
    assert ocr.choose("auto") == "rapidocr"
    assert ocr.choose("rapidocr") == "rapidocr"
