"""Documents of every format, made on the spot."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

import pypdfium2 as pdfium
from PIL import Image, ImageDraw, ImageFont

from millrace.workloads.documents.document import Document, Finding, Page
from millrace.workloads.documents.highlight import highlight, picture_to_page

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "documents"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELS = "http://schemas.openxmlformats.org/package/2006/relationships"


def document(*texts: str, form: str = "txt") -> Document:
    """Return a document as extraction would, one text a page."""
    pages = tuple(Page(number, text, index=number - 1) for number, text in enumerate(texts, 1))
    return Document(form, pages, len(pages), 0)


def pdf(path: Path, *pages: str) -> Path:
    """Write a PDF with a text layer, one text a page (each gets a heading line)."""
    highlight(path, document(*pages), [], path)
    return path


def picture(text: str, size: tuple[int, int] = (1000, 400), scale: int = 34) -> Image.Image:
    """Return a picture of some lines of text."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).multiline_text((40, 40), text, "black", ImageFont.load_default(scale), spacing=16)
    return image


def scan(path: Path, *texts: str) -> Path:
    """Write a PDF of pictures of text, without a text layer."""
    target = pdfium.PdfDocument.new()
    for text in texts:
        picture_to_page(target, picture(text), (500, 200))
    target.save(path)
    target.close()
    return path


def packed(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    """Write a zip container."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def relations(*entries: tuple[str, str, str]) -> str:
    """Return a relationships part from (id, last word of the type, target)."""
    rows = "".join(f'<Relationship Id="{i}" Type="{R}/{kind}" Target="{to}"/>' for i, kind, to in entries)
    return f'<Relationships xmlns="{RELS}">{rows}</Relationships>'


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def docx(
    path: Path,
    body: str,
    extra: Mapping[str, str | bytes] | None = None,
    links: Sequence[tuple[str, str, str]] = (),
) -> Path:
    """Write a DOCX with that XML in its body, and further parts."""
    return packed(
        path,
        {
            "_rels/.rels": relations(("r0", "officeDocument", "word/document.xml")),
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(*links),
            **(extra or {}),
        },
    )


def xlsx(
    path: Path, sheets: Mapping[str, Sequence[Sequence[str]]], *, header: str = "", comment: str = ""
) -> Path:
    """Write an XLSX with inline strings; header and comment go to the first sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations(("r0", "officeDocument", "xl/workbook.xml")),
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
    }
    entries, links = "", []
    for number, (name, rows) in enumerate(sheets.items(), 1):
        entries += f'<sheet name="{name}" sheetId="{number}" r:id="r{number}"/>'
        links.append((f"r{number}", "worksheet", f"worksheets/sheet{number}.xml"))
        data = "".join(
            f'<row r="{r}">'
            + "".join(
                f'<c r="{chr(64 + c)}{r}" t="inlineStr"><is><t>{value}</t></is></c>'
                for c, value in enumerate(row, 1)
            )
            + "</row>"
            for r, row in enumerate(rows, 1)
        )
        tail = (
            f"<headerFooter><oddHeader>{header}</oddHeader></headerFooter>" if header and number == 1 else ""
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{data}</sheetData>{tail}</worksheet>'
        )
    if comment:
        parts["xl/worksheets/_rels/sheet1.xml.rels"] = relations(("c1", "comments", "../comments1.xml"))
        parts["xl/comments1.xml"] = (
            f'<comments xmlns="{main}"><commentList><comment ref="A1"><text><t>{comment}</t></text></comment>'
            "</commentList></comments>"
        )
    parts["xl/workbook.xml"] = f'<workbook xmlns="{main}" xmlns:r="{R}"><sheets>{entries}</sheets></workbook>'
    parts["xl/_rels/workbook.xml.rels"] = relations(*links)
    return packed(path, parts)


def pptx(path: Path, slides: Sequence[tuple[str, str]]) -> Path:
    """Write a PPTX from (slide text, notes), stored in reverse so that the order must be looked up."""
    a = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    p = f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:r="{R}"'
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations(("r0", "officeDocument", "ppt/presentation.xml"))
    }
    ids, links = "", []
    total = len(slides)
    for place, (text, notes) in enumerate(slides):
        number = total - place
        ids += f'<p:sldId id="{256 + place}" r:id="r{number}"/>'
        links.append((f"r{number}", "slide", f"slides/slide{number}.xml"))
        parts[f"ppt/slides/slide{number}.xml"] = (
            f"<p:sld {p} {a}><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>"
        )
        parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(
            ("n", "notesSlide", f"../notesSlides/notes{number}.xml")
        )
        parts[f"ppt/notesSlides/notes{number}.xml"] = (
            f"<p:notes {p} {a}><a:p><a:r><a:t>{notes}</a:t></a:r></a:p></p:notes>"
        )
    parts["ppt/presentation.xml"] = f"<p:presentation {p}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    parts["ppt/_rels/presentation.xml.rels"] = relations(*links)
    return packed(path, parts)


def eml(path: Path, body: str, attachments: Sequence[tuple[str, bytes]] = (), subject: str = "Hello") -> Path:
    """Write a message."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ana@mill.test", "bo@mill.test", subject
    message.set_content(body)
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    path.write_bytes(message.as_bytes())
    return path


def png(text: str) -> bytes:
    """Return a PNG of some text."""
    buffer = io.BytesIO()
    picture(text).save(buffer, "PNG")
    return buffer.getvalue()


def types(findings: Sequence[Finding]) -> set[str]:
    """Return the types found."""
    return {finding.type for finding in findings}
