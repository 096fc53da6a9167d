"""Lists a folder and all below it for ``engine.watches``: what may be taken, and what could not be read.

Links are not followed, names that programs give to unfinished files are passed over, and a tree has a
limit. Knows nothing of jobs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from millrace.engine.looking import Listing, SeenFile
from millrace.errors import BadInput, Unavailable
from millrace.patterns import matches

MOST_FILES = 100_000
_MAX_DEPTH = 64
_UNFINISHED = (
    *(".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download", ".opdownload"),
    *(".aria2", ".!qb", ".!ut", ".unfinished", ".incomplete", ".swp", "~"),
)


def unfinished(name: str) -> bool:
    """Whether a name is hidden, or one that programs give to files they are still writing."""
    return name.startswith((".", "~$")) or name.lower().endswith(_UNFINISHED)


def listing(
    top: Path, patterns: Sequence[str], stopping: Callable[[], bool], *, most: int = MOST_FILES
) -> Listing:
    """List the files below ``top`` that fit a pattern and are not empty. Blocks, for as long as a mount does.

    BadInput when the folder is not there, cannot be read or holds more than ``most`` such files;
    Unavailable when ``stopping`` says so.
    """
    found: dict[str, SeenFile] = {}
    unreadable: list[str] = []
    unusable = 0
    waiting: list[tuple[str, int]] = [("", 0)]
    try:
        device = str(top.stat().st_dev)
    except OSError as error:
        raise BadInput(f"{top} cannot be read: {error.strerror}") from error
    while waiting:
        if stopping():
            raise Unavailable("the server is stopping")
        prefix, depth = waiting.pop()
        try:
            with os.scandir(top / prefix) as entries:
                names = list(entries)
        except OSError as error:
            if not prefix:
                raise BadInput(f"{top} cannot be read: {error.strerror}") from error
            unreadable.append(prefix.rstrip("/"))
            continue
        for entry in names:
            if unfinished(entry.name):
                continue
            if not _is_unicode(entry.name):
                unusable += 1
                continue
            relative = prefix + entry.name
            file = _file(entry)
            if file is None and depth < _MAX_DEPTH and _is_folder(entry):
                waiting.append((f"{relative}/", depth + 1))
            elif file is not None and file.size > 0 and any(matches(relative, one) for one in patterns):
                found[relative] = file
                if len(found) > most:
                    raise BadInput(
                        f"{top} holds more than {most} files that fit: watch a smaller folder, or fewer names"
                    )
    return Listing(found, sorted(unreadable), unusable, device)


def _is_unicode(name: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _file(entry: os.DirEntry[str]) -> SeenFile | None:
    """Return a regular file; None for anything else, and for what vanished meanwhile."""
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return SeenFile(state.st_size, state.st_mtime_ns, state.st_ctime)
