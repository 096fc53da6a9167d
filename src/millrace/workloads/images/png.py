"""Takes a PNG apart into chunks and puts it together again with new metadata.

Every chunk that is not XMP, EXIF or an IPTC profile is copied byte for byte, trailing data
included. Sources: PNG third edition (W3C, 2025), 4.7 and 11.3; XMP part 3 (1.1.5). PNG has no
chunk for IPTC: the one ImageMagick and ExifTool share (``Raw profile type iptc``) is used.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from millrace.workloads.images import exif, iptc, xmp
from millrace.workloads.images.pieces import Content
from millrace.workloads.images.tags import Tags

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
IPTC_KEYWORD = b"Raw profile type iptc"
_COMPRESSED = {b"zTXt", b"iTXt", b"iCCP"}
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
MAX_TEXT = 16 * 2**20
MAX_TEXT_TOTAL = 64 * 2**20
_EXIF_LIMIT = 2**20


class BadPng(ValueError):
    """The bytes are not a PNG that can be taken apart."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its type, and where it stands in the file (``start`` is that of its length)."""

    type: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Png:
    """A PNG taken apart; ``end`` is where IEND ends and trailing data starts."""

    data: Content
    chunks: list[Chunk]
    end: int
    width: int
    height: int
    depth: int
    colour: int
    animated: bool

    def body(self, chunk: Chunk) -> bytes:
        """Return a chunk's data without length, type and checksum."""
        return self.data[chunk.start + 8 : chunk.end - 4]

    def pixels_only(self) -> bytes:
        """Return a PNG of the chunks that make the picture: no text, profile or animation."""
        view = memoryview(self.data)
        return b"".join((SIGNATURE, *(view[c.start : c.end] for c in self.chunks if c.type in _PIXELS)))


def parse(data: Content) -> Png:
    """Take a PNG apart. Raises BadPng when a chunk is missing, cut short, or a text one is a bomb."""
    if data[:8] != SIGNATURE:
        raise BadPng("it does not start with the PNG signature")
    chunks: list[Chunk] = []
    pos = 8
    while not chunks or chunks[-1].type != b"IEND":
        if pos + 12 > len(data):
            raise BadPng(f"the file is cut short: no chunk stands at byte {pos}, and IEND was not reached")
        length, kind = struct.unpack_from(">I4s", data, pos)
        if length > len(data) - pos - 12:
            raise BadPng(f"the file is cut short inside its {kind.decode('latin-1')!r} chunk at byte {pos}")
        chunks.append(Chunk(kind, pos, pos + 12 + length))
        pos += 12 + length
    kinds = [c.type for c in chunks]
    header = next((c for c in chunks[:2] if c.type == b"IHDR" and c.end - c.start == 25), None)
    if header is None or b"IDAT" not in kinds:
        raise BadPng("it has no header or no picture data")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, header.start + 8)
    return Png(data, chunks, pos, width, height, depth, colour, b"acTL" in kinds)


def inflate(data: bytes, limit: int = MAX_TEXT) -> bytes:
    """Decompress a zlib stream of at most ``limit`` bytes. Raises BadPng beyond, or when it is broken."""
    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise BadPng(f"a compressed chunk cannot be read: {error}") from error
    if len(out) > limit:
        raise BadPng(f"a compressed chunk unpacks to more than {limit} bytes")
    return out


def check_bombs(png: Png) -> None:
    """Raise BadPng when compressed text or profile chunks unpack to more than is sane.

    The limits are 16 MiB a chunk and 64 MiB in all. Chunks that are merely broken pass: nobody
    needs to read them.
    """
    total = 0
    for chunk in png.chunks:
        if chunk.type not in _COMPRESSED:
            continue
        stream = _compressed(chunk.type, png.body(chunk))
        if not stream:
            continue
        unpacker = zlib.decompressobj()
        try:
            size = len(unpacker.decompress(stream, MAX_TEXT + 1))
        except zlib.error:
            continue
        total += size
        if size > MAX_TEXT or total > MAX_TEXT_TOTAL:
            raise BadPng(
                f"its {chunk.type.decode()} chunk unpacks to more than {MAX_TEXT // 2**20} MiB"
                if size > MAX_TEXT
                else f"its compressed chunks unpack to more than {MAX_TEXT_TOTAL // 2**20} MiB"
            )


def _compressed(kind: bytes, body: bytes) -> bytes:
    """Return the compressed stream of a zTXt, iCCP or compressed iTXt chunk; empty for a plain one."""
    keyword, separator, rest = body.partition(b"\0")
    if not separator or not rest or len(keyword) > 79:
        return b""
    if kind != b"iTXt":
        return rest[1:]
    if len(rest) < 2 or rest[0] != 1:
        return b""
    parts = rest[2:].split(b"\0", 2)
    return parts[2] if len(parts) == 3 else b""


def text(png: Png, chunk: Chunk) -> tuple[bytes, bytes] | None:
    """Return keyword and text of a text chunk, unpacked; None for any other, or one that is broken."""
    if chunk.type not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    body = png.body(chunk)
    keyword, separator, rest = body.partition(b"\0")
    if not separator:
        return None
    if chunk.type == b"tEXt":
        return keyword, rest
    stream = _compressed(chunk.type, body)
    if stream:
        try:
            return keyword, inflate(stream)
        except BadPng:
            return None
    if chunk.type == b"iTXt" and len(rest) >= 2 and rest[0] == 0:
        parts = rest[2:].split(b"\0", 2)
        return (keyword, parts[2]) if len(parts) == 3 else None
    return None


def read_xmp(png: Png) -> bytes | None:
    """Return the XMP packet, if there is one that can be unpacked."""
    return _profile(png, XMP_KEYWORD)


def read_iptc(png: Png) -> bytes | None:
    """Return the Photoshop resources or IIM records kept as a raw profile, if there are any."""
    profile = _profile(png, IPTC_KEYWORD)
    if profile is None:
        return None
    try:
        _, _, digits = profile.strip().partition(b"\n")[2].partition(b"\n")
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None


def read_exif(png: Png) -> bytes | None:
    """Return the TIFF block of the eXIf chunk, if there is one."""
    return next((png.body(c) for c in png.chunks if c.type == b"eXIf"), None)


def _profile(png: Png, keyword: bytes) -> bytes | None:
    for chunk in png.chunks:
        found = text(png, chunk)
        if found is not None and found[0] == keyword:
            return found[1]
    return None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write(data: Content, tags: Tags) -> tuple[list[bytes | memoryview], list[str]]:
    """Return the file with the tags in it, in pieces, and notes on what could not be written.

    Raises BadPng. An EXIF or IPTC block that cannot be read stays as it is and is named in the
    notes; an unreadable XMP packet is replaced.
    """
    png = parse(data)
    notes: list[str] = []
    new = [_xmp_chunk(png, tags, notes)]
    dropped = {c.start for c in png.chunks if _keyword(png, c) == XMP_KEYWORD}
    block = _exif_chunk(png, tags, notes)
    if block is not None:
        new.append(block)
        dropped |= {c.start for c in png.chunks if c.type == b"eXIf"}
    profile = _iptc_chunk(png, tags, notes)
    if profile is not None:
        new.append(profile)
        dropped |= {c.start for c in png.chunks if _keyword(png, c) == IPTC_KEYWORD}
    view = memoryview(data)
    out: list[bytes | memoryview] = [SIGNATURE]
    for chunk in png.chunks:
        if chunk.start not in dropped:
            out.append(view[chunk.start : chunk.end])
        if chunk.type == b"IHDR":
            out += new
            new = []
    out.append(view[png.end :])
    return out, notes


def _keyword(png: Png, chunk: Chunk) -> bytes:
    if chunk.type not in (b"tEXt", b"zTXt", b"iTXt"):
        return b""
    return png.data[chunk.start + 8 : min(chunk.end - 4, chunk.start + 88)].partition(b"\0")[0]


def _xmp_chunk(png: Png, tags: Tags, notes: list[str]) -> bytes:
    try:
        packet = xmp.merge(read_xmp(png), tags)
    except xmp.BadXmp as error:
        notes.append(f"The old XMP packet was replaced: {error}.")
        packet = xmp.merge(None, tags)
    return _chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + packet)


def _exif_chunk(png: Png, tags: Tags, notes: list[str]) -> bytes | None:
    old = read_exif(png)
    try:
        block, added = (
            exif.new_block(tags, _EXIF_LIMIT) if old is None else exif.edit(old, tags, len(old) + _EXIF_LIMIT)
        )
    except exif.BadExif as error:
        notes.append(f"EXIF was left as it is: {error}.")
        return None
    notes += added
    return _chunk(b"eXIf", block)


def _iptc_chunk(png: Png, tags: Tags, notes: list[str]) -> bytes | None:
    old = read_iptc(png)
    try:
        if old is None or old[:4] == b"8BIM":
            body = iptc.merge_resources(old or b"", tags)
        else:
            body = iptc.merge(old, tags)
    except iptc.BadIptc as error:
        notes.append(f"IPTC was left as it is: {error}.")
        return None
    digits = body.hex().encode()
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    packed = zlib.compress(b"\niptc\n%8d\n" % len(body) + lines + b"\n")
    return _chunk(b"zTXt", IPTC_KEYWORD + b"\0\0" + packed)
