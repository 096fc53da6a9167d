"""Serving stored files: conditional and partial requests (RFC 9110), safe headers. Knows no contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from millrace.errors import NotFound
from millrace.server.replies import http_date

if TYPE_CHECKING:
    from millrace.blobs import Blobs
    from millrace.engine.model import Artifact

_CHUNK = 256 * 1024
_TOKEN = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~ ()-]")


class Content(Protocol):
    """Bytes that can be served: how many, and any part of them."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to, not including, ``end``."""
        ...


@dataclass(frozen=True, slots=True)
class FileContent:
    """An open file; closed after it was read. One reading only."""

    file: IO[bytes]
    size: int

    @classmethod
    def open(cls, path: Path) -> FileContent:
        """Open a file for serving; NotFound when there is none. Blocks."""
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"{path.name} is not there any more") from error
        return cls(file, file.seek(0, 2))

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of the file, read in a thread."""
        try:
            await asyncio.to_thread(self.file.seek, start)
            while start < end:
                block = await asyncio.to_thread(self.file.read, min(_CHUNK, end - start))
                if not block:
                    return
                start += len(block)
                yield block
        finally:
            self.file.close()


@dataclass(frozen=True, slots=True)
class BlobContent:
    """A stored blob, read piece by piece in a thread."""

    blobs: Blobs
    key: str
    size: int

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of the blob."""
        if start >= end:
            return
        chunks = self.blobs.chunks(self.key, start, end)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def content_disposition(name: str, kind: str = "attachment") -> str:
    """Write a Content-Disposition (RFC 6266): an ASCII ``filename`` and, where needed, ``filename*``.

    >>> content_disposition("Überfall.srt")
    "attachment; filename=\\"_berfall.srt\\"; filename*=UTF-8''%C3%9Cberfall.srt"
    """
    plain = _TOKEN.sub("_", name)
    header = f'{kind}; filename="{plain}"'
    if plain != name:
        header += f"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
    return header


def _same(etag: str, header: str) -> bool:
    """Whether an ``If-None-Match`` names this entity: ``*`` or a list, compared weakly."""
    return header.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in header.split(",")]


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of a ``Range``, end exclusive; None to answer with the whole.

    Units other than bytes, malformed ranges and several ranges at once are answered with the whole,
    as RFC 9110 §14.2 allows. ValueError when the range lies outside the content (416).
    """
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header, re.IGNORECASE | re.ASCII)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = int(found[2])
        if length == 0 or size == 0:
            raise ValueError(header)
        return max(0, size - length), size
    start = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < start:
        return None
    if start >= size:
        raise ValueError(header)
    return start, min(last + 1, size)


def serve(
    request: Request,
    content: Content,
    *,
    name: str,
    media_type: str,
    etag: str,
    modified: float | None = None,
    disposition: str = "attachment",
) -> Response:
    """Answer a GET or HEAD for ``content``.

    ``etag`` is without quotes and must change with the bytes (a SHA-256 does). ``If-None-Match``
    gives 304; ``Range`` gives 206, or 416 when it lies outside, unless ``If-Range`` names another
    version. The content is never sniffed or run: a stored HTML page stays a download.
    """
    quoted = f'"{etag}"'
    headers = {
        "ETag": quoted,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(name, disposition),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    last_modified = http_date(modified) if modified is not None else None
    if last_modified is not None:
        headers["Last-Modified"] = last_modified
    known = request.headers.get("if-none-match")
    if known is not None and _same(quoted, known):
        return _whole(request, content, 304, headers, None)
    part = None
    wanted = request.headers.get("range")
    condition = request.headers.get("if-range")
    if wanted is not None and (condition is None or condition in (quoted, last_modified)):
        try:
            part = parse_range(wanted, content.size)
        except ValueError:
            headers["Content-Range"] = f"bytes */{content.size}"
            return _whole(request, content, 416, headers, None)
    start, end = part or (0, content.size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    status = 206 if part is not None else 200
    if request.method == "HEAD":
        return _whole(request, content, status, headers, media_type)
    return StreamingResponse(content.read(start, end), status, headers, media_type)


def _whole(
    request: Request, content: Content, status: int, headers: dict[str, str], media_type: str | None
) -> Response:
    """Answer without a body, and let go of the content."""
    if isinstance(content, FileContent):
        content.file.close()
    if status in (304, 416):
        headers.pop("Content-Disposition", None)
    reply = Response(None, status, media_type=media_type)
    for key, value in headers.items():
        reply.headers[key] = value
    return reply


async def serve_file(
    request: Request,
    path: Path,
    *,
    name: str,
    media_type: str,
    etag: str | None = None,
    disposition: str = "attachment",
) -> Response:
    """Serve a file of this machine; NotFound when there is none. ``etag``: by default its time and size."""
    content = await asyncio.to_thread(FileContent.open, path)
    stat = path.stat()
    made = etag or f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    return serve(
        request,
        content,
        name=name,
        media_type=media_type,
        etag=made,
        modified=stat.st_mtime,
        disposition=disposition,
    )


async def serve_blob(
    request: Request, blobs: Blobs, key: str, *, name: str, media_type: str, etag: str | None = None
) -> Response:
    """Serve a stored blob; NotFound when there is none. Without ``etag``, the store's own is used."""
    found = await asyncio.to_thread(blobs.stat, key)
    path = blobs.path(key)
    content: Content = BlobContent(blobs, key, found.bytes)
    if path is not None:
        content = await asyncio.to_thread(FileContent.open, path)
    return serve(
        request,
        content,
        name=name,
        media_type=media_type,
        etag=etag or found.etag.removeprefix("W/").strip('"'),
        modified=found.modified,
    )


async def serve_artifact(request: Request, blobs: Blobs, artifact: Artifact) -> Response:
    """Serve what a stage published, under its own name; its SHA-256 is the ETag."""
    return await serve_blob(
        request,
        blobs,
        artifact.key,
        name=artifact.name,
        media_type=artifact.media_type,
        etag=artifact.sha256,
    )
