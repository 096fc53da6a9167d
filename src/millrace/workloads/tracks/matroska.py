"""Reads the audio tracks of a Matroska or WebM file from its header (RFC 9559).

Only the bytes needed are read: the EBML header, the ids and sizes of the Segment's first elements,
and the Tracks element. Nothing here writes; ``matroska_edit`` plans the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from millrace.workloads.tracks.ebml import CRC32, UNKNOWN, VOID, Element, children, element_at
from millrace.workloads.tracks.model import AudioTrack, Damaged, Probe
from millrace.workloads.tracks.reader import Reader

EBML_HEADER = 0x1A45DFA3
DOC_TYPE = 0x4282
SEGMENT = 0x18538067
SEEK_HEAD = 0x114D9B74
SEEK = 0x4DBB
SEEK_ID = 0x53AB
SEEK_POSITION = 0x53AC
CLUSTER = 0x1F43B675
CHAPTERS = 0x1043A770
EDITION_ENTRY = 0x45B9
EDITION_FLAG_ORDERED = 0x45DD
TRACKS = 0x1654AE6B
TRACK_ENTRY = 0xAE
TRACK_NUMBER = 0xD7
TRACK_TYPE = 0x83
AUDIO_TRACK = 2
FLAG_ENABLED = 0xB9
FLAG_DEFAULT = 0x88
FLAG_HEARING_IMPAIRED = 0x55AB
FLAG_VISUAL_IMPAIRED = 0x55AC
FLAG_ORIGINAL = 0x55AE
FLAG_COMMENTARY = 0x55AF
NAME = 0x536E
LANGUAGE = 0x22B59C
LANGUAGE_BCP47 = 0x22B59D
CODEC_ID = 0x86
AUDIO = 0xE1
CHANNELS = 0x9F

_LEVEL_1 = frozenset({SEEK_HEAD, 0x1549A966, TRACKS, 0x1043A770, CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1254C367})
_MAX_TRACKS_BYTES = 16 * 1024 * 1024
_MAX_SEEK_HEAD_BYTES = 1024 * 1024
_MAX_TRACKS = 512


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of the header lie. ``tracks`` holds every copy of the Tracks element."""

    segment: Element
    segment_end: int
    seek_heads: tuple[Element, ...]
    tracks: tuple[Element, ...]
    first_cluster: int | None


def looks_like(head: bytes) -> bool:
    """Return whether a file that starts with ``head`` (4 bytes or more) is EBML."""
    return head[:4] == EBML_HEADER.to_bytes(4, "big")


def probe(reader: Reader) -> Probe:
    """Return the audio tracks of the first Segment.

    Raises Damaged when the header cannot be followed, or names another document type.
    """
    doc_type, segment = _open(reader)
    layout = _survey(reader, segment)
    if not layout.tracks:
        raise Damaged("the file has no Tracks element: it is damaged or cut off")
    body = tracks_body(reader, layout.tracks[0])
    return Probe("matroska", "WebM" if doc_type == "webm" else "Matroska", tuple(_audio(body)), layout)


def editions(reader: Reader) -> tuple[int, bool]:
    """Return how many chapter editions the file has, and whether one of them is ordered."""
    _, segment = _open(reader)
    layout = _survey(reader, segment)
    sought = {
        segment.data + position
        for seek_head in layout.seek_heads
        for identity, position, _, _ in seek_entries(reader.read(seek_head.data, seek_head.size))
        if identity == CHAPTERS
    }
    for element in level_1(reader, segment.data, layout.segment_end):
        if element.id == CLUSTER:
            break
        if element.id == CHAPTERS:
            sought.add(element.offset)
    count, ordered = 0, False
    for offset in sought:
        element = element_at(reader, offset)
        if element.id != CHAPTERS or not 0 <= element.size <= _MAX_TRACKS_BYTES:
            continue
        body = reader.read(element.data, element.size)
        for edition in children(body, 0, len(body)):
            if edition.id != EDITION_ENTRY:
                continue
            count += 1
            for part in children(body, edition.data, edition.end, limit=100_000):
                ordered |= part.id == EDITION_FLAG_ORDERED and unsigned(body[part.data : part.end], 0) == 1
    return count, ordered


def tracks_body(reader: Reader, element: Element) -> bytes:
    """Return the data of a Tracks element."""
    if element.size > _MAX_TRACKS_BYTES:
        raise Damaged(f"the Tracks element claims {element.size} bytes: the header is damaged")
    return reader.read(element.data, element.size)


def level_1(reader: Reader, start: int, end: int) -> Iterator[Element]:
    """Yield the elements of a Segment from ``start``, stepping over Clusters of unknown size."""
    while start < end and start < reader.size:
        element = element_at(reader, start)
        yield element
        if element.size != UNKNOWN:
            start = element.end
        elif element.id == CLUSTER:
            start = _end_of_open_cluster(reader, element, end)
        else:
            raise Damaged(f"element {element.id:#x} at byte {start} has no size: the file is damaged")


def unsigned(data: bytes, default: int) -> int:
    """Return an unsigned integer's value; an empty element has its default (RFC 8794, 6.1)."""
    if len(data) > 8:
        raise Damaged(f"an integer of {len(data)} bytes: the header is damaged")
    return int.from_bytes(data, "big") if data else default


def seek_entries(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(id sought, position, start of the position's data, its end)`` of a SeekHead's entries."""
    for entry in children(body, 0, len(body)):
        if entry.id != SEEK:
            continue
        sought = position = None
        for part in children(body, entry.data, entry.end, limit=64):
            if part.id == SEEK_ID:
                sought = unsigned(body[part.data : part.end], 0)
            elif part.id == SEEK_POSITION:
                position = part
        if sought is not None and position is not None:
            yield sought, unsigned(body[position.data : position.end], 0), position.data, position.end


def _open(reader: Reader) -> tuple[str, Element]:
    header = element_at(reader, 0)
    if header.id != EBML_HEADER or not 0 <= header.size <= 65536:
        raise Damaged("the EBML header is damaged")
    body = reader.read(header.data, header.size)
    doc_type = "matroska"
    for child in children(body, 0, len(body)):
        if child.id == DOC_TYPE:
            doc_type = _text(body[child.data : child.end])
    if doc_type not in ("matroska", "webm"):
        raise Damaged(f"an EBML file of type {doc_type!r}, not Matroska or WebM")
    offset = header.end
    for _ in range(64):
        element = element_at(reader, offset)
        if element.id == SEGMENT:
            return doc_type, element
        if element.id not in (VOID, CRC32) or element.size == UNKNOWN:
            break
        offset = element.end
    raise Damaged("no Segment follows the EBML header: the file is damaged")


def _survey(reader: Reader, segment: Element) -> Layout:
    """Find the Tracks elements: those before the first Cluster, and those that a SeekHead points at."""
    end = reader.size if segment.size == UNKNOWN else min(segment.end, reader.size)
    found: list[Element] = []
    seek_heads: list[Element] = []
    sought: list[int] = []
    cluster: int | None = None

    def follow() -> None:
        while sought:
            position = sought.pop()
            if segment.data <= position < end and all(position != element.offset for element in found):
                element = _tracks_at(reader, position)
                if element is not None:
                    found.append(element)

    for element in level_1(reader, segment.data, end):
        if element.id == TRACKS:
            found.insert(0, element)
            break
        if element.id == SEEK_HEAD:
            seek_heads.append(element)
            sought += _tracks_positions(reader, segment, element)
        elif element.id == CLUSTER:
            cluster = element.offset if cluster is None else cluster
            follow()
            if found:
                break
    follow()
    return Layout(segment, end, tuple(seek_heads), tuple(found), cluster)


def _tracks_positions(reader: Reader, segment: Element, seek_head: Element) -> list[int]:
    if not 0 <= seek_head.size <= _MAX_SEEK_HEAD_BYTES:
        raise Damaged(f"the SeekHead claims {seek_head.size} bytes: the header is damaged")
    body = reader.read(seek_head.data, seek_head.size)
    return [segment.data + position for identity, position, _, _ in seek_entries(body) if identity == TRACKS]


def _tracks_at(reader: Reader, position: int) -> Element | None:
    """Return the Tracks element at a position that a SeekHead names; None when it is not there."""
    try:
        element = element_at(reader, position)
    except Damaged:
        return None
    return element if element.id == TRACKS and element.size != UNKNOWN else None


def _end_of_open_cluster(reader: Reader, cluster: Element, end: int) -> int:
    offset = cluster.data
    while offset < end:
        element = element_at(reader, offset)
        if element.id in _LEVEL_1:
            return offset
        if element.size == UNKNOWN:
            raise Damaged(f"element {element.id:#x} in a Cluster has no size: the file is damaged")
        offset = element.end
    return end


def _audio(body: bytes) -> Iterator[AudioTrack]:
    index = 0
    for count, child in enumerate(children(body, 0, len(body))):
        if count >= _MAX_TRACKS:
            raise Damaged(f"more than {_MAX_TRACKS} tracks: the header is damaged")
        if child.id != TRACK_ENTRY:
            continue
        facts = entry_facts(body, child.data, child.end)
        if unsigned(facts.get(TRACK_TYPE, b""), 0) == AUDIO_TRACK:
            yield _track(index, facts)
            index += 1


def entry_facts(body: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return id → data of a TrackEntry's children, with Channels lifted out of its Audio element."""
    facts: dict[int, bytes] = {}
    for child in children(body, start, end):
        if child.id == AUDIO:
            for inner in children(body, child.data, child.end):
                if inner.id == CHANNELS:
                    facts[CHANNELS] = body[inner.data : inner.end]
        else:
            facts[child.id] = body[child.data : child.end]
    return facts


def _track(index: int, facts: Mapping[int, bytes]) -> AudioTrack:
    def flag(identity: int, default: int = 0) -> bool:
        return unsigned(facts.get(identity, b""), default) != 0

    bcp47 = _text(facts.get(LANGUAGE_BCP47, b""))
    return AudioTrack(
        index=index,
        number=unsigned(facts.get(TRACK_NUMBER, b""), 0),
        language=bcp47 or _text(facts.get(LANGUAGE, b"")) or "eng",
        name=_text(facts.get(NAME, b"")),
        codec=_text(facts.get(CODEC_ID, b"")),
        channels=unsigned(facts.get(CHANNELS, b""), 1),
        default=flag(FLAG_DEFAULT, 1),
        enabled=flag(FLAG_ENABLED, 1),
        original=flag(FLAG_ORIGINAL),
        commentary=flag(FLAG_COMMENTARY),
        descriptive=flag(FLAG_VISUAL_IMPAIRED),
        hearing_impaired=flag(FLAG_HEARING_IMPAIRED),
    )


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0][:2048].decode("utf-8", "replace")
