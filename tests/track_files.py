"""Builds small Matroska and MP4 files byte by byte, in every layout that a test wants.

What ordinary muxers never write (sizes left open, headers at the end, checksums everywhere) is made
here; what they do write is made with them in the tests themselves.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from millrace.workloads.tracks.ebml import encode_id, encode_size, void_header

UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


@dataclass(frozen=True)
class Audio:
    """An audio track to be written. ``default`` None leaves FlagDefault out (which means 1)."""

    language: str = "eng"
    default: bool | None = None
    name: str = ""
    bcp47: str = ""
    channels: int = 2
    codec: str = "A_PCM/INT/LIT"
    commentary: bool = False
    visual_impaired: bool = False
    enabled: bool = True
    empty_flag: bool = False
    group: int = 1
    macintosh: int | None = None


def element(identity: int, data: bytes, width: int | None = None) -> bytes:
    return encode_id(identity) + encode_size(len(data), width) + data


def number(identity: int, value: int, length: int | None = None) -> bytes:
    length = length or max(1, (value.bit_length() + 7) // 8)
    return element(identity, value.to_bytes(length, "big"))


def void(total: int) -> bytes:
    header = void_header(total)
    return header + bytes(total - len(header))


def with_crc(data: bytes) -> bytes:
    return b"\xbf\x84" + zlib.crc32(data).to_bytes(4, "little") + data


def track_entry(index: int, track: Audio, *, crc: bool = False, width: int | None = None) -> bytes:
    parts = [number(0xD7, index + 2), number(0x73C5, 1000 + index), number(0x83, 2)]
    if not track.enabled:
        parts.append(number(0xB9, 0))
    if track.empty_flag:
        parts.append(element(0x88, b""))
    elif track.default is not None:
        parts.append(number(0x88, int(track.default)))
    if track.visual_impaired:
        parts.append(number(0x55AC, 1))
    if track.commentary:
        parts.append(number(0x55AF, 1))
    parts.append(number(0x9C, 0))
    if track.language:
        parts.append(element(0x22B59C, track.language.encode()))
    if track.bcp47:
        parts.append(element(0x22B59D, track.bcp47.encode()))
    if track.name:
        parts.append(element(0x536E, track.name.encode()))
    parts.append(element(0x86, track.codec.encode()))
    audio = element(0xB5, struct.pack(">d", 8000.0)) + number(0x9F, track.channels) + number(0x6264, 16)
    parts.append(element(0xE1, audio))
    body = b"".join(parts)
    return element(0xAE, with_crc(body) if crc else body, width)


def video_entry() -> bytes:
    body = number(0xD7, 1) + number(0x73C5, 77) + number(0x83, 1) + number(0x9C, 0)
    body += element(0x86, b"V_UNCOMPRESSED") + element(
        0xE0, number(0xB0, 16) + number(0xBA, 16) + element(0x2EB524, b"I420")
    )
    return element(0xAE, body)


def matroska(
    tracks: list[Audio],
    *,
    void_after: int = 0,
    void_before: int = 0,
    inner_void: int = 0,
    seek_head: bool = True,
    crc: bool = False,
    segment_crc: bool = False,
    open_segment: bool = False,
    open_clusters: bool = False,
    tracks_last: bool = False,
    tracks_twice: bool = False,
    entry_width: int | None = None,
    doc_type: str = "matroska",
    clusters: int = 2,
    chapters: bytes = b"",
) -> bytes:
    """Return a whole file. ``tracks_last`` puts Tracks behind the Clusters, found by the SeekHead alone."""
    head = element(
        0x1A45DFA3,
        number(0x4286, 1) + number(0x42F7, 1) + number(0x42F2, 4) + number(0x42F3, 8)
        + element(0x4282, doc_type.encode()) + number(0x4287, 4) + number(0x4285, 2),
    )  # fmt: skip
    info = number(0x2AD7B1, 1_000_000) + element(0x4489, struct.pack(">d", clusters * 100.0))
    info += element(0x4D80, b"test") + element(0x5741, b"test")
    info = element(0x1549A966, with_crc(info) if crc else info)
    body = video_entry() + b"".join(
        track_entry(index, track, crc=crc, width=entry_width) for index, track in enumerate(tracks)
    )
    body += void(inner_void) if inner_void else b""
    tracks_element = element(0x1654AE6B, with_crc(body) if crc else body)
    media = b"".join(_cluster(index, tracks, open_size=open_clusters) for index in range(clusters))

    def layout(info_at: int, tracks_at: int) -> tuple[bytes, int, int]:
        out = b""
        if seek_head:
            entries = _seek(0x1549A966, info_at) + _seek(0x1654AE6B, tracks_at)
            out += element(0x114D9B74, with_crc(entries) if crc else entries)
        out += void(void_before) if void_before else b""
        shift = 6 if segment_crc else 0
        info_at = len(out) + shift
        out += info
        if not tracks_last:
            tracks_at = len(out) + shift
            out += tracks_element + (tracks_element if tracks_twice else b"")
            out += void(void_after) if void_after else b""
        out += chapters + media
        if tracks_last:
            tracks_at = len(out) + shift
            out += tracks_element
        return out, info_at, tracks_at

    _, info_at, tracks_at = layout(0, 0)
    segment, _, _ = layout(info_at, tracks_at)
    if segment_crc:
        segment = with_crc(segment)
    size = UNKNOWN_SIZE if open_segment else encode_size(len(segment), 8)
    return head + encode_id(0x18538067) + size + segment


def _seek(identity: int, position: int) -> bytes:
    return element(0x4DBB, element(0x53AB, encode_id(identity)) + number(0x53AC, position, 8))


@lru_cache
def _tone(position: int, channels: int) -> bytes:
    return b"".join(
        struct.pack("<h", int(9000 * math.sin(sample / (5 + position)))) * channels for sample in range(80)
    )


def _cluster(index: int, tracks: list[Audio], *, open_size: bool) -> bytes:
    data = number(0xE7, index * 100)
    data += element(0xA3, b"\x81" + struct.pack(">hB", 0, 0x80) + bytes([index % 256]) * 384)
    for position, track in enumerate(tracks):
        tone = _tone(position, track.channels)
        data += element(0xA3, bytes([0x82 + position]) + struct.pack(">hB", 0, 0x80) + tone)
    if open_size:
        return encode_id(0x1F43B675) + UNKNOWN_SIZE + data
    return element(0x1F43B675, data)


def box(kind: str | bytes, data: bytes, *, wide: bool = False) -> bytes:
    name = kind.encode("latin-1") if isinstance(kind, str) else kind
    if wide:
        return struct.pack(">I", 1) + name + struct.pack(">Q", len(data) + 16) + data
    return struct.pack(">I", len(data) + 8) + name + data


def mp4(
    tracks: list[Audio],
    *,
    moov_last: bool = False,
    wide: bool = False,
    version: int = 0,
    open_mdat: bool = False,
    ftyp: bool = True,
    brand: bytes = b"isom",
    subtitle_group: int = 0,
    mdat_bytes: int = 640,
) -> bytes:
    """Return a whole file of PCM tracks, each of 160 samples. ``wide`` gives every box a 64-bit size."""

    def full(kind: str, data: bytes, flags: int = 0, ver: int = 0) -> bytes:
        return box(kind, bytes([ver]) + flags.to_bytes(3, "big") + data, wide=wide)

    def trak(position: int, track: Audio, at: int) -> bytes:
        times = struct.pack(">QQ" if version else ">II", 0, 0)
        length = struct.pack(">Q" if version else ">I", 160)
        flags = 0x3 if track.default in (None, True) else 0x2
        header = times + struct.pack(">II", position + 1, 0) + length
        header += struct.pack(">8xhHHH", 0, track.group, 0x0100, 0) + _MATRIX + bytes(8)
        if track.macintosh is not None:
            packed = track.macintosh
        else:
            packed = sum(
                (ord(c) - 0x60) << s for c, s in zip(track.language or "und", (10, 5, 0), strict=True)
            )
        media = full(
            "mdhd", times + struct.pack(">I", 8000) + length + struct.pack(">HH", packed, 0), ver=version
        )
        if track.bcp47:
            media += full("elng", track.bcp47.encode() + b"\0")
        media += full("hdlr", b"\0\0\0\0soun" + bytes(12) + b"SoundHandler\0")
        entry = box(
            "sowt", bytes(6) + struct.pack(">HHHIHHHHI", 1, 0, 0, 0, track.channels, 16, 0, 0, 8000 << 16)
        )
        samples = 160
        table = full("stsd", struct.pack(">I", 1) + entry)
        table += full("stts", struct.pack(">III", 1, samples, 1))
        table += full("stsc", struct.pack(">IIII", 1, 1, samples, 1))
        table += full("stsz", struct.pack(">II", 2 * track.channels, samples))
        table += full("stco", struct.pack(">II", 1, at))
        data = full("dref", struct.pack(">I", 1) + box("url ", b"\0\0\0\1"))
        information = full("smhd", bytes(4)) + box("dinf", data, wide=wide) + box("stbl", table, wide=wide)
        notes = b""
        if track.name:
            notes += box("name", track.name.encode())
        if track.commentary:
            notes += full("kind", b"urn:mpeg:dash:role:2011\0commentary\0")
        body = full("tkhd", header, flags=flags, ver=version)
        body += box("mdia", media + box("minf", information, wide=wide), wide=wide)
        return box("trak", body + (box("udta", notes, wide=wide) if notes else b""), wide=wide)

    def moov(at: int) -> bytes:
        head = (
            struct.pack(">IIII", 0, 0, 8000, 160)
            + struct.pack(">IH10x", 0x10000, 0x100)
            + _MATRIX
            + bytes(24)
        )
        body = full("mvhd", head + struct.pack(">I", len(tracks) + 2))
        body += b"".join(trak(position, track, at) for position, track in enumerate(tracks))
        return box("moov", body, wide=wide)

    start = box("ftyp", brand + bytes(4) + b"isommp42") if ftyp else b""
    payload = bytes(value % 251 for value in range(mdat_bytes))
    head = 16 if wide else 8
    if moov_last:
        return start + box("mdat", payload, wide=wide) + moov(len(start) + head)
    mdat = struct.pack(">I", 0) + b"mdat" + payload if open_mdat else box("mdat", payload, wide=wide)
    head = 8 if open_mdat else head
    return start + moov(len(start) + len(moov(0)) + head) + mdat


_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
