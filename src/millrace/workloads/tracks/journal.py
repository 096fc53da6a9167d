"""Changes bytes of a file so that a crash at any point leaves the old file or the new one.

The whole intended patch is made durable in a journal before the first byte of the file is touched.
Whoever comes next after a crash finds the journal and finishes the patch. The order is: journal
written and synced; bytes written; file synced; read back and compared; journal cleared.

A journal is one file per process, locked while the process lives, so that only what a dead process
left behind is ever replayed. The port ``Disk`` is all that touches the disk: tests stop it at every
byte.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import BadInput, StageError
from millrace.workloads.tracks.model import Write
from millrace.workloads.tracks.paths import display

log = logging.getLogger(__name__)

_MAGIC = b"MRJ1"
_HEADER = len(_MAGIC) + 4 + 32
_PREALLOCATED = 64 * 1024
_MAX_RECORD = 256 * 1024 * 1024
_SUFFIX = ".journal"


class Disk:
    """The writes and syncs of a patch. A test replaces it to stop at any byte."""

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written

    def sync(self, fd: int) -> None:
        """Return when what was written is on the medium."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Set the file's size."""
        os.ftruncate(fd, size)


@dataclass(frozen=True, slots=True)
class _Patch:
    path: bytes
    inode: tuple[int, int]
    size: int
    mtime_ns: int | None
    writes: tuple[Write, ...]

    @property
    def size_after(self) -> int:
        return max([self.size, *(write.offset + len(write.new) for write in self.writes)])


class Journal:
    """Applies patches durably, and finishes those that a dead process left half done.

    ``directory`` holds the journals; it may lie on another file system than the files. One Journal
    serves one process, one patch at a time.
    """

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self.directory = directory
        self._disk = disk or Disk()
        self._fd: int | None = None
        self._path: Path | None = None
        self._unfinished = False

    def apply(self, fd: int, path: Path, writes: Sequence[Write], *, keep_mtime: bool) -> None:
        """Change the file open for writing as ``fd``; on return the change is durable and checked.

        ``path`` is where recovery will find the file. With ``keep_mtime`` the modification time
        is set back. Raises BadInput (``changed``) when the file does not hold the old bytes,
        StageError (``write_failed``) when writing failed and the old bytes were put back.
        """
        if not writes:
            return
        stat = os.fstat(fd)
        mtime = stat.st_mtime_ns if keep_mtime else None
        patch = _Patch(os.fsencode(path), _inode(fd), stat.st_size, mtime, tuple(writes))
        for write in writes:
            if os.pread(fd, len(write.new), write.offset) != write.old:
                raise BadInput(
                    f"{display(path)} changed while it was being worked on: run it again", code="changed"
                )
        if self._unfinished:
            self._finish_own()
        self._begin(patch)
        try:
            self._write(fd, patch)
            self._check(fd, patch)
        except (OSError, StageError) as error:
            self._undo(fd, patch, error)
            raise StageError(
                f"writing to {display(path)} failed and was undone: {error}", code="write_failed"
            ) from error
        self._clear()

    def recover(self, locked: int | None = None) -> int:
        """Finish what dead processes left half done; return how many files were put right.

        ``locked`` is a descriptor whose file the caller holds the lock of. Whoever has a patch of
        that very file in hand must be dying then, for it held the lock itself: its end is waited for.
        """
        if not self.directory.is_dir():
            return 0
        inode = _inode(locked) if locked is not None else None
        finished = 0
        with self._directory_lock():
            for entry in os.scandir(self.directory):
                if not entry.name.endswith(_SUFFIX) or (self._path and entry.name == self._path.name):
                    continue
                try:
                    finished += self._recover_one(Path(entry.path), inode)
                except (OSError, StageError) as error:
                    log.warning("a half-done change (%s) could not be finished now: %s", entry.name, error)
        return finished

    def close(self) -> None:
        """Give the journal up. An unfinished patch stays for the next one to finish."""
        if self._fd is None:
            return
        if self._path is not None and not self._unfinished:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = self._path = None

    # What a patch goes through

    def _begin(self, patch: _Patch) -> None:
        record = _encode(patch)
        fd = self._own()
        self._unfinished = True
        self._disk.write(fd, record, 0)
        self._disk.sync(fd)

    def _write(self, fd: int, patch: _Patch) -> None:
        for write in sorted(patch.writes, key=lambda write: write.offset, reverse=True):
            self._disk.write(fd, write.new, write.offset)
        self._disk.sync(fd)

    def _check(self, fd: int, patch: _Patch) -> None:
        """Read back from the medium (as far as the cache lets itself be emptied) and compare."""
        if os.fstat(fd).st_size != patch.size_after:
            raise StageError(f"the file has {os.fstat(fd).st_size} bytes instead of {patch.size_after}")
        for write in patch.writes:
            os.posix_fadvise(fd, write.offset, len(write.new), os.POSIX_FADV_DONTNEED)
            if os.pread(fd, len(write.new), write.offset) != write.new:
                raise StageError(f"what was read back at byte {write.offset} is not what was written")
        if patch.mtime_ns is not None:
            os.utime(fd, ns=(os.fstat(fd).st_atime_ns, patch.mtime_ns))

    def _undo(self, fd: int, patch: _Patch, error: Exception) -> None:
        try:
            for write in patch.writes:
                self._disk.write(fd, write.old, write.offset)
            self._disk.truncate(fd, patch.size)
            self._disk.sync(fd)
            if patch.mtime_ns is not None:
                os.utime(fd, ns=(os.fstat(fd).st_atime_ns, patch.mtime_ns))
        except OSError as second:
            raise StageError(
                f"writing failed ({error}) and could not be undone ({second}): the journal will finish"
                f" the change of {display(os.fsdecode(patch.path))}",
                code="write_failed",
            ) from error
        self._clear()

    def _clear(self) -> None:
        """Forget the patch. Not synced: to replay a finished patch changes nothing."""
        assert self._fd is not None
        self._disk.write(self._fd, bytes(len(_MAGIC)), 0)
        self._unfinished = False

    # The journal files

    def _own(self) -> int:
        if self._fd is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            with self._directory_lock() as directory:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.pwrite(fd, bytes(_PREALLOCATED), 0)
                os.fsync(fd)
                os.fsync(directory)
            self._fd, self._path = fd, path
        return self._fd

    @contextmanager
    def _directory_lock(self) -> Iterator[int]:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(directory)

    def _finish_own(self) -> None:
        assert self._fd is not None
        assert self._path is not None
        self._replay(self._fd, self._path)
        self._clear()

    def _recover_one(self, path: Path, inode: tuple[int, int] | None) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                patch = _decode(fd) if inode is not None else None
                if patch is None or patch.inode != inode:
                    return 0
                fcntl.flock(fd, fcntl.LOCK_EX)
            finished = self._replay(fd, path)
            if finished is not None:
                path.unlink(missing_ok=True)
            return int(bool(finished))
        finally:
            os.close(fd)

    def _replay(self, journal: int, path: Path) -> bool | None:
        """Finish the patch in a journal. True: it was done; False: there was none; None: it cannot be."""
        patch = _decode(journal)
        if patch is None:
            return False
        target = os.fsdecode(patch.path)
        try:
            fd = os.open(target, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            log.warning("a half-done change of %s cannot be finished: %s", display(target), error)
            self._set_aside(path)
            return None
        try:
            if not _is_between(fd, patch):
                log.warning("%s was changed by others after a crash: it is left as it is", display(target))
                self._set_aside(path)
                return None
            self._write(fd, patch)
            self._check(fd, patch)
        finally:
            os.close(fd)
        log.info("finished the change of %s that a crash had interrupted", display(target))
        return True

    def _set_aside(self, path: Path) -> None:
        """Keep a patch that cannot be finished, for a person to look at."""
        aside = path.with_suffix(".unresolved")
        if path == self._path:
            shutil.copyfile(path, aside)
        else:
            path.rename(aside)


def _inode(fd: int) -> tuple[int, int]:
    """Return what tells an open file from every other: its device and inode number."""
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino


def _is_between(fd: int, patch: _Patch) -> bool:
    """Return whether each byte of the file is the old or the new one, and its size lies between."""
    if not patch.size <= os.fstat(fd).st_size <= patch.size_after:
        return False
    for write in patch.writes:
        found = os.pread(fd, len(write.new), write.offset)
        if len(found) < len(write.old):
            return False
        for position, byte in enumerate(found[: len(write.old)]):
            if byte not in (write.old[position], write.new[position]):
                return False
    return True


def _encode(patch: _Patch) -> bytes:
    body = json.dumps(
        {
            "path": base64.b64encode(patch.path).decode(),
            "inode": patch.inode,
            "size": patch.size,
            "mtime_ns": patch.mtime_ns,
            "writes": [
                [write.offset, base64.b64encode(write.old).decode(), base64.b64encode(write.new).decode()]
                for write in patch.writes
            ],
        }
    ).encode()
    return _MAGIC + len(body).to_bytes(4, "big") + hashlib.sha256(body).digest() + body


def _decode(fd: int) -> _Patch | None:
    """Return the patch in a journal file; None when it is clear, or was not yet whole."""
    header = os.pread(fd, _HEADER, 0)
    if len(header) < _HEADER or header[:4] != _MAGIC:
        return None
    length = int.from_bytes(header[4:8], "big")
    if length > _MAX_RECORD:
        return None
    body = os.pread(fd, length, _HEADER)
    if len(body) != length or hashlib.sha256(body).digest() != header[8:]:
        return None
    record = json.loads(body)
    return _Patch(
        base64.b64decode(record["path"]),
        (record["inode"][0], record["inode"][1]),
        record["size"],
        record["mtime_ns"],
        tuple(
            Write(offset, base64.b64decode(old), base64.b64decode(new))
            for offset, old, new in record["writes"]
        ),
    )
