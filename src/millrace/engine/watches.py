"""Watched folders: files that appear below a folder become jobs once they are complete.

What was taken is written down in the transaction that creates its job, under the file's path, size and
time of last change: however often the server dies, each state of a file is part of one job. How a folder
is read and what a job is made of is handed in; this module knows no requests.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from millrace.engine.looking import (
    KnownFile,
    Listing,
    Look,
    SeenFile,
    Settling,
    batches,
    look,
    within,
)
from millrace.engine.model import NewJob
from millrace.engine.timer import Timer
from millrace.errors import Conflict, MillraceError, NotFound, QueueFull, Unavailable

if TYPE_CHECKING:
    from millrace.engine.engine import Engine
    from millrace.engine.round import Round

log = logging.getLogger(__name__)

T = TypeVar("T")
Existing = Literal["ignore", "take"]
Per = Literal["file", "batch"]
Source = Literal["settings", "api"]

_FILES_A_ROUND = 1000
_JOBS_A_LOOK = 200
_SAVED_AT_LEAST = 60.0
_LONGEST_PAUSE = 300.0
GONE_KEPT = 30 * 86400.0
"""Seconds for which a file that is gone is remembered: one that comes back as it was is not news."""


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """What is watched, and what becomes of it.

    path        the folder; below it, all folders.
    patterns    which files, by their path relative to it; one of them must fit.
    options, preset, priority, notify   of the jobs, as ``POST /jobs`` takes them.
    settle      seconds for which a file's size and time of change must stay the same.
    interval    seconds between two looks.
    existing    whether files that are there at the first look are ignored or taken.
    per         one job for each file, or for batches of up to ``batch_size``.
    """

    name: str
    path: str
    kind: str
    patterns: Sequence[str] = ("**",)
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settle: float = 30.0
    interval: float = 10.0
    existing: Existing = "ignore"
    per: Per = "file"
    batch_size: int = 10
    priority: int | str = "normal"
    notify: Sequence[str] = ()

    def request(self, files: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Return the job of these files (relative path, bytes), as ``POST /jobs`` takes it."""
        items = [
            {"name": path, "input": {"kind": "path", "path": f"{self.path}/{path}"}, "size": max(1, size)}
            for path, size in files
        ]
        return {
            "kind": self.kind,
            "items": items,
            "options": dict(self.options),
            "label": files[0][0] if len(files) == 1 else f"{self.name}: {len(files)} files",
            "priority": self.priority,
            "notify": list(self.notify),
            **({"preset": self.preset} if self.preset is not None else {}),
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched folder as stored.

    primed      whether the first look is over.
    device      the file system it was on at the last look.
    looked_at, files, pending   of a look not long ago: when, how many files there were and were settling.
    last_error  why the last look, or the job it would have made, failed; None when neither did.
    """

    id: str
    spec: WatchSpec
    source: Source
    enabled: bool
    primed: bool
    device: str
    looked_at: float | None
    files: int
    pending: int
    last_job: str | None
    last_error: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class WatchJob:
    """A job that a watched folder made: of how many files (that have not changed since), and when."""

    job: str
    files: int
    at: float


class WatchWrites(Protocol):
    """What a transaction must offer for watched folders."""

    def put_watch(self, watch: Watch) -> None:
        """Add a watched folder, or write all of it."""
        ...

    def load_watch(self, id: str) -> Watch | None:
        """Read one for writing."""
        ...

    def delete_watch(self, id: str) -> bool:
        """Delete one and what it knows; False if there is none."""
        ...

    def take_file(self, watch: str, path: str, file: KnownFile, now: float) -> bool:
        """Write down that a file was dealt with; False if it was before, in the same state."""
        ...

    def mark_gone(self, watch: str, paths: Iterable[str], at: float | None) -> None:
        """Write down that files are not there any more, or (None) that they are again."""
        ...

    def forget_gone(self, watch: str, before: float) -> int:
        """Delete what is known of files gone since before that time; return how many."""
        ...


class WatchReads(Protocol):
    """What a store must offer for watched folders."""

    def watches(self) -> list[Watch]:
        """Read all, in order of creation."""
        ...

    def watch(self, id: str) -> Watch | None:
        """Read one."""
        ...

    def known_files(self, id: str) -> dict[str, KnownFile]:
        """Read what one has dealt with, by relative path."""
        ...

    def watch_jobs(self, id: str, limit: int) -> list[WatchJob]:
        """Read the jobs one has made, newest first."""
        ...


Scan = Callable[[WatchSpec, Callable[[], bool]], Listing]
"""Lists a folder; stops with Unavailable when the function says so; MillraceError where it cannot be read."""
MakeJob = Callable[[Mapping[str, Any]], NewJob]
"""Makes a job, with an id of its own, from a request; InvalidRequest where it cannot be made."""


@dataclass(slots=True)
class _Memory:
    """What is remembered of a folder between two looks."""

    known: dict[str, KnownFile] | None = None
    pending: dict[str, Settling] = field(default_factory=dict)
    next_at: float = 0.0
    looking_since: float | None = None


class Watches:
    """Looks at folders and creates jobs, each look on a thread of its own: a mount may hang for hours."""

    def __init__(
        self, engine: Engine, scan: Scan, make: MakeJob, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._scan = scan
        self._make = make
        self._clock = clock
        self._memories: dict[str, _Memory] = {}
        self._lock = threading.Lock()
        self._configured: list[WatchSpec] | None = None
        self._timer = Timer("watches", self._step)
        engine.commands["watches.put"] = self._put
        engine.commands["watches.enable"] = self._enable
        engine.commands["watches.delete"] = self._delete

    def configure(self, specs: Sequence[WatchSpec]) -> None:
        """Say what the settings watch; written down at the start."""
        self._configured = list(specs)

    def start(self) -> None:
        """Begin to look, knowing only what is written down: another server may have looked meanwhile."""
        with self._lock:
            self._memories.clear()
        if self._configured is not None:
            configured = self._configured
            self._engine.loop.request(lambda round_: self._write_configured(round_, configured)).result()
        self._timer.start()

    def stop(self) -> None:
        """Look no more. A look under way creates nothing after this."""
        self._timer.stop()

    # -- steering ---------------------------------------------------------------------------------

    async def add(self, spec: WatchSpec, *, enabled: bool = True) -> Watch:
        """Watch a folder."""
        watch = _new(f"wat_{uuid.uuid4().hex[:16]}", spec, "api", enabled, self._clock())
        await self._engine.command("watches.put", watch=watch)
        return watch

    def _put(self, round_: Round, watch: Watch | Mapping[str, Any]) -> None:
        if not isinstance(watch, Watch):
            watch = Watch(**{**watch, "spec": WatchSpec(**watch["spec"])})
        round_.tx.put_watch(watch)
        round_.afterwards.append(self._timer.wake)

    async def enable(self, id: str, enabled: bool) -> Watch:
        """Switch one on or off. What appears while it is off is taken when it is on again."""
        await self._engine.command("watches.enable", id=id, enabled=enabled)
        return await self.get(id)

    def _enable(self, round_: Round, id: str, enabled: bool) -> None:
        watch = _own(round_.tx.load_watch(id), id)
        round_.tx.put_watch(replace(watch, enabled=enabled, updated_at=round_.now))
        round_.afterwards.append(self._timer.wake)

    async def delete(self, id: str) -> None:
        """Watch a folder no more, and forget what was known of its files; its jobs stay."""
        await self._engine.command("watches.delete", id=id)

    def _delete(self, round_: Round, id: str) -> None:
        watch = round_.tx.load_watch(id)
        # One that the settings have dropped is switched off, and may be cleared away.
        if watch is None or watch.enabled:
            _own(watch, id)
        round_.tx.delete_watch(id)

        def forget() -> None:
            with self._lock:
                self._memories.pop(id, None)
            self._timer.wake()

        round_.afterwards.append(forget)

    async def list(self) -> Sequence[Watch]:
        """Return all watched folders."""
        return await asyncio.to_thread(self._store.watches)

    async def get(self, id: str) -> Watch:
        """Return one; NotFound if there is none."""
        watch = await asyncio.to_thread(self._store.watch, id)
        if watch is None:
            raise NotFound(f"no watched folder {id!r}")
        return watch

    async def jobs(self, id: str, limit: int = 20) -> Sequence[WatchJob]:
        """Return the jobs one has made, newest first."""
        return await asyncio.to_thread(self._store.watch_jobs, id, limit)

    def settling(self, id: str, limit: int = 100) -> Sequence[tuple[str, Settling]]:
        """Return files that are news and not yet part of a job, as the last look of this server saw them."""
        with self._lock:
            memory = self._memories.get(id)
            return [] if memory is None else list(memory.pending.items())[:limit]

    def looking_since(self, id: str) -> float | None:
        """Return when the look that is under way began; None when none is."""
        memory = self._memories.get(id)
        return None if memory is None else memory.looking_since

    def _write_configured(self, round_: Round, specs: Sequence[WatchSpec]) -> None:
        there = {f"set_{spec.name}": spec for spec in specs}
        for id, spec in there.items():
            watch = round_.tx.load_watch(id) or _new(id, spec, "settings", True, round_.now)
            if watch.spec.path != spec.path:
                watch = replace(watch, primed=False, device="")
            round_.tx.put_watch(replace(watch, spec=spec, enabled=True, updated_at=round_.now))
        for watch in self._store.watches():
            if watch.source == "settings" and watch.id not in there and watch.enabled:
                gone = "it is not in the settings any more"
                round_.tx.put_watch(replace(watch, enabled=False, last_error=gone, updated_at=round_.now))

    # -- looking ----------------------------------------------------------------------------------

    def _step(self) -> float | None:
        now = self._clock()
        due: list[float] = []
        for watch in self._store.watches():
            if not watch.enabled:
                continue
            with self._lock:
                memory = self._memories.setdefault(watch.id, _Memory())
                if memory.looking_since is not None:
                    continue
                if memory.next_at > now:
                    due.append(memory.next_at)
                    continue
                memory.looking_since = now
            threading.Thread(target=self._look, args=(watch, memory), name="watch", daemon=True).start()
        return max(0.0, min(due) - now) if due else None

    def _look(self, watch: Watch, memory: _Memory) -> None:
        began = self._clock()
        try:
            listing: Listing | None = None
            problem: str | None = None
            job = None
            try:
                listing = self._scan(watch.spec, lambda: self._timer.stopping)
                job, problem = self._deal_with(watch, memory, listing)
            except Unavailable:
                if self._timer.stopping:
                    return
                raise
            except MillraceError as error:
                problem = error.message
            self._save(watch, memory, listing, job, problem)
        except Unavailable as error:
            log.info("watch %s: nothing could be written: %s", watch.id, error.message)
        except Exception:
            log.exception("the look at %s failed", watch.spec.path)
        finally:
            memory.next_at = next_look(began, self._clock(), watch.spec.interval)
            memory.looking_since = None
            self._timer.wake()

    def _deal_with(self, watch: Watch, memory: _Memory, listing: Listing) -> tuple[str | None, str | None]:
        """Make jobs of what has settled; return the last one, and what is to be told."""
        if memory.known is None:
            memory.known = self._store.known_files(watch.id)
        known = memory.known
        same_disk = _same_disk(watch, listing)
        # Primed while its disk was not mounted, it knows nothing: what the disk brings was there before.
        if not watch.primed or (listing.files and not known and not same_disk):
            self._prime(watch, known, listing)
        now, settle = self._clock(), watch.spec.settle
        found = look(listing, known, memory.pending, settle, now, self._wrote(watch), same_disk=same_disk)
        with self._lock:
            memory.pending = dict(found.pending)
        self._remember(watch, known, found)
        job, problem = self._take(watch, memory, found)
        return job, problem or _remark(listing, known, same_disk)

    def _prime(self, watch: Watch, known: dict[str, KnownFile], listing: Listing) -> None:
        """Know all files that are there at the first look, where those are ignored."""
        files = listing.files if watch.spec.existing == "ignore" else {}
        self._know(watch, known, files)

        def primed(round_: Round) -> None:
            current = round_.tx.load_watch(watch.id)
            if current is not None:
                round_.tx.put_watch(replace(current, primed=True, device=listing.device))

        self._engine.loop.request(primed).result()

    def _know(self, watch: Watch, known: dict[str, KnownFile], files: Mapping[str, SeenFile]) -> None:
        """Write down files that are left alone as they are; those a job took stay that job's."""
        entries = [
            (path, KnownFile(file.size, file.mtime, *_taker(known.get(path)))) for path, file in files.items()
        ]
        for start in range(0, len(entries), _FILES_A_ROUND):
            part = entries[start : start + _FILES_A_ROUND]

            def write(round_: Round, part: Sequence[tuple[str, KnownFile]] = part) -> None:
                if round_.tx.load_watch(watch.id) is None:
                    return
                for path, file in part:
                    round_.tx.take_file(watch.id, path, file, round_.now)

            self._engine.loop.request(write).result()
            known.update(part)

    def _remember(self, watch: Watch, known: dict[str, KnownFile], found: Look) -> None:
        self._know(watch, known, found.adopted)
        for paths, gone in ((found.gone, True), (found.back, False)):
            for start in range(0, len(paths), _FILES_A_ROUND):
                part = paths[start : start + _FILES_A_ROUND]

                def mark(round_: Round, part: Sequence[str] = part, gone: bool = gone) -> None:
                    round_.tx.mark_gone(watch.id, part, round_.now if gone else None)
                    if gone:
                        round_.tx.forget_gone(watch.id, round_.now - GONE_KEPT)

                self._engine.loop.request(mark).result()
                known.update({path: replace(known[path], gone=gone) for path in part})

    def _take(self, watch: Watch, memory: _Memory, found: Look) -> tuple[str | None, str | None]:
        """Create the jobs; return the last, and why one could not be created. What is left waits."""
        job, problem = None, None
        size = watch.spec.batch_size if watch.spec.per == "batch" else None
        for paths in batches(found, size)[:_JOBS_A_LOOK]:
            if self._timer.stopping:
                break
            try:
                new = self._make(watch.spec.request([(path, found.pending[path].size) for path in paths]))
                job = self._create(watch, new, paths, found) or job
            except Conflict as error:
                problem = error.message
                continue
            except MillraceError as error:
                problem = error.message
                if isinstance(error, (QueueFull, Unavailable)):
                    break
                continue
            assert memory.known is not None
            with self._lock:
                for idx, path in enumerate(paths):
                    one = memory.pending.pop(path)
                    memory.known[path] = KnownFile(one.size, one.mtime, new.id, idx)
        return job, problem

    def _create(self, watch: Watch, new: NewJob, paths: Sequence[str], found: Look) -> str | None:
        """Create a job and write its files down, all or nothing."""

        def create(round_: Round) -> str | None:
            current = round_.tx.load_watch(watch.id)
            if current is None or not current.enabled or self._timer.stopping:
                raise Conflict("it was switched off meanwhile")
            for idx, path in enumerate(paths):
                one = found.pending[path]
                if not round_.tx.take_file(
                    watch.id, path, KnownFile(one.size, one.mtime, new.id, idx), round_.now
                ):
                    raise Conflict(f"{path} is part of a job already")
            return self._engine.create(round_, new)[0]

        made: str | None = self._engine.loop.request(create).result()
        return made

    def _wrote(self, watch: Watch) -> Callable[[KnownFile, SeenFile], bool | None]:
        workload = self._engine.workloads.get(watch.spec.kind)
        writes = workload is not None and workload.writes_inputs

        def wrote(known: KnownFile, file: SeenFile) -> bool | None:
            if not writes or known.job is None or known.idx is None:
                return False
            item = self._store.item(known.job, known.idx)
            if item is None:
                return False
            if not item.state.final:
                return None
            return within(file.ctime, item.started_at, item.finished_at)

        return wrote

    def _save(
        self, watch: Watch, memory: _Memory, listing: Listing | None, job: str | None, problem: str | None
    ) -> None:
        """Keep what a look came to, where it is other than before or a minute old."""
        now = self._clock()
        number = watch.files if listing is None else len(listing.files)
        # An empty folder may be where a disk should be: it says nothing of where the files are.
        device = listing.device if listing is not None and listing.files else None
        told = None if problem is None else problem.replace("\0", "")
        before = (watch.files, watch.pending, watch.last_error, watch.device)
        same = before == (number, len(memory.pending), told, device or watch.device) and job is None
        if same and watch.looked_at is not None and now - watch.looked_at < _SAVED_AT_LEAST:
            return
        if told is not None and told != watch.last_error:
            log.warning("the watched folder %s (%s): %s", watch.spec.path, watch.spec.name, told)

        def save(round_: Round) -> None:
            current = round_.tx.load_watch(watch.id)
            if current is not None:
                round_.tx.put_watch(
                    replace(
                        current,
                        looked_at=now,
                        files=number,
                        pending=len(memory.pending),
                        device=device or current.device,
                        last_job=job or current.last_job,
                        last_error=told,
                    )
                )

        self._engine.loop.request(save).result()


def next_look(began: float, ended: float, interval: float) -> float:
    """Return when to look again: what takes long to list is to take a tenth of the time at most.

    >>> next_look(100.0, 100.1, 10.0), next_look(100.0, 105.0, 10.0), next_look(0.0, 3600.0, 10.0)
    (110.1, 150.0, 3900.0)
    """
    return ended + max(interval, min(9 * max(0.0, ended - began), _LONGEST_PAUSE))


def _new(id: str, spec: WatchSpec, source: Source, enabled: bool, now: float) -> Watch:
    return Watch(id, spec, source, enabled, False, "", None, 0, 0, None, None, now, now)


def _own(watch: Watch | None, id: str) -> Watch:
    """Return a watch that may be changed here."""
    if watch is None:
        raise NotFound(f"no watched folder {id!r}")
    if watch.source == "settings":
        raise Conflict(f"the watched folder {id} stands in the settings (watches): change it there")
    return watch


def _taker(known: KnownFile | None) -> tuple[str | None, int | None]:
    return (None, None) if known is None else (known.job, known.idx)


def _same_disk(watch: Watch, listing: Listing) -> bool:
    """Whether the folder is on the file system on which it was when files were last seen in it."""
    return watch.device in ("", listing.device)


def _remark(listing: Listing, known: Mapping[str, KnownFile], same_disk: bool) -> str | None:
    """Return what is to be told of a look that found less than there may be."""
    if not listing.files and not same_disk and any(not file.gone for file in known.values()):
        return "it is empty, and on another file system than before: is it mounted?"
    if listing.unreadable:
        more = f" and {len(listing.unreadable) - 1} more" if len(listing.unreadable) > 1 else ""
        return f"{listing.unreadable[0]}{more} cannot be read"
    if listing.unusable:
        return f"{listing.unusable} names are not valid Unicode: those files are left out"
    return None
