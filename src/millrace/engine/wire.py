"""Frames between the server and its workers: a length, then JSON. Nothing is ever unpickled."""

from __future__ import annotations

import struct
from typing import Any

import orjson

HEADER = struct.Struct("!I")
MAX_FRAME = 256 * 1024 * 1024
"""Bytes; a longer frame can only be a mistake."""

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dumps(value: Any) -> bytes:
    """Return compact JSON; numpy numbers and arrays, and keys that are numbers, are welcome."""
    return orjson.dumps(value, option=_OPTIONS)


def loads(data: bytes) -> Any:
    """Return what JSON says."""
    return orjson.loads(data)


def encode(message: Any) -> bytes:
    """Return a message as one frame."""
    body = dumps(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return HEADER.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Take more bytes; return the messages that are complete now."""
        buffer = self._buffer
        buffer += data
        messages = []
        start = 0
        view = memoryview(buffer)
        try:
            while len(buffer) - start >= HEADER.size:
                (size,) = HEADER.unpack_from(buffer, start)
                if size > MAX_FRAME:
                    raise ValueError(f"a frame of {size} bytes is over the limit of {MAX_FRAME}")
                end = start + HEADER.size + size
                if len(buffer) < end:
                    break
                messages.append(orjson.loads(view[start + HEADER.size : end]))
                start = end
        finally:
            view.release()
        if start:
            del buffer[:start]
        return messages
