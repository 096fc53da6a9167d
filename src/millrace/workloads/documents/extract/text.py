"""Read plain text in any encoding; form feeds part its pages."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from millrace.errors import BadInput
from millrace.workloads.documents.extract.collector import Collector

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SAMPLE = 64 * 1024


def read(path: Path, name: str, out: Collector) -> None:
    """Read a text file into ``out``; BadInput ``broken_file`` where it is no text at all."""
    text = decode(path.read_bytes(), name)
    for page in text.rstrip("\f").split("\f"):
        out.add(page)


def decode(data: bytes, name: str, *, markup: bool = False, declared: str | None = None) -> str:
    """Return bytes as text: by byte order mark, UTF-8, declaration, the pattern of UTF-16, else by
    charset-normalizer's statistics.

    BadInput ``broken_file`` where what comes out is mostly control characters.
    """
    text = _decoded(data, declared or (_declaration(data) if markup else None))
    sample = text[:_SAMPLE]
    if len(_CONTROL.findall(sample)) > len(sample) * 0.05:
        raise BadInput(f"{name} is not text: it is full of control characters", code="broken_file")
    return text


def _decoded(data: bytes, declared: str | None) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if b"\0" not in data[:_SAMPLE] and b"\x1b$" not in data[:_SAMPLE]:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass  # not UTF-8: what was declared, or statistics, decide below
    if declared:
        try:
            return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass  # a wrong declaration is common: statistics decide below
    wide = _wide(data)
    if wide:
        return data.decode(wide, "replace")
    from charset_normalizer import from_bytes

    best = from_bytes(data[: 4 * _SAMPLE], threshold=0.3).best()
    return data.decode(best.encoding if best else "cp1252", "replace")


def _declaration(data: bytes) -> str | None:
    match = _DECLARED.search(data[:4096])
    return match[1].decode("ascii", "replace") if match else None


def _wide(data: bytes) -> str | None:
    """Recognise UTF-16 without a byte order mark: zeros on one side of the pairs only."""
    sample = data[:_SAMPLE]
    if len(sample) < 4:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) / 2
    if odd > 0.3 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.3 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None
