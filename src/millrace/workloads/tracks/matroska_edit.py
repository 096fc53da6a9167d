"""Plans the change of FlagDefault in a Matroska header, within the bytes the header already has.

Where the flag is there, one byte changes. Where it is absent (which means 1) and must become 0,
three bytes are found: in the Void behind Tracks, in sizes written wider than needed and Voids
inside, or in another Void of the header that takes the whole Tracks element. CRC-32 elements of
TrackEntry, Tracks, SeekHead and Segment are kept right.
"""

from __future__ import annotations

from collections.abc import Iterable

from millrace.workloads.tracks.ebml import (
    CRC32,
    UNKNOWN,
    VOID,
    Element,
    children,
    crc_after,
    crc_element,
    element_at,
    encode_id,
    encode_size,
    void_header,
)
from millrace.workloads.tracks.matroska import (
    AUDIO_TRACK,
    CLUSTER,
    FLAG_DEFAULT,
    TRACK_ENTRY,
    TRACK_NUMBER,
    TRACK_TYPE,
    TRACKS,
    Layout,
    level_1,
    seek_entries,
    tracks_body,
    unsigned,
)
from millrace.workloads.tracks.model import Damaged, NoRoom, Probe, Write, differing_spans
from millrace.workloads.tracks.reader import Reader

_CRC_BYTES = 6
_MAX_HEADER_ELEMENTS = 1000


def plan(reader: Reader, probe: Probe, target: int) -> list[Write]:
    """Return the writes after which audio track ``target`` (its index) alone is the default.

    Raises NoRoom when an absent flag finds no space in the header, Damaged when tracks cannot be
    told apart.
    """
    layout: Layout = probe.layout
    number = probe.audio[target].number
    if sum(track.number == number for track in probe.audio) > 1:
        raise Damaged(f"several audio tracks have the number {number}: the header is damaged")
    writes: list[Write] = []
    for element in layout.tracks:
        writes += _edit_tracks(reader, layout, element, number)
    return [*writes, *_segment_crc(reader, layout, writes)]


def _edit_tracks(reader: Reader, layout: Layout, element: Element, number: int) -> list[Write]:
    body = tracks_body(reader, element)
    old = reader.read(element.offset, element.end - element.offset)
    size_width = element.data - element.offset - 4
    edited = _edited_body(body, number, compact=False)
    if len(edited) == len(body):
        return differing_spans(element.offset, old, old[: 4 + size_width] + edited)
    void = _void_at(reader, element.end, layout.segment_end)
    room = len(old) + (void.end - void.offset if void else 0)
    fitted = _fit(TRACKS, edited, size_width, room)
    if fitted is None:
        fitted = _fit(TRACKS, _edited_body(body, number, compact=True), 1, room)
    if fitted is not None:
        return _replace(reader, element.offset, fitted)
    return _relocate(reader, layout, element, edited)


def _edited_body(body: bytes, number: int, *, compact: bool) -> bytes:
    """Return the data of Tracks with the flags set; ``compact`` drops Voids and width not needed."""
    out: list[bytes] = []
    has_crc = False
    for child in children(body, 0, len(body)):
        raw = body[child.start : child.end]
        if child.id == CRC32:
            has_crc = True
        elif child.id == TRACK_ENTRY:
            data = _edited_entry(body[child.data : child.end], number, compact=compact)
            width = child.data - child.start - 1
            if compact or len(data) >= (1 << (7 * width)) - 1:
                width = len(encode_size(len(data)))
            out.append(encode_id(TRACK_ENTRY) + encode_size(len(data), width) + data)
        elif child.id != VOID or not compact:
            out.append(raw)
    joined = b"".join(out)
    return (crc_element(joined) if has_crc else b"") + joined


def _edited_entry(entry: bytes, number: int, *, compact: bool) -> bytes:
    facts = {child.id: entry[child.data : child.end] for child in children(entry, 0, len(entry))}
    if unsigned(facts.get(TRACK_TYPE, b""), 0) != AUDIO_TRACK:
        return entry
    wanted = int(unsigned(facts.get(TRACK_NUMBER, b""), 0) == number)
    parts: list[bytes] = []
    has_crc = present = False
    after_type = 0
    for child in children(entry, 0, len(entry)):
        raw = entry[child.start : child.end]
        if child.id == CRC32:
            has_crc = True
            continue
        if child.id == FLAG_DEFAULT:
            if child.end == child.data:
                continue
            raw = entry[child.start : child.data] + wanted.to_bytes(child.end - child.data, "big")
            present = True
        elif child.id == VOID and compact:
            continue
        parts.append(raw)
        if child.id == TRACK_TYPE:
            after_type = len(parts)
    if not present and (not wanted or FLAG_DEFAULT in facts):
        parts.insert(after_type, encode_id(FLAG_DEFAULT) + encode_size(1) + bytes([wanted]))
    joined = b"".join(parts)
    return (crc_element(joined) if has_crc else b"") + joined


def _fit(identity: int, data: bytes, width: int, room: int) -> bytes | None:
    """Return the element, and the header of the Void that fills ``room`` behind it; None if too long."""
    width = max(width, len(encode_size(len(data))))
    left = room - 4 - width - len(data)
    if left == 1 and width < 8:
        width, left = width + 1, 0
    if left < 0 or left == 1:
        return None
    return encode_id(identity) + encode_size(len(data), width) + data + (void_header(left) if left else b"")


def _void_at(reader: Reader, offset: int, end: int) -> Element | None:
    if offset >= end:
        return None
    element = element_at(reader, offset)
    return element if element.id == VOID and element.size != UNKNOWN and element.end <= end else None


def _replace(reader: Reader, offset: int, new: bytes) -> list[Write]:
    return differing_spans(offset, reader.read(offset, len(new)), new)


def _relocate(reader: Reader, layout: Layout, element: Element, data: bytes) -> list[Write]:
    """Move Tracks into another Void of the header, and point the SeekHead at it."""
    if len(layout.tracks) > 1:
        raise NoRoom("the Tracks element occurs several times and has no space behind it")
    for void in _header_voids(reader, layout):
        fitted = _fit(TRACKS, data, 1, void.end - void.offset)
        if fitted is None:
            continue
        seeks = _repointed(reader, layout, element.offset, void.offset)
        if seeks is None:
            continue
        empty = void_header(element.end - element.offset)
        return [
            *_replace(reader, void.offset, fitted),
            *_replace(reader, element.offset, empty),
            *seeks,
        ]
    raise NoRoom("the header has no Void that is large enough")


def _header_voids(reader: Reader, layout: Layout) -> Iterable[Element]:
    for count, element in enumerate(level_1(reader, layout.segment.data, layout.segment_end)):
        if element.id == CLUSTER or count > _MAX_HEADER_ELEMENTS:
            return
        if element.id == VOID and element.size != UNKNOWN and element.end <= layout.segment_end:
            yield element


def _repointed(reader: Reader, layout: Layout, old: int, new: int) -> list[Write] | None:
    """Return the writes that change the SeekHeads' position of Tracks; None if it does not fit."""
    base = layout.segment.data
    writes: list[Write] = []
    for seek_head in layout.seek_heads:
        before = reader.read(seek_head.data, seek_head.size)
        body = bytearray(before)
        for identity, position, start, end in seek_entries(before):
            if identity != TRACKS or position != old - base:
                continue
            try:
                body[start:end] = (new - base).to_bytes(end - start, "big")
            except OverflowError:
                return None
        first = next(children(before, 0, len(before)), None)
        if first is not None and first.id == CRC32 and first.end == _CRC_BYTES:
            body[:_CRC_BYTES] = crc_element(bytes(body[_CRC_BYTES:]))
        writes += differing_spans(seek_head.data, before, bytes(body))
    return writes


def _segment_crc(reader: Reader, layout: Layout, writes: list[Write]) -> list[Write]:
    """Return the write that keeps a CRC-32 over the whole Segment right, without reading the Segment."""
    segment = layout.segment
    if segment.size == UNKNOWN or segment.end > reader.size or not writes:
        return []
    first = element_at(reader, segment.data)
    if first.id != CRC32 or first.size != 4:
        return []
    stored = reader.read(first.data, 4)
    crc = int.from_bytes(stored, "little")
    for write in writes:
        if write.offset < first.end:
            raise Damaged("a part of the header lies before the Segment's checksum")
        difference = bytes(a ^ b for a, b in zip(write.old, write.new, strict=True))
        crc = crc_after(crc, difference, segment.end - write.offset - len(write.new))
    new = crc.to_bytes(4, "little")
    return [Write(first.data, stored, new)] if new != stored else []
