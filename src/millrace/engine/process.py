"""What a worker asks of the kernel and the C library: to die with its server, and limits for what it runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator

from millrace.errors import TookTooLong

_PR_SET_PDEATHSIG = 1
# mallopt(3): what the C library arrives at by itself once a program has freed a large block.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_MEMORY = 64 * 2**20
_LARGE_BLOCK = 32 * 2**20


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def keep_memory() -> None:
    """Keep up to 64 MiB of freed memory for the next item (glibc only).

    Given back and asked for again with every picture, it costs a tenth of a small one's time.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_MEMORY)


def give_memory_back() -> None:
    """Give the kernel what was kept."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(ctypes.c_size_t(0))


def guard_group(lifeline: int, connection: int) -> None:
    """Start a process that kills this one's group, itself included, once whoever holds the pipe is gone.

    It is a process, not a thread: the kernel kills this one first when the server dies, and native code that
    holds the interpreter's lock lets no thread do anything. Being of the group, it keeps the group's
    number from being given to others meanwhile. To be called while there is one thread.
    """
    if os.fork():
        os.close(lifeline)
        return
    try:
        # The server must see the socket close when this worker dies, and so must whoever reads its log.
        for descriptor in (0, 1, 2, connection):
            os.close(descriptor)
        os.read(lifeline, 1)
    finally:
        os.killpg(0, signal.SIGKILL)


@contextlib.contextmanager
def soft_timeout(seconds: float | None) -> Iterator[None]:
    """Raise TookTooLong inside the block after so many seconds, by a timer of the kernel's."""
    if seconds is None:
        yield
        return

    def over(*_: object) -> None:
        raise TookTooLong(f"the stage took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def limit_memory(limit: int | None) -> None:
    """Let this process have so many bytes of address space; None: as many as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = hard if limit is None else limit
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
