"""What files say of themselves: read, judged, cited as metadata, and gone from redacted copies."""

from __future__ import annotations

import zlib
from email.message import EmailMessage
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from millrace.workloads.documents.document import Document, Finding
from millrace.workloads.documents.extract import extract
from millrace.workloads.documents.extract.metadata import line
from millrace.workloads.documents.highlight import highlight
from millrace.workloads.documents.pipeline import classification, find
from millrace.workloads.documents.policy import decide, load
from millrace.workloads.documents.redact import redact
from tests.unit.documents import samples

GUID = "0a1b2c3d-1111-2222-3333-444455556666"
CUSTOM = "http://schemas.openxmlformats.org/officeDocument/2006/custom-properties"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:pdfx="http://ns.adobe.com/pdfx/1.3/">'
    '<rdf:Description pdfx:Classification="Strictly Confidential"><dc:creator><rdf:Seq>'
    "<rdf:li>Maria Gomez</rdf:li></rdf:Seq></dc:creator><dc:subject><rdf:Bag>"
    "<rdf:li>SSN 531-21-7351</rdf:li></rdf:Bag></dc:subject>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def read(path: Path, tmp_path: Path) -> tuple[Document, list[Finding]]:
    document = extract(path, path.name, tmp_path)
    return document, find(document, path)


def about(document: Document) -> str:
    assert document.metadata is not None
    return document.metadata.text


def pdf(path: Path, info: str, *, xmp: bytes = b"", page: bytes = b"", catalog: bytes = b"") -> Path:
    """Write a PDF of one page with document information, and XMP and more in its dictionaries."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R" + (b"/Metadata 6 0 R" if xmp else b"") + catalog + b">>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Resources<</Font<</F 4 0 R>>>>/Contents 5 0 R"
        + page
        + b">>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length 46>>stream\nBT /F 9 Tf 20 200 Td (Plain words about mills) Tj ET\nendstream",
        xmp or b"null",
        f"<<{info}>>".encode(),
    ]
    body, offsets = b"%PDF-1.5\n", []
    for number, data in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n" % number + data + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<</Root 1 0 R/Info 7 0 R/Size 8>>\nstartxref\n{len(body)}\n%%EOF\n"
    path.write_bytes(body + f"xref\n0 8\n0000000000 65535 f \n{table}{trailer}".encode())
    return path


def test_a_sensitivity_label_of_a_pdf_decides(tmp_path: Path) -> None:
    labels = f"/MSIP_Label_{GUID}_Name (Highly Confidential)/MSIP_Label_{GUID}_SiteId (x)"
    info = f"/Title (Budget)/Author (Ana Novak){labels}"
    document, findings = read(pdf(tmp_path / "a.pdf", info), tmp_path)
    assert about(document).split("\n") == [
        "Title:\tBudget",
        "Author:\tAna Novak",
        "Sensitivity label:\tHighly Confidential",
    ]
    assert document.page_count == 1
    decision = decide(document, findings, load())
    assert decision.category == "Highly Sensitive"
    assert "(metadata: “" in decision.explanation
    citation = classification(decision, document, findings)["citations"][0]
    assert (citation["page"], citation["part"]) == (None, "metadata")
    author = next(f for f in findings if f.type == "PERSON")
    assert (author.page, author.context, author.boxes) == (0, "author", ())


@pytest.mark.parametrize("packed", [False, True])
def test_xmp_of_a_pdf_is_read_plain_and_packed(packed: bool, tmp_path: Path) -> None:
    data = XMP.encode()
    if packed:
        data = zlib.compress(data)
    head = b"<</Type /Metadata/Subtype/XML" + (b"/Filter/FlateDecode" if packed else b"")
    stream = head + b"/Length %d>>stream\n" % len(data) + data + b"\nendstream"
    document, findings = read(pdf(tmp_path / "a.pdf", "", xmp=stream), tmp_path)
    assert "Classification classification:\tStrictly Confidential" in about(document)
    assert {"MARK_SECRET", "US_SSN"} <= {f.type for f in findings if f.page == 0}


def test_a_redacted_pdf_has_no_metadata_left(tmp_path: Path) -> None:
    stream = b"<</Type/Metadata/Length %d>>stream\n" % len(XMP) + XMP.encode() + b"\nendstream"
    path = pdf(tmp_path / "a.pdf", f"/Title (SSN 531-21-7351)/MSIP_Label_{GUID}_Name (Secret)", xmp=stream)
    document, findings = read(path, tmp_path)
    out = tmp_path / "out.pdf"
    redact(path, document, findings, out)
    data = out.read_bytes()
    for left in (b"531-21", b"Maria", b"xmpmeta", b"MSIP", b"Secret"):
        assert left not in data
    again = extract(out, "out.pdf", tmp_path)
    assert again.metadata is None
    assert "Plain words" in again.pages[0].text


def test_findings_in_metadata_are_shown_on_a_page_of_their_own(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", "/Title (SSN 531-21-7351)")
    document, findings = read(path, tmp_path)
    out = tmp_path / "marked.pdf"
    highlight(path, document, findings, out)
    marked = pdfium.PdfDocument(out)
    assert len(marked) == 2
    assert "metadata" in marked[1].get_textpage().get_text_range()
    marked.close()


def properties(**values: str) -> dict[str, str | bytes]:
    rows = "".join(
        f'<property name="{name}"><vt:lpwstr>{value}</vt:lpwstr></property>' for name, value in values.items()
    )
    return {
        "docProps/core.xml": '<cp:coreProperties xmlns:cp="c" xmlns:dc="d"><dc:creator>'
        "Ana Novak</dc:creator><cp:keywords>merger, Confidential</cp:keywords>"
        "<cp:revision>7</cp:revision></cp:coreProperties>",
        "docProps/app.xml": "<Properties><Company>Old Mill</Company>"
        "<Application>Word</Application></Properties>",
        "docProps/custom.xml": f'<Properties xmlns="{CUSTOM}" xmlns:vt="v">{rows}</Properties>',
    }


def test_properties_of_office_files_are_read(tmp_path: Path) -> None:
    parts = properties(**{f"MSIP_Label_{GUID}_Name": "Secret", "Client": "CPF 529.982.247-25"})
    path = samples.docx(tmp_path / "a.docx", samples.paragraph("Plain words"), parts)
    document, findings = read(path, tmp_path)
    assert about(document).split("\n") == [
        "Author:\tAna Novak",
        "Keywords:\tmerger\tConfidential",
        "Company:\tOld Mill",
        "Sensitivity label:\tSecret",
        "Client:\tCPF 529.982.247-25",
    ]
    assert {"MARK_SECRET", "MARK_CONFIDENTIAL", "BR_CPF", "PERSON"} <= samples.types(findings)
    assert {f.page for f in findings} == {0}
    out = tmp_path / "out.txt"
    redact(path, document, findings, out)
    assert out.read_text().strip() == "Plain words"


def test_a_keyword_about_confidential_computing_is_no_mark(tmp_path: Path) -> None:
    _, findings = read(pdf(tmp_path / "a.pdf", "/Keywords (confidential computing, enclaves)"), tmp_path)
    assert "MARK_CONFIDENTIAL" not in samples.types(findings)


def test_labels_of_mail_are_read(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["Subject"] = "ana@mill.test", "Hello"
    message["msip_labels"] = f"MSIP_Label_{GUID}_Enabled=true; MSIP_Label_{GUID}_Name=Confidential;"
    message["X-Security-Classification"] = "Internal"
    message.set_content("Plain words")
    path = tmp_path / "a.eml"
    path.write_bytes(message.as_bytes())
    document, findings = read(path, tmp_path)
    assert "Sensitivity label:\tConfidential" in about(document)
    assert [f.type for f in findings if f.page == 0] == ["MARK_CONFIDENTIAL", "MARK_CONFIDENTIAL"]


def test_texts_in_pictures_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270], exif[315] = "Passport of Maria, SSN 531-21-7351", "Ana Novak"
    exif[0x9C9E] = "Confidential\0".encode("utf-16-le")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "a.jpg", exif=exif)
    document, findings = read(tmp_path / "a.jpg", tmp_path)
    assert {"US_SSN", "MARK_CONFIDENTIAL", "PERSON"} <= samples.types(findings)
    info = PngInfo()
    info.add_text("Comment", "card 4929 1272 3456 7890? no: SSN 531-21-7351")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "a.png", pnginfo=info)
    document, findings = read(tmp_path / "a.png", tmp_path)
    assert "US_SSN" in samples.types(findings)
    out = tmp_path / "out.pdf"
    redact(tmp_path / "a.png", document, findings, out)
    assert b"531-21" not in out.read_bytes()


def test_embedded_files_tell_of_themselves_too(tmp_path: Path) -> None:
    inner = samples.docx(tmp_path / "in.docx", samples.paragraph("x"), properties(Client="SSN 531-21-7351"))
    path = samples.eml(tmp_path / "a.eml", "see attachment", [("in.docx", inner.read_bytes())])
    document, _ = read(path, tmp_path)
    assert about(document).startswith("[attachment: in.docx]\nAuthor:\tAna Novak")


def test_what_says_nothing_is_left_out() -> None:
    for name in ("Producer", "CreationDate", "xmpMM:InstanceID", f"MSIP_Label_{GUID}_SiteId", "Revision"):
        assert line(name, "x1") is None
    assert line("Title", "  ") is None
    assert line("bjDocumentSecurityLabel", "Secret") == "bjDocumentSecurityLabel classification:\tSecret"


@pytest.mark.parametrize(
    "carried",
    [
        b"/PieceInfo<</X<</Private(SSN 531-21-7351)>>>>",
        b"/Metadata 6 0 R",
        b"/AA<</O<</S/JavaScript/JS(SSN 531-21-7351)>>>>",
        b"/Pie#63eInfo<</X<</Private(SSN 531-21-7351)>>>>",
    ],
)
def test_a_page_that_carries_more_than_it_shows_becomes_a_picture(carried: bytes, tmp_path: Path) -> None:
    stream = b"<</Type/Metadata/Length %d>>stream\n" % len(XMP) + XMP.encode() + b"\nendstream"
    path = pdf(tmp_path / "a.pdf", "", xmp=stream, page=carried)
    document, findings = read(path, tmp_path)
    out = tmp_path / "out.pdf"
    redact(path, document, [f for f in findings if f.page], out)
    assert b"531-21" not in out.read_bytes()
    shown = pdfium.PdfDocument(out)
    assert len(shown) == 1
    ink = shown[0].render(scale=2).to_pil().convert("L").histogram()
    shown.close()
    assert sum(ink[:100]) > 50
