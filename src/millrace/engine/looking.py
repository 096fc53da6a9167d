"""What a look at a watched folder amounts to: which files are new, still growing, known, or gone. Pure.

A file is known by its path, size and time of last change. It is news when these are not those it was
known by, and ready when they stayed the same for the folder's settling time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WRITTEN_SLACK = 0.05
"""Seconds by which a file system's clock may lag behind ours. Where a file server's clock differs by more, a
job's own change is taken for news: one job too many, rather than a change that nobody sees."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a look found it: bytes, time of last change (ns), and when its entry was changed (s)."""

    size: int
    mtime: int
    ctime: float


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look found.

    files       path relative to the folder → file.
    unreadable  folders below it that could not be read.
    unusable    how many names are not valid Unicode, and so left out.
    device      the file system the folder is on.
    """

    files: Mapping[str, SeenFile]
    unreadable: Sequence[str] = ()
    unusable: int = 0
    device: str = ""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that was dealt with: taken by item ``idx`` of ``job``, or left alone (None)."""

    size: int
    mtime: int
    job: str | None = None
    idx: int | None = None
    gone: bool = False

    def same(self, file: SeenFile) -> bool:
        """Whether the file is as it was when it was dealt with."""
        return (self.size, self.mtime) == (file.size, file.mtime)


@dataclass(frozen=True, slots=True)
class Settling:
    """A file that is news, and since when it has looked like this."""

    size: int
    mtime: int
    since: float


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be done after a look.

    pending  all that is news, the ready ones included.
    ready    what has settled, the longest settled first.
    adopted  changed by the job that took it: known in its new state.
    gone, back   known files that are not there any more, or there again.
    """

    pending: dict[str, Settling] = field(default_factory=dict)
    ready: list[str] = field(default_factory=list)
    adopted: dict[str, SeenFile] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)


Wrote = Callable[[KnownFile, SeenFile], bool | None]
"""Whether the job that took a file changed it into what it is now; None: the job is still at it."""


def look(
    listing: Listing,
    known: Mapping[str, KnownFile],
    pending: Mapping[str, Settling],
    settle: float,
    now: float,
    wrote: Wrote,
    *,
    same_disk: bool = True,
) -> Look:
    """Compare what is there with what is known.

    Nothing is gone while a folder cannot be read, or while another file system is there than before: a
    mount that went away took no file with it.
    """
    found = Look()
    for path, file in listing.files.items():
        before = known.get(path)
        if before is not None:
            if before.same(file):
                if before.gone:
                    found.back.append(path)
                continue
            own = wrote(before, file)
            if own is None:
                continue
            if own:
                found.adopted[path] = file
                continue
        one = pending.get(path)
        if one is None or (one.size, one.mtime) != (file.size, file.mtime):
            one = Settling(file.size, file.mtime, now)
        found.pending[path] = one
        if now - one.since >= settle:
            found.ready.append(path)
    found.ready.sort(key=lambda path: (found.pending[path].since, path))
    if same_disk and not listing.unreadable:
        found.gone.extend(path for path, file in known.items() if not file.gone and path not in listing.files)
    return found


def batches(found: Look, size: int | None) -> list[list[str]]:
    """Return which ready files become one job each: single ones (None), or up to ``size`` together.

    A batch that is not full waits until nothing is settling, so that a folder being copied becomes one job.
    """
    if size is None:
        return [[path] for path in found.ready]
    full = len(found.ready) // size * size
    end = len(found.ready) if len(found.ready) == len(found.pending) else full
    return [found.ready[start : start + size] for start in range(0, end, size)]


def within(ctime: float, started: float | None, finished: float | None) -> bool:
    """Whether a change was made while an item ran."""
    if started is None or finished is None:
        return False
    return started - WRITTEN_SLACK <= ctime <= finished + WRITTEN_SLACK
