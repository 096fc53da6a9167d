"""Many files as one ZIP, written while it is sent: nothing is gathered, and its length is known before.

Entries are stored, not compressed (media is compressed already), with ZIP64 fields throughout and their
checksums behind them, as PKWARE's APPNOTE.TXT 6.3.10 has it (§4.3.9, §4.4.4, §4.5.3). Knows no job.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

_VERSION = 45
"""What is needed to read ZIP64."""

_FLAGS = 0x0808
"""Sizes and checksum follow the data (bit 3); names are UTF-8 (bit 11)."""

_UNIX = 3 << 8 | _VERSION
_MODE = 0o100644 << 16
_ALL = 0xFFFFFFFF
_LOCAL, _DESCRIPTOR, _CENTRAL = (
    struct.Struct("<4s5H3I2H"),
    struct.Struct("<4sI2Q"),
    struct.Struct("<4s6H3I5H2I"),
)
_LOCAL_EXTRA, _CENTRAL_EXTRA = struct.Struct("<2H2Q"), struct.Struct("<2H3Q")
_END64, _LOCATOR, _END = struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI"), struct.Struct("<4s4H2IH")


class SizeChanged(Exception):
    """A file is not as long as it was said to be: the archive cannot be completed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its name in the archive (``/`` between folders), its exact size, its time, its bytes."""

    name: str
    size: int
    modified: float
    read: Callable[[], Iterable[bytes]]


def length(entries: Sequence[Entry]) -> int:
    """Return how many bytes ``write`` yields for these entries."""
    each = _LOCAL.size + _LOCAL_EXTRA.size + _DESCRIPTOR.size + _CENTRAL.size + _CENTRAL_EXTRA.size
    names = sum(2 * len(entry.name.encode()) for entry in entries)
    body = sum(entry.size for entry in entries)
    return each * len(entries) + names + body + _END64.size + _LOCATOR.size + _END.size


def write(entries: Sequence[Entry]) -> Iterator[bytes]:
    """Yield the archive, block by block. SizeChanged when a file is not as long as its entry says."""
    position = 0
    directory: list[bytes] = []
    for entry in entries:
        name, when = entry.name.encode(), _dos_time(entry.modified)
        extra = _LOCAL_EXTRA.pack(1, 16, 0, 0)
        head = _LOCAL.pack(b"PK\3\4", _VERSION, _FLAGS, 0, *when, 0, _ALL, _ALL, len(name), len(extra))
        yield head + name + extra
        checksum, size = 0, 0
        for block in entry.read():
            checksum = zlib.crc32(block, checksum)
            size += len(block)
            if size > entry.size:
                raise SizeChanged(f"{entry.name} is longer than {entry.size} bytes")
            yield block
        if size != entry.size:
            raise SizeChanged(f"{entry.name} has {size} bytes, not {entry.size}")
        yield _DESCRIPTOR.pack(b"PK\7\x08", checksum, size, size)
        wide = _CENTRAL_EXTRA.pack(1, 24, size, size, position)
        directory.append(
            _CENTRAL.pack(
                *(b"PK\1\2", _UNIX, _VERSION, _FLAGS, 0, *when, checksum, _ALL, _ALL),
                *(len(name), len(wide), 0, 0, 0, _MODE, _ALL),
            )
            + name
            + wide
        )
        position += len(head) + len(name) + len(extra) + size + _DESCRIPTOR.size
    yield b"".join(directory)
    yield _end(position, sum(map(len, directory)), len(directory))


def _end(position: int, size: int, number: int) -> bytes:
    end64 = _END64.pack(b"PK\6\6", _END64.size - 12, _UNIX, _VERSION, 0, 0, number, number, size, position)
    locator = _LOCATOR.pack(b"PK\6\7", 0, position + size, 1)
    short = min(number, 0xFFFF)
    return end64 + locator + _END.pack(b"PK\5\6", 0, 0, short, short, min(size, _ALL), _ALL, 0)


def _dos_time(seconds: float) -> tuple[int, int]:
    at = time.gmtime(max(seconds, 315_532_800))  # MS-DOS knows nothing before 1980
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, (
        at.tm_year - 1980
    ) << 9 | at.tm_mon << 5 | at.tm_mday
