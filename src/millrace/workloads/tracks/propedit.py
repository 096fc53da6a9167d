"""Lets ``mkvpropedit`` plan an edit for which the header has no room, without letting it near the file.

mkvpropedit edits in place and is not safe against a crash. So it gets a sparse stand-in: the same
bytes at the same offsets, but the Clusters replaced by some that are holes. What it changed there
becomes an ordinary patch of the real file, journalled like any other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from millrace.errors import StageError
from millrace.workloads.tracks.ebml import UNKNOWN, encode_id, encode_size
from millrace.workloads.tracks.matroska import CLUSTER, Layout, level_1, seek_entries
from millrace.workloads.tracks.model import Damaged, NoRoom, Probe, Write, differing_spans
from millrace.workloads.tracks.reader import Reader

_MAX_COPIED = 256 * 1024 * 1024
_TIMEOUT = 60.0
_BLOCK = 1024 * 1024
_HOLLOW = 1024**3
_CLUSTER_HEAD = 12


def installed() -> str | None:
    """Return the path of mkvpropedit; None when it is not installed."""
    return shutil.which("mkvpropedit")


def plan(reader: Reader, probe: Probe, target: int, workdir: Path) -> list[Write]:
    """Return the writes that mkvpropedit makes to set the default audio track.

    ``workdir`` takes the stand-in (sparse, some kilobytes in fact). Raises NoRoom when
    mkvpropedit is not installed or the file's structure does not allow a stand-in, StageError
    when mkvpropedit fails.
    """
    program = installed()
    if program is None:
        raise NoRoom("mkvpropedit is not installed")
    kept = _kept_ranges(reader, probe.layout)
    with tempfile.TemporaryDirectory(dir=workdir) as directory:
        stand_in = Path(directory) / "header.mkv"
        _write_stand_in(reader, probe.layout, kept, stand_in)
        _run(program, stand_in, probe, target)
        return _changes(reader, kept, stand_in)


def _kept_ranges(reader: Reader, layout: Layout) -> list[tuple[int, int]]:
    """Return the ranges outside the Clusters: the header, and what follows the last Cluster."""
    segment = layout.segment
    if segment.size == UNKNOWN or segment.end != reader.size:
        raise NoRoom("the Segment's size is open, so nothing can be appended to it")
    first = next((e for e in level_1(reader, segment.data, layout.segment_end) if e.id == CLUSTER), None)
    if first is None:
        return [(0, reader.size)]
    tail = _tail(reader, layout, first.offset)
    copied = first.offset + reader.size - tail
    if copied > _MAX_COPIED:
        raise NoRoom(f"{copied} bytes lie outside the Clusters, more than are copied for an edit")
    if tail - first.offset < _CLUSTER_HEAD:
        raise NoRoom("the file has no Cluster of a usual size")
    return [(0, first.offset), (tail, reader.size)]


def _tail(reader: Reader, layout: Layout, cluster: int) -> int:
    """Return where the Clusters end: the first element behind them that a SeekHead names."""
    base = layout.segment.data
    named = [
        base + position
        for seek_head in layout.seek_heads
        for _, position, _, _ in seek_entries(reader.read(seek_head.data, seek_head.size))
    ]
    tail = min((position for position in named if cluster < position < reader.size), default=reader.size)
    for element in level_1(reader, tail, reader.size):
        if element.id == CLUSTER:
            raise NoRoom("Clusters follow the elements behind them")
    return tail


def _write_stand_in(reader: Reader, layout: Layout, kept: list[tuple[int, int]], path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, reader.size)
        for start, end in kept:
            for offset in range(start, end, _BLOCK):
                data = os.pread(reader.fd, min(_BLOCK, end - offset), offset)
                os.pwrite(fd, data, offset)
        if len(kept) == 2:
            _write_hollow_clusters(fd, kept[0][1], kept[1][0])
    finally:
        os.close(fd)


def _write_hollow_clusters(fd: int, start: int, end: int) -> None:
    """Fill a range with Clusters that are holes, none so large that mkvpropedit would read through it."""
    while start < end:
        length = end - start if end - start < 2 * _HOLLOW else _HOLLOW
        os.pwrite(fd, encode_id(CLUSTER) + encode_size(length - _CLUSTER_HEAD, 8), start)
        start += length


def _run(program: str, path: Path, probe: Probe, target: int) -> None:
    command = [program, str(path)]
    for track in probe.audio:
        command += [
            "--edit",
            f"track:a{track.index + 1}",
            "--set",
            f"flag-default={int(track.index == target)}",
        ]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageError(f"mkvpropedit could not be run: {error}", code="tool_failed") from error
    if done.returncode not in (0, 1):
        said = (done.stdout + done.stderr).strip().splitlines()
        raise StageError(f"mkvpropedit failed: {said[-1] if said else done.returncode}", code="tool_failed")


def _changes(reader: Reader, kept: list[tuple[int, int]], stand_in: Path) -> list[Write]:
    writes: list[Write] = []
    fd = os.open(stand_in, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size < reader.size:
            raise Damaged("mkvpropedit shortened the file, which a patch cannot follow")
        for start, end in kept:
            for offset in range(start, end, _BLOCK):
                length = min(_BLOCK, end - offset)
                old, new = os.pread(reader.fd, length, offset), os.pread(fd, length, offset)
                if old != new:
                    writes += differing_spans(offset, old, new)
        if size > reader.size:
            writes.append(Write(reader.size, b"", os.pread(fd, size - reader.size, reader.size)))
    finally:
        os.close(fd)
    return writes
