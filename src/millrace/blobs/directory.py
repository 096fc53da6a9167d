"""Blobs as files below one directory."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from millrace.blobs.port import CHUNK, Blob, check_key, sha256_of
from millrace.errors import NotFound, Unavailable

ASIDE = ".aside"
"""Where copies are made before they are staged; what a crash left there is swept with ``staging``."""


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no blob {what!r}") from None
    except OSError as error:
        raise Unavailable(f"the blob store failed at {what!r}: {error.strerror or error}") from error


class DirectoryBlobs:
    """Blobs as files below one directory, each published by rename after it was flushed to disk."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100 - the root may be a link
        self._root.mkdir(parents=True, exist_ok=True)

    def stage(self, path: Path, staged: str) -> tuple[int, str]:
        """See ``Blobs.stage``: moved where the file lies on the same file system, else copied."""
        target = self._root / check_key(staged)
        with _store_errors(staged):
            movable = not path.is_symlink() and path.stat().st_nlink == 1
            if not (movable and path.stat().st_dev == self._root.stat().st_dev):
                # In a folder that is never pruned, or it might go while the copy is made.
                aside = self._root / ASIDE / uuid.uuid4().hex
                aside.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, aside)
                path = aside
            # A moved file keeps its own time, by which sweeping would take it for an old leftover.
            os.utime(path)
            size, digest = sha256_of(path)
            _flush(path)
            self._rename(path, target)
        return size, digest

    def publish(self, staged: str, key: str) -> None:
        """See ``Blobs.publish``."""
        source, target = self._root / check_key(staged), self._root / check_key(key)
        with _store_errors(staged):
            if source.exists():
                self._rename(source, target)
                self._prune(source.parent)
            elif not target.exists():
                raise FileNotFoundError(staged)

    def put(self, path: Path, key: str) -> tuple[int, str]:
        """See ``Blobs.put``."""
        return self.stage(path, key)

    def discard(self, prefix: str) -> None:
        """See ``Blobs.discard``."""
        target = self._root / check_key(prefix)
        with _store_errors(prefix):
            if target.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                if target.exists():
                    shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            self._prune(target.parent)

    def local_path(self, key: str, scratch: Path) -> Path:
        """See ``Blobs.local_path``: the blob itself."""
        return self.path(key)

    def path(self, key: str) -> Path:
        """See ``Blobs.path``; NotFound where there is no such blob."""
        path = self._root / check_key(key)
        if not path.is_file():
            raise NotFound(f"there is no blob {key!r}")
        return path

    def stat(self, key: str) -> Blob:
        """See ``Blobs.stat``."""
        with _store_errors(key):
            return self._blob(self.path(key), key)

    def chunks(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See ``Blobs.chunks``."""
        with _store_errors(key), self.path(key).open("rb") as file:
            file.seek(start)
            left = None if end is None else end - start
            while left is None or left > 0:
                chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """See ``Blobs.list``."""
        top = self._root / check_key(prefix) if prefix else self._root
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                try:
                    yield self._blob(path, path.relative_to(self._root).as_posix())
                except FileNotFoundError:
                    continue  # deleted while we looked

    def check(self) -> None:
        """See ``Blobs.check``."""
        with _store_errors("a probe"):
            probe = self._root / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"millrace")
            probe.unlink()

    def descriptor(self) -> dict[str, Any]:
        """See ``Blobs.descriptor``."""
        return {"open": "millrace.blobs:open_store", "root": str(self._root)}

    def _blob(self, path: Path, key: str) -> Blob:
        found = path.stat()
        etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        return Blob(key, found.st_size, etag, found.st_mtime)

    def _rename(self, source: Path, target: Path) -> None:
        for attempt in range(10):
            try:
                _make_directories(target.parent)
                source.replace(target)
            except FileNotFoundError:
                # A directory on the way was empty, and somebody else pruned it meanwhile.
                if attempt == 9 or not source.exists():
                    raise
            else:
                with suppress(FileNotFoundError):  # discarded already
                    _flush(target.parent)
                return

    def _prune(self, directory: Path) -> None:
        while directory != self._root and directory.is_relative_to(self._root):
            try:
                directory.rmdir()
            except OSError:
                return  # not empty, or gone already
            directory = directory.parent


def _make_directories(directory: Path) -> None:
    """Make a directory and those above it, each flushed into its parent."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    _flush(directory.parent)


def _flush(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
