"""Local copies of what was read from a bucket, up to a number of bytes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from millrace.errors import Unavailable

_LOCK = "lock"
_ABANDONED_SECONDS = 86400.0


class BlobCache:
    """Files kept by content identity up to a number of bytes, the least lately used dropped first.

    Several processes may share one directory: what they are fetching counts with its whole size from the
    start, so that together they stay below the limit. Whatever is handed out stays whole when it is dropped.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit

    def copy(self, identity: str, size: int, content: Callable[[], Iterator[bytes]], target: Path) -> Path:
        """Put what ``identity`` stands for at ``target``, from the cache or else from ``content``.

        Unavailable when ``content`` has not as many bytes as it should.
        """
        if size <= self._limit // 2:
            kept = self._directory / hashlib.sha256(identity.encode()).hexdigest()
            try:
                os.utime(kept)
                return _link(kept, target)
            except FileNotFoundError:
                part = self._reserve(kept, size)
            if part is not None:
                try:
                    _fill(part, content(), size)
                    # Before it has a name in the cache, from which others may drop it at once.
                    _link(part, target)
                    part.replace(kept)
                finally:
                    part.unlink(missing_ok=True)
                return target
        part = _part_of(target)
        try:
            _fill(part, content(), size)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _reserve(self, kept: Path, size: int) -> Path | None:
        """Make a file for what is fetched, as large as it will be; None where there is no room for it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not self._make_room(size):
                return None
            part = _part_of(kept)
            with part.open("xb") as file:
                file.truncate(size)
            return part

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._directory / _LOCK).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> bool:
        """Drop what was not used for longest, never what is being fetched; whether that was enough."""
        kept, total = [], size
        abandoned = time.time() - _ABANDONED_SECONDS
        for path in self._directory.iterdir():
            if path.name == _LOCK:
                continue
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # its fetch was given up
            total += found.st_size
            if path.suffix != ".part" or found.st_mtime < abandoned:
                kept.append((found.st_mtime, found.st_size, path))
        for _, bytes_, path in sorted(kept):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)
            total -= bytes_
        return total <= self._limit


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name[:100]}.{uuid.uuid4().hex}.part")


def _fill(path: Path, content: Iterator[bytes], size: int) -> None:
    """Write the content over what the file has, which is nothing or as much."""
    with path.open("r+b" if path.exists() else "xb") as file:
        for chunk in content:
            file.write(chunk)
        written = file.tell()
    if written != size:
        raise Unavailable(f"the blob store gave {written} bytes of a blob that has {size}")


def _link(kept: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    try:
        os.link(kept, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(kept, target)
    return target
