"""Multipart requests: files streamed to the blob store within limits, fields beside them. Knows no contract.

Bytes are parsed, hashed and handed to the store in a thread, so that neither a large upload nor a slow store
holds up the event loop; none of them lies on this machine in between. A stored file's key is made here; the
client's file name is only ever shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import secrets
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from millrace.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from starlette.requests import Request

    from millrace.blobs import Blobs, BlobWriter
    from millrace.settings import LimitSettings

_BLOCK = 1024 * 1024
_HEAD = 8192
_MAX_FIELD = 8 * 1024 * 1024
_MAX_FIELDS_TOGETHER = 32 * 1024 * 1024
_MAX_NAME = 255
_THREADS = 32
"""Uploads that may wait for the store at once; they are not to take the threads of everything else."""
_EXTENDED_NAME = re.compile(rb"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)

Oversize = Literal["refuse", "mark"]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file, already stored.

    field       the form field it came in.
    name        the client's file name, its last component only, without control characters: for people.
    key         where it is in the blob store; empty for an ``oversize`` file, which was not kept.
    size        in bytes; of an oversize file, how much was seen.
    media_type  as the client declared it: a claim, not a fact.
    head        its first 8 KiB, to tell what it really is.
    oversize    larger than the caller's limit, and so not stored (``oversize="mark"``).
    """

    field: str
    name: str
    key: str
    size: int
    sha256: str
    media_type: str
    head: bytes
    oversize: bool = False

    def ref(self) -> dict[str, Any]:
        """Return the input reference that ``millrace.sources`` understands."""
        return {"kind": "upload", "key": self.key, "name": self.name}


@dataclass(slots=True)
class Form:
    """A request's fields and files, in the order they came.

    digest   the SHA-256 of all of it, contents included, whatever the boundary: the body hash of an
             idempotency key.
    owns     the prefix of the stored files' keys, for ``NewJob.owns``: deleted with the job.
    """

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[Upload] = field(default_factory=list)
    digest: str = ""
    owns: tuple[str, ...] = ()
    kept: bool = False

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a field."""
        return next((value for key, value in self.fields if key == name), default)

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.fields if key == name]

    def uploads(self, name: str) -> list[Upload]:
        """Return the files that came in a field."""
        return [upload for upload in self.files if upload.field == name]

    def keep(self) -> None:
        """Leave the stored files to the job that now refers to them."""
        self.kept = True


def clean_name(raw: str) -> str:
    """Return a client's file name as something safe to show: one component, no control characters.

    Never empty, never ``.`` or ``..``, at most 255 bytes of UTF-8 with the extension preserved.
    """
    name = unicodedata.normalize("NFC", raw).replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")).strip()
    if not name.strip("."):
        return "upload"
    if len(name.encode()) <= _MAX_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 16:
        stem, dot, suffix = name, "", ""
    room = _MAX_NAME - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


@dataclass(slots=True)
class _Rules:
    fields_of_files: Collection[str] | None
    max_files: int | None
    max_file_bytes: int
    max_parts: int
    oversize: Oversize


@dataclass(slots=True)
class _Part:
    name: str = ""
    filename: str | None = None
    media_type: str = "application/octet-stream"
    size: int = 0
    text: bytearray = field(default_factory=bytearray)
    key: str = ""
    writer: BlobWriter | None = None
    head: bytes = b""
    sha: Any = None
    oversize: bool = False


class _Receiver:
    """Takes a multipart body block by block, in a thread. Each file becomes a blob below ``prefix``."""

    def __init__(self, boundary: bytes, blobs: Blobs, prefix: str, rules: _Rules) -> None:
        self._blobs = blobs
        self._prefix = prefix
        self._rules = rules
        self._writers: list[BlobWriter] = []
        self._given_up = False
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._part = _Part()
        self._parts = 0
        self._text_bytes = 0
        self._ended = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self.fields: list[tuple[str, str]] = []
        self.files: list[Upload] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, block: bytes) -> None:
        """Parse the next bytes of the body and write what they hold."""
        with self._lock:
            if self._given_up:
                return
            try:
                self._parser.write(block)
            except FormParserError as error:
                raise InvalidRequest(f"the multipart body is malformed: {error}") from error

    def complete(self) -> str:
        """Check that the body was whole and store its files for good, all together; return its digest."""
        with self._lock:
            if not self._ended:
                raise InvalidRequest(
                    "the multipart body ends before its closing boundary: it was cut off, or the boundary in "
                    "Content-Type is not the one in the body"
                )
            if not self._given_up:
                self._blobs.commit_all(self._writers)
            return self._digest.hexdigest()

    def abort(self) -> None:
        """Leave nothing of the files. A request that was cancelled may still be fed: that ends first."""
        with self._lock:
            self._given_up = True
            for writer in self._writers:
                writer.abort()
            if self._ended and self._writers:
                self._blobs.discard(self._prefix)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._rules.max_parts:
            raise TooLarge(f"the request has more than {self._rules.max_parts} parts (limits.parts)")
        self._part = _Part()
        self._headers = {}

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        raw = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(raw)
        if b"name" not in options:
            raise InvalidRequest("a part of the multipart body has no name in its Content-Disposition")
        part = self._part
        part.name = _text(options[b"name"])
        extended = _EXTENDED_NAME.search(raw)
        if b"filename" in options:
            part.filename = _text(options[b"filename"]).replace("%22", '"')
        elif extended is not None:
            part.filename = unquote(extended[1].decode("latin-1"))
        if part.filename is None:
            return
        allowed = self._rules.fields_of_files
        if allowed is not None and part.name not in allowed:
            raise InvalidRequest(
                f"{part.name}: no file is expected here, only in {', '.join(sorted(allowed))}"
            )
        most = self._rules.max_files
        if most is not None and len(self.files) >= most:
            raise InvalidRequest(f"{part.name}: at most {most} files may be sent at once")
        part.media_type = _text(self._headers.get(b"content-type", b"application/octet-stream"))
        part.sha = hashlib.sha256()
        part.key = f"{self._prefix}/{len(self.files)}"
        part.writer = self._blobs.writer(part.key, self._rules.max_file_bytes)
        self._writers.append(part.writer)

    def _drop(self) -> None:
        """Keep nothing of the file that is being received."""
        if self._part.writer is not None:
            self._writers.remove(self._part.writer)
            self._part.writer.abort()
        self._part.writer, self._part.key = None, ""

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if part.sha is None:
            self._text_bytes += end - start
            if part.size > _MAX_FIELD or self._text_bytes > _MAX_FIELDS_TOGETHER:
                raise TooLarge(
                    f"{part.name}: a field may have {_MAX_FIELD} bytes, all together {_MAX_FIELDS_TOGETHER}"
                )
            part.text += data[start:end]
            return
        if part.size > self._rules.max_file_bytes:
            if self._rules.oversize == "refuse":
                raise TooLarge(
                    f"{clean_name(part.filename or '')}: larger than the {self._rules.max_file_bytes} bytes "
                    "that one file may have"
                )
            if not part.oversize:
                part.oversize = True
                self._drop()
        piece = memoryview(data)[start:end]
        part.sha.update(piece)
        if len(part.head) < _HEAD:
            part.head += bytes(piece[: _HEAD - len(part.head)])
        if part.writer is not None:
            part.writer.write(piece)

    def _end(self) -> None:
        part = self._part
        name = part.name.encode()
        if part.sha is None:
            self.fields.append((part.name, _text(bytes(part.text))))
            self._digest.update(b"field %d %d " % (len(name), part.size) + name + part.text)
            return
        if not part.filename and part.size == 0:
            self._drop()  # a browser's file input in which nothing was chosen
            return
        if part.writer is not None:
            part.writer.close()
        shown = clean_name(part.filename or "")
        sha = part.sha.hexdigest()
        upload = Upload(part.name, shown, part.key, part.size, sha, part.media_type, part.head, part.oversize)
        self._digest.update(f"file {len(name)} {part.size} {sha} {shown}".encode() + name)
        self.files.append(upload)

    def _finish(self) -> None:
        self._ended = True


class Uploads:
    """Receives forms, their files into the blob store below ``uploads/``."""

    def __init__(self, blobs: Blobs, limits: LimitSettings) -> None:
        self._blobs = blobs
        self._limits = limits
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="upload")

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may wait for the blob store in a thread kept for uploads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    async def finish(self, work: Callable[[], object]) -> None:
        """Do ``work`` in such a thread to its end, even when the request is cancelled meanwhile."""
        await asyncio.shield(self.in_thread(work))

    @asynccontextmanager
    async def receive(
        self,
        request: Request,
        *,
        files: Collection[str] | None = None,
        max_files: int | None = None,
        max_file_bytes: int | None = None,
        oversize: Oversize = "refuse",
    ) -> AsyncIterator[Form]:
        """Read a multipart (or urlencoded) request; its files are deleted afterwards unless kept.

        Use it around everything up to the submission, and call ``form.keep()`` once a new job
        refers to the files, which then go when the job goes::

            async with services.uploads.receive(request, files={"audio"}, max_files=10) as form:
                new = NewJob(..., owns=form.owns, idempotency=idempotency(request, form.digest))
                job, created = await services.engine.submit(new)
                if created:
                    form.keep()

        files           the fields in which files may come; None: any.
        max_file_bytes  below the server's own limit, for one file.
        oversize        what becomes of a larger one: ``refuse`` the request (TooLarge), or ``mark`` it.

        InvalidRequest for another content type, a malformed or truncated body, too many files;
        TooLarge beyond a limit. Nothing is left behind then.
        """
        rules = _Rules(
            fields_of_files=files,
            max_files=max_files,
            max_file_bytes=min(self._limits.upload_bytes, max_file_bytes or self._limits.upload_bytes),
            max_parts=self._limits.parts,
            oversize=oversize,
        )
        prefix = f"uploads/{secrets.token_hex(16)}"
        form = await self._read(request, prefix, rules)
        try:
            yield form
        finally:
            if not form.kept and form.files:
                await self.finish(lambda: self._blobs.discard(prefix))

    async def _read(self, request: Request, prefix: str, rules: _Rules) -> Form:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind == b"application/x-www-form-urlencoded":
            return await self._read_urlencoded(request)
        if kind != b"multipart/form-data":
            shown = request.headers.get("content-type") or "none"
            raise InvalidRequest(f"the Content-Type must be multipart/form-data, not {shown}")
        if not options.get(b"boundary"):
            raise InvalidRequest("the Content-Type multipart/form-data has no boundary")
        limit = self._limits.request_bytes
        if int(request.headers.get("content-length") or 0) > limit:
            raise TooLarge(f"the request is larger than {limit} bytes (limits.request_bytes)")
        try:
            receiver = _Receiver(options[b"boundary"], self._blobs, prefix, rules)
        except FormParserError as error:
            raise InvalidRequest(f"the multipart boundary cannot be used: {error}") from error
        try:
            async for block in blocks(request, limit):
                await self.in_thread(receiver.feed, block)
            digest = await self.in_thread(receiver.complete)
        except BaseException:
            await self.finish(receiver.abort)
            raise
        return Form(receiver.fields, receiver.files, digest, (prefix,) if receiver.files else ())

    async def _read_urlencoded(self, request: Request) -> Form:
        body = b"".join([block async for block in blocks(request, _MAX_FIELD)])
        try:
            pairs = parse_qsl(_text(body), keep_blank_values=True, max_num_fields=self._limits.parts)
        except ValueError as error:
            raise TooLarge(f"the request has more than {self._limits.parts} fields (limits.parts)") from error
        return Form(pairs, [], hashlib.sha256(body).hexdigest())


async def blocks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body in blocks of about a megabyte; TooLarge beyond ``limit`` bytes."""
    # Its value is what was written itself, no copy; and a body in tiny pieces takes no more than its bytes.
    buffer = io.BytesIO()
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise TooLarge(f"the request is larger than {limit} bytes")
        buffer.write(chunk)
        if buffer.tell() >= _BLOCK:
            yield buffer.getvalue()
            buffer = io.BytesIO()
    if buffer.tell():
        yield buffer.getvalue()
