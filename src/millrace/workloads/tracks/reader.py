"""Bounded reads of an open file: every parser goes through it, so none can be led astray.

A hostile header may name any size, nest without end or point at itself. The reader refuses to
read beyond the file, beyond a total of bytes, and more often than any real header needs.
"""

from __future__ import annotations

import os

from millrace.workloads.tracks.model import Damaged

WINDOW = 16 * 1024
MAX_BYTES = 96 * 1024 * 1024
MAX_READS = 200_000


class Reader:
    """Positional reads of one open file, with a small window kept for neighbouring ones.

    ``size`` is the file's size in bytes when the reader was made. ``bytes_read`` counts what came
    from the file. Raises ``Damaged`` when a read lies outside the file or the limits are used up.
    """

    def __init__(self, fd: int, *, max_bytes: int = MAX_BYTES, max_reads: int = MAX_READS) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.bytes_read = 0
        self._max_bytes = max_bytes
        self._reads_left = max_reads
        self._start = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Damaged(
                f"the header points at bytes {offset}–{offset + length} of a file of {self.size} bytes:"
                " it is damaged or cut off"
            )
        return self._get(offset, length, length)

    def peek(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``offset``: fewer at the end of the file, none beyond it."""
        if offset < 0 or offset >= self.size:
            return b""
        return self._get(offset, min(length, self.size - offset), length)

    def _get(self, offset: int, length: int, wanted: int) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise Damaged("the header has more elements than any real file: it was not read further")
        start = offset - self._start
        if start < 0 or start + length > len(self._window):
            self._fill(offset, max(length, WINDOW if offset == 0 else 4096))
            start = 0
        return self._window[start : start + length]

    def _fill(self, offset: int, length: int) -> None:
        length = min(length, self.size - offset)
        if self.bytes_read + length > self._max_bytes:
            raise Damaged(f"the header spans more than {self._max_bytes} bytes: it was not read further")
        chunks: list[bytes] = []
        while length > 0:
            chunk = os.pread(self.fd, length, offset + sum(map(len, chunks)))
            if not chunk:
                raise Damaged("the file became shorter while it was read")
            chunks.append(chunk)
            length -= len(chunk)
        self._start, self._window = offset, b"".join(chunks)
        self.bytes_read += len(self._window)
