"""The last resort for a Matroska header without room: a new file beside the old one, and a swap.

Streams are copied packet by packet through PyAV, nothing is re-encoded. The swap is a rename, so a
crash leaves the old file or the new one. Owner, mode, extended attributes and (if wished) the
modification time are carried over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from millrace.errors import BadInput, StageError
from millrace.workloads.tracks import matroska
from millrace.workloads.tracks.model import AudioTrack
from millrace.workloads.tracks.paths import display
from millrace.workloads.tracks.reader import Reader

_KEEP_AS_IT_IS = {"allow_raw_vfw": "1"}
_UNSUPPORTED_XATTR = {errno.ENOTSUP, errno.EPERM, errno.EINVAL}


def remux(
    path: Path,
    audio: Sequence[AudioTrack],
    target: int,
    *,
    keep_mtime: bool,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Rewrite ``path`` (a regular file, not a link) with audio track ``target`` as the only default.

    ``progress`` is called with 0–1. Raises BadInput for a file with several hard links (they would
    come apart) or that FFmpeg cannot copy, StageError when the disk is full or refuses.
    """
    before = path.stat()
    _refuse_editions(path)
    if before.st_nlink > 1:
        raise BadInput(
            f"{display(path)} has {before.st_nlink} hard links and no room in its header: a rewrite would"
            " take them apart. Install mkvtoolnix, with which the file can be changed in place",
            code="hard_links",
        )
    aside = path.with_name(f".millrace-{secrets.token_hex(8)}.part")
    _sweep(path.parent)
    try:
        with aside.open("xb", buffering=0) as out:
            # The lock says that this process lives: what is not locked was left behind by a crash.
            fcntl.flock(out, fcntl.LOCK_EX)
            _copy(path, out, target, progress)
            _check(aside, audio, target)
            _carry_over(path, aside, before, keep_mtime=keep_mtime)
            now = path.stat()
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise BadInput(
                    f"{display(path)} changed while it was being rewritten: run it again", code="changed"
                )
            os.replace(aside, path)  # noqa: PTH105
        _sync_directory(path.parent)
    except OSError as error:
        raise StageError(
            f"{display(path)} cannot be rewritten: {error.strerror or error}", code="write_failed"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Remove what interrupted rewrites left in a directory."""
    for left in directory.glob(".millrace-*.part"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _refuse_editions(path: Path) -> None:
    """Refuse a file with several chapter editions or ordered chapters: FFmpeg would flatten them."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        editions, ordered = matroska.editions(Reader(fd))
    finally:
        os.close(fd)
    if editions > 1 or ordered:
        raise BadInput(
            f"{display(path)} has {editions} chapter edition(s){', ordered' if ordered else ''}, which a"
            " rewrite would flatten, and no room in its header. Install mkvtoolnix, with which it can be"
            " changed in place",
            code="editions",
        )


def _copy(source: Path, out: FileIO, target: int, progress: Callable[[float], None]) -> None:
    import av
    from av.stream import AttachmentStream, Disposition

    try:
        with (
            source.open("rb", buffering=0) as opened,
            av.open(f"/proc/self/fd/{opened.fileno()}") as reader,
            # Through descriptors: FFmpeg takes no names that are not UTF-8.
            av.open(
                f"/proc/self/fd/{out.fileno()}", "w", format="matroska", options=_KEEP_AS_IT_IS
            ) as writer,
        ):
            writer.metadata.update(reader.metadata)
            streams: dict[int, Any] = {}
            audio = 0
            for stream in reader.streams:
                if isinstance(stream, AttachmentStream):
                    writer.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
                    continue
                copy = writer.add_stream_from_template(stream, opaque=True)
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
                if stream.type == "audio":
                    default = Disposition.default if audio == target else Disposition(0)
                    copy.disposition = (stream.disposition & ~Disposition.default) | default
                    audio += 1
                streams[stream.index] = copy
            chapters = reader.chapters()
            if chapters:
                writer.set_chapters(chapters)
            total = (reader.duration or 0) / 1_000_000
            for packet in reader.demux(*[reader.streams[index] for index in streams]):
                if packet.dts is None and packet.pts is None:
                    continue
                moment = packet.pts if packet.pts is not None else packet.dts
                if total and moment is not None and packet.time_base is not None:
                    progress(min(1.0, float(moment * packet.time_base) / total))
                packet.stream = streams[packet.stream.index]
                writer.mux(packet)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
        ):
            raise
        raise BadInput(f"{display(source)} cannot be copied by FFmpeg: {error}", code="damaged") from error


def _check(path: Path, audio: Sequence[AudioTrack], target: int) -> None:
    """Refuse a copy that lacks audio tracks or has other defaults than asked for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copied = matroska.probe(Reader(fd)).audio
    finally:
        os.close(fd)
    expected = [track.index == target for track in audio]
    if [track.default for track in copied] != expected:
        raise StageError(
            f"the rewritten {path.name} is not as expected and was discarded", code="write_failed"
        )


def _carry_over(source: Path, out: Path, stat_before: os.stat_result, *, keep_mtime: bool) -> None:
    if (os.geteuid(), os.getegid()) != (stat_before.st_uid, stat_before.st_gid):
        try:
            os.chown(out, stat_before.st_uid, stat_before.st_gid)
        except PermissionError:
            raise BadInput(
                f"{display(source)} belongs to another user, to whom a new file could not be given",
                code="read_only",
            ) from None
    out.chmod(stat.S_IMODE(stat_before.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(out, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _UNSUPPORTED_XATTR:
                raise
    if keep_mtime:
        os.utime(out, ns=(stat_before.st_atime_ns, stat_before.st_mtime_ns))
    fd = os.open(out, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
