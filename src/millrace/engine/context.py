"""What a stage function sees of the engine: its item, progress, artifacts and warm models.

A stage runs in a worker process. Everything it produces is written aside, below its work
directory, and published by the engine together with its result, only if its lease still holds.
"""

from __future__ import annotations

import mimetypes
import shutil
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from millrace.engine.model import NewItem

T = TypeVar("T")

_LONGEST_SUFFIX = 32


@dataclass(frozen=True, slots=True)
class Skip:
    """Returned by a stage to end its item as skipped (nothing was wrong, nothing to do)."""

    reason: str
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """An artifact that a stage announced: where it writes it, and its media type."""

    path: Path
    media_type: str


@dataclass(slots=True)
class _Warm:
    value: Any
    close: Callable[[Any], None] | None
    used: float


class WarmModels:
    """What a worker keeps loaded between items, dropped after it has been idle.

    ``idle`` is in seconds. Not thread-safe: one worker runs one call at a time.
    """

    def __init__(self, idle: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle = idle
        self._clock = clock
        self._warm: dict[Hashable, _Warm] = {}

    def get(self, key: Hashable, load: Callable[[], T], close: Callable[[T], None] | None = None) -> T:
        """Return the value kept under ``key``, loading it when it is not there yet."""
        entry = self._warm.get(key)
        if entry is None:
            entry = self._warm[key] = _Warm(load(), close, self._clock())
        entry.used = self._clock()
        value: T = entry.value
        return value

    def keys(self) -> list[str]:
        """Return the names of what is loaded, for the scheduler's choice of a warm worker."""
        return [str(key) for key in self._warm]

    def drop_idle(self) -> int:
        """Close what has been idle too long; return how many were dropped."""
        now = self._clock()
        stale = [key for key, entry in self._warm.items() if now - entry.used >= self._idle]
        for key in stale:
            self._drop(key)
        return len(stale)

    def clear(self) -> None:
        """Close everything."""
        for key in list(self._warm):
            self._drop(key)

    def _drop(self, key: Hashable) -> None:
        entry = self._warm.pop(key)
        if entry.close is not None:
            entry.close(entry.value)


class StageContext:
    """One item at one stage.

    job, idx, name   which item; ``uid`` its own id where the contract gave it one.
    input            what the item was created with.
    options, meta    of its job.
    results          stage name → result of the stages already finished.
    stage, attempt   this stage's name, and which attempt at it this is (from 1).
    settings         the workload's own section of the settings.
    site             the server's settings that stages need (media roots, fetch limits, models).
    slots            how many cores (or other slots) the call may use.
    models           what the worker keeps warm; see ``model``.
    """

    def __init__(
        self,
        *,
        job: str,
        idx: int,
        name: str,
        stage: str,
        input: Mapping[str, Any],
        workdir: Path,
        attempt: int = 1,
        uid: str | None = None,
        options: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        site: Mapping[str, Any] | None = None,
        slots: int = 1,
        models: WarmModels | None = None,
        report: Callable[[float, str], None] = lambda fraction, phase: None,
        add: Callable[[list[NewItem]], None] = lambda items: None,
        fetch_blob: Callable[[str, Path], Path] | None = None,
        published: Mapping[str, str] | None = None,
        outbox: Path | None = None,
    ) -> None:
        """Hand an item to a stage. Everything but the first six has a harmless default, for tests.

        ``outbox`` is a directory where its artifacts are written, shared with other items; by default one of
        the item's own.
        """
        self.job = job
        self.idx = idx
        self.name = name
        self.uid = uid
        self.stage = stage
        self.attempt = attempt
        self.input = input
        self.options: Mapping[str, Any] = options or {}
        self.meta: Mapping[str, Any] = meta or {}
        self.results: Mapping[str, Any] = results or {}
        self.settings: Mapping[str, Any] = settings or {}
        self.site: Mapping[str, Any] = site or {}
        self.slots = slots
        self.models = models if models is not None else WarmModels()
        self.written: dict[str, Written] = {}
        self._workdir = workdir
        self._outbox = outbox
        self._made = self._used = False
        self._report = report
        self._add = add
        self._fetch_blob = fetch_blob
        self._published: Mapping[str, str] = published or {}

    @property
    def workdir(self) -> Path:
        """A directory of the item's own, made when first asked for and removed afterwards."""
        if not self._made:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._made = self._used = True
        return self._workdir

    def clean(self) -> None:
        """Remove the work directory."""
        if self._used:
            shutil.rmtree(self._workdir, ignore_errors=True)

    def progress(self, fraction: float, phase: str = "") -> None:
        """Report how far the stage is: 0–1, clamped; ``phase`` in the contract's words. Cheap to call."""
        self._report(min(1.0, max(0.0, fraction)), phase)

    def artifact(self, name: str, media_type: str | None = None) -> Path:
        """Return the path to write an artifact to; it is published when the stage succeeds.

        ``name`` must be a plain file name; the path ends as it does, but may be called otherwise. The
        media type is guessed from it unless given.
        """
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"an artifact's name must be a plain file name, not {name!r}")
        known = self.written.get(name)
        path = known.path if known is not None else self._place(name)
        guessed = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.written[name] = Written(path, guessed)
        return path

    def _place(self, name: str) -> Path:
        if self._outbox is None:
            folder = self.workdir / "artifacts"
            folder.mkdir(exist_ok=True)
            return folder / name
        # One folder for many items: making and removing one for each costs as much as a small picture.
        suffix = Path(name).suffix[:_LONGEST_SUFFIX]
        return self._outbox / f"{self.idx}.{len(self.written)}{suffix}"

    def local(self, key: str, name: str | None = None) -> Path:
        """Return a local path of a stored blob: an upload, or an artifact of an earlier stage.

        It must not be written to: with the directory store it is the blob itself.
        """
        if self._fetch_blob is None:
            raise LookupError(f"no store to read {key!r} from")
        # Not made here: where the blob is a file itself, none is needed.
        self._used = True
        return self._fetch_blob(key, self._workdir / (name or Path(key).name))

    def published(self, name: str) -> Path:
        """Return a local path of an artifact that an earlier stage of this item published.

        Raises:
            LookupError: no earlier stage published it.
        """
        if name not in self._published:
            raise LookupError(f"no earlier stage published {name!r}")
        return self.local(self._published[name], name)

    def model(self, key: Hashable, load: Callable[[], T], close: Callable[[T], None] | None = None) -> T:
        """Return a model that is loaded once a worker and unloaded when idle."""
        return self.models.get(key, load, close)

    def add_items(self, items: Iterable[NewItem]) -> None:
        """Plan stages only: add items to the job. Send them in batches of some hundreds."""
        self._add(list(items))
