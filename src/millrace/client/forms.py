"""A multipart form with files (RFC 7578), read from disk as it is sent. Knows no HTTP library.

Made anew for each attempt from the same values, so a form can be sent again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace.client.errors import LocalError

_BLOCK = 256 * 1024

Progress = Callable[[int, int], None]
"""Told how many bytes were sent of how many."""


@dataclass(frozen=True, slots=True)
class FileToSend:
    """A file of this machine, or bytes, under the name that the server is told."""

    name: str
    content: Path | bytes
    size: int

    @classmethod
    def at(cls, path: Path) -> FileToSend:
        """Look at a file. LocalError when it is none, or cannot be read."""
        try:
            with path.open("rb") as file:
                return cls(path.name, path, file.seek(0, 2))
        except FileNotFoundError:
            raise LocalError(f"there is no file {path}") from None
        except IsADirectoryError:
            raise LocalError(f"{path} is a directory: name the files in it") from None
        except OSError as error:
            raise LocalError(f"{path} cannot be read: {error.strerror or error}") from None

    def blocks(self) -> Iterator[bytes]:
        """Yield its bytes, exactly as many as were promised. LocalError when it has changed. Blocks."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        left = self.size
        try:
            with self.content.open("rb") as file:
                while left and (block := file.read(min(_BLOCK, left))):
                    left -= len(block)
                    yield block
                grown = not left and bool(file.read(1))
        except OSError as error:
            raise LocalError(f"{self.content} cannot be read: {error.strerror or error}") from None
        if left or grown:
            raise LocalError(f"{self.content} changed while it was being sent: try again when it is whole")


@dataclass(frozen=True, slots=True)
class Form:
    """Fields and files of one request; every file goes in the field ``file``."""

    fields: Sequence[tuple[str, str]]
    files: Sequence[FileToSend]
    progress: Progress | None = None
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def content_type(self) -> str:
        """The value of the header ``Content-Type``."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def length(self) -> int:
        """How many bytes ``blocks`` yields."""
        heads = sum(len(self._field_head(name)) + len(value.encode()) + 2 for name, value in self.fields)
        bodies = sum(len(self._file_head(file)) + file.size + 2 for file in self.files)
        return heads + bodies + len(self._end())

    def blocks(self) -> Iterator[bytes]:
        """Yield the form's bytes, telling ``progress`` before each. Blocks."""
        total, sent = self.length, 0
        for block in self._blocks():
            sent += len(block)
            yield block
            if self.progress is not None:
                self.progress(sent, total)

    def _blocks(self) -> Iterator[bytes]:
        for name, value in self.fields:
            yield self._field_head(name) + value.encode() + b"\r\n"
        for file in self.files:
            yield self._file_head(file)
            yield from file.blocks()
            yield b"\r\n"
        yield self._end()

    def _field_head(self, name: str) -> bytes:
        return f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()

    def _file_head(self, file: FileToSend) -> bytes:
        named = f'Content-Disposition: form-data; name="file"; filename="{_quoted(file.name)}"'
        kind = "Content-Type: application/octet-stream"
        return f"--{self.boundary}\r\n{named}\r\n{kind}\r\n\r\n".encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    """Write a file name as browsers do (WHATWG HTML, "multipart/form-data encoding algorithm").

    What a file system holds beside UTF-8 is replaced: the server only shows it.
    """
    text = name.encode("utf-8", "replace").decode()
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
