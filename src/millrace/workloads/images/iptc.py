"""Sets title, caption and keywords in IPTC-IIM, inside the Photoshop resources of a JPEG's APP13.

Sources: IPTC-IIM 4.2; Adobe Photoshop File Formats, "Image Resources". Text is marked as UTF-8
(dataset 1:90, ``ESC % G``); other text that was there in Latin-1 is converted with it.
"""

from __future__ import annotations

import struct

from millrace.workloads.images.tags import Tags, cut_utf8

IPTC_RESOURCE = 0x0404
DIGEST_RESOURCE = 0x0425
_UTF8 = b"\x1b%G"
_TITLE, _KEYWORD, _CAPTION = (2, 5), (2, 25), (2, 120)
_CHARSET, _VERSION = (1, 90), (2, 0)
_BINARY = {0, 125, 200, 201, 202}
_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
TITLE_BYTES, KEYWORD_BYTES, CAPTION_BYTES = 64, 64, 2000

Dataset = tuple[tuple[int, int], bytes]
Resource = tuple[bytes, int, bytes, bytes]


class BadIptc(ValueError):
    """The records or resources cannot be read; they are left as they are."""


def parse_resources(data: bytes) -> list[Resource]:
    """Split Photoshop image resources into ``(signature, id, padded name, data)``."""
    out: list[Resource] = []
    pos = 0
    while len(data) - pos >= 12:
        signature = data[pos : pos + 4]
        if signature not in _SIGNATURES:
            break
        (number,) = struct.unpack_from(">H", data, pos + 4)
        name_size = (data[pos + 6] + 2) & ~1
        size_at = pos + 6 + name_size
        if size_at + 4 > len(data):
            raise BadIptc(f"the Photoshop resource {number:#06x} is cut short")
        (size,) = struct.unpack_from(">I", data, size_at)
        start = size_at + 4
        if start + size > len(data):
            raise BadIptc(f"the Photoshop resource {number:#06x} claims {size} bytes, more than there are")
        out.append((signature, number, data[pos + 6 : size_at], data[start : start + size]))
        pos = start + size + (size & 1)
    if data[pos:].strip(b"\0"):
        raise BadIptc(f"the Photoshop resources hold {len(data) - pos} bytes that are not a resource")
    return out


def build_resources(resources: list[Resource]) -> bytes:
    """Return the bytes of the resources; ``parse_resources`` reads them."""
    return b"".join(
        signature
        + struct.pack(">H", number)
        + name
        + struct.pack(">I", len(body))
        + body
        + b"\0" * (len(body) & 1)
        for signature, number, name, body in resources
    )


def parse(data: bytes) -> list[Dataset]:
    """Split IIM records into ``((record, dataset), value)``; padding at the end is ignored."""
    out: list[Dataset] = []
    pos = 0
    while pos + 5 <= len(data) and data[pos] == 0x1C:
        key = (data[pos + 1], data[pos + 2])
        (size,) = struct.unpack_from(">H", data, pos + 3)
        pos += 5
        if size & 0x8000:
            width = size & 0x7FFF
            if not 0 < width <= 4 or pos + width > len(data):
                raise BadIptc(f"the IPTC dataset {key[0]}:{key[1]:03} has a length of {width} bytes")
            size = int.from_bytes(data[pos : pos + width], "big")
            pos += width
        if pos + size > len(data):
            raise BadIptc(f"the IPTC dataset {key[0]}:{key[1]:03} claims {size} bytes, more than there are")
        out.append((key, data[pos : pos + size]))
        pos += size
    if data[pos:].strip(b"\0"):
        raise BadIptc(f"the IPTC records hold {len(data) - pos} bytes that are not a dataset")
    return out


def build(datasets: list[Dataset]) -> bytes:
    """Return the bytes of the datasets, the extended length form where one needs it."""
    out = bytearray()
    for (record, number), value in datasets:
        out += bytes((0x1C, record, number))
        out += (
            struct.pack(">H", len(value)) if len(value) < 0x8000 else struct.pack(">HI", 0x8004, len(value))
        )
        out += value
    return bytes(out)


def merge(data: bytes, tags: Tags) -> bytes:
    """Return the IIM records with the tags set and everything else kept.

    A field over its IIM length (title and keyword 64 bytes, caption 2000) is cut on a character
    border. Raises BadIptc when the records cannot be read.
    """
    new: list[Dataset] = []
    if tags.title:
        new.append((_TITLE, cut_utf8(tags.title, TITLE_BYTES)))
    if tags.description:
        new.append((_CAPTION, cut_utf8(tags.description, CAPTION_BYTES)))
    new += [(_KEYWORD, value) for value in dict.fromkeys(cut_utf8(k, KEYWORD_BYTES) for k in tags.keywords)]
    if not new:
        return data
    old = parse(data)
    marked = any(key == _CHARSET and value == _UTF8 for key, value in old)
    replaced = {key for key, _ in new}
    kept = [
        (key, value if marked else _as_utf8(key, value))
        for key, value in old
        if key not in replaced and key != _CHARSET
    ]
    if not any(key == _VERSION for key, _ in kept):
        kept.append((_VERSION, b"\0\4"))
    head = [(_CHARSET, _UTF8), *(d for d in kept if d[0][0] <= 1)]
    second = [*(d for d in kept if d[0][0] == 2), *new]
    second.sort(key=lambda d: d[0] != _VERSION)
    return build([*head, *second, *(d for d in kept if d[0][0] > 2)])


def _as_utf8(key: tuple[int, int], value: bytes) -> bytes:
    """Return a text value as UTF-8; binary ones and what is UTF-8 already stay."""
    if key[0] != 2 or key[1] in _BINARY or value.isascii():
        return value
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace").encode()
    return value


def read(data: bytes) -> Tags:
    """Return the title, caption and keywords that the records hold."""
    datasets = parse(data)
    found: dict[tuple[int, int], list[str]] = {}
    for key, value in datasets:
        if key in (_TITLE, _CAPTION, _KEYWORD):
            found.setdefault(key, []).append(_as_utf8(key, value).decode("utf-8", "replace").strip())
    return Tags(
        found.get(_TITLE, [""])[0],
        found.get(_CAPTION, [""])[0],
        tuple(k for k in found.get(_KEYWORD, []) if k),
    )


def merge_resources(data: bytes, tags: Tags) -> bytes:
    """Return Photoshop resources with the tags set in their IPTC record.

    The digest of the old record (0x0425) is dropped: it would make Photoshop distrust the new one.
    """
    resources = parse_resources(data)
    old = b"".join(body for _, number, _, body in resources if number == IPTC_RESOURCE)
    record = merge(old, tags)
    entry: Resource = (b"8BIM", IPTC_RESOURCE, b"\0\0", record)
    out: list[Resource] = []
    for resource in resources:
        if resource[1] == DIGEST_RESOURCE:
            continue
        if resource[1] != IPTC_RESOURCE:
            out.append(resource)
        elif entry not in out:
            out.append(entry)
    if entry not in out:
        out.insert(0, entry)
    return build_resources(out)


def read_resources(data: bytes) -> Tags:
    """Return the tags of the IPTC record in Photoshop resources."""
    return read(b"".join(body for _, number, _, body in parse_resources(data) if number == IPTC_RESOURCE))
