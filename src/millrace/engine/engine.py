"""The engine as the rest of Millrace sees it: submit jobs, steer them, read them, watch them.

All methods are coroutines and safe to call from any event loop. What they return was committed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from millrace.engine import board, wire
from millrace.engine.artifacts import ArtifactStore
from millrace.engine.board import RunningItem, WaitingItems
from millrace.engine.cluster import ANSWERS, EVENTS, LIVE
from millrace.engine.cluster.peers import PATIENCE, Peers, Wire, error_text
from millrace.engine.commands import create, decoded, engine_commands
from millrace.engine.events import Feed
from millrace.engine.executors import Executor, WorkerInfo
from millrace.engine.loop import EngineLoop
from millrace.engine.model import Artifact, Event, Item, Job, NewJob, StageRun, State
from millrace.engine.parts import Part, Parts
from millrace.engine.retention import remove_job
from millrace.engine.round import Round
from millrace.engine.store import JobPage, JobQuery, JobRow, KindStats, LeadershipLost, Record, Store
from millrace.engine.waiting import Waiting, waiting
from millrace.engine.workload import Workload
from millrace.errors import Conflict, InvalidRequest, NotFound, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

Mode = Literal["active", "paused", "draining"]

_READERS = 8
_ASKERS = 16
_COMMANDS_A_ROUND = 100
_COMMANDS_KEPT = 600.0
_LIVE_AT_ONCE = 20
_ITEMS_TOLD = 200
_PAYLOAD = 7900
"""Bytes of a notification; PostgreSQL takes less than 8000."""


@dataclass(frozen=True, slots=True)
class PausedStage:
    """A stage that its circuit breaker has paused. ``probe_at``: when one item will try again."""

    kind: str
    stage: str
    cause: str
    probe_at: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing now.

    slots     resource → (in use, all).
    waiting   kind → items that are queued, of jobs that are not held.
    failure   why the database cannot be written to at the moment; None when all is well.
    lost      workers that died since the start while running something.
    off       what could not be started beside the engine so far (``watches``, …) → why; tried again.
    """

    workers: list[WorkerInfo]
    slots: dict[str, tuple[int, int]]
    modes: dict[str, Mode]
    paused: list[PausedStage]
    waiting: dict[str, int]
    running: dict[str, int]
    failure: str | None
    lost: int
    off: Mapping[str, str] = field(default_factory=dict)


def status_of(told: Mapping[str, Any] | None, kinds: Iterable[str], failure: str | None) -> Status:
    """Make a status of what the server in charge told; of nothing where none is."""
    if told is None:
        none = dict.fromkeys(kinds, 0)
        modes: dict[str, Mode] = dict.fromkeys(kinds, "active")
        missing = failure or "no server is in charge of the database just now"
        return Status([], {}, modes, [], none, dict(none), missing, 0)
    return Status(
        workers=[WorkerInfo(**{**worker, "warm": tuple(worker["warm"])}) for worker in told["workers"]],
        slots={name: (used, number) for name, (used, number) in told["slots"].items()},
        modes={kind: told["modes"].get(kind, "active") for kind in kinds},
        paused=[PausedStage(**stage) for stage in told["paused"]],
        waiting={kind: told["waiting"].get(kind, 0) for kind in kinds},
        running={kind: told["running"].get(kind, 0) for kind in kinds},
        failure=told["failure"],
        lost=told["lost"],
        off=told.get("off", {}),
    )


def _server_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Engine:
    """The façade over store, scheduler, executor and feed."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        artifacts: ArtifactStore,
        workloads: Sequence[Workload],
        *,
        clock: Callable[[], float] = time.time,
        connect: Callable[[], Wire] | None = None,
    ) -> None:
        """``connect`` opens a way to other servers on the same database; None: there is no other."""
        self.store = store
        self.artifact_store = artifacts
        self.workloads = {workload.kind: workload for workload in workloads}
        self.feed = Feed()
        self._executor = executor
        self._clock = clock
        self._parts = Parts()
        shared = connect is not None
        self.loop = EngineLoop(store, executor, artifacts, self.workloads, self.feed, clock, shared=shared)
        self.commands: dict[str, Callable[..., Any]] = engine_commands(self)
        self.peers: Peers | None = None
        if connect is not None:
            self.peers = Peers(_server_name(), connect, self._leads, self._told_status, self.feed)
            self.loop.took_over = self._parts.start_beside
            self.loop.stepped_down = self._parts.stop
            self.loop.deaf = self._deaf
            self.loop.serve = self._serve
            self.loop.announce = self._announce
        self._served_at = 0.0
        self.loop.outcomes.finished.append(self._tell_waiters)
        self._waiters: dict[str, list[Future[None]]] = {}
        self._waiters_lock = threading.Lock()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="engine-read")
        self._askers = ThreadPoolExecutor(_ASKERS, thread_name_prefix="engine-ask")

    def attach(self, part: Part) -> None:
        """Have something start and stop with the engine: deliveries, schedules, retention."""
        self._parts.attach(part)

    def start(self) -> None:
        """Own the data, recover what an earlier server left, start workers. Blocks until work can be taken.

        Raises:
            Unavailable: another server owns the data, or the database cannot be reached.
        """
        if self.peers is not None:
            self.peers.start()
            self.loop.start()
            return
        self.store.acquire()
        self.loop.start()
        self._parts.start()

    def stop(self) -> None:
        """Stop at once: what runs is killed and goes on at the next start. Blocks.

        In a cluster what runs goes on meanwhile.
        """
        self._parts.close()
        self.loop.stop()
        if self.peers is not None:
            self.peers.stop()
        self._readers.shutdown(wait=True)
        self._askers.shutdown(wait=False, cancel_futures=True)
        self.store.close()

    # -- submitting and steering --------------------------------------------------------------

    async def submit(self, new: NewJob) -> tuple[Job, bool]:
        """Create a job with all its items, durably.

        With ``new.idempotency`` a second submission of the same key and body returns the first job.

        Returns:
            The job, and whether it was created just now.

        Raises:
            InvalidRequest: the kind is unknown, or there is nothing to do.
            Conflict: the scope is being worked on, or the idempotency key had another body.
            QueueFull: the workload's queue is at its capacity, or draining.
        """
        job_id, created = await self.command("create", new=new)
        return await self.job(job_id), created

    def create(self, round_: Round, new: NewJob) -> tuple[str, bool]:
        """Create a job within a transaction of the engine's thread; see ``submit``."""
        return create(self, round_, new)

    async def release(
        self, job_id: str, *, parallelism: int | None = None, priority: int | None = None
    ) -> Job:
        """Start a held job. Conflict when it is not held any more."""
        await self.command("release", job_id=job_id, parallelism=parallelism, priority=priority)
        return await self.job(job_id)

    async def update(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        parallelism: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Job:
        """Change an unfinished job's priority or parallelism, or the contract's facts about any job."""
        await self.command("update", job_id=job_id, priority=priority, parallelism=parallelism, meta=meta)
        return await self.job(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: what waits is dropped, what runs is killed. Returns when nothing of it runs any more.

        A job that has ended is returned unchanged.
        """
        ended: Future[None] = Future()
        with self._waiters_lock:
            self._waiters.setdefault(job_id, []).append(ended)
        try:
            if await self.command("cancel", job_id=job_id):
                await self._until_ended(job_id, ended)
        finally:
            with self._waiters_lock:
                waiters = self._waiters.get(job_id, [])
                if ended in waiters:
                    waiters.remove(ended)
                if not waiters:
                    self._waiters.pop(job_id, None)
        return await self.job(job_id)

    async def _until_ended(self, job_id: str, ended: Future[None]) -> None:
        """Wait for a job's end: for the word of this server's own thread, or to see it in the database."""
        while not ended.done():
            wait = 1.0 if self.loop.leading else 0.05
            await asyncio.wait([asyncio.wrap_future(ended)], timeout=wait)
            job = await self._read(self.store.job, job_id)
            if job is None or job.state.final:
                return

    async def retry(self, job_id: str, idxs: Sequence[int] | None = None) -> Job:
        """Queue the failed items of a job again, at the stage that failed; all of them, or those named.

        Naming items also brings back cancelled ones. Conflict when there is none to try again.
        """
        await self.command("retry", job_id=job_id, idxs=None if idxs is None else list(idxs))
        return await self.job(job_id)

    async def delete(self, job_id: str) -> None:
        """Delete a finished job, with its artifacts and uploads. Conflict while it is unfinished."""
        job = await self.job(job_id)
        if not job.state.final:
            raise Conflict(f"job {job_id} is {job.state}; cancel it before deleting it")
        await self._read(remove_job, self, job_id)

    async def set_mode(self, kind: str, mode: Mode) -> None:
        """Pause a workload (nothing of it starts), drain it (it takes no new jobs), or let it work again."""
        self.workload(kind)
        await self.command("set_mode", kind=kind, mode=mode)
        self._executor.wake()

    async def pause(self, kind: str) -> None:
        """Start nothing more of the workload; what runs goes on, what is submitted waits."""
        await self.set_mode(kind, "paused")

    async def drain(self, kind: str) -> None:
        """Take no new jobs of the workload; what there is gets finished."""
        await self.set_mode(kind, "draining")

    async def resume(self, kind: str) -> None:
        """Let a workload work again."""
        await self.set_mode(kind, "active")

    async def put_record(self, namespace: str, key: str, data: Mapping[str, Any]) -> int:
        """Append a record of a workload's own; return its number."""
        number: int = await self.command("put_record", namespace=namespace, key=key, data=dict(data))
        return number

    async def delete_records(self, namespace: str, key: str) -> int:
        """Delete the records under a key; return how many there were."""
        number: int = await self.command("delete_records", namespace=namespace, key=key)
        return number

    # -- reading ------------------------------------------------------------------------------

    def workload(self, kind: str) -> Workload:
        """Return the workload of a kind; InvalidRequest when there is none."""
        workload = self.workloads.get(kind)
        if workload is None:
            raise InvalidRequest(f"unknown kind {kind!r}; there are: {', '.join(sorted(self.workloads))}")
        return workload

    async def job(self, job_id: str) -> Job:
        """Return a job; NotFound if there is none. Its progress includes what runs right now."""
        job = await self._read(self.store.job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id!r}")
        return (await self._with_live_progress([job]))[0]

    async def jobs(self, query: JobQuery) -> JobPage:
        """Return a page of jobs, newest first."""
        page = await self._read(self.store.jobs, query)
        return replace(page, jobs=await self._with_live_progress(page.jobs))

    async def items(
        self, job_id: str, *, after: int = -1, limit: int = 100, states: Sequence[State] = ()
    ) -> list[Item]:
        """Return items in order of idx, beginning behind ``after``."""
        items = await self._read(self.store.items, job_id, after, limit, states)
        return [self._with_live_item(item) for item in items]

    async def item(self, job_id: str, idx: int) -> Item:
        """Return an item; NotFound if there is none."""
        item = await self._read(self.store.item, job_id, idx) if idx >= 0 else None
        if item is None:
            raise NotFound(f"job {job_id!r} has no item {idx}")
        return self._with_live_item(item)

    async def item_by_uid(self, uid: str) -> Item:
        """Return the item with that uid; NotFound if there is none."""
        item = await self._read(self.store.item_by_uid, uid)
        if item is None:
            raise NotFound(f"no item {uid!r}")
        return self._with_live_item(item)

    async def artifacts(self, job_id: str, idx: int | None = None) -> list[Artifact]:
        """Return what a job, or one of its items, has published."""
        return await self._read(self.store.artifacts, job_id, idx)

    async def artifact(self, job_id: str, idx: int, name: str) -> Artifact:
        """Return one artifact; NotFound if it is not published."""
        artifact = await self._read(self.store.artifact, job_id, idx, name)
        if artifact is None:
            raise NotFound(f"item {idx} of job {job_id!r} has no artifact {name!r}")
        return artifact

    async def runs(self, job_id: str, idx: int) -> list[StageRun]:
        """Return the finished attempts of an item, oldest first."""
        return await self._read(self.store.runs, job_id, idx)

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return a part of a job's log."""
        return await self._read(self.store.events, job_id, after, limit)

    async def watch(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield a job's events behind number ``after`` and then live ones, until it has finished.

        Live progress has ``seq`` 0. NotFound at the first step if there is no such job.
        """
        await self.job(job_id)

        async def over(job_id: str, seen: int) -> bool:
            job = await self._read(self.store.job, job_id)
            return job is None or (job.state.final and job.last_event <= seen)

        async def read(job_id: str, after: int, limit: int) -> list[Event]:
            return await self._read(self.store.events, job_id, after, limit)

        async for event in self.feed.watch(job_id, after, read, over):
            yield event

    async def stats(self, kind: str | None = None) -> list[KindStats]:
        """Return figures by kind."""
        return await self._read(self.store.stats, kind)

    async def records(self, namespace: str, key: str | None = None, limit: int = 1000) -> list[Record]:
        """Return records, oldest first (the newest ``limit`` of them)."""
        return await self._read(self.store.records, namespace, key, limit)

    async def queue_age(self) -> float:
        """Return for how many seconds the oldest waiting job has waited; 0 when none does."""
        oldest = await self._read(self.store.oldest_queued)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

    async def longest_waits(self) -> list[Waiting]:
        """Return for how long each stage has kept its oldest item waiting for a slot."""
        return await self._read(waiting, self.workloads, self.store, self._clock())

    async def ping(self) -> None:
        """Raise Unavailable when the database does not answer or cannot be written to."""
        await self._read(self.store.ping)
        if self.loop.failure is not None:
            raise Unavailable(f"the database could not be written to: {self.loop.failure}")
        if self.peers is not None and not self.loop.leading and self.peers.leader is None:
            raise Unavailable("no server is in charge of the database just now")

    def status(self) -> Status:
        """Return what the engine is doing now; what the server in charge last told, where it is another."""
        if self.peers is not None and not self.loop.leading:
            return status_of(self.peers.leader, self.workloads, self.loop.failure)
        scheduler = self.loop.scheduler
        waiting: dict[str, int] = dict.fromkeys(self.workloads, 0)
        running: dict[str, int] = dict.fromkeys(self.workloads, 0)
        for job in list(scheduler.jobs.values()):
            waiting[job.row.kind] += 0 if job.row.held else job.row.queued
            running[job.row.kind] += job.row.running
        return Status(
            workers=self._executor.workers(),
            slots={name: (scheduler.used[name], number) for name, number in scheduler.slots.items()},
            modes={kind: scheduler.paused.get(kind, "active") for kind in self.workloads},
            paused=[
                PausedStage(kind, stage, breaker.cause or "", breaker.probe_at)
                for (kind, stage), breaker in list(scheduler.breakers.items())
                if breaker.open
            ],
            waiting=waiting,
            running=running,
            failure=self.loop.failure,
            lost=self.loop.outcomes.lost,
            off=dict(self._parts.off),
        )

    def running(self) -> list[RunningItem]:
        """Return what is being worked on, the longest running first."""
        told = self._told("running_items")
        if told is not None:
            return [RunningItem(**row) for row in told]
        return board.running(self.loop.calls, dict(self.loop.outcomes.progress))

    def waiting(self) -> list[WaitingItems]:
        """Return what waits and for what, in the order in which it is served."""
        told = self._told("waiting_items")
        if told is not None:
            return [WaitingItems(**row) for row in told]
        return board.waiting(self.loop.scheduler, self._clock())

    def _told(self, what: str) -> Sequence[Mapping[str, Any]] | None:
        """Return what the server in charge last told of itself; None where that is this one."""
        if self.peers is None or self.loop.leading:
            return None
        found: Sequence[Mapping[str, Any]] = (self.peers.leader or {}).get(what, ())
        return found

    # -- how ----------------------------------------------------------------------------------

    async def command(self, name: str, **arguments: Any) -> Any:
        """Have something done within a transaction: here, or by the server that is in charge."""
        if self.loop.leading or self.peers is None:
            perform = self.commands[name]
            try:
                return await asyncio.wrap_future(
                    self.loop.request(lambda round_: perform(round_, **arguments))
                )
            except LeadershipLost:
                if self.peers is None:
                    raise
        return await self._read_slowly(self.peers.ask, name, arguments)

    def command_now(self, name: str, **arguments: Any) -> Any:
        """Do as ``command`` does, and block; not on an event loop."""
        if self.loop.leading or self.peers is None:
            perform = self.commands[name]
            try:
                return self.loop.request(lambda round_: perform(round_, **arguments)).result()
            except LeadershipLost:
                if self.peers is None:
                    raise
        return self.peers.ask(name, arguments)

    async def _read_slowly(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what may wait for another server, beside the reads that must not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._askers, function, *arguments)

    async def _read(self, function: Callable[..., T], *arguments: Any) -> T:
        read: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)
        return await read

    def _tell_waiters(self, round_: Round, row: JobRow) -> None:
        def tell() -> None:
            with self._waiters_lock:
                waiters = self._waiters.pop(row.id, [])
            for waiter in waiters:
                waiter.set_result(None)

        round_.afterwards.append(tell)

    # -- other servers ------------------------------------------------------------------------

    def _leads(self) -> bool:
        return self.loop.leading

    def _told_status(self) -> dict[str, Any]:
        return {
            **asdict(self.status()),
            "running_items": [asdict(item) for item in self.running()[:_ITEMS_TOLD]],
            "waiting_items": [asdict(item) for item in self.waiting()[:_ITEMS_TOLD]],
        }

    def _deaf(self) -> bool:
        assert self.peers is not None
        return time.monotonic() - self.peers.silent_since > PATIENCE + 1.0

    def _serve(self, round_: Round) -> None:
        """Do what other servers ask for, each in full or not at all, and write the answers down."""
        now = time.monotonic()
        if not self._executor.commands_wait and now - self._served_at < 1.0:
            return
        self._executor.commands_wait = False
        self._served_at = now
        asked = round_.tx.take_commands(_COMMANDS_A_ROUND)
        for command in asked:
            perform = decoded(self.commands, command.name, command.body)
            answer, error = self.loop.answer(round_, perform)
            text = None if error is not None else wire.dumps(answer).decode()
            round_.tx.answer_command(command.seq, text, error_text(error) if error is not None else None)
            round_.tx.notify(ANSWERS, command.id)
        if len(asked) == _COMMANDS_A_ROUND:
            self._executor.commands_wait = True
            self._executor.wake()
        elif not asked:
            round_.tx.drop_commands(_COMMANDS_KEPT)

    def _announce(self, round_: Round) -> None:
        """Tell the other servers, at the commit, what their watchers want to know."""
        assert self.peers is not None
        if not self.peers.others:
            return
        if round_.events:
            named = ",".join({job.id for job, *_ in round_.events})
            round_.tx.notify(EVENTS, named if len(named) < _PAYLOAD else "")
        rows = [[event.job, event.idx, event.at, event.data] for event in round_.live]
        while rows:
            text = wire.dumps(rows[:_LIVE_AT_ONCE]).decode()
            if len(text.encode()) < _PAYLOAD:
                round_.tx.notify(LIVE, text)
            del rows[:_LIVE_AT_ONCE]

    async def _with_live_progress(self, jobs: Sequence[Job]) -> list[Job]:
        live: dict[str, float] = {}
        if self.loop.leading:
            for (job_id, _), (fraction, _) in list(self.loop.outcomes.progress.items()):
                live[job_id] = live.get(job_id, 0.0) + fraction
        else:
            running = [job.id for job in jobs if job.counts.running]
            if running:
                live = await self._read(self.store.live_progress, running)
        found = []
        for job in jobs:
            work = len(job.stages) * max(1, job.counts.total)
            more = live.get(job.id, 0.0)
            found.append(
                replace(job, progress=min(1.0, job.progress + more / work)) if more and work else job
            )
        return found

    def _with_live_item(self, item: Item) -> Item:
        live = self.loop.outcomes.progress.get((item.job, item.idx))
        if live is None or item.state is not State.RUNNING:
            return item
        return replace(item, progress=live[0], phase=live[1])
