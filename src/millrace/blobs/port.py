"""What every store of blobs offers, and what a key may be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from millrace.errors import InvalidRequest

CHUNK = 1024 * 1024

_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob. ``etag`` is quoted, as HTTP wants it; ``modified`` seconds since the epoch."""

    key: str
    bytes: int
    etag: str
    modified: float


class BlobWriter(Protocol):
    """A blob that is written as its bytes come, by one thread at a time; see ``Blobs.writer``."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. May block until the store has taken earlier ones."""

    def close(self) -> None:
        """Say that these were all; no file stays open. The blob may be seen from here on, or not."""

    def abort(self) -> None:
        """Give the blob up, before or after it was closed: nothing of it stays. Never raises.

        A blob that was committed stays. Where the store fails, it is swept later.
        """


class Blobs(Protocol):
    """The port. Satisfies ``engine.artifacts.ArtifactStore``.

    Errors: InvalidRequest for a key that is none; NotFound for a blob that is not there; Unavailable
    when the store itself cannot be reached or is full.
    """

    def stage(self, path: Path, staged: str) -> tuple[int, str]:
        """Store the file durably under the staged key; return (bytes, sha256 hex).

        The file may be moved rather than copied; a symbolic or hard link is always copied.
        """

    def stage_all(self, files: Sequence[tuple[Path, str]]) -> list[tuple[int, str]]:
        """Stage (file, staged key) for each, side by side; what some staged before an error may stay."""

    def publish(self, staged: str, key: str) -> None:
        """Make a staged blob visible under its final key at once, replacing an older one, durably.

        Doing it again after it was done is no error.
        """

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """Publish (staged key, key) for each, side by side; all are durable when it returns.

        After an error some may be published; doing all of it again is no error.
        """

    def put(self, path: Path, key: str) -> None:
        """Store the file durably under its final key, at once. It may be moved, as by ``stage``."""

    def writer(self, key: str, most: int) -> BlobWriter:
        """Begin to write a blob of up to ``most`` bytes, whose bytes come piece by piece.

        Whoever gets it closes it and commits it by ``commit_all``, or aborts it. What a process leaves
        behind that is killed in between is listed below ``staging``, or dropped by ``drop_unfinished``.
        """

    def commit_all(self, writers: Sequence[BlobWriter]) -> None:
        """Have what these writers of this store wrote be there, durably, under their final keys.

        After an error some may be there: they are discarded by whoever wrote them.
        """

    def drop_unfinished(self, before: float) -> int:
        """Drop what was begun before that time (epoch seconds), was never finished and is in no listing.

        Return how many there were.
        """

    def discard(self, prefix: str) -> None:
        """Delete the blob ``prefix`` and all below ``prefix + "/"``; absence is no error."""

    def local_path(self, key: str, scratch: Path) -> Path:
        """Return a local file with the blob's content: the blob itself, or a copy at ``scratch``.

        It must not be written to.
        """

    def path(self, key: str) -> Path | None:
        """Return the file that the blob is, without copying; None where blobs are not files."""

    def stat(self, key: str) -> Blob:
        """Return the blob's size, etag and time."""

    def chunks(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to, not including, ``end`` (None: the blob's end)."""

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield the blobs below ``prefix + "/"``, in no certain order."""

    def check(self) -> None:
        """Raise Unavailable unless a blob could be written now."""

    def descriptor(self) -> dict[str, Any]:
        """Return what ``open_store`` needs in another process: JSON-able, secrets included."""


def check_key(key: str) -> str:
    """Return ``key`` if it is one: plain names joined by ``/``; else InvalidRequest."""
    for name in key.split("/"):
        if name in ("", ".", "..") or len(name.encode("utf-8", "surrogatepass")) > 255:
            raise InvalidRequest(f"{key[:300]!r} cannot name a blob: the part {name[:80]!r} is not allowed")
        if _FORBIDDEN.search(name):
            raise InvalidRequest(f"{key[:300]!r} cannot name a blob: it holds a control character")
    if len(key.encode()) > 1024:
        raise InvalidRequest(f"a blob's key of {len(key.encode())} bytes is longer than the 1024 allowed")
    return key


def sha256_of(path: Path | str) -> tuple[int, str]:
    """Return (bytes, sha256 hex) of a file."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
