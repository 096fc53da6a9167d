"""Reads and edits the TIFF block of EXIF without moving any byte that was there.

Maker notes hold offsets that only their maker understands, so an edited block is the old one,
verbatim, with a new first directory appended and the header pointing to it (TIFF 6.0, section 2:
"directories may be anywhere in the file"; EXIF 3.0, CIPA DC-008).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from millrace.workloads.images.tags import Tags, cut_utf8

IMAGE_DESCRIPTION = 0x010E
XP_TITLE = 0x9C9B
XP_KEYWORDS = 0x9C9E
_OWN = (IMAGE_DESCRIPTION, XP_TITLE, XP_KEYWORDS)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_SIGNATURE = b"MILLRACE"
MAX_ENTRIES = 1000
MAX_VALUE = 65536


class BadExif(ValueError):
    """The block cannot be read as TIFF; it is left as it is."""


@dataclass(frozen=True, slots=True)
class _Header:
    order: str
    ifd0: int


def _header(data: bytes) -> _Header:
    if len(data) < 8:
        raise BadExif(f"the EXIF block has {len(data)} bytes, a TIFF header takes 8")
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or struct.unpack_from(order + "H", data, 2)[0] != 42:
        raise BadExif(f"the EXIF block starts with {bytes(data[:4])!r}, not with a TIFF header")
    return _Header(order, struct.unpack_from(order + "I", data, 4)[0])


def _entries(data: bytes, order: str, offset: int) -> tuple[list[bytes], int]:
    """Return the 12-byte entries of the directory at ``offset``, and the next directory's offset."""
    if offset < 8 or offset + 2 > len(data):
        raise BadExif(f"the EXIF directory at {offset} lies outside its block of {len(data)} bytes")
    count = struct.unpack_from(order + "H", data, offset)[0]
    end = offset + 2 + 12 * count
    if count > MAX_ENTRIES or end > len(data):
        raise BadExif(f"the EXIF directory at {offset} claims {count} entries, more than its block holds")
    following = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
    return [bytes(data[offset + 2 + 12 * i : offset + 14 + 12 * i]) for i in range(count)], following


def _value(data: bytes, order: str, entry: bytes) -> Any:
    """Return an entry's value (text, number, tuple or bytes), or None where it cannot be read."""
    _, kind, count = struct.unpack_from(order + "HHI", entry)
    size = _SIZES.get(kind, 0) * count
    if not 0 < size <= MAX_VALUE:
        return None
    start = struct.unpack_from(order + "I", entry, 8)[0]
    raw = entry[8 : 8 + size] if size <= 4 else bytes(data[start : start + size])
    if len(raw) < size:
        return None
    if kind in (2, 129):
        return decode_text(raw.split(b"\0", 1)[0])
    if kind == 7:
        return raw
    if kind in (5, 10):
        numbers = struct.unpack(order + ("I" if kind == 5 else "i") * 2 * count, raw)
        parts = tuple((n / d if d else None) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
        return parts[0] if count == 1 else parts
    values = struct.unpack(order + _FORMATS[kind] * count, raw)
    return values[0] if count == 1 else values


def decode_text(raw: bytes) -> str:
    """Return text of unknown encoding: UTF-8 when it is that, else Windows-1252."""
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace").strip()


def read(data: bytes) -> dict[str, dict[int, Any]]:
    """Return ``{"ifd0": {tag: value}, "exif": …, "gps": …}``; unreadable entries are left out.

    Rationals become floats (None for a zero denominator). Raises BadExif when even the first
    directory cannot be read.
    """
    header = _header(data)
    out: dict[str, dict[int, Any]] = {"ifd0": {}, "exif": {}, "gps": {}}
    pending: list[tuple[str, int]] = [("ifd0", header.ifd0)]
    while pending:
        name, offset = pending.pop()
        try:
            entries, _ = _entries(data, header.order, offset)
        except BadExif:
            if name == "ifd0":
                raise
            continue
        for entry in entries:
            tag = struct.unpack_from(header.order + "H", entry)[0]
            value = _value(data, header.order, entry)
            if value is None:
                continue
            out[name][tag] = value
            if name == "ifd0" and tag in (_EXIF_IFD, _GPS_IFD) and isinstance(value, int):
                pending.append(("exif" if tag == _EXIF_IFD else "gps", value))
    return out


def xp_text(value: Any) -> str:
    """Return the text of an ``XP…`` tag (UTF-16LE bytes, as Windows writes it)."""
    raw = bytes(value) if isinstance(value, (bytes, tuple)) else b""
    return raw.decode("utf-16-le", "replace").split("\0", 1)[0].strip()


def values_for(tags: Tags) -> dict[int, tuple[int, bytes]]:
    """Return the entries Millrace writes: tag → (TIFF type, value bytes); empty ones are left out."""
    out: dict[int, tuple[int, bytes]] = {}
    if tags.description:
        out[IMAGE_DESCRIPTION] = (2, tags.description.encode() + b"\0")
    if tags.title:
        out[XP_TITLE] = (1, _utf16(tags.title))
    if tags.keywords:
        out[XP_KEYWORDS] = (1, _utf16(";".join(tags.keywords)))
    return out


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def _fitted(values: Mapping[int, tuple[int, bytes]], room: int) -> dict[int, tuple[int, bytes]]:
    """Shorten or drop values (keywords first) until their bytes fit into ``room``."""
    out = dict(values)

    def needed() -> int:
        return sum(len(value) + (len(value) & 1) for _, value in out.values()) + 12 * len(out)

    for tag in (XP_KEYWORDS, XP_TITLE):
        if needed() > room:
            out.pop(tag, None)
    if needed() > room and IMAGE_DESCRIPTION in out:
        text = out[IMAGE_DESCRIPTION][1][:-1].decode()
        kept = cut_utf8(text, max(0, room - 14))
        out.pop(IMAGE_DESCRIPTION)
        if kept:
            out[IMAGE_DESCRIPTION] = (2, kept + b"\0")
    return out


def new_block(tags: Tags, limit: int) -> tuple[bytes, list[str]]:
    """Return a TIFF block with nothing but the tags; see ``edit`` for the notes."""
    return edit(b"MM\0*" + struct.pack(">I", 8) + struct.pack(">HI", 0, 0), tags, limit)


def edit(data: bytes, tags: Tags, limit: int) -> tuple[bytes, list[str]]:
    """Return the block with the tags set, at most ``limit`` bytes, and notes on what did not fit.

    Every byte of ``data`` stays where it was but the four of the header that say where the first
    directory is. What an earlier call appended is replaced, so that blocks do not grow. Raises
    BadExif when the block cannot be read.
    """
    header = _header(data)
    entries, following = _entries(data, header.order, header.ifd0)
    values = values_for(tags)
    base = _without_own_tail(data, header, entries, values)
    start = len(base) + (len(base) & 1)
    spare = limit - start - len(_SIGNATURE) - 4 - 6 - 12 * len(entries)
    fitted = _fitted(values, spare)
    notes = [] if fitted == values else ["The EXIF block is full: not every field could be written to it."]
    if not fitted or (notes and len(base) < len(data)):
        return data, notes
    kept = [entry for entry in entries if _tag(header, entry) not in fitted]
    table_at = start + len(_SIGNATURE) + 4
    value_at = table_at + 6 + 12 * (len(kept) + len(fitted))
    heap = bytearray()
    for tag, (kind, value) in fitted.items():
        if len(value) <= 4:
            place = value.ljust(4, b"\0")
        else:
            place = struct.pack(header.order + "I", value_at + len(heap))
            heap += value + b"\0" * (len(value) & 1)
        kept.append(bytes(struct.pack(header.order + "HHI", tag, kind, len(value)) + place))
    table = b"".join(sorted(kept, key=partial(_tag, header)))
    directory = (
        struct.pack(header.order + "H", len(kept)) + table + struct.pack(header.order + "I", following)
    )
    end = struct.pack(">I", value_at + len(heap))
    body = base.ljust(start, b"\0") + _SIGNATURE + end + directory + bytes(heap)
    return body[:4] + struct.pack(header.order + "I", table_at) + body[8:], notes


def _tag(header: _Header, entry: bytes) -> int:
    tag: int = struct.unpack_from(header.order + "H", entry)[0]
    return tag


def _without_own_tail(data: bytes, header: _Header, entries: list[bytes], values: Mapping[int, Any]) -> bytes:
    """Return the block without the directory that an earlier ``edit`` appended at its end.

    The signature before it says where it ended then; anything appended since keeps it in place,
    and so does one of its values that is not being replaced.
    """
    mark = header.ifd0 - len(_SIGNATURE) - 4
    if mark < 8 or data[mark : mark + len(_SIGNATURE)] != _SIGNATURE:
        return data
    (end,) = struct.unpack_from(">I", data, mark + len(_SIGNATURE))
    stays = any(tag in _OWN and tag not in values for tag in (_tag(header, entry) for entry in entries))
    return data if stays or end != len(data) else data[:mark]
