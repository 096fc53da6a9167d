"""Reads the audio tracks of MP4, M4A and QuickTime files, and plans the change of their flags.

Boxes follow ISO/IEC 14496-12 (and the QuickTime File Format where it differs). The default track is
the enabled one: bit 0 of ``tkhd.flags``; tracks that are alternatives of each other share a non-zero
``alternate_group``. Both have a fixed place, so a change never moves a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from millrace.workloads.tracks.model import AudioTrack, Damaged, Probe, Write, differing_spans
from millrace.workloads.tracks.reader import Reader

_TOP_LEVEL = frozenset(
    {
        b"ftyp",
        b"styp",
        b"moov",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"pnot",
        b"moof",
        b"sidx",
        b"uuid",
        b"meta",
    }
)
_MAX_TOP_BOXES = 50_000
_MAX_CHILDREN = 4096
_MAX_TRACKS = 512
_MAX_STSD_BYTES = 65536
_ENABLED = 1
_DASH_ROLES = b"urn:mpeg:dash:role:2011"
_TVA_PURPOSES = b"urn:tva:metadata:cs:AudioPurposeCS:2007"


@dataclass(frozen=True, slots=True)
class Box:
    """A box: ``offset`` of its size field, of its ``data``, and its ``end``."""

    type: bytes
    offset: int
    data: int
    end: int


@dataclass(frozen=True, slots=True)
class TrackHeader:
    """Where the two fields of a ``tkhd`` lie that an edit touches, and what they say.

    ``handler`` is the media's type: ``soun`` for audio. ``group_at`` is the offset of alternate_group.
    """

    handler: bytes
    flags_at: int
    flags: int
    group_at: int
    group: int


def looks_like(head: bytes) -> bool:
    """Return whether a file that starts with ``head`` (8 bytes or more) is made of ISO or QuickTime boxes."""
    return head[4:8] in _TOP_LEVEL


def probe(reader: Reader) -> Probe:
    """Return the audio tracks of the movie; Damaged when its boxes cannot be followed.

    ``layout`` holds the headers of all tracks, in the order of the file, the audio ones in the
    order of ``audio``.
    """
    moov, brand = _movie(reader)
    headers: list[TrackHeader] = []
    audio: list[AudioTrack] = []
    for box in boxes(reader, moov.data, moov.end):
        if box.type == b"cmov":
            raise Damaged(
                "the movie header is compressed (cmov), which is not supported: remux the file first"
            )
        if box.type != b"trak":
            continue
        if len(headers) >= _MAX_TRACKS:
            raise Damaged(f"more than {_MAX_TRACKS} tracks: the header is damaged")
        header, track = _track(reader, box, len(audio))
        headers.append(header)
        if track is not None:
            audio.append(track)
    return Probe("mp4", "QuickTime" if brand == b"qt  " else "MP4", tuple(audio), tuple(headers))


def plan(reader: Reader, probe: Probe, target: int) -> list[Write]:
    """Return the writes after which audio track ``target`` (its index) alone is enabled.

    All audio tracks then share one alternate group: the one that they have, else the first number
    that no other track uses.
    """
    headers: tuple[TrackHeader, ...] = probe.layout
    audio = [header for header in headers if header.handler == b"soun"]
    group = wanted_group(headers)
    writes: list[Write] = []
    for index, header in enumerate(audio):
        flags = header.flags | _ENABLED if index == target else header.flags & ~_ENABLED
        writes += differing_spans(header.flags_at, reader.read(header.flags_at, 3), flags.to_bytes(3, "big"))
        writes += differing_spans(header.group_at, reader.read(header.group_at, 2), group.to_bytes(2, "big"))
    return writes


def wanted_group(headers: tuple[TrackHeader, ...]) -> int:
    """Return the alternate group that the audio tracks are to share; a single one keeps its own."""
    groups = [header.group for header in headers if header.handler == b"soun"]
    if len(groups) < 2:
        return groups[0] if groups else 0
    others = {header.group for header in headers if header.handler != b"soun"}
    used = next((group for group in groups if group and group not in others), 0)
    return used or next(group for group in range(1, 0x7FFF) if group not in others)


def boxes(reader: Reader, start: int, end: int, limit: int = _MAX_CHILDREN) -> Iterator[Box]:
    """Yield the boxes in ``start``–``end``, one level deep; Damaged where one does not fit."""
    count = 0
    while end - start >= 8:
        count += 1
        if count > limit:
            raise Damaged(f"more than {limit} boxes beside each other: the header is damaged")
        box = _box_at(reader, start, end)
        if box is None:
            return
        if box.end > end:
            raise Damaged(f"box {_name(box.type)} at byte {box.offset} is longer than what holds it")
        yield box
        start = box.end


def _box_at(reader: Reader, start: int, end: int) -> Box | None:
    """Return the box at ``start``; None for the four zero bytes that end a QuickTime list."""
    head = reader.peek(start, 16)
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    data = start + 8
    if size == 1:
        if len(head) < 16:
            raise Damaged(f"box {_name(kind)} at byte {start} is cut off")
        size, data = int.from_bytes(head[8:16], "big"), start + 16
    elif size == 0:
        if end != reader.size:
            return None
        size = end - start
    if size < data - start:
        raise Damaged(f"box {_name(kind)} at byte {start} claims {size} bytes: the file is damaged")
    return Box(kind, start, data, start + size)


def _movie(reader: Reader) -> tuple[Box, bytes]:
    brand = b"qt  "
    start = 0
    for _ in range(_MAX_TOP_BOXES):
        if reader.size - start < 8:
            break
        box = _box_at(reader, start, reader.size)
        if box is None:
            break
        if box.type == b"ftyp":
            brand = reader.peek(box.data, 4)
        elif box.type == b"moov":
            if box.end > reader.size:
                raise Damaged("the movie header (moov) is cut off: the file is incomplete")
            return box, brand
        start = box.end
    raise Damaged("the file has no movie header (moov): it is damaged or still being written")


def _track(reader: Reader, trak: Box, index: int) -> tuple[TrackHeader, AudioTrack | None]:
    tkhd = mdia = udta = None
    for box in boxes(reader, trak.data, trak.end):
        if box.type == b"tkhd":
            tkhd = box
        elif box.type == b"mdia":
            mdia = box
        elif box.type == b"udta":
            udta = box
    if tkhd is None or mdia is None:
        raise Damaged("a track has no header (tkhd, mdia): the file is damaged")
    header, number = _header(reader, tkhd)
    media = _media(reader, mdia)
    header = TrackHeader(media.handler, header.flags_at, header.flags, header.group_at, header.group)
    if media.handler != b"soun":
        return header, None
    notes = _notes(reader, udta) if udta else _Notes()
    track = AudioTrack(
        index=index,
        number=number,
        language=media.language,
        name=notes.name or media.name,
        codec=media.codec,
        channels=media.channels,
        default=bool(header.flags & _ENABLED),
        commentary=notes.commentary,
        descriptive=notes.descriptive,
        hearing_impaired=notes.hearing_impaired,
        group=header.group,
    )
    return header, track


def _header(reader: Reader, tkhd: Box) -> tuple[TrackHeader, int]:
    version = reader.read(tkhd.data, 4)
    wide = version[0] == 1
    if version[0] > 1 or tkhd.end - tkhd.data < (96 if wide else 84):
        raise Damaged(f"the track header (tkhd) at byte {tkhd.offset} is damaged")
    number_at = tkhd.data + (20 if wide else 12)
    group_at = tkhd.data + (46 if wide else 34)
    return (
        TrackHeader(
            b"",
            tkhd.data + 1,
            int.from_bytes(version[1:], "big"),
            group_at,
            int.from_bytes(reader.read(group_at, 2), "big"),
        ),
        int.from_bytes(reader.read(number_at, 4), "big"),
    )


@dataclass(slots=True)
class _Media:
    handler: bytes = b""
    name: str = ""
    language: str = ""
    codec: str = ""
    channels: int = 0


def _media(reader: Reader, mdia: Box) -> _Media:
    media = _Media()
    extended = ""
    for box in boxes(reader, mdia.data, mdia.end):
        if box.type == b"mdhd":
            media.language = _packed_language(reader, box)
        elif box.type == b"elng":
            extended = _text(reader.peek(box.data + 4, min(64, max(0, box.end - box.data - 4))))
        elif box.type == b"hdlr" and box.end - box.data >= 24:
            media.handler = reader.read(box.data + 8, 4)
            media.name = _handler_name(reader.read(box.data + 24, min(256, box.end - box.data - 24)))
        elif box.type == b"minf" and media.handler in (b"", b"soun"):
            media.codec, media.channels = _sample_entry(reader, box)
    media.language = extended or media.language
    return media


def _packed_language(reader: Reader, mdhd: Box) -> str:
    """Return the ISO 639-2 code of a media header, or '' for a Macintosh code or none."""
    version = reader.read(mdhd.data, 1)[0]
    at = mdhd.data + (32 if version == 1 else 20)
    if at + 2 > mdhd.end:
        raise Damaged(f"the media header (mdhd) at byte {mdhd.offset} is damaged")
    packed = int.from_bytes(reader.read(at, 2), "big")
    if packed < 0x400 or packed == 0x7FFF:
        return _MACINTOSH.get(packed, "")
    return "".join(chr(0x60 + ((packed >> shift) & 0x1F)) for shift in (10, 5, 0))


def _sample_entry(reader: Reader, minf: Box) -> tuple[str, int]:
    for stbl in boxes(reader, minf.data, minf.end):
        if stbl.type != b"stbl":
            continue
        for stsd in boxes(reader, stbl.data, stbl.end):
            if stsd.type != b"stsd":
                continue
            body = reader.peek(stsd.data, min(stsd.end - stsd.data, _MAX_STSD_BYTES))
            if len(body) < 34:
                return "", 0
            return _name(body[12:16]), int.from_bytes(body[32:34], "big")
    return "", 0


@dataclass(slots=True)
class _Notes:
    name: str = ""
    commentary: bool = False
    descriptive: bool = False
    hearing_impaired: bool = False


def _notes(reader: Reader, udta: Box) -> _Notes:
    """Return a track's name and purpose: ``name``, ``titl``, ``kind`` (DASH, TV-Anytime), ``tagc``."""
    notes = _Notes()
    for box in boxes(reader, udta.data, udta.end):
        data = reader.peek(box.data, min(512, box.end - box.data))
        if box.type == b"name":
            notes.name = _text(data)
        elif box.type == b"titl" and not notes.name:
            notes.name = _text(data[6:])
        elif box.type == b"kind":
            scheme, _, value = data[4:].partition(b"\0")
            value = value.split(b"\0", 1)[0]
            if scheme == _DASH_ROLES:
                notes.commentary |= value == b"commentary"
                notes.descriptive |= value == b"description"
                notes.hearing_impaired |= value == b"enhanced-audio-intelligibility"
            elif scheme == _TVA_PURPOSES:
                notes.descriptive |= value == b"1"
                notes.hearing_impaired |= value == b"2"
        elif box.type == b"tagc":
            notes.descriptive |= b"public.accessibility.describes-video" in data
            notes.commentary |= b"public.auxiliary-content" in data
    return notes


def _handler_name(data: bytes) -> str:
    """Return a handler's name (a Pascal string in QuickTime); '' for the makers' stock names."""
    if data and data[0] == len(data) - 1:
        data = data[1:]
    name = _text(data)
    return "" if "handler" in name.lower() or name in ("Stereo", "Mono") else name


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _name(kind: bytes) -> str:
    return kind.decode("latin-1") if kind.isascii() and kind.decode("latin-1").isprintable() else kind.hex()


# QuickTime File Format, "Language code values": those that are a language of today's audio tracks.
_MACINTOSH_NAMES = """
en fr de it nl sv es da pt no he ja ar fi el is mt tr hr zh ur hi th ko lt pl hu et lv se
fo fa ru zh nl-BE ga sq ro cs sk sl yi sr mk bg uk be uz kk az
"""
_MACINTOSH = dict(enumerate(_MACINTOSH_NAMES.split()))
