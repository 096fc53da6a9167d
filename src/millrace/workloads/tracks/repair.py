"""Deals with one file: probe, choose, patch. What the stages, the command line and tests all call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from millrace.errors import BadInput, StageError
from millrace.workloads.tracks import files, matroska, matroska_edit, mp4, other, propedit, remux
from millrace.workloads.tracks.choice import Choice, SkipReason, Wish, choose
from millrace.workloads.tracks.journal import Journal
from millrace.workloads.tracks.model import NoRoom, Probe, Write
from millrace.workloads.tracks.paths import display
from millrace.workloads.tracks.reader import Reader

log = logging.getLogger(__name__)

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully a file is handled.

    roots        media roots that a file must lie in; None: anywhere (command line).
    keep_mtime   set the modification time back after a change.
    quiet        seconds a file must have been left alone before it is touched.
    rewrite      whether a Matroska file without room may be rewritten beside and swapped.
    """

    roots: tuple[Path, ...] | None = None
    keep_mtime: bool = True
    quiet: float = 2.0
    rewrite: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file. ``how`` says by which means it was changed."""

    status: Literal["success", "skipped", "dry_run"]
    message: str
    reason: SkipReason | None = None
    container: str = ""
    before: tuple[dict[str, Any], ...] = ()
    target: int | None = None
    how: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored as the stage's result."""
        out: dict[str, Any] = {"status": self.status, "message": self.message, "container": self.container}
        if self.reason:
            out["reason"] = self.reason
        if self.target is not None:
            out["target"] = self.target
        if self.how:
            out["how"] = self.how
        out["tracks"] = list(self.before)
        return out


def inspect(fd: int, path: Path) -> tuple[Reader, Probe]:
    """Probe an open file by its content, whatever its name says."""
    reader = Reader(fd)
    if reader.size == 0:
        raise BadInput(f"{display(path)} is empty", code="unreadable")
    head = reader.peek(0, 16)
    if matroska.looks_like(head):
        return reader, matroska.probe(reader)
    if mp4.looks_like(head):
        return reader, mp4.probe(reader)
    return reader, other.probe(fd, display(path))


def explain(path: Path, wishes: Sequence[Wish], care: Care) -> tuple[Probe, Choice]:
    """Return what is in a file and what would be chosen, changing nothing."""
    with files.opened(path, care.roots) as fd:
        _, probe = inspect(fd, path)
        return probe, _choose(probe, wishes)


def repair(
    path: Path,
    wishes: Sequence[Wish],
    care: Care,
    journal: Journal,
    workdir: Callable[[], Path],
    *,
    dry_run: bool = False,
    progress: Progress = lambda fraction: None,
) -> Outcome:
    """Make the right audio track of a file the default; return what was done.

    ``workdir`` makes a directory for the rare file that needs one. ``progress`` takes 0–1.
    Raises BadInput for what cannot be read or written, Transient for a busy file.
    """
    with files.opened(path, care.roots) as fd:
        journal.recover(fd)
        if not dry_run:
            files.wait_until_settled(fd, path, care.quiet)
        reader, probe = inspect(fd, path)
        choice = _choose(probe, wishes)
        facts: dict[str, Any] = {
            "container": probe.format,
            "before": tuple(track.as_json() for track in probe.audio),
            "target": choice.track.index if choice.track else None,
        }
        if choice.track is None or choice.skip is not None:
            return Outcome("skipped", choice.message, choice.skip, **facts)
        if dry_run:
            return Outcome("dry_run", choice.message.replace("Set ", "Would set ", 1), **facts)
        how = _change(fd, path, reader, probe, choice.track.index, care, journal, workdir, progress)
        return Outcome("success", choice.message, how=how, **facts)


def _choose(probe: Probe, wishes: Sequence[Wish]) -> Choice:
    if not probe.audio:
        return choose((), wishes)
    if probe.container == "other":
        have = ", ".join(track.language or "und" for track in probe.audio[:12])
        return Choice(
            None,
            "unsupported_container",
            f"{probe.format} has no default audio track to set; audio tracks: {have}",
        )
    settled = None
    if probe.container == "mp4":
        group = mp4.wanted_group(probe.layout)
        settled = all(track.group == group for track in probe.audio)
    return choose(probe.audio, wishes, settled=settled)


def _change(
    fd: int,
    path: Path,
    reader: Reader,
    probe: Probe,
    target: int,
    care: Care,
    journal: Journal,
    workdir: Callable[[], Path],
    progress: Progress,
) -> str:
    real = files.real_path(fd, path)
    with files.writable(fd, path) as edit:
        try:
            how, writes = _plan(reader, probe, target, workdir)
        except NoRoom as error:
            if not care.rewrite:
                raise BadInput(
                    f"{display(path)} has no room in its header for the change ({error}), and rewriting is"
                    " switched off. Install mkvtoolnix, or set tracks.rewrite to true",
                    code="no_room",
                ) from error
            writes = None
        if writes is not None:
            journal.apply(edit, real, writes, keep_mtime=care.keep_mtime)
            _confirm(edit, path, target)
            return how
    remux.remux(real, probe.audio, target, keep_mtime=care.keep_mtime, progress=progress)
    return "rewritten"


def _plan(reader: Reader, probe: Probe, target: int, workdir: Callable[[], Path]) -> tuple[str, list[Write]]:
    if probe.container == "mp4":
        return "in_place", mp4.plan(reader, probe, target)
    try:
        return "in_place", matroska_edit.plan(reader, probe, target)
    except NoRoom as error:
        log.debug("no room in the header (%s): asking mkvpropedit", error)
        return "mkvpropedit", propedit.plan(reader, probe, target, workdir())


def _confirm(fd: int, path: Path, target: int) -> None:
    """Probe the changed file again: what a player reads must be what was meant."""
    _, probe = inspect(fd, path)
    if [track.default for track in probe.audio] != [track.index == target for track in probe.audio]:
        raise StageError(f"{display(path)} was changed but does not read as intended", code="write_failed")
