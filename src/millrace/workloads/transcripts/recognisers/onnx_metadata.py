"""The metadata of an ONNX file, read without loading its network.

An ONNX file is a protobuf ``ModelProto`` (onnx.proto3): its field 14, ``metadata_props``, holds
pairs of strings. All other fields, the graph with its weights above all, are stepped over.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_METADATA_PROPS = 14
_LONGEST = 16 << 20
"""Bytes one pair may take: normalisation vectors take some tens of kilobytes."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata; ValueError if the file is no ONNX model."""
    size = path.stat().st_size
    found: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < size:
            field, wire = divmod(_varint(file), 8)
            if wire == 2:
                length = _varint(file)
                if file.tell() + length > size:
                    raise ValueError(f"{path.name} is no ONNX model, or is cut off")
                if field == _METADATA_PROPS and length <= _LONGEST:
                    key, value = _pair(file.read(length))
                    found[key] = value
                else:
                    file.seek(length, 1)
            elif wire == 0:
                _varint(file)
            elif wire in (1, 5):
                file.seek(8 if wire == 1 else 4, 1)
            else:
                raise ValueError(f"{path.name} is no ONNX model")
    return found


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("not a protobuf file, or cut off")


def _pair(data: bytes) -> tuple[str, str]:
    import io

    stream = io.BytesIO(data)
    parts = {1: "", 2: ""}
    while stream.tell() < len(data):
        field, wire = divmod(_varint(stream), 8)
        if wire != 2:
            raise ValueError("a metadata entry is no pair of strings")
        parts[field] = stream.read(_varint(stream)).decode("utf-8", "replace")
    return parts[1], parts[2]
