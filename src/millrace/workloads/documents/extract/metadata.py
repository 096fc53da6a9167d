"""What a file says of itself beside its pages: authors, titles, keywords, classification labels, comments.

Each function finds the fields of one kind of file as (name, value) and hands them to ``Collector.note``. A
sensitivity label (``MSIP_Label_…_Name`` and its kin) is named so that detectors read it as one. Dates,
identifiers and the names of programs are left out.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from lxml import etree

from millrace.errors import BadInput
from millrace.workloads.documents.extract.archive import Container, local_name

Field = tuple[str, str]

_MSIP = re.compile(r"MSIP_Label_[0-9A-Za-z-]+_(\w+)")
_LABEL = re.compile(r"classif|sensitiv|confiden|security|marking|label|geheim|vertrau", re.IGNORECASE)
_DROPPED = re.compile(
    r"(?i)^(?:.*date|.*dates|.*time|.*id|.*version|.*tool|producer|creator|format|trapped|part|conformance|about|lang|"
    r"type|resourcetype|rendition\w*|revision|totaltime|pages|words|characters\w*|lines|paragraphs|application|"
    r"template|docsecurity|scalecrop|linksuptodate|shareddoc|hyperlinkschanged|headingpairs|titlesofparts|slides|"
    r"notes|hiddenslides|mmclips|presentationformat|i4|lpstr|size|vector|variant|when|action|changed|parameters|"
    r"softwareagent|.*dimension|orientation|.*resolution|resolutionunit|colorspace|.*digest|ptex\..*|gts_.*|mimetype|"
    r"ratio|unit|mode|groupname)$"
)
_CORE = {"creator": "Author", "lastModifiedBy": "Last modified by", "description": "Comments"}
_MAX_FIELDS = 500
_MAX_VALUE = 4000
_XMP_END, _MAX_XMP = b"</x:xmpmeta>", 1 << 20
_STREAM = re.compile(rb"/Type\s*/Metadata\b")
_OBJECT_STREAM = re.compile(rb"/Type\s*/ObjStm\b")
_INFO = re.compile(rb"/Info\s+(\d{1,9})\s+\d{1,5}\s+R")
_NAME = re.compile(rb"/([A-Za-z][^\s/()<>\[\]{}%]{0,126})\s*(?=[(<])")
_STANDARD = ("Title", "Author", "Subject", "Keywords")
_MAX_OBJECT, _MAX_STREAMS, _MAX_UNPACKED = 1 << 16, 200, 1 << 24
_MAIL = re.compile(
    r"(?i)^(?:keywords|comments|organi[sz]ation|x-originating-ip|.*classif.*|.*sensitiv.*|.*confiden.*|x-.*label.*|msip_labels)$"
)
_EXIF = {270: "ImageDescription", 315: "Artist", 33432: "Copyright", 0x9C9B: "XPTitle", 0x9C9C: "XPComment",
         0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords", 0x9C9F: "XPSubject"}  # fmt: skip
_EXIF_IFD, _USER_COMMENT = 0x8769, 37510
_IPTC = {
    (2, 5): "Title", (2, 25): "Keywords", (2, 40): "Instructions", (2, 80): "Author", (2, 105): "Headline",
    (2, 110): "Credit", (2, 115): "Source", (2, 116): "Copyright",
    (2, 120): "Caption", (2, 122): "Caption writer",
}  # fmt: skip


def line(name: str, value: str) -> str | None:
    """Return a field as a line of text, or None where it says nothing about content or people."""
    value = " ".join(value.split())[:_MAX_VALUE]
    label = _MSIP.fullmatch(name)
    if label is not None:
        return f"Sensitivity label:\t{value}" if label[1] == "Name" and value else None
    if not any(char.isalnum() for char in value) or (_DROPPED.match(name) and not _LABEL.search(name)):
        return None
    if _LABEL.search(name):
        return f"{name} classification:\t{value}"
    if name.lower() in ("keywords", "subject", "xpkeywords", "hierarchicalsubject"):
        value = "\t".join(filter(None, (word.strip() for word in re.split(r"[,;|]", value))))
    return f"{name}:\t{value}"


def of_office(parts: Container) -> Iterator[Field]:
    """Yield the core, application and custom properties of an Office file (OPC; ECMA-376-1 §15.2.12)."""
    for part in ("docProps/core.xml", "docProps/app.xml"):
        if part in parts.names:
            for element in parts.xml(part):
                name = local_name(element)
                yield _CORE.get(name, name[:1].upper() + name[1:]), "".join(element.itertext())
    if "docProps/custom.xml" in parts.names:
        for element in parts.xml("docProps/custom.xml"):
            yield element.get("name") or "property", "".join(element.itertext())


def of_xmp(packet: bytes) -> Iterator[Field]:
    """Yield the texts of an XMP packet (ISO 16684-1) with their plain names; nothing if it is broken."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
    try:
        root = etree.fromstring(packet[:_MAX_XMP], parser)
    except (etree.XMLSyntaxError, ValueError):
        return
    for element in root.iter() if root is not None else ():
        if not isinstance(element.tag, str):
            continue
        for key, value in element.attrib.items():
            yield str(key).rpartition("}")[2], str(value)
        if element.text and element.text.strip():
            named = element
            while local_name(named) in ("li", "Alt", "Bag", "Seq", "value") and named.getparent() is not None:
                named = named.getparent()
            name = local_name(named)
            yield {"creator": "Author", "description": "Description"}.get(name, name), element.text


def of_pdf(path: Path, document: Any) -> Iterator[Field]:
    """Yield the document information, with keys of its own, and the XMP of a PDF (ISO 32000-2 §14.3)."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in dict.fromkeys([*_STANDARD, *_info_names(data)]):
            value = document.get_metadata_value(name)
            if value:
                yield name, value
        for packet in _packets(data):
            yield from of_xmp(packet)


def _packets(data: mmap.mmap) -> Iterator[bytes]:
    """Yield XMP packets: plain ones wherever they stand, packed ones from streams of the type."""
    start = data.find(b"<x:xmpmeta")
    while start >= 0:
        end = data.find(_XMP_END, start, start + _MAX_XMP)
        if end < 0:
            break
        yield data[start : end + len(_XMP_END)]
        start = data.find(b"<x:xmpmeta", end)
    for number, match in enumerate(_STREAM.finditer(data)):
        if number >= _MAX_STREAMS:
            return
        unpacked = _unpacked(data, match.start())
        start = unpacked.find(b"<x:xmpmeta")
        if start >= 0:
            yield unpacked[start:].partition(_XMP_END)[0] + _XMP_END


def _info_names(data: mmap.mmap) -> list[str]:
    """Return the keys of the information dictionary, wherever it is stored."""
    numbers = [match[1] for match in _INFO.finditer(data)]
    if not numbers:
        return []
    number = numbers[-1]
    body = b""
    for match in re.finditer(rb"(?<!\d)" + number + rb"\s+\d{1,5}\s+obj\b", data):
        body = data[match.end() : match.end() + _MAX_OBJECT].partition(b"endobj")[0]
    body = body or _packed_object(data, int(number))
    return [_plain_name(name) for name in _NAME.findall(body)[:_MAX_FIELDS]]


def _plain_name(name: bytes) -> str:
    """Undo the ``#20`` escapes of a PDF name."""
    whole = re.sub(rb"#([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), name)
    return whole.decode("utf-8", "replace")


def _packed_object(data: mmap.mmap, number: int) -> bytes:
    """Return an object out of the object streams (ISO 32000-2 §7.5.7), or nothing."""
    spent = 0
    for count, match in enumerate(_OBJECT_STREAM.finditer(data)):
        if count >= _MAX_STREAMS or spent >= _MAX_UNPACKED:
            return b""
        unpacked = _unpacked(data, match.start())
        spent += len(unpacked)
        around = data[max(0, match.start() - 200) : match.start() + 200]
        first = re.search(rb"/First\s+(\d{1,9})", around)
        if first is None or not unpacked:
            continue
        head = unpacked[: int(first[1])].split()
        places = {head[i]: head[i + 1] for i in range(0, len(head) - 1, 2)}
        place = places.get(str(number).encode())
        if place is not None and place.isdigit():
            start = int(first[1]) + int(place)
            return unpacked[start : start + _MAX_OBJECT].partition(b">>")[0]
    return b""


def _unpacked(data: mmap.mmap, near: int) -> bytes:
    """Return the content of the stream whose dictionary holds a place, unpacked; empty where it cannot be."""
    start = data.find(b"stream", near, near + 2000)
    if start < 0:
        return b""
    start += 8 if data[start + 6 : start + 8] == b"\r\n" else 7
    end = data.find(b"endstream", start)
    try:
        return zlib.decompressobj().decompress(data[start : end if end > 0 else None], _MAX_XMP * 4)
    except zlib.error:
        return b""


def of_mail(message: EmailMessage) -> Iterator[Field]:
    """Yield the headers that label a message or tell of its writer, beside those shown with its body."""
    for name, value in message.items():
        if not _MAIL.match(name):
            continue
        if name.lower() == "msip_labels":
            for part in str(value).split(";"):
                key, _, text = part.partition("=")
                yield key.strip(), text
        else:
            yield name, str(value)


def of_image(path: Path) -> Iterator[Field]:
    """Yield the texts in EXIF, IPTC, XMP and PNG text chunks; nothing that cannot be read."""
    from PIL import Image, IptcImagePlugin

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            exif = image.getexif()
            for tag, name in _EXIF.items():
                yield name, _text(exif.get(tag), wide=name.startswith("XP"))
            yield "UserComment", _text(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)).removeprefix("ASCII")
            for key, value in (IptcImagePlugin.getiptcinfo(image) or {}).items():
                for one in value if isinstance(value, list) else [value]:
                    yield _IPTC.get(key, "type"), _text(one)
            for chunk, text in image.info.items():
                if chunk in ("xmp", "XML:com.adobe.xmp"):
                    yield from of_xmp(text if isinstance(text, bytes) else str(text).encode())
                elif isinstance(text, str) and isinstance(chunk, str):
                    yield chunk, text
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return


def _text(value: Any, *, wide: bool = False) -> str:
    if isinstance(value, bytes | tuple):
        data = bytes(value)
        text = data.decode("utf-16-le" if wide else "utf-8", "replace")
        return text.replace("\0", " ").strip()
    return "" if value is None else str(value)


def noted(fields: Iterable[Field]) -> list[str]:
    """Return fields as lines, each once; what breaks off in between keeps what came before."""
    lines: dict[str, None] = {}
    try:
        for name, value in fields:
            shown = line(name, value)
            if shown is not None:
                lines[shown] = None
            if len(lines) >= _MAX_FIELDS:
                break
    except (OSError, BadInput, ValueError) as error:
        lines[f"(metadata not read to the end: {type(error).__name__})"] = None
    return list(lines)
