"""The grammar of EBML: element ids, sizes, voids and checksums (RFC 8794). Knows no Matroska."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from millrace.workloads.tracks.model import Damaged
from millrace.workloads.tracks.reader import Reader

VOID = 0xEC
CRC32 = 0xBF
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Element:
    """An element's place in the file: ``offset`` of its id, of its ``data``, and the data's ``size``.

    ``size`` is ``UNKNOWN`` where the element ends only with its parent or the next of its level.
    """

    id: int
    offset: int
    data: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind the element; only for a known size."""
        return self.data + self.size


class Child(NamedTuple):
    """An element inside bytes already read: where it starts, where its data starts and ends."""

    id: int
    start: int
    data: int
    end: int


def _read_id(buffer: bytes, at: int) -> tuple[int, int]:
    if at >= len(buffer):
        raise ValueError("no id")
    first = buffer[at]
    length = 9 - first.bit_length()
    if not 1 <= length <= 4 or at + length > len(buffer):
        raise ValueError("no id")
    return int.from_bytes(buffer[at : at + length], "big"), length


def _read_size(buffer: bytes, at: int) -> tuple[int, int]:
    if at >= len(buffer) or buffer[at] == 0:
        raise ValueError("no size")
    length = 9 - buffer[at].bit_length()
    if at + length > len(buffer):
        raise ValueError("no size")
    mask = (1 << (7 * length)) - 1
    value = int.from_bytes(buffer[at : at + length], "big") & mask
    return (UNKNOWN if value == mask else value), length


def element_at(reader: Reader, offset: int) -> Element:
    """Return the element whose id is at ``offset``; Damaged when there is none."""
    head = reader.peek(offset, 12)
    try:
        identity, id_length = _read_id(head, 0)
        size, size_length = _read_size(head, id_length)
    except ValueError:
        raise Damaged(f"no EBML element at byte {offset}: the file is damaged or cut off") from None
    return Element(identity, offset, offset + id_length + size_length, size)


def children(buffer: bytes, start: int, end: int, *, limit: int = 4096) -> Iterator[Child]:
    """Yield the elements of ``buffer[start:end]``, one level deep, at most ``limit`` of them.

    Raises Damaged where one does not fit, has an unknown size, or there are too many.
    """
    count = 0
    while start < end:
        count += 1
        if count > limit:
            raise Damaged(f"an element has more than {limit} children: the header is damaged")
        head = buffer[start : start + 2]
        if len(head) == 2 and head[0] >= 0x80 and 0x80 <= head[1] < 0xFF:
            # One byte each for id and size, as most elements have: this loop is where the time goes.
            identity, size, data = head[0], head[1] & 0x7F, start + 2
        else:
            try:
                identity, id_length = _read_id(buffer, start)
                size, size_length = _read_size(buffer, start + id_length)
            except ValueError:
                raise Damaged(
                    f"the header is damaged: no EBML element in its last {end - start} bytes"
                ) from None
            data = start + id_length + size_length
        if size == UNKNOWN or data + size > end:
            raise Damaged(f"the header is damaged: element {identity:#x} does not fit into its parent")
        yield Child(identity, start, data, data + size)
        start = data + size


def encode_id(identity: int) -> bytes:
    """Return the id's bytes (its length marker is part of it)."""
    return identity.to_bytes((identity.bit_length() + 7) // 8, "big")


def encode_size(size: int, width: int | None = None) -> bytes:
    """Return a size of ``width`` bytes, or of as few as it needs; ValueError when it does not fit."""
    least = next(w for w in range(1, 9) if size < (1 << (7 * w)) - 1)
    width = least if width is None else width
    if not least <= width <= 8:
        raise ValueError(f"a size of {size} does not fit into {width} bytes")
    return (size | (1 << (7 * width))).to_bytes(width, "big")


def void_header(total: int) -> bytes:
    """Return the header of a Void that is ``total`` bytes long altogether (2 or more)."""
    if total < 2:
        raise ValueError(f"a Void needs at least 2 bytes, not {total}")
    width = 1 if total - 2 < 0x7F else 8
    return bytes([VOID]) + encode_size(total - 1 - width, width)


def crc_element(data: bytes) -> bytes:
    """Return the CRC-32 element over ``data``, the other children of its parent (RFC 8794, 11.3.1)."""
    return bytes([CRC32, 0x84]) + zlib.crc32(data).to_bytes(4, "little")


def crc_after(crc: int, difference: bytes, trailing: int) -> int:
    """Return a CRC-32 after bytes were changed, without reading the rest of what it covers.

    ``difference`` is old XOR new of the changed bytes, ``trailing`` how many bytes of the covered
    data follow them. CRC-32 is affine, so the change is the raw remainder of the difference
    advanced over the trailing zeros (the matrix method of zlib's ``crc32_combine``).
    """
    raw = zlib.crc32(difference) ^ zlib.crc32(bytes(len(difference)))
    return crc ^ _advance(raw, trailing)


def _advance(crc: int, zeros: int) -> int:
    """Return the raw CRC register after ``zeros`` zero bytes."""

    def times(matrix: list[int], vector: int) -> int:
        total = 0
        for row in matrix:
            if not vector:
                break
            if vector & 1:
                total ^= row
            vector >>= 1
        return total

    operator = [0xEDB88320, *(1 << bit for bit in range(31))]
    for _ in range(3):
        operator = [times(operator, row) for row in operator]
    while zeros:
        if zeros & 1:
            crc = times(operator, crc)
        zeros >>= 1
        operator = [times(operator, row) for row in operator]
    return crc
