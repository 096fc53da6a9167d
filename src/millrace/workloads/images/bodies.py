"""Reads a JSON body of any size with bounded memory: long strings are decoded from base64 to blobs.

A hundred images of 10 MB make a body of 1.4 GB. It is scanned as it arrives: everything but long
strings is kept as a skeleton for a real JSON parser; a long string is unescaped, decoded and written
to a blob of its own, and its place in the skeleton taken by a token. Blocking; for a thread.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

try:
    from pybase64 import b64decode as _fast_decode
except ImportError:  # no build of it for this machine
    _fast_decode = None  # type: ignore[assignment]

from millrace.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from millrace.blobs import BlobWriter

LONG = 4096
_HEAD = 16
MAX_SKELETON = 4 * 2**20
_SPECIAL = re.compile(rb'\\.|"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_BLANKS = b" \t\r\n"
_PADDING = ord("=")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PREFIX = re.compile(rb"data:[^,]{0,200},", re.IGNORECASE)


@dataclass(slots=True)
class Decoded:
    """A long string decoded. ``size`` in bytes, also of what was not kept (``oversize``).

    key     of the blob, whose ``writer`` is closed but not committed yet.
    head    its first bytes, to tell what it is.
    """

    key: str
    writer: BlobWriter
    size: int = 0
    head: bytes = b""
    oversize: bool = False
    error: str = ""


class Base64Blob:
    """Decodes base64, given in pieces, into a blob. A ``data:…;base64,`` prefix is taken off.

    Blanks are skipped, the URL-safe alphabet and missing padding are accepted. More than ``limit``
    bytes are counted but not kept.
    """

    def __init__(self, key: str, writer: BlobWriter, limit: int) -> None:
        self.result = Decoded(key, writer)
        self._limit = limit
        self._rest = b""
        self._started = False
        self._ended = False

    def feed(self, text: bytes) -> None:
        """Take more characters."""
        if self.result.error:
            return
        text = self._rest + text
        if not self._started:
            if text[:5].lower() == b"data:" and b"," not in text and len(text) < 210:
                self._rest = text
                return
            self._started = True
            if text[:5].lower() == b"data:":
                prefix = _PREFIX.match(text)
                if prefix is None or not prefix[0].lower().endswith(b";base64,"):
                    self.result.error = "the data URL is not base64"
                    return
                text = text[prefix.end() :]
        text = text[self._decode_plain(text) :]
        text = text.translate(_URL_SAFE, _BLANKS)
        whole = len(text) - len(text) % 4
        self._decode(text[:whole])
        self._rest = text[whole:]

    def _decode_plain(self, text: bytes) -> int:
        """Decode the beginning if it is nothing but the alphabet of base64, as nearly all is.

        Return how many characters that were. The last few are left, among which may be padding.
        """
        plain = (len(text) - 1) // 4 * 4
        if _fast_decode is None or self._ended or plain <= 0 or text[plain - 1] == _PADDING:
            return 0
        try:
            data = _fast_decode(memoryview(text)[:plain], validate=True)
        except binascii.Error:
            return 0
        self._keep(data)
        return plain

    def _decode(self, text: bytes) -> None:
        if not text or self.result.error:
            return
        if self._ended:
            self.result.error = "there is data after the padding"
            return
        self._ended = text.endswith(b"=")
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error as error:
            self.result.error = str(error).lower()
            return
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        found = self.result
        found.size += len(data)
        if found.oversize:
            return
        if found.size > self._limit:
            found.oversize = True
            found.writer.abort()
            return
        if len(found.head) < _HEAD:
            found.head = (found.head + data[:_HEAD])[:_HEAD]
        found.writer.write(data)

    def close(self) -> Decoded:
        """Decode what is left and close the blob; what is no image at all is not kept."""
        if not self._started and self._rest:
            self._started = True
            self._rest, rest = b"", self._rest
            self.feed(rest)
        if self._rest and not self.result.error:
            self._decode(self._rest + b"=" * (-len(self._rest) % 4))
        if not self.result.error and self.result.size == 0:
            self.result.error = "it is empty"
        if self.result.error:
            self.result.writer.abort()
        elif not self.result.oversize:
            self.result.writer.close()
        return self.result


class BodyReader:
    """Scans a JSON body given in blocks; long strings go to blobs below ``prefix``.

    ``writer`` opens one, given its key and the most bytes it may have. ``limit`` is the most bytes kept
    of one; ``most`` how many there may be.
    """

    def __init__(
        self,
        writer: Callable[[str, int], BlobWriter],
        prefix: str,
        limit: int,
        most: int,
        *,
        digest: bool = False,
    ) -> None:
        self._writer = writer
        self._prefix = prefix
        self._limit = limit
        self._most = most
        self._token = f"long-string-{secrets.token_hex(16)}-"
        self._skeleton = bytearray()
        self._string: bytearray | None = None
        self._sink: Base64Blob | None = None
        self._carry = b""
        self._hash = hashlib.sha256() if digest else None
        self._given_up = False
        self._lock = threading.Lock()
        self.long: list[Decoded] = []
        self.short: list[Decoded] = []

    def feed(self, block: bytes) -> None:
        """Take the next bytes. TooLarge when too much of it is not in long strings."""
        with self._lock:
            if not self._given_up:
                self._take(block)

    def _take(self, block: bytes) -> None:
        if self._hash is not None:
            self._hash.update(block)
        block = self._carry + block
        self._carry = b""
        pos = 0
        while pos < len(block):
            pos = self._outside(block, pos) if self._string is None else self._inside(block, pos)
        if len(self._skeleton) > MAX_SKELETON:
            raise TooLarge(f"the body has more than {MAX_SKELETON} bytes besides the images themselves")

    def _outside(self, block: bytes, pos: int) -> int:
        quote = block.find(b'"', pos)
        if quote < 0:
            self._skeleton += block[pos:]
            return len(block)
        self._skeleton += block[pos : quote + 1]
        self._string = bytearray()
        return quote + 1

    def _inside(self, block: bytes, pos: int) -> int:
        end, carry = _end_of_string(block, pos)
        stop = end if end >= 0 else len(block) - carry
        self._content(block[pos:stop])
        if end < 0:
            self._carry = block[stop:]
            return len(block)
        self._close_string()
        return end + 1

    def _content(self, raw: bytes) -> None:
        assert self._string is not None
        if self._sink is None:
            self._string += raw
            if len(self._string) <= LONG:
                return
            if len(self.long) >= self._most:
                raise InvalidRequest(f"Maximum {self._most} images per batch")
            self._sink = self._open(str(len(self.long)))
            raw = bytes(self._string)
            self._string = bytearray()
        self._sink.feed(_unescaped(raw))

    def _close_string(self) -> None:
        assert self._string is not None
        if self._sink is not None:
            self._skeleton += f"{self._token}{len(self.long)}".encode()
            self.long.append(self._sink.close())
            self._sink = None
        else:
            self._skeleton += self._string
        self._skeleton += b'"'
        self._string = None

    def finish(self) -> Any:
        """Return the body as JSON, with tokens for the long strings. InvalidRequest when it is none."""
        try:
            return orjson.loads(self._skeleton + (self._string or b""))
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"Invalid request body: not valid JSON: {error}") from error

    def short_string(self, text: str, number: int) -> Decoded:
        """Decode a string that was too short to be taken out of the body, as that of image ``number``."""
        with self._lock:
            sink = self._open(f"short-{number}")
            self.short.append(sink.result)
            sink.feed(text.encode("utf-8", "replace"))
            return sink.close()

    def _open(self, name: str) -> Base64Blob:
        key = f"{self._prefix}/{name}"
        return Base64Blob(key, self._writer(key, self._limit), self._limit)

    def commit(self, commit_all: Callable[[list[BlobWriter]], None], chosen: Sequence[Decoded]) -> None:
        """Have these strings stored for good, by the store's own ``commit_all``."""
        with self._lock:
            if not self._given_up:
                commit_all([found.writer for found in chosen])

    def abort(self) -> None:
        """Leave nothing of what was not committed. A request that was cut off may still be fed: that ends."""
        with self._lock:
            self._given_up = True
            if self._sink is not None:
                self._sink.result.writer.abort()
                self._sink = None
            for found in (*self.long, *self.short):
                found.writer.abort()

    def long_string(self, value: str) -> Decoded | None:
        """Return the long string that a token in the body stands for, or None for any other string."""
        number = value.removeprefix(self._token)
        return self.long[int(number)] if value.startswith(self._token) and number.isdigit() else None

    def digest(self) -> str:
        """Return the SHA-256 of the whole body; empty unless it was asked for."""
        return self._hash.hexdigest() if self._hash is not None else ""


def _end_of_string(block: bytes, pos: int) -> tuple[int, int]:
    """Return where the string ends (-1: not in this block), and how many bytes at the end to keep back.

    They are kept back when the block ends within an escape.
    """
    quote = block.find(b'"', pos)
    escape = block.find(b"\\", pos, quote if quote >= 0 else len(block))
    if escape < 0:
        return quote, 0
    last = None
    for match in _SPECIAL.finditer(block, escape):
        if match[0] == b'"':
            return match.start(), 0
        last = match
    after = last.end() if last is not None else escape
    if last is not None and last[0] == b"\\u" and last.start() + 6 > len(block):
        return -1, len(block) - last.start()
    return -1, 1 if block[after:].endswith(b"\\") else 0


def _unescaped(raw: bytes) -> bytes:
    """Undo JSON's escapes; those that base64 has no use for become characters that it refuses."""
    if b"\\" not in raw:
        return raw
    if raw.count(b"\\") == raw.count(b"\\/"):  # as PHP writes base64
        return raw.replace(b"\\/", b"/")
    return _ESCAPE.sub(_character, raw)


def _character(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code[:1] == b"u" and len(code) == 5:
        number = int(code[1:], 16)
        return bytes((number,)) if number < 128 else b"?"
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"/": b"/"}.get(code, b"?")
