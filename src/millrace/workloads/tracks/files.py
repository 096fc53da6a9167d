"""Opens media files safely: inside the media roots, not while somebody still writes them.

Works on descriptors, so that what was checked is what is read and written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from millrace.errors import BadInput, StageError, Transient
from millrace.workloads.tracks.paths import display

_POLL = 0.1
_BUSY = {errno.EBUSY, errno.ETXTBSY, errno.EAGAIN, errno.ESTALE}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Busy(Transient):
    """Somebody else is using the file. A retry may help, and nothing is wrong with the stage."""

    code = "busy"
    backend = False


@contextmanager
def opened(path: Path, roots: Sequence[Path] | None) -> Iterator[int]:
    """Open a media file for reading, with a lock that our other processes respect.

    ``roots`` are the media roots that the file must lie in once links are followed; None: anywhere.
    Raises BadInput with code ``not_found``, ``outside_roots``, ``not_a_file`` or ``unreadable``.
    """
    fd = _open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(f"{display(path)} is not a regular file", code="not_a_file")
        if roots is not None:
            check_inside(real_path(fd, path), roots, path)
        lock(fd, path)
        yield fd
    finally:
        os.close(fd)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{display(path)} does not exist", code="not_found") from None
    except ValueError as error:
        raise BadInput(f"{display(path)!r} is not a path: {error}", code="not_found") from None
    except OSError as error:
        if error.errno in _BUSY:
            raise Busy(f"{display(path)} is busy: {error.strerror}") from error
        raise BadInput(f"{display(path)} cannot be read: {error.strerror}", code="unreadable") from error


@contextmanager
def writable(fd: int, path: Path) -> Iterator[int]:
    """Open the file that ``fd`` reads for writing too.

    A file without any write permission counts as read-only even for root. Raises BadInput
    (``read_only``) or Busy.
    """
    mode = os.fstat(fd).st_mode
    if not mode & 0o222:
        raise BadInput(f"{display(path)} is read-only (mode {stat.S_IMODE(mode):o})", code="read_only")
    try:
        edit = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _DENIED:
            raise BadInput(f"{display(path)} is read-only: {error.strerror}", code="read_only") from error
        if error.errno in _BUSY:
            raise Busy(f"{display(path)} is busy: {error.strerror}") from error
        raise StageError(
            f"{display(path)} cannot be opened for writing: {error.strerror}", code="write_failed"
        ) from error
    try:
        yield edit
    finally:
        os.close(edit)


def real_path(fd: int, path: Path) -> Path:
    """Return where an open file really lies, links followed."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115 (keeps names that are not UTF-8)
    except OSError:
        return path.resolve()


def check_inside(real: Path, roots: Sequence[Path], named: Path) -> None:
    """Raise BadInput (``outside_roots``) unless ``real`` lies in one of the roots."""
    if not any(real == root or root in real.parents for root in roots):
        how = "" if real == named else f" (a link to {display(real)})"
        raise BadInput(f"{display(named)}{how} lies outside the media roots", code="outside_roots")


def lock(fd: int, path: Path, wait: float = 2.0) -> None:
    """Take the file's advisory lock, so that no two of our processes work on one inode.

    Raises Busy when another program keeps it locked longer than ``wait`` seconds.
    A file system without locks is worked on without.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(f"{display(path)} is locked by another program") from None
            time.sleep(0.01)
        except OSError:
            return


def wait_until_settled(fd: int, path: Path, quiet: float, wait: float = 3.0) -> None:
    """Return once nobody writes the file any more.

    A file untouched for ``quiet`` seconds is settled. A younger one is when no process has it open
    for writing (asked of the kernel with a lease), or when its size and time stay the same for
    ``quiet`` seconds. Raises Busy when that does not happen within ``wait`` seconds.
    """
    state = os.fstat(fd)
    if quiet <= 0 or time.time() - state.st_mtime >= quiet:
        return
    first = state.st_size
    deadline = time.monotonic() + max(wait, quiet + _POLL)
    since = time.monotonic()
    while not _no_writer(fd):
        if time.monotonic() - since >= quiet:
            return
        if time.monotonic() >= deadline:
            grown = f", it grew from {first} to {state.st_size} bytes" if state.st_size != first else ""
            raise Busy(f"{display(path)} is still being written{grown}")
        time.sleep(min(_POLL, quiet))
        now = os.fstat(fd)
        if (now.st_size, now.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
            state, since = now, time.monotonic()


def _no_writer(fd: int) -> bool:
    """Return whether the kernel vouches that no process has the file open for writing.

    A read lease is only given then (fcntl(2), F_SETLEASE). It is given back at once; the signal
    for a broken lease is set to one that is ignored by default. False also where leases do not work.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True
