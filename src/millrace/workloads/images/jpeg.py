"""Takes a JPEG apart into segments and puts it together again with new metadata.

Everything from the first scan on, trailing data included, is copied byte for byte, and so is every
segment that is not XMP, EXIF or IPTC. Sources: ITU-T T.81 annex B; XMP part 3 (1.1.3); CIPA DC-007
(Multi-Picture Format), whose offsets count from its own segment and so survive whatever is put
before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from millrace.workloads.images import exif, iptc, xmp
from millrace.workloads.images.pieces import Content
from millrace.workloads.images.tags import Tags

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
PHOTOSHOP = b"Photoshop 3.0\0"
MPF = b"MPF\0"
_MAX_PAYLOAD = 65533
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EXTENDED_CHUNK = _MAX_PAYLOAD - len(EXTENDED) - 40
_EXTENDED_LIMIT = 16 * 2**20


class BadJpeg(ValueError):
    """The bytes are not a JPEG that can be taken apart."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment before the first scan: its marker, its payload, and fill bytes before it."""

    marker: int
    payload: bytes
    fill: int = 0

    def raw(self) -> bytes:
        """Return the segment as it stands in the file."""
        return (
            b"\xff" * (self.fill + 1) + struct.pack(">BH", self.marker, len(self.payload) + 2) + self.payload
        )

    def size(self) -> int:
        """Return the bytes it takes in the file."""
        return len(self.payload) + self.fill + 4


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG taken apart: the segments before the first scan, and everything after, untouched."""

    segments: list[Segment]
    scans: memoryview
    width: int
    height: int
    components: int
    precision: int
    progressive: bool

    def first(self, marker: int, prefix: bytes) -> bytes | None:
        """Return the payload, after its prefix, of the first segment of that kind."""
        for segment in self.segments:
            if segment.marker == marker and segment.payload.startswith(prefix):
                return segment.payload[len(prefix) :]
        return None

    def resources(self) -> bytes:
        """Return the Photoshop resources, joined over all segments that carry them."""
        return b"".join(
            s.payload[len(PHOTOSHOP) :]
            for s in self.segments
            if s.marker == 0xED and s.payload.startswith(PHOTOSHOP)
        )


def parse(data: Content) -> Jpeg:
    """Take a JPEG apart. Raises BadJpeg when its structure is broken before the first scan."""
    if data[:3] != b"\xff\xd8\xff":
        raise BadJpeg("it does not start with a JPEG marker")
    segments: list[Segment] = []
    frame: tuple[int, int, int, int, bool] | None = None
    pos = 2
    while True:
        start = pos
        while data[pos : pos + 1] == b"\xff":
            pos += 1
        if pos == start or pos + 3 > len(data):
            raise BadJpeg(f"no segment starts at byte {start}: the file is broken or cut short")
        marker, fill = data[pos], pos - start - 1
        if marker in _STANDALONE or marker in (0x00, 0xD8, 0xD9):
            raise BadJpeg(f"a marker {marker:#04x} stands at byte {pos}, before any picture")
        (length,) = struct.unpack_from(">H", data, pos + 1)
        end = pos + 1 + length
        if length < 2 or end > len(data):
            raise BadJpeg(f"the segment {marker:#04x} at byte {pos} is cut short")
        if marker == 0xDA:
            break
        payload = data[pos + 3 : end]
        segments.append(Segment(marker, payload, fill))
        if marker in _FRAMES and frame is None:
            frame = _frame(marker, payload)
        pos = end
    if frame is None:
        raise BadJpeg("a scan starts before any frame header")
    return Jpeg(segments, memoryview(data)[start:], *frame)


def _frame(marker: int, payload: bytes) -> tuple[int, int, int, int, bool]:
    if len(payload) < 6:
        raise BadJpeg("the frame header is cut short")
    precision, height, width, components = struct.unpack_from(">BHHB", payload)
    return width, height, components, precision, marker in (0xC2, 0xC6, 0xCA, 0xCE)


def _insertion(segments: list[Segment]) -> int:
    """Return where new segments go: after the JFIF and EXIF segments that lead the file."""
    index = 0
    for segment in segments:
        if segment.marker == 0xE0 or (segment.marker == 0xE1 and segment.payload.startswith(EXIF)):
            index += 1
        else:
            break
    return index


def _extended(jpeg: Jpeg, guid: str) -> bytes | None:
    """Return the extended packet of that GUID, or None unless every byte of it is there."""
    parts: dict[int, bytes] = {}
    total = 0
    for segment in jpeg.segments:
        if segment.marker != 0xE1 or not segment.payload.startswith(EXTENDED):
            continue
        body = segment.payload[len(EXTENDED) :]
        if len(body) < 40 or body[:32].decode("ascii", "replace").upper() != guid:
            continue
        total, offset = struct.unpack_from(">II", body, 32)
        parts[offset] = body[40:]
    joined = b"".join(parts[offset] for offset in sorted(parts))
    return joined if total and len(joined) == total <= _EXTENDED_LIMIT else None


def read_xmp(jpeg: Jpeg) -> tuple[bytes | None, bytes | None]:
    """Return the standard and the extended XMP packet, where there are any."""
    standard = jpeg.first(0xE1, XMP)
    if standard is None:
        return None, None
    try:
        guid = xmp.extended_guid(standard)
    except xmp.BadXmp:
        return standard, None
    return standard, _extended(jpeg, guid) if guid else None


def write(data: Content, tags: Tags) -> tuple[list[bytes | memoryview], list[str]]:
    """Return the file with the tags in it, in pieces, and notes on what could not be written.

    Raises BadJpeg. A block that cannot be read stays as it is and is named in the notes, but for
    XMP: an unreadable packet is replaced.
    """
    jpeg = parse(data)
    notes: list[str] = []
    segments = _with_exif(jpeg.segments, tags, notes)
    segments = _with_xmp(jpeg, segments, tags, notes)
    segments = _with_iptc(jpeg, segments, tags, notes)
    segments = _with_shifted_mpf(jpeg.segments, segments)
    return [b"\xff\xd8", *(segment.raw() for segment in segments), jpeg.scans], notes


def _with_exif(segments: list[Segment], tags: Tags, notes: list[str]) -> list[Segment]:
    limit = _MAX_PAYLOAD - len(EXIF)
    for index, segment in enumerate(segments):
        if segment.marker == 0xE1 and segment.payload.startswith(EXIF):
            try:
                block, added = exif.edit(segment.payload[len(EXIF) :], tags, limit)
            except exif.BadExif as error:
                notes.append(f"EXIF was left as it is: {error}.")
                return segments
            notes += added
            return [*segments[:index], Segment(0xE1, EXIF + block, segment.fill), *segments[index + 1 :]]
    block, added = exif.new_block(tags, limit)
    notes += added
    at = _insertion(segments)
    return [*segments[:at], Segment(0xE1, EXIF + block), *segments[at:]]


def _with_xmp(jpeg: Jpeg, segments: list[Segment], tags: Tags, notes: list[str]) -> list[Segment]:
    limit = _MAX_PAYLOAD - len(XMP)
    standard, extended = read_xmp(jpeg)
    try:
        packet = xmp.merge_split(standard, extended, tags, limit)
    except xmp.BadXmp as error:
        notes.append(f"The old XMP packet was replaced: {error}.")
        packet = xmp.merge_split(None, None, tags, limit)
    new = [Segment(0xE1, XMP + packet.standard)]
    if packet.extended is not None:
        new += _extended_segments(packet.extended, packet.guid)
    replaced = extended is not None
    kept = [s for s in segments if not _is_xmp(s, extended=replaced)]
    at = _insertion(kept)
    return [*kept[:at], *new, *kept[at:]]


def _is_xmp(segment: Segment, *, extended: bool) -> bool:
    if segment.marker != 0xE1:
        return False
    return segment.payload.startswith(XMP) or (extended and segment.payload.startswith(EXTENDED))


def _extended_segments(body: bytes, guid: str) -> Iterable[Segment]:
    for offset in range(0, len(body), _EXTENDED_CHUNK):
        head = EXTENDED + guid.encode() + struct.pack(">II", len(body), offset)
        yield Segment(0xE1, head + body[offset : offset + _EXTENDED_CHUNK])


def _with_iptc(jpeg: Jpeg, segments: list[Segment], tags: Tags, notes: list[str]) -> list[Segment]:
    try:
        body = iptc.merge_resources(jpeg.resources(), tags)
    except iptc.BadIptc as error:
        notes.append(f"IPTC was left as it is: {error}.")
        return segments
    kept = [s for s in segments if not (s.marker == 0xED and s.payload.startswith(PHOTOSHOP))]
    at = _insertion(kept)
    while at < len(kept) and kept[at].marker == 0xE1 and kept[at].payload.startswith((XMP, EXTENDED)):
        at += 1
    room = _MAX_PAYLOAD - len(PHOTOSHOP)
    new = [Segment(0xED, PHOTOSHOP + body[i : i + room]) for i in range(0, len(body), room)]
    return [*kept[:at], *new, *kept[at:]]


def _is_mpf(segment: Segment) -> bool:
    return segment.marker == 0xE2 and segment.payload.startswith(MPF)


def _with_shifted_mpf(old: list[Segment], new: list[Segment]) -> list[Segment]:
    """Return the segments with the multi-picture offsets right.

    Nothing changes but where a segment that stood behind the index moved before it, or grew there.
    """

    def behind(segments: list[Segment]) -> int | None:
        for index, segment in enumerate(segments):
            if _is_mpf(segment):
                return sum(s.size() for s in segments[index + 1 :])
        return None

    before, after = behind(old), behind(new)
    if before is None or after is None or before == after:
        return new
    return [
        Segment(s.marker, _shift_mpf(s.payload, after - before), s.fill) if _is_mpf(s) else s for s in new
    ]


def _shift_mpf(payload: bytes, delta: int) -> bytes:
    """Return an MPF payload with every image offset but the first (always 0) moved by ``delta``."""
    base = len(MPF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(payload[base : base + 4])
    out = bytearray(payload)
    try:
        if order is None:
            return payload
        (directory,) = struct.unpack_from(order + "I", payload, base + 4)
        (count,) = struct.unpack_from(order + "H", payload, base + directory)
        for index in range(count):
            entry = base + directory + 2 + 12 * index
            tag, _, size, start = struct.unpack_from(order + "HHII", payload, entry)
            if tag == 0xB002:
                for at in range(base + start, base + start + size - 15, 16):
                    (offset,) = struct.unpack_from(order + "I", payload, at + 8)
                    if offset:
                        struct.pack_into(order + "I", out, at + 8, offset + delta)
    except struct.error:
        return payload
    return bytes(out)
