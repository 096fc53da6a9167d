"""Tell a document's format from its first bytes and its name; the bytes win over the name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from millrace.errors import BadInput

FORMATS = ("pdf", "docx", "xlsx", "pptx", "html", "txt", "eml", "png", "jpeg")
_SUFFIXES = {
    ".pdf": "pdf", ".docx": "docx", ".docm": "docx", ".xlsx": "xlsx", ".xlsm": "xlsx",
    ".pptx": "pptx", ".pptm": "pptx", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".txt": "txt", ".text": "txt", ".md": "txt", ".csv": "txt", ".tsv": "txt", ".log": "txt",
    ".eml": "eml", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg",
}  # fmt: skip
_MAIN_PARTS = {"word/": "docx", "xl/": "xlsx", "ppt/": "pptx"}
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")


def format_of_name(name: str) -> str | None:
    """Return the format that a file name promises, or None if its type is not supported."""
    return _SUFFIXES.get(Path(name.lower()).suffix)


def refusal(head: bytes, name: str) -> str | None:
    """Say why a file cannot be taken, from its first bytes alone (8 KiB or so) and its name; None: it can be.

    What only the whole file tells (a broken container, a password) is left to the stage that reads it.
    """
    if not head:
        return "empty"
    known = b"%PDF-" in head[:1024] or head.startswith(
        (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"PK\x03\x04", _OLE)
    )
    named = format_of_name(name)
    if known or named in ("html", "txt", "eml"):
        return None
    if named is not None:
        return f"not a {named} file"
    try:
        _guess_text(head, name)
    except BadInput:
        return "type not supported"
    return None


def sniff(path: Path, name: str) -> str:
    """Return which of ``FORMATS`` a file is in.

    Raises BadInput ``empty``, ``password_protected`` (encrypted Office files) or ``unsupported_type``.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise BadInput(f"{name} is empty", code="empty")
    named = format_of_name(name)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _office(path, name)
    if head.startswith(_OLE):
        raise _ole(path, name)
    if named in ("pdf", "docx", "xlsx", "pptx", "png", "jpeg"):
        raise BadInput(f"{name} is not a {named} file: it does not begin like one", code="broken_file")
    if named is None:
        return _guess_text(head, name)
    return named


def _office(path: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()[:10_000]]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadInput(f"{name} is a broken zip container: {error}", code="broken_file") from error
    for prefix, kind in _MAIN_PARTS.items():
        if any(part.startswith(prefix) for part in names):
            return kind
    raise BadInput(
        f"{name} is a zip archive but no DOCX, XLSX or PPTX; unpack it and send its files",
        code="unsupported_type",
    )


def _ole(path: Path, name: str) -> BadInput:
    with path.open("rb") as file:
        sample = file.read(1 << 20)
    if "EncryptedPackage".encode("utf-16-le") in sample:
        return BadInput(f"{name} is protected by a password; save it without one", code="password_protected")
    return BadInput(
        f"{name} is in an Office format from before 2007; save it as DOCX, XLSX or PPTX",
        code="unsupported_type",
    )


def _guess_text(head: bytes, name: str) -> str:
    lead = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lead.startswith((b"<!doctype html", b"<html")):
        return "html"
    if b"\0" not in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "txt"
    raise BadInput(
        f"{name} is of no supported type; send PDF, DOCX, XLSX, PPTX, HTML, TXT, EML, PNG or JPEG",
        code="unsupported_type",
    )
