"""Every format becomes pages of text; what is broken, locked or a bomb becomes a clear error."""

from __future__ import annotations

import base64
import random
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import BadInput
from millrace.workloads.documents.document import Document
from millrace.workloads.documents.extract import extract
from millrace.workloads.documents.extract.archive import container
from millrace.workloads.documents.extract.text import decode
from millrace.workloads.documents.extract.xlsx import _plain_header
from millrace.workloads.documents.language import language
from millrace.workloads.documents.legibility import legibility
from millrace.workloads.documents.limits import Limits
from tests.unit.documents import samples


def read(path: Path, tmp_path: Path, limits: Limits | None = None) -> Document:
    return extract(path, path.name, tmp_path, limits=limits)


def refusal(path: Path, tmp_path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        read(path, tmp_path, limits)
    assert path.name in caught.value.message
    return caught.value.code


def test_pdf_text_page_by_page(tmp_path: Path) -> None:
    document = read(samples.pdf(tmp_path / "a.pdf", "The first page is here", "and the second one"), tmp_path)
    assert document.format == "pdf"
    assert document.page_count == 2
    assert "first page" in document.pages[0].text
    assert "second one" in document.pages[1].text
    assert document.legibility == 1.0


def test_docx_headers_footers_comments_text_boxes_and_pages(tmp_path: Path) -> None:
    body = (
        samples.paragraph("First page")
        + "<w:p><w:r><w:t>see</w:t><w:commentReference w:id='7'/><w:footnoteReference w:id='2'/></w:r></w:p>"
        + "<w:p><w:r><w:pict><w:txbxContent>"
        + samples.paragraph("in the box")
        + "</w:txbxContent></w:pict></w:r></w:p>"
        + "<w:tbl><w:tr><w:tc>"
        + samples.paragraph("cell one")
        + "</w:tc><w:tc>"
        + samples.paragraph("cell two")
        + "</w:tc></w:tr></w:tbl><w:p><w:r><w:br w:type='page'/><w:t>Second page</w:t></w:r></w:p>"
    )
    path = samples.docx(
        tmp_path / "a.docx",
        body,
        {
            "word/header1.xml": f"<w:hdr {samples.W}>{samples.paragraph('CONFIDENTIAL')}</w:hdr>",
            "word/footer1.xml": f"<w:ftr {samples.W}>{samples.paragraph('page foot')}</w:ftr>",
            "word/comments.xml": f"<w:comments {samples.W}><w:comment w:id='7' w:author='Ana'>"
            f"{samples.paragraph('ask legal')}</w:comment></w:comments>",
            "word/footnotes.xml": f"<w:footnotes {samples.W}><w:footnote w:id='2'>"
            f"{samples.paragraph('a note below')}</w:footnote></w:footnotes>",
        },
        [
            ("h", "header", "header1.xml"),
            ("f", "footer", "footer1.xml"),
            ("c", "comments", "comments.xml"),
            ("n", "footnotes", "footnotes.xml"),
        ],
    )
    first, second = read(path, tmp_path).pages
    assert first.text.startswith("CONFIDENTIAL\n")
    for passage in ("in the box", "cell one", "[Comment by Ana] ask legal", "a note below", "page foot"):
        assert passage in first.text
    assert second.text == "Second page"


def test_xlsx_sheets_headers_and_comments(tmp_path: Path) -> None:
    path = samples.xlsx(
        tmp_path / "a.xlsx",
        {"Pay": [["Name", "Salary"], ["Ana", "100"]], "Two": [["x"]]},
        header="&amp;C&amp;&quot;Arial&quot;&amp;12CONFIDENTIAL",
        comment="ask the boss",
    )
    pay, two = read(path, tmp_path).pages
    assert pay.part == "sheet: Pay"
    assert "Name\tSalary\nAna\t100" in pay.text
    assert "CONFIDENTIAL" in pay.text
    assert "ask the boss" in pay.text
    assert two.text == "Two\nx"


@pytest.mark.parametrize(
    ("code", "text"),
    [("&CTop &P of &N", "Top of"), ('&L&"Arial,Bold"&14Secret && more', "Secret & more"), ("&", "&")],
)
def test_header_codes(code: str, text: str) -> None:
    assert _plain_header(code) == text


def test_pptx_in_order_with_notes(tmp_path: Path) -> None:
    path = samples.pptx(tmp_path / "a.pptx", [("one", "note one"), ("two", "note two"), ("three", "")])
    assert [page.text for page in read(path, tmp_path).pages] == ["one\nnote one", "two\nnote two", "three"]


def test_html_shows_what_a_reader_sees(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        "<html><head><title>T</title><style>p{}</style><script>var ssn='x'</script></head><body>"
        "<p>one <b>bo</b>ld</p><!-- hidden --><table><tr><td>a</td><td>b</td></tr></table>"
        "<img src=x alt='a cat'><input value='typed'></body></html>"
    )
    page = read(path, tmp_path).pages[0]
    assert page.text.splitlines()[:3] == ["T", "one bold", "a\tb"]
    assert "a cat" in page.text
    assert "typed" in page.text
    assert "hidden" not in page.text
    assert "ssn" not in page.text
    assert page.images == 1


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße aus Köln, die Straße ist naß und die Äpfel sind süß.", "utf-8"),
        ("Grüße aus Köln, die Straße ist naß und die Äpfel sind süß.", "utf-16"),
        ("Grüße aus Köln, die Straße ist naß und die Äpfel sind süß.", "utf-16-le"),
        ("Grüße aus Köln, die Straße ist naß und die Äpfel sind süß.", "utf-8-sig"),
        ("Grüße aus Köln, die Straße ist naß und die Äpfel sind süß.", "utf-32"),
        ("Съешь ещё этих мягких французских булок, да выпей же чаю. Это русский текст.", "cp1251"),
        ("いろはにほへと ちりぬるを わかよたれそ つねならむ うゐのおくやま けふこえて", "shift_jis"),
    ],
)
def test_text_in_any_encoding(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), "a.txt") == text


@given(
    st.text(
        st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), max_size=200
    )
)
def test_utf8_always_survives(text: str) -> None:
    assert decode(text.encode(), "a.txt") == text.removeprefix("\ufeff")


def test_form_feeds_part_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ftwo\f")
    assert [page.text for page in read(path, tmp_path).pages] == ["one", "two"]


def test_mail_with_attachments_and_mail_inside_mail(tmp_path: Path) -> None:
    inner = samples.eml(tmp_path / "inner.eml", "innermost words", subject="Inner").read_bytes()
    letter = samples.docx(tmp_path / "l.docx", samples.paragraph("dear all")).read_bytes()
    path = samples.eml(
        tmp_path / "a.eml", "the body", [("letter.docx", letter), ("in.eml", inner), ("x.bin", b"\0\1\2")]
    )
    document = read(path, tmp_path)
    assert document.page_count == 1
    assert [page.part for page in document.pages] == ["", "attachment: letter.docx", "attachment: in.eml"]
    assert "Subject: Hello" in document.pages[0].text
    assert "the body" in document.pages[0].text
    assert document.pages[1].text == "dear all"
    assert "innermost words" in document.pages[2].text
    assert any("x.bin was not read" in warning for warning in document.warnings)


def test_embedded_files_are_not_opened_for_ever(tmp_path: Path) -> None:
    data = b"the innermost"
    for number in range(6):
        data = samples.eml(tmp_path / "e.eml", f"level {number}", [("next.eml", data)]).read_bytes()
    path = tmp_path / "deep.eml"
    path.write_bytes(data)
    document = read(path, tmp_path, Limits(max_depth=2))
    assert len(document.pages) == 3
    assert any("nested too deep" in warning for warning in document.warnings)


def test_zip_bomb_by_ratio(tmp_path: Path) -> None:
    path = samples.docx(tmp_path / "bomb.docx", samples.paragraph("x" * 50_000_000))
    assert path.stat().st_size < 100_000
    assert refusal(path, tmp_path) == "too_large"


def test_zip_bomb_by_declared_size_and_by_number_of_parts(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(3_000_000)
    path = samples.packed(tmp_path / "big.xlsx", {"xl/workbook.xml": "<a/>", "xl/media/a.bin": noise})
    assert refusal(path, tmp_path, Limits(max_unpacked=1_000_000)) == "too_large"
    many = samples.packed(tmp_path / "many.docx", {f"word/{n}.xml": "" for n in range(300)})
    assert refusal(many, tmp_path, Limits(max_entries=100)) == "too_large"


def test_a_part_that_lies_about_its_size_is_not_believed(tmp_path: Path) -> None:
    path = samples.docx(tmp_path / "lie.docx", samples.paragraph("y" * 3_000_000))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("word/document.xml")
    for at in (data.find(info.filename.encode()) - 30 + 22, data.rfind(info.filename.encode()) - 46 + 24):
        data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    assert refusal(path, tmp_path) in ("broken_file", "too_large")


def story(path: Path, prolog: str, text: str) -> Path:
    """Write a DOCX whose main part begins with a document type."""
    main = f"{prolog}<w:document {samples.W}><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:document>"
    links = samples.relations(("r0", "officeDocument", "word/document.xml"))
    return samples.packed(path, {"_rels/.rels": links, "word/document.xml": main})


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    path = story(tmp_path / "lol.docx", f'<!DOCTYPE d [<!ENTITY l0 "lol">{lol}]>', "a &l8;")
    assert refusal(path, tmp_path) == "broken_file"


def test_xml_that_asks_for_a_file_gets_none(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    path = story(tmp_path / "xxe.docx", f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}">]>', "a&x;")
    assert "the secret" not in read(path, tmp_path).pages[0].text


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.pdf", b"", "empty"),
        ("a.pdf", b"%PDF-1.7\nbroken", "broken_file"),
        ("a.pdf", b"hello", "broken_file"),
        ("a.docx", b"PK\x03\x04 broken", "broken_file"),
        ("a.zip", b"PK\x05\x06" + b"\0" * 18, "unsupported_type"),
        ("a.png", b"\x89PNG\r\n\x1a\nbroken", "broken_file"),
        ("a.doc", bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, "unsupported_type"),
        (
            "a.docx",
            bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"),
            "password_protected",
        ),
        ("a.exe", b"MZ\0\0\1\2", "unsupported_type"),
        ("a.txt", bytes(range(32)) * 40, "broken_file"),
        ("a.eml", b"just words", "broken_file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path, tmp_path) == code


def test_the_content_wins_over_the_name(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", "really a PDF").rename(tmp_path / "a.txt")
    assert read(path, tmp_path).format == "pdf"


def test_too_many_pages(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("\f".join(str(n) for n in range(60)))
    assert refusal(path, tmp_path, Limits(max_pages=50)) == "too_large"


def test_five_thousand_pages(tmp_path: Path) -> None:
    offsets, body = [], b"%PDF-1.4\n"
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(5000))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count 5000>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for n in range(5000):
        stream = f"BT /F 12 Tf 72 720 Td (This is page number {n + 1} of the long document) Tj ET"
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>"
            f"/Contents {5 + 2 * n} 0 R>>"
        )
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{text}endobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer<</Root 1 0 R/Size {size}>>startxref\n{len(body)}\n%%EOF"
    body += f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()
    path = tmp_path / "long.pdf"
    path.write_bytes(body)
    document = read(path, tmp_path)
    assert document.page_count == 5000
    assert "number 5000" in document.pages[-1].text


def test_picture_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    assert refusal(path, tmp_path) == "too_large"


def test_without_an_ocr_engine_scans_count_as_unread(tmp_path: Path) -> None:
    document = read(samples.scan(tmp_path / "scan.pdf", "hello"), tmp_path)
    assert document.unread == 1
    assert document.pages[0].legibility == 0.0
    assert "no OCR engine" in document.warnings[0]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The quick brown fox jumps over the lazy dog and that is all there is to it", "en"),
        ("Der schnelle braune Fuchs springt über den faulen Hund und das ist alles", "de"),
        ("Le renard brun saute par-dessus le chien et c'est une histoire pour vous", "fr"),
        ("これは日本語の文章です。よろしくお願いします。", "ja"),
        ("这是一个中文句子，内容很简单。", "zh"),
        ("이것은 한국어 문장입니다.", "ko"),
        ("هذا نص باللغة العربية", "ar"),
        ("זה טקסט בעברית", "he"),
        ("Это русский текст, и он не очень длинный", "ru"),
        ("x 12 %", None),
    ],
)
def test_language(text: str, code: str | None) -> None:
    assert language(text) == code


def test_legibility_tells_broken_fonts_from_text() -> None:
    assert legibility("") is None
    assert legibility("Plain words, plainly readable on every page of it all") == 1.0
    assert (legibility("\ue001\ue002\ufffd\ue003 a \x01") or 0) < 0.3


def test_container_budget_is_shared_by_all_parts(tmp_path: Path) -> None:
    noise = base64.b64encode(random.Random(2).randbytes(600_000))
    path = samples.packed(tmp_path / "a.zip", {"a": noise, "b": noise})
    with container(path, "a.zip", Limits(max_unpacked=2_000_000)) as parts:
        parts.read("a")
        parts.read("b")
        with pytest.raises(BadInput, match="zip bomb"):
            parts.read("a")
