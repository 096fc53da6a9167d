"""Paths of a media library: mappings between machines, overrides, patterns, and the walk of a folder.

File names are bytes on Linux. One that is not UTF-8 keeps its bytes on every way through the
workload: as base64 in JSON, and with replacement characters where people read it.
"""

from __future__ import annotations

import base64
import fnmatch
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from millrace.patterns import matches

_EXTENSIONS = """
.mkv .mk3d .mka .webm .mp4 .m4v .m4a .mov .qt .3gp .3g2
.avi .divx .ts .m2ts .mts .mpg .mpeg .vob .wmv .asf .flv .ogm .ogv .rm .rmvb
"""
VIDEO_EXTENSIONS = frozenset(_EXTENSIONS.split())
_MAX_DEPTH = 64


def display(path: Path | str) -> str:
    """Return a path for people and JSON: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def to_json(path: Path) -> dict[str, str]:
    """Return a path as JSON that loses nothing; see ``from_json``."""
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return {"path": display(path), "path_bytes": base64.b64encode(os.fsencode(path)).decode()}
    return {"path": text}


def from_json(data: Mapping[str, Any]) -> Path:
    """Return the path that ``to_json`` was given."""
    if data.get("path_bytes"):
        return Path(os.fsdecode(base64.b64decode(data["path_bytes"])))
    return Path(data["path"])


@dataclass(frozen=True, slots=True)
class Mapped:
    """A path as it is here, and the mapping (its ``from``) that was used; None when none fitted."""

    path: str
    rule: str | None


def map_path(path: str, mappings: Sequence[tuple[str, str]]) -> Mapped:
    """Translate a path of another machine into one of ours: the longest prefix wins.

    ``mappings`` are pairs (there, here). Prefixes match whole components. A Windows path
    (``D:\\TV`` or a share) matches without regard to case and to the kind of slash.
    """
    parts = _parts(path)
    best: tuple[int, str, str] | None = None
    for there, here in mappings:
        prefix = _parts(there)
        matches = _fold(there, parts[: len(prefix)]) == _fold(there, prefix)
        if prefix and matches and (best is None or len(prefix) > best[0]):
            best = (len(prefix), there, here)
    if best is None:
        return Mapped(path, None)
    length, there, here = best
    return Mapped(str(PurePosixPath(here, *parts[length:])), there)


def _is_windows(path: str) -> bool:
    return bool(re.match(r"^[A-Za-z]:([\\/]|$)", path)) or path.startswith("\\\\")


def _parts(path: str) -> tuple[str, ...]:
    return PureWindowsPath(path).parts if _is_windows(path) else PurePosixPath(path).parts


def _fold(path: str, parts: Sequence[str]) -> list[str]:
    return [part.lower().rstrip("\\/") for part in parts] if _is_windows(path) else list(parts)


def longest_prefix(path: Path, prefixes: Sequence[str]) -> str | None:
    """Return the longest of the prefixes that the path equals or lies below; None when there is none."""
    best = None
    for prefix in prefixes:
        root = Path(prefix)
        if (path == root or root in path.parents) and (
            best is None or len(root.parts) > len(Path(best).parts)
        ):
            best = prefix
    return best


@dataclass(frozen=True, slots=True)
class Filters:
    """Which files of a folder are taken.

    ``min_bytes`` and ``max_age`` (seconds since the last change) bound; ``exclude`` are patterns
    against the name, the relative path and its folders, without regard to case.
    """

    pattern: str | None = None
    recursive: bool = True
    min_bytes: float = 0
    max_age: float | None = None
    exclude: tuple[str, ...] = ()


def excluded(relative: str, patterns: Sequence[str]) -> bool:
    """Return whether an exclude pattern fits the relative path, its name or one of its folders."""
    lowered = relative.lower()
    parts = lowered.split("/")
    for pattern in patterns:
        text = pattern.lower()
        if fnmatch.fnmatchcase(lowered, text) or any(fnmatch.fnmatchcase(part, text) for part in parts):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the library: its path and its size in bytes."""

    path: Path
    size: int


def walk(
    top: Path,
    filters: Filters,
    roots: Sequence[Path] | None = None,
    *,
    now: float | None = None,
    until: float | None = None,
) -> Iterator[Found]:
    """Yield the media files at or below ``top`` in the order of their names.

    Links to folders are followed where they stay inside ``roots``, each real folder once; a link
    to a file is yielded as it is (opening it checks where it leads). Hidden files and folders, and
    folders that cannot be read, are passed over. TimeoutError when ``until`` (of the monotonic
    clock) has come.
    """
    now = time.time() if now is None else now
    if top.is_file():
        found = _take(top, top.name, filters, now, named=True)
        if found:
            yield found
        return
    visited: set[tuple[int, int]] = set()
    waiting: list[tuple[Path, str, int]] = [(top, "", 0)]
    while waiting:
        folder, prefix, depth = waiting.pop()
        if not _enter(folder, roots, visited):
            continue
        below: list[tuple[Path, str, int]] = []
        for entry in _entries(folder):
            if until is not None and time.monotonic() > until:
                raise TimeoutError
            if entry.name.startswith("."):
                continue
            relative = prefix + entry.name
            if _is_folder(entry):
                if filters.recursive and depth < _MAX_DEPTH and not excluded(relative, filters.exclude):
                    below.append((folder / entry.name, relative + "/", depth + 1))
                continue
            found = _take(folder / entry.name, relative, filters, now)
            if found:
                yield found
        waiting += reversed(below)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _enter(folder: Path, roots: Sequence[Path] | None, visited: set[tuple[int, int]]) -> bool:
    try:
        state = folder.stat()
        if roots is not None:
            real = folder.resolve()
            if not any(real == root or root in real.parents for root in roots):
                return False
    except OSError:
        return False
    identity = (state.st_dev, state.st_ino)
    if identity in visited:
        return False
    visited.add(identity)
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _take(path: Path, relative: str, filters: Filters, now: float, *, named: bool = False) -> Found | None:
    if filters.pattern is not None:
        if not matches(relative, filters.pattern):
            return None
    elif not named and os.path.splitext(relative)[1].lower() not in VIDEO_EXTENSIONS:  # noqa: PTH122
        return None
    if excluded(relative, filters.exclude):
        return None
    try:
        state = path.stat()
    except OSError:
        return Found(path, 0) if path.is_symlink() else None
    if not stat.S_ISREG(state.st_mode) or state.st_size < filters.min_bytes:
        return None
    if filters.max_age is not None and now - state.st_mtime > filters.max_age:
        return None
    return Found(path, state.st_size)
