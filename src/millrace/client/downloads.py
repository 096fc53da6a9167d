"""Bringing artifacts here: whole, checked by their SHA-256, and resumed where a download was cut off.

As flows; what touches the disk is handed to the driver.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, TypeVar

from millrace.client.errors import ClientError, DamagedDownload, LocalError
from millrace.client.flow import Call, Command, Emit, Feed, Flow, Shut, receive, work
from millrace.client.retrying import Retrying, may_help, opened, pause
from millrace.client.rows import Artifact

_BLOCK = 1024 * 1024
_MAX_NAME = 120

Y = TypeVar("Y")
Sink = Callable[[bytes], Generator[Y, Any, None]]
"""What is done with each piece, as a flow."""


def pour(artifact: Artifact, start: int, how: Retrying, into: Sink[Y]) -> Generator[Command | Y, Any, None]:
    """Send an artifact's bytes from ``start`` on into a sink; one that is cut off goes on where it was.

    DamagedDownload when the server has another version by then.
    """
    done, failed = start, 0
    while done < artifact.bytes:
        headers = {"accept-encoding": "identity"}
        if done:
            headers |= {"range": f"bytes={done}-", "if-range": f'"{artifact.sha256}"'}
        call = Call("GET", artifact.url, headers=headers)
        try:
            answer = yield from opened(call)
            if done and answer.status != 206:
                raise DamagedDownload(f"{artifact.name} changed on the server while it was downloaded")
            while (block := (yield from receive())) is not None:
                failed, done = 0, done + len(block)
                yield from into(block)
            yield Shut()
            return
        except ClientError as error:
            failed += 1
            if failed >= how.tries or not may_help(error, call):
                raise
            yield Shut()
            yield from pause(error, failed, how)


def chunks(artifact: Artifact, how: Retrying) -> Feed[bytes]:
    """Emit an artifact's bytes as they come. Not checked: whoever wants that compares ``sha256``."""

    def emit(block: bytes) -> Generator[Emit[bytes], Any, None]:
        yield Emit(block)

    yield from pour(artifact, 0, how, emit)


def read(artifact: Artifact, how: Retrying) -> Flow[bytes]:
    """Return an artifact's bytes; DamagedDownload when they are not those that the server names."""
    found = bytearray()

    def keep(block: bytes) -> Flow[None]:
        found.extend(block)
        yield from ()

    yield from pour(artifact, 0, how, keep)
    if hashlib.sha256(found).hexdigest() != artifact.sha256:
        raise DamagedDownload(f"{artifact.name} arrived damaged: its SHA-256 is not the one the server names")
    return bytes(found)


def save(artifact: Artifact, target: Path, how: Retrying) -> Flow[Path]:
    """Download an artifact to ``target``, and return it.

    What is there already, whole, is not downloaded again; what an earlier try left is gone on with.
    The name appears once the file is whole and right. LocalError when it cannot be written.
    """
    if (yield from work(lambda: _same(target, artifact))):
        return target
    part = yield from work(lambda: _Part(target, artifact))
    try:
        yield from pour(artifact, part.size, how, lambda block: work(lambda: part.write(block)))
        yield from work(part.complete)
    finally:
        # Not by the driver: a flow that is given up cannot wait for it any more.
        part.close()
    return target


class _Part:
    """A file under way, beside the one it becomes; its name holds the version, so that none are mixed."""

    def __init__(self, target: Path, artifact: Artifact) -> None:
        self._target = target
        self._artifact = artifact
        self._path = target.with_name(f"{target.name}.{artifact.sha256[:8]}.part")
        self._digest = hashlib.sha256()
        self.size = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self._path.open("a+b")
            self._file.seek(0)
            while block := self._file.read(_BLOCK):
                self._digest.update(block)
                self.size += len(block)
            if self.size > artifact.bytes:
                self._file.truncate(0)
                self._digest, self.size = hashlib.sha256(), 0
        except OSError as error:
            raise LocalError(f"{target} cannot be written: {error.strerror or error}") from error

    def write(self, block: bytes) -> None:
        try:
            self._file.write(block)
        except OSError as error:
            raise LocalError(f"{self._target} cannot be written: {error.strerror or error}") from error
        self._digest.update(block)

    def complete(self) -> None:
        self.close()
        if self._digest.hexdigest() != self._artifact.sha256:
            self._path.unlink(missing_ok=True)
            raise DamagedDownload(
                f"{self._artifact.name} arrived damaged: its SHA-256 is not the one the server names"
            )
        try:
            self._path.replace(self._target)
        except OSError as error:
            raise LocalError(f"{self._target} cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()


def _same(path: Path, artifact: Artifact) -> bool:
    try:
        if not path.is_file() or path.stat().st_size != artifact.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror or error}") from error


def folder_of(idx: int, name: str, total: int) -> str:
    """Return the name of an item's folder: its number, wide enough to sort by, and its name without suffix.

    >>> folder_of(7, "/srv/media/Über uns.mkv", 120)
    '007 Über uns'
    """
    stem = plain(name.replace("\\", "/").rstrip("/").rpartition("/")[2])
    stem = stem.rpartition(".")[0] or stem
    return f"{idx:0{len(str(max(0, total - 1)))}d} {stem}".strip()


def plain(name: str) -> str:
    """Return a server's name as one that is safe as a file here: no folders, no control characters."""
    kept = "".join("_" if c in '/\\:*?"<>|' or unicodedata.category(c)[0] == "C" else c for c in name)
    kept = kept.strip(" ") if kept.strip(". ") else "_"
    while len(kept.encode()) > _MAX_NAME:
        stem, dot, suffix = kept.rpartition(".")
        kept = f"{stem[:-1]}{dot}{suffix}" if dot and stem and len(suffix) <= 16 else kept[:-1]
    return kept
