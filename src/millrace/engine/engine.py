"""The engine as the rest of Millrace sees it: submit jobs, steer them, read them, watch them.

All methods are coroutines and safe to call from any event loop. What they return was committed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from millrace.engine import board
from millrace.engine.artifacts import ArtifactStore
from millrace.engine.board import RunningItem, WaitingItems
from millrace.engine.events import Feed
from millrace.engine.executors import Executor, WorkerInfo
from millrace.engine.loop import EngineLoop
from millrace.engine.model import Artifact, Event, Item, Job, NewJob, StageRun, State
from millrace.engine.retention import remove_job
from millrace.engine.round import Round
from millrace.engine.scheduler import ActiveJob
from millrace.engine.store import PLAN_STAGE, JobPage, JobQuery, JobRow, KindStats, Record, Store
from millrace.engine.waiting import Waiting, waiting
from millrace.engine.workload import Workload
from millrace.errors import Conflict, InvalidRequest, NotFound, QueueFull, Unavailable

T = TypeVar("T")

Mode = Literal["active", "paused", "draining"]

_READERS = 8


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
    """

    workers: list[WorkerInfo]
    slots: dict[str, tuple[int, int]]
    modes: dict[str, Mode]
    paused: list[PausedStage]
    waiting: dict[str, int]
    running: dict[str, int]
    failure: str | None
    lost: int


class Part(Protocol):
    """Something that runs beside the engine's loop, on threads of its own."""

    def start(self) -> None:
        """Begin; the engine takes requests by now."""
        ...

    def stop(self) -> None:
        """End; the engine still takes requests. Blocks until nothing of it runs any more."""
        ...


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
    ) -> None:
        self.store = store
        self.artifact_store = artifacts
        self.workloads = {workload.kind: workload for workload in workloads}
        self.feed = Feed()
        self._executor = executor
        self._clock = clock
        self.loop = EngineLoop(store, executor, artifacts, self.workloads, self.feed, clock)
        self.loop.outcomes.finished.append(self._tell_waiters)
        self._waiters: dict[str, list[Future[None]]] = {}
        self._waiters_lock = threading.Lock()
        self._parts: list[Part] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="engine-read")

    def attach(self, part: Part) -> None:
        """Have something start and stop with the engine: deliveries, schedules, retention."""
        self._parts.append(part)

    def start(self) -> None:
        """Own the data, recover what an earlier server left, start workers. Blocks until work can be taken.

        Raises:
            Unavailable: another server owns the data, or the database cannot be reached.
        """
        self.store.acquire()
        self.loop.start()
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """Stop at once: what runs is killed and goes on at the next start. Blocks."""
        for part in reversed(self._parts):
            part.stop()
        self.loop.stop()
        self._readers.shutdown(wait=True)
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
        job_id, created = await self._request(lambda round_: self.create(round_, new))
        return await self.job(job_id), created

    def create(self, round_: Round, new: NewJob) -> tuple[str, bool]:
        """Create a job within a transaction of the engine's thread; see ``submit``."""
        stages = self._check(new)
        tx, now = round_.tx, round_.now
        workload = self.workloads[new.kind]
        if new.idempotency is not None:
            known = tx.idempotent(*new.idempotency, new.id, now)
            if known is not None:
                return known, False
        if self.loop.scheduler.paused.get(new.kind) == "draining":
            raise QueueFull(f"{new.kind} is draining: it takes no new jobs for now")
        limit = workload.max_queued_jobs
        if limit is not None and tx.unfinished_jobs(new.kind) >= limit:
            raise QueueFull(f"{new.kind} has {limit} unfinished jobs already, which is its limit")
        row = tx.insert_job(new, stages, now, new.ttl if new.ttl is not None else workload.ttl)
        self.loop.adopt(tx, row)
        round_.event(row, "job.created", total=row.total)
        return row.id, True

    def _check(self, new: NewJob) -> tuple[str, ...]:
        """Return the stages a new job goes through; InvalidRequest where there is nothing to run."""
        workload = self.workload(new.kind)
        if not new.items and not new.plan:
            raise InvalidRequest("a job needs at least one item")
        if new.plan and workload.plan is None:
            raise InvalidRequest(f"{new.kind} jobs have no plan stage; give the items")
        if new.parallelism is not None and new.parallelism < 1:
            raise InvalidRequest(f"parallelism must be at least 1, not {new.parallelism}")
        stages = workload.stage_names(new.options)
        if not stages:
            raise InvalidRequest("the options leave no stage to run")
        return stages

    async def release(
        self, job_id: str, *, parallelism: int | None = None, priority: int | None = None
    ) -> Job:
        """Start a held job. Conflict when it is not held any more."""

        def start(round_: Round) -> None:
            job = self._active(job_id)
            if job is None or not job.row.held:
                raise Conflict(f"job {job_id} was started before")
            job.row.held = False
            self._steer(round_, job.row, parallelism, priority)

        await self._request(start)
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

        def change(round_: Round) -> None:
            job = self._active(job_id)
            row = job.row if job else self._row(round_, job_id)
            if job is None and (priority is not None or parallelism is not None):
                raise Conflict(f"job {job_id} has ended ({row.state}); its priority means nothing any more")
            if meta is not None:
                round_.tx.set_meta(row, meta)
            self._steer(round_, row, parallelism, priority)

        await self._request(change)
        return await self.job(job_id)

    def _steer(self, round_: Round, row: JobRow, parallelism: int | None, priority: int | None) -> None:
        if parallelism is not None:
            row.parallelism = parallelism
        if priority is not None:
            job = self._active(row.id)
            if job is not None:
                self.loop.scheduler.set_priority(job, int(priority))
        round_.event(row, "job.updated", priority=row.priority, parallelism=row.parallelism)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: what waits is dropped, what runs is killed. Returns when nothing of it runs any more.

        A job that has ended is returned unchanged.
        """
        ended: Future[None] = Future()
        with self._waiters_lock:
            self._waiters.setdefault(job_id, []).append(ended)

        def withdraw(round_: Round) -> bool:
            job = self._active(job_id)
            if job is None:
                self._row(round_, job_id)
                return False
            row = job.row
            if not row.cancel_requested:
                row.cancel_requested = True
                round_.event(row, "job.cancel_requested")
                self.loop.kill_job(job_id)
                self.loop.outcomes.end_queued(round_, job, State.CANCELLED, None)
                self.loop.outcomes.settle(round_, row)
            return True

        try:
            if await self._request(withdraw):
                await asyncio.wrap_future(ended)
        finally:
            with self._waiters_lock:
                waiters = self._waiters.get(job_id, [])
                if ended in waiters:
                    waiters.remove(ended)
                if not waiters:
                    self._waiters.pop(job_id, None)
        return await self.job(job_id)

    async def retry(self, job_id: str, idxs: Sequence[int] | None = None) -> Job:
        """Queue the failed items of a job again, at the stage that failed; all of them, or those named.

        Naming items also brings back cancelled ones. Conflict when there is none to try again.
        """

        def again(round_: Round) -> None:
            tx = round_.tx
            job = self._active(job_id)
            row = job.row if job else self._row(round_, job_id)
            if job is None:
                self._check_room(round_, row)
            before = dict(tx.ended_items(row, idxs))
            moved = tx.retry_items(row, idxs, round_.now)
            if not moved:
                raise Conflict(f"job {job_id} has no failed item to try again")
            for idx, stage, size in moved:
                if idx == PLAN_STAGE:
                    row.planning = True
                    continue
                setattr(row, before[idx], getattr(row, before[idx]) - 1)
                row.queued += 1
                row.size_done -= size * (len(row.stages) - stage)
            row.cancel_requested = False
            row.error = None
            row.finished_at = row.expires_at = None
            row.state = State.RUNNING if row.started_at is not None else State.QUEUED
            round_.event(row, "job.updated", retried=len(moved))
            self.loop.scheduler.remove(job_id)
            self.loop.adopt(tx, row)

        await self._request(again)
        return await self.job(job_id)

    def _check_room(self, round_: Round, row: JobRow) -> None:
        limit = self.workload(row.kind).max_queued_jobs
        if limit is not None and round_.tx.unfinished_jobs(row.kind) >= limit:
            raise QueueFull(f"{row.kind} has {limit} unfinished jobs already, which is its limit")
        if row.scope is not None:
            round_.tx.check_scope(row.kind, row.scope, row.seq)

    async def delete(self, job_id: str) -> None:
        """Delete a finished job, with its artifacts and uploads. Conflict while it is unfinished."""
        job = await self.job(job_id)
        if not job.state.final:
            raise Conflict(f"job {job_id} is {job.state}; cancel it before deleting it")
        await self._read(remove_job, self, job_id)

    async def set_mode(self, kind: str, mode: Mode) -> None:
        """Pause a workload (nothing of it starts), drain it (it takes no new jobs), or let it work again."""
        self.workload(kind)

        def change(round_: Round) -> None:
            round_.tx.set_fact(f"workload:{kind}", mode)

            def apply() -> None:
                if mode == "active":
                    self.loop.scheduler.paused.pop(kind, None)
                else:
                    self.loop.scheduler.paused[kind] = mode

            round_.afterwards.append(apply)

        await self._request(change)
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
        return await self._request(lambda round_: round_.tx.put_record(namespace, key, data, round_.now))

    async def delete_records(self, namespace: str, key: str) -> int:
        """Delete the records under a key; return how many there were."""
        return await self._request(lambda round_: round_.tx.delete_records(namespace, key))

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
        return self._with_live_progress(job)

    async def jobs(self, query: JobQuery) -> JobPage:
        """Return a page of jobs, newest first."""
        page = await self._read(self.store.jobs, query)
        return replace(page, jobs=[self._with_live_progress(job) for job in page.jobs])

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

    def status(self) -> Status:
        """Return what the engine is doing now."""
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
        )

    def running(self) -> list[RunningItem]:
        """Return what is being worked on, the longest running first."""
        return board.running(self.loop.calls, dict(self.loop.outcomes.progress))

    def waiting(self) -> list[WaitingItems]:
        """Return what waits and for what, in the order in which it is served."""
        return board.waiting(self.loop.scheduler, self._clock())

    # -- how ----------------------------------------------------------------------------------

    async def _request(self, request: Callable[[Round], T]) -> T:
        result: T = await asyncio.wrap_future(self.loop.request(request))
        return result

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

    def _active(self, job_id: str) -> ActiveJob | None:
        return self.loop.scheduler.jobs.get(job_id)

    def _row(self, round_: Round, job_id: str) -> JobRow:
        row = round_.tx.load_job(job_id)
        if row is None:
            raise NotFound(f"no job {job_id!r}")
        return row

    def _with_live_progress(self, job: Job) -> Job:
        work = len(job.stages) * max(1, job.counts.total)
        live = sum(
            fraction
            for (job_id, _), (fraction, _) in list(self.loop.outcomes.progress.items())
            if job_id == job.id
        )
        if not live or not work:
            return job
        return replace(job, progress=min(1.0, job.progress + live / work))

    def _with_live_item(self, item: Item) -> Item:
        live = self.loop.outcomes.progress.get((item.job, item.idx))
        if live is None or item.state is not State.RUNNING:
            return item
        return replace(item, progress=live[0], phase=live[1])
