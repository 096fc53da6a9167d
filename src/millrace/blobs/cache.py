"""Local copies of what was read from a bucket, up to a number of bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


class BlobCache:
    """Files kept by content identity up to a number of bytes, the least lately used dropped first.

    Several processes may share one directory. Whatever is handed out stays whole when it is dropped.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit

    def copy(self, identity: str, size: int, content: Iterator[bytes], target: Path) -> Path:
        """Put what ``identity`` stands for at ``target``, from the cache or else from ``content``."""
        if size > self._limit // 2:
            return _write_aside(content, target)
        kept = self._directory / hashlib.sha256(identity.encode()).hexdigest()
        for _ in range(3):
            try:
                os.utime(kept)
                return _link(kept, target)
            except FileNotFoundError:
                self._make_room(size)
                self._directory.mkdir(parents=True, exist_ok=True)
                _write_aside(content, kept)
        return _write_aside(content, target)

    def _make_room(self, size: int) -> None:
        kept = []
        for path in self._directory.glob("*"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # another process dropped it
            kept.append((found.st_mtime, found.st_size, path))
        total = sum(entry[1] for entry in kept) + size
        for _, bytes_, path in sorted(kept):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= bytes_


def _write_aside(content: Iterator[bytes], target: Path) -> Path:
    aside = target.with_name(f"{target.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        with aside.open("wb") as file:
            for chunk in content:
                file.write(chunk)
        return aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _link(kept: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    try:
        os.link(kept, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(kept, target)
    return target
