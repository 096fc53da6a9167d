"""Reads a file without copying it, and writes a new one that is given in pieces without joining them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

Content = bytes | mmap.mmap
"""What is in a file; a slice of it is bytes."""

_WHOLE = getattr(mmap, "MAP_POPULATE", 0)
_SMALL = 65536
_AT_ONCE = 64


def mapped(path: Path) -> Content:
    """Map a file that nobody may change meanwhile: where one is cut short, this process would be killed."""
    with path.open("rb", buffering=0) as file:
        return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | _WHOLE, prot=mmap.PROT_READ)


def write_pieces(handle: int, pieces: Iterable[bytes | memoryview]) -> int:
    """Write the pieces to an empty file; return how many bytes they are.

    Room is set aside first: the disk then takes the bytes in half the time, and a full one says so
    before anything is written.
    """
    buffers = _gathered(pieces)
    size = sum(len(buffer) for buffer in buffers)
    if size:
        os.posix_fallocate(handle, 0, size)
    while buffers:
        written = os.writev(handle, buffers[:_AT_ONCE])
        while buffers and written >= len(buffers[0]):
            written -= len(buffers.pop(0))
        if written:
            buffers[0] = buffers[0][written:]
    return size


def _gathered(pieces: Iterable[bytes | memoryview]) -> list[memoryview]:
    """Return the pieces as a few large ones: small neighbours are joined."""
    out: list[memoryview] = []
    small = bytearray()
    for piece in pieces:
        if len(piece) <= _SMALL:
            small += piece
            continue
        if small:
            out.append(memoryview(small))
            small = bytearray()
        out.append(memoryview(piece))
    if small:
        out.append(memoryview(small))
    return out
