"""Blobs as files below one directory.

The busy methods keep paths as plain strings: taking them apart with pathlib costs more than the disk.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from millrace.blobs.port import CHUNK, Blob, BlobWriter, check_key, sha256_of
from millrace.errors import NotFound, Unavailable

ASIDE = "staging/aside"
"""Where files are made that have no key yet; what a crash left there is swept with all that is staged."""

_FLUSHERS = 8


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no blob {what!r}") from None
    except OSError as error:
        raise Unavailable(f"the blob store failed at {what!r}: {error.strerror or error}") from error


class DirectoryBlobs:
    """Blobs as files below one directory, each named by rename after it was flushed to disk."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))  # as written: the root may be a link
        self._root.mkdir(parents=True, exist_ok=True)
        self._base = str(self._root)
        # Empty most of the time, and needed again at once.
        self._lasting = {self._base, f"{self._base}/{os.path.dirname(ASIDE)}"}
        self._flushers = ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="blob-flush")

    def stage(self, path: Path, staged: str) -> tuple[int, str]:
        """See ``Blobs.stage``."""
        return self.stage_all([(path, staged)])[0]

    def stage_all(self, files: Sequence[tuple[Path, str]]) -> list[tuple[int, str]]:
        """See ``Blobs.stage_all``: moved where a file lies on the same file system, else copied.

        The staged names themselves need not survive a power cut: nothing refers to them after one.
        """
        moves = self._own(files)
        with _store_errors("a staged file"):
            found = [sha256_of(path) for path, _ in moves]
            self._flush_all([path for path, _ in moves])
            for path, target in moves:
                self._rename(path, target)
        return found

    def put(self, path: Path, key: str) -> None:
        """See ``Blobs.put``."""
        self._settle(self._own([(path, key)]))

    def writer(self, key: str, most: int) -> FileWriter:
        """See ``Blobs.writer``: a file aside until it is committed."""
        target = self._path(key)
        with _store_errors(key):
            return FileWriter(*self._open_aside(), target)

    def commit_all(self, writers: Sequence[BlobWriter]) -> None:
        """See ``Blobs.commit_all``."""
        mine = [writer for writer in writers if isinstance(writer, FileWriter)]
        for writer in mine:
            writer.close()
        self._settle([(writer.path, writer.target) for writer in mine])
        for writer in mine:
            writer.committed = True

    def drop_unfinished(self, before: float) -> int:
        """See ``Blobs.drop_unfinished``: nothing, for all that lies aside is listed below ``staging``."""
        return 0

    def _settle(self, moves: Sequence[tuple[str, str]]) -> None:
        """Give files their final names; all are durable when it returns."""
        with _store_errors("a new blob"):
            self._flush_all([path for path, _ in moves])
            for path, target in moves:
                self._rename(path, target)
            # The folders above as well: another thread may have made one and not flushed it yet.
            self._flush_all({folder for _, target in moves for folder in self._above(target)})

    def publish(self, staged: str, key: str) -> None:
        """See ``Blobs.publish``."""
        self.publish_all([(staged, key)])

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """See ``Blobs.publish_all``: all are renamed, then each directory is flushed once."""
        touched: set[str] = set()
        left: set[str] = set()
        for staged, key in moves:
            source, target = self._path(staged), self._path(key)
            with _store_errors(staged):
                try:
                    touched |= self._rename(source, target)
                except FileNotFoundError:
                    if not os.path.exists(target):
                        raise
                    # Whoever renamed it may have been cut off before the names were flushed.
                    touched |= self._above(target)
                else:
                    left.add(os.path.dirname(source))
        with _store_errors("published files"):
            self._flush_all(touched)
        for folder in left:
            self._prune(folder)

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
            self._prune(str(target.parent))

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

    def _path(self, key: str) -> str:
        return f"{self._base}/{check_key(key)}"

    def _own(self, files: Sequence[tuple[Path, str]]) -> Sequence[tuple[str, str]]:
        """Return (file, target) for each, the file one of ours alone and on our file system."""
        moves = []
        device = os.stat(self._base).st_dev
        for given, key in files:
            path, target = str(given), self._path(key)
            with _store_errors(key):
                found = os.lstat(path)
                if stat.S_ISLNK(found.st_mode) or found.st_nlink > 1 or found.st_dev != device:
                    file, aside = self._open_aside()
                    with file, open(path, "rb") as source:
                        shutil.copyfileobj(source, file, CHUNK)
                    path = aside
                # A moved file keeps its own time, by which sweeping would take it for an old leftover.
                os.utime(path)
            moves.append((path, target))
        return moves

    def _open_aside(self) -> tuple[IO[bytes], str]:
        """Open a new file that has no key yet; return it and its path."""
        path = f"{self._base}/{ASIDE}/{uuid.uuid4().hex}"
        for attempt in range(10):
            try:
                return open(path, "xb"), path
            except FileNotFoundError:
                # The folder is missing, or was empty and somebody else has pruned it.
                if attempt == 9:
                    raise
                os.makedirs(os.path.dirname(path), exist_ok=True)
        raise AssertionError("unreachable")

    def _rename(self, source: str, target: str) -> set[str]:
        """Give a file its name; return the directories that must be flushed for it to last.

        FileNotFoundError when there is no such file.
        """
        folder = os.path.dirname(target)
        touched = {folder}
        for attempt in range(10):
            try:
                os.replace(source, target)
            except FileNotFoundError:
                # A directory on the way is missing, or was empty and somebody else has pruned it.
                if attempt == 9 or not os.path.exists(source):
                    raise
                with suppress(FileNotFoundError):
                    touched.update(_make_directories(folder))
            else:
                break
        return touched

    def _above(self, target: str) -> set[str]:
        """Return every directory from the root down to a file."""
        out = set()
        while target != self._base:
            target = os.path.dirname(target)
            out.add(target)
        return out

    def _flush_all(self, paths: Collection[str]) -> None:
        """Flush files and directories side by side: a disk takes many at once for the price of one."""
        queue = list(paths)
        shares = [queue[at::_FLUSHERS] for at in range(min(_FLUSHERS, len(queue)))]
        abreast = [self._flushers.submit(_flush_each, share) for share in shares[1:]]
        try:
            _flush_each(shares[0] if shares else ())
        finally:
            wait(abreast)
        for one in abreast:
            one.result()

    def _prune(self, directory: str) -> None:
        """Remove a directory and those above it as far as they are empty."""
        while directory not in self._lasting:
            try:
                os.rmdir(directory)
            except OSError:
                return  # not empty, or gone already
            directory = os.path.dirname(directory)


class FileWriter:
    """See ``Blobs.writer``. The file at ``path`` gets its name, ``target``, when it is committed."""

    def __init__(self, file: IO[bytes], path: str, target: str) -> None:
        self.path = path
        self.target = target
        self.committed = False
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        """See ``BlobWriter.write``."""
        with _store_errors("a new blob"):
            self._file.write(data)

    def close(self) -> None:
        """See ``BlobWriter.close``."""
        with _store_errors("a new blob"):
            self._file.close()

    def abort(self) -> None:
        """See ``BlobWriter.abort``."""
        if self.committed:
            return
        # What is still in the buffer may find no room, and is not wanted.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.unlink(self.path)


def _make_directories(directory: str) -> list[str]:
    """Make a directory and those above it; return the parents that have a new name in them."""
    if os.path.isdir(directory):
        return []
    parent = os.path.dirname(directory)
    touched = _make_directories(parent)
    with suppress(FileExistsError):
        os.mkdir(directory)
    return [*touched, parent]


def _flush_each(paths: Iterable[str]) -> None:
    for path in paths:
        _flush(path)


def _flush(path: str) -> None:
    """Make a file's content, or a directory's names, survive a power cut."""
    with suppress(FileNotFoundError):  # discarded already
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
