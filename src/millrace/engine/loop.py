"""The engine's thread: takes requests and reports, writes them down together, and hands out work.

Each round is one transaction: requests from the API, reports of workers and new claims share one
commit, and only what was committed is acted on, sent to workers or told to anybody. When a commit
fails, what is in memory is read again from the database and the reports are applied anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import orjson

from millrace.engine import lifecycle
from millrace.engine.artifacts import ArtifactStore, Staged
from millrace.engine.events import FINISHED, Feed
from millrace.engine.executors import Added, Call, Done, Ended, Executor, Lost, Progress, Report
from millrace.engine.lifecycle import Position
from millrace.engine.model import Counts, Event, State
from millrace.engine.scheduler import ActiveJob, Pick, Scheduler, load_of
from millrace.engine.store import PLAN_STAGE, Claimed, ItemUpdate, JobRow, Store, Transaction
from millrace.engine.workload import Workload
from millrace.errors import Unavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
_RENEW_SECONDS = 10.0
_PROGRESS_SECONDS = 0.1
_ETA_SECONDS = 0.5
_RETRY_COMMIT_SECONDS = 0.5
_CALLS_A_ROUND = 64

Request = Callable[["Round"], Any]


@dataclass(slots=True)
class Running:
    """A call that was dispatched and has not ended."""

    call: Call
    job: ActiveJob
    stage: int
    open: set[int]
    items: dict[int, Claimed]
    started: float
    deadline: float | None


@dataclass(slots=True)
class Round:
    """What one transaction gathers: rows to write at its end, and what to do after its commit."""

    tx: Transaction
    now: float
    loop: EngineLoop
    dirty: dict[str, JobRow] = field(default_factory=dict)
    events: list[tuple[JobRow, int, str, int | None, dict[str, Any]]] = field(default_factory=list)
    runs: list[tuple[int, int, int, str, str, float, float, str]] = field(default_factory=list)
    calls: list[Running] = field(default_factory=list)
    live: list[Event] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def event(self, job: JobRow, kind: str, idx: int | None = None, **data: Any) -> None:
        """Append an event to a job's log."""
        job.last_event += 1
        self.events.append((job, job.last_event, kind, idx, data))
        self.dirty[job.id] = job

    def touch(self, job: JobRow) -> None:
        """Have a job's row written at the end."""
        self.dirty[job.id] = job


class EngineLoop:
    """The thread that owns the scheduler, the executor and all writes.

    ``finished`` is called within the transaction that ends a job, with the round and its row.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        artifacts: ArtifactStore,
        workloads: Mapping[str, Workload],
        feed: Feed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.executor = executor
        self.artifacts = artifacts
        self.workloads = workloads
        self.feed = feed
        self.clock = clock
        self.scheduler = Scheduler(executor.slots)
        self.finished: list[Callable[[Round, JobRow], None]] = []
        self.calls: dict[int, Running] = {}
        self.progress: dict[tuple[str, int], tuple[float, str]] = {}
        self.failure: str | None = None
        self.rounds = 0
        self.lost = 0
        self._inbox: deque[tuple[Request, Future[Any]]] = deque()
        self._progress_rows: dict[tuple[int, int], tuple[float, str, float, int, int, int]] = {}
        self._progress_at = 0.0
        self._renew_at = 0.0
        self._lease = 0
        self._stopping = threading.Event()
        self._accepting = True
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._ready: Future[None] = Future()

    # -- from other threads -------------------------------------------------------------------

    def start(self) -> None:
        """Recover what an earlier server left and begin; returns when work can be taken."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Kill what runs and end; running items go back to their queues."""
        self._stopping.set()
        self.executor.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def request(self, request: Request) -> Future[Any]:
        """Have a function run inside the next transaction; its future resolves after the commit."""
        future: Future[Any] = Future()
        if not self._accepting:
            future.set_exception(Unavailable("the engine is stopping"))
            return future
        self._inbox.append((request, future))
        self.executor.wake()
        return future

    # -- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.executor.start()
            self._recover()
        except BaseException as error:  # noqa: BLE001 - told to whoever starts the engine
            self._ready.set_exception(error)
            self.executor.stop()
            return
        self._ready.set_result(None)
        reports: list[Report] = []
        requests: list[tuple[Request, Future[Any]]] = []
        while not self._stopping.is_set():
            timeout = 0.0 if self._inbox or requests else self._timeout()
            reports += self.executor.poll(timeout)
            while self._inbox:
                requests.append(self._inbox.popleft())
            try:
                self._round(reports, requests)
            except Exception as error:  # noqa: BLE001 - logged there, and told to whoever asked
                self._undo(reports, requests, error)
            else:
                reports = []
            requests = []
        self._shut_down(reports)

    def _timeout(self) -> float | None:
        now = self.clock()
        times = [running.deadline for running in self.calls.values() if running.deadline is not None]
        if self.calls:
            times.append(self._renew_at)
        if self._progress_rows:
            times.append(self._progress_at + _PROGRESS_SECONDS)
        wake = self.scheduler.next_wake(now)
        if wake is not None:
            times.append(wake)
        return max(0.0, min(times) - now) if times else None

    def _recover(self) -> None:
        with self.store.begin() as tx:
            epoch = int(tx.fact("lease_epoch") or 0) + 1
            tx.set_fact("lease_epoch", str(epoch))
            self._lease = epoch << 32
            round_ = Round(tx, self.clock(), self)
            tx.requeue_running(round_.now)
            self._load(tx)
            for kind in self.workloads:
                mode = tx.fact(f"workload:{kind}")
                if mode in ("paused", "draining"):
                    self.scheduler.paused[kind] = mode  # type: ignore[assignment]
            for job in list(self.scheduler.jobs.values()):
                if job.workload.on_restart == "fail" and not job.row.held:
                    self._interrupt(round_, job)
                self._settle(round_, job.row)
            self._write(round_)
        self.artifacts.discard("staging")
        log.info("took up %d unfinished jobs", len(self.scheduler.jobs))

    def _load(self, tx: Transaction) -> None:
        self.scheduler.clear()
        for row in tx.active_jobs():
            job = self.adopt(tx, row)
            if job is None:
                log.error("job %s waits: its workload %r is not installed", row.id, row.kind)

    def adopt(self, tx: Transaction, row: JobRow) -> ActiveJob | None:
        """Take a job into the scheduler as the database has it; None when its workload is unknown."""
        workload = self.workloads.get(row.kind)
        if workload is None:
            return None
        job = ActiveJob(row, workload, tuple(workload.stage(name) for name in row.stages))
        load_of(job, tx.stage_counts(row))
        for index, load in job.loads.items():
            if load.queued:
                load.wake = tx.next_available(row, index) or 0.0
        for running in self.calls.values():
            if running.call.job == row.id:
                running.job = job
        self.scheduler.add(job)
        return job

    def _interrupt(self, round_: Round, job: ActiveJob) -> None:
        error = orjson.dumps(
            {
                "code": "interrupted",
                "message": "the server was restarted while this was unfinished",
                "details": {},
            }
        ).decode()
        self.end_queued(round_, job, State.FAILED, error)
        job.row.error = error

    def _round(self, reports: list[Report], requests: list[tuple[Request, Future[Any]]]) -> None:
        now = self.clock()
        self.rounds += 1
        self._kill_overdue(now)
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        ended: list[int] = []
        with self.store.begin() as tx:
            round_ = Round(tx, now, self)
            for request, future in requests:
                answers.append((future, *self._answer(round_, request)))
            if reports:
                self._take_reports(round_, reports, ended)
            self._dispatch(round_)
            self._renew(round_)
            self._write(round_)
        self.failure = None
        for lease in ended:
            self.calls.pop(lease, None)
            self.executor.forget(lease)
        for running in round_.calls:
            self.calls[running.call.lease] = running
            self.executor.submit(running.call)
        self._publish(round_)
        for action in round_.afterwards:
            action()
        for future, result, error in answers:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _answer(self, round_: Round, request: Request) -> tuple[Any, BaseException | None]:
        marks = (len(round_.events), len(round_.afterwards))
        try:
            with round_.tx.savepoint():
                return request(round_), None
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            for row, *_ in round_.events[marks[0] :]:
                row.last_event -= 1
            del round_.events[marks[0] :], round_.afterwards[marks[1] :]
            return None, error

    def _undo(
        self, reports: list[Report], requests: list[tuple[Request, Future[Any]]], error: Exception
    ) -> None:
        """A round could not be committed: take up what the database has, and keep the reports."""
        if self.failure is None:
            log.exception("a round could not be written; nothing of it happened, it is tried again")
        self.failure = f"{type(error).__name__}: {error}"
        for _, future in requests:
            if not future.done():
                future.set_exception(Unavailable(f"the database could not write: {error}"))
        for report in reports:
            if isinstance(report, Done) and report.lease in self.calls:
                self.calls[report.lease].open.add(report.idx)
        self._stopping.wait(_RETRY_COMMIT_SECONDS)
        try:
            with self.store.begin() as tx:
                self._load(tx)
        except Exception:
            log.exception("the database cannot be read")
            return
        self.scheduler.used.clear()
        for running in self.calls.values():
            self.scheduler.used[running.call.stage.resource] += running.call.slots

    def _write(self, round_: Round) -> None:
        tx, now = round_.tx, round_.now
        if round_.runs:
            tx.insert_runs(round_.runs)
        if self._progress_rows and now - self._progress_at >= _PROGRESS_SECONDS:
            tx.progress(list(self._progress_rows.values()))
            self._progress_rows.clear()
            self._progress_at = now
        if round_.events:
            tx.insert_events(
                [
                    (job.seq, seq, now, kind, idx, orjson.dumps(data).decode() if data else "{}")
                    for job, seq, kind, idx, data in round_.events
                ]
            )
        if round_.dirty:
            for row in round_.dirty.values():
                job = self.scheduler.jobs.get(row.id)
                if job is not None and now - job.eta_checked >= _ETA_SECONDS:
                    job.eta_checked = now
                    row.eta_at = self.scheduler.eta(job, now)
                row.updated_at = now
            tx.save_jobs(round_.dirty.values())

    def _publish(self, round_: Round) -> None:
        self.feed.publish(round_.live)
        if round_.events:
            self.feed.publish(
                Event(job.id, seq, round_.now, kind, idx, data)
                for job, seq, kind, idx, data in round_.events
                if self.feed.watched(job.id)
            )

    # -- reports ------------------------------------------------------------------------------

    def _take_reports(self, round_: Round, reports: list[Report], ended: list[int]) -> None:
        done: list[Done] = []
        for report in reports:
            if isinstance(report, Done):
                done.append(report)
            elif isinstance(report, Progress):
                self._take_progress(round_, report)
            else:
                self._finish_items(round_, done)
                done = []
                if isinstance(report, Added):
                    self._take_added(round_, report)
                else:
                    self._end_call(round_, report, ended)
        self._finish_items(round_, done)

    def _take_progress(self, round_: Round, report: Progress) -> None:
        running = self.calls.get(report.lease)
        if running is None or report.idx not in running.open:
            return
        job = running.job.row
        self.progress[job.id, report.idx] = (report.fraction, report.phase)
        self._progress_rows[job.seq, report.idx] = (
            report.fraction,
            report.phase,
            round_.now,
            job.seq,
            report.idx,
            report.lease,
        )
        data = {"fraction": report.fraction, "phase": report.phase, "stage": running.call.stage.name}
        round_.live.append(Event(job.id, 0, round_.now, "item.progress", report.idx, data))

    def _take_added(self, round_: Round, report: Added) -> None:
        running = self.calls.get(report.lease)
        if running is None or running.stage != PLAN_STAGE or running.job.row.cancel_requested:
            return
        job = running.job
        number, size = round_.tx.insert_items(job.row, report.items)
        if number:
            load = job.loads[0]
            load.wake = 0.0
            load.queued += number
            load.size += size
            round_.event(job.row, "items.added", number=number, total=job.row.total)

    def _finish_items(self, round_: Round, done: list[Done]) -> None:
        """Write the ends of attempts, publish their artifacts, count, and tell."""
        updates: list[ItemUpdate] = []
        applied: list[tuple[Running, Done, Claimed, Position]] = []
        for report in done:
            running = self.calls.get(report.lease)
            if running is None or report.idx not in running.open:
                self._discard(round_, report.artifacts)
                continue
            running.open.discard(report.idx)
            if running.deadline is not None and running.call.stage.timeout is not None:
                running.deadline = round_.now + running.call.stage.timeout
            item = running.items[report.idx]
            position = self._position_after(round_, running, item, report)
            updates.append(self._update(round_, running, item, position, report.results, report.error))
            applied.append((running, report, item, position))
        for ok, (running, report, item, position) in zip(round_.tx.finish(updates), applied, strict=True):
            if not ok:
                log.warning("job %s item %d: a stale result was dropped", running.call.job, item.idx)
                self._discard(round_, report.artifacts)
                continue
            if running.job.row.cancel_requested:
                self._discard(round_, report.artifacts)
            else:
                self._publish_artifacts(round_, running, item, report.artifacts)
            self.scheduler.learn(
                running.call.kind, running.call.stage.name, report.finished_at - report.started_at, item.size
            )
            outcome: str = report.verdict
            if position.state is State.CANCELLED:
                outcome = "cancelled"
            elif report.verdict == "failed" and position.state is State.QUEUED:
                outcome = "retried"
            self._moved(
                round_, running, item, position, outcome, report.started_at, report.finished_at, report.error
            )
            self._tell_breaker(round_, running, report)

    def _position_after(self, round_: Round, running: Running, item: Claimed, report: Done) -> Position:
        position = Position(State.RUNNING, running.stage, item.tries, item.losses)
        if running.job.row.cancel_requested:
            return lifecycle.cancel(position)
        if running.stage == PLAN_STAGE and report.verdict != "failed":
            return lifecycle.succeed(position, 0)
        if report.verdict == "succeeded":
            return lifecycle.succeed(position, len(running.job.stages))
        if report.verdict == "skipped":
            return lifecycle.skip(position)
        retryable = bool(report.error and report.error["retryable"])
        return lifecycle.fail(position, retryable=retryable, retry=running.call.stage.retry, now=round_.now)

    def _update(
        self,
        round_: Round,
        running: Running,
        item: Claimed,
        position: Position,
        results: str | None,
        error: Mapping[str, Any] | None,
    ) -> ItemUpdate:
        final = position.state.final
        return (
            position.state.value,
            position.stage,
            position.tries,
            position.losses,
            position.available_at,
            results,
            _error_text(error, running.call.stage.name) if error else None,
            round_.now,
            round_.now if final else None,
            running.job.row.seq,
            item.idx,
            running.call.lease,
        )

    def _moved(
        self,
        round_: Round,
        running: Running,
        item: Claimed,
        position: Position,
        outcome: str,
        started: float,
        finished: float,
        error: Mapping[str, Any] | None,
    ) -> None:
        """Count an item that left the running state, and log it."""
        job, row, stage = running.job, running.job.row, running.call.stage.name
        self.progress.pop((row.id, item.idx), None)
        self._progress_rows.pop((row.seq, item.idx), None)
        round_.touch(row)
        round_.runs.append(
            (
                row.seq,
                item.idx,
                item.attempt,
                stage,
                outcome,
                started,
                finished,
                self.executor.worker_of(running.call.lease),
            )
        )
        load = job.loads[running.stage]
        load.running -= 1
        load.size -= item.size
        if running.stage == PLAN_STAGE:
            self._plan_moved(round_, running, position, error)
            return
        row.running -= 1
        if position.state is State.QUEUED:
            row.queued += 1
            job.queued_again(position.stage, item.size, position.available_at)
            if position.stage > running.stage:
                row.size_done += item.size
                round_.event(
                    row, "stage.finished", item.idx, stage=stage, seconds=round(finished - started, 6)
                )
            else:
                data: dict[str, Any] = {
                    "stage": stage,
                    "outcome": outcome,
                    "available_at": position.available_at,
                }
                if error:
                    data["error"] = _public_error(error, stage)
                round_.event(row, "item.requeued", item.idx, **data)
            return
        row.size_done += item.size * (len(job.stages) - running.stage)
        setattr(row, position.state.value, getattr(row, position.state.value) + 1)
        if error:
            round_.event(
                row, "item.finished", item.idx, state=position.state.value, error=_public_error(error, stage)
            )
        else:
            round_.event(row, "item.finished", item.idx, state=position.state.value)
        if not (row.queued or row.running):
            self._settle(round_, row)

    def _plan_moved(
        self, round_: Round, running: Running, position: Position, error: Mapping[str, Any] | None
    ) -> None:
        row = running.job.row
        if position.state is State.QUEUED:
            running.job.queued_again(PLAN_STAGE, 0.0, position.available_at)
            return
        row.planning = False
        if position.state is State.FAILED:
            row.error = _error_text(error or {}, running.call.stage.name)
        round_.event(row, "job.planned", total=row.total)
        self._settle(round_, row)

    def _publish_artifacts(
        self, round_: Round, running: Running, item: Claimed, artifacts: list[Staged]
    ) -> None:
        if not artifacts:
            return
        row, template = running.job.row, running.job.workload.artifact_key
        rows = []
        for artifact in artifacts:
            key = template.format(job=row.id, idx=item.idx, uid=item.uid, name=artifact.name)
            self.artifacts.publish(artifact.staged, key)
            rows.append(
                (
                    row.seq,
                    item.idx,
                    artifact.name,
                    running.call.stage.name,
                    artifact.bytes,
                    artifact.sha256,
                    artifact.media_type,
                    key,
                    round_.now,
                )
            )
            round_.event(row, "artifact.ready", item.idx, name=artifact.name, bytes=artifact.bytes)
        round_.tx.insert_artifacts(rows)

    def _discard(self, round_: Round, artifacts: list[Staged]) -> None:
        for artifact in artifacts:
            round_.afterwards.append(lambda key=artifact.staged: self.artifacts.discard(key))  # type: ignore[misc]

    def _tell_breaker(self, round_: Round, running: Running, report: Done) -> None:
        stage = (running.call.kind, running.call.stage.name)
        if report.verdict == "failed":
            error = report.error or {}
            if not error.get("backend"):
                return
            breaker = self.scheduler.breakers[stage]
            if breaker.failed(f"{error['code']}: {error['message']}", running.call.lease, round_.now):
                log.error(
                    "stage %s of %s is paused: three failures in a row: %s", stage[1], stage[0], breaker.cause
                )
                self._tell_kind(round_, "stage.paused", stage, cause=breaker.cause, probe_at=breaker.probe_at)
        elif stage in self.scheduler.breakers and self.scheduler.breakers[stage].succeeded():
            log.info("stage %s of %s goes on: its probe succeeded", stage[1], stage[0])
            self._tell_kind(round_, "stage.resumed", stage)

    def _tell_kind(self, round_: Round, event: str, stage: tuple[str, str], **data: Any) -> None:
        for job in self.scheduler.jobs.values():
            if job.row.kind == stage[0] and stage[1] in job.row.stages:
                round_.event(job.row, event, None, stage=stage[1], **data)

    def _end_call(self, round_: Round, report: Ended | Lost, ended: list[int]) -> None:
        running = self.calls.get(report.lease)
        if running is None or report.lease in ended:
            return
        ended.append(report.lease)
        self.scheduler.freed(running.call.stage.resource, running.call.slots)
        if isinstance(report, Lost):
            self.lost += report.blame
            round_.afterwards.append(lambda: self.artifacts.discard(f"staging/{report.lease}"))
        if running.open:
            self._requeue_open(round_, running, report)
        breaker = self.scheduler.breakers.get((running.call.kind, running.call.stage.name))
        if breaker is not None:
            breaker.abandoned(report.lease)

    def _requeue_open(self, round_: Round, running: Running, report: Ended | Lost) -> None:
        """Items not finished when their call ended: cancelled, overdue, or lost with their worker."""
        reason = (
            report.reason if isinstance(report, Lost) else "its worker ended the call without a word on it"
        )
        overdue = reason == _OVERDUE
        alone = len(running.open) == 1
        moves: list[tuple[Claimed, Position, str, dict[str, Any] | None]] = []
        for idx in sorted(running.open):
            item = running.items[idx]
            position = Position(State.RUNNING, running.stage, item.tries, item.losses)
            error: dict[str, Any] | None = None
            if running.job.row.cancel_requested:
                position, outcome = lifecycle.cancel(position), "cancelled"
            elif overdue and alone:
                position = lifecycle.fail(
                    position, retryable=False, retry=running.call.stage.retry, now=round_.now
                )
                outcome = "timeout"
                error = _engine_error(
                    "timeout", f"the stage took longer than {running.call.stage.timeout:g} s"
                )
            else:
                blame = isinstance(report, Lost) and (report.blame or overdue)
                position, outcome = lifecycle.lose(position, blame=blame), "lost"
                if position.state is State.FAILED:
                    error = _engine_error(
                        "worker_lost",
                        f"its worker died {position.losses} times while running it; the last: {reason}",
                    )
            moves.append((item, position, outcome, error))
        updates = [
            self._update(round_, running, item, position, None, error) for item, position, _, error in moves
        ]
        for ok, (item, position, outcome, error) in zip(round_.tx.finish(updates), moves, strict=True):
            if ok:
                self._moved(round_, running, item, position, outcome, running.started, round_.now, error)
        running.open.clear()

    # -- jobs ---------------------------------------------------------------------------------

    def _settle(self, round_: Round, row: JobRow) -> None:
        """End a job that has nothing left to do."""
        workload = self.workloads[row.kind]
        counts = Counts(
            row.total, row.queued, row.running, row.succeeded, row.skipped, row.failed, row.cancelled
        )
        state = lifecycle.job_state(
            counts,
            planning=row.planning,
            cancelled=row.cancel_requested,
            started=row.started_at is not None,
            fails_when=workload.fails_when,
        )
        if state.final and row.error is not None and not row.cancel_requested:
            state = State.FAILED
        if state is row.state:
            return
        row.state = state
        round_.touch(row)
        if not state.final:
            return
        row.finished_at = round_.now
        row.eta_at = None
        row.expires_at = None if row.ttl is None else round_.now + row.ttl
        data = {"state": state.value, "total": row.total, "succeeded": row.succeeded, "skipped": row.skipped}
        round_.event(row, FINISHED, None, **data, failed=row.failed, cancelled=row.cancelled)
        self.scheduler.remove(row.id)
        for hook in self.finished:
            hook(round_, row)

    def settle(self, round_: Round, row: JobRow) -> None:
        """End a job if nothing of it is left; for requests."""
        self._settle(round_, row)

    def end_queued(self, round_: Round, job: ActiveJob, state: State, error: str | None) -> None:
        """End all items that wait, in that state."""
        row = job.row
        loaded = orjson.loads(error) if error else None
        for idx, _ in round_.tx.cancel_items(row, round_.now, error, state):
            if idx == PLAN_STAGE:
                row.planning = False
                continue
            row.queued -= 1
            setattr(row, state.value, getattr(row, state.value) + 1)
            if loaded:
                round_.event(row, "item.finished", idx, state=state.value, error=loaded)
            else:
                round_.event(row, "item.finished", idx, state=state.value)
        for load in job.loads.values():
            if not load.running:
                load.size = 0.0
            load.queued = 0
        round_.touch(row)

    # -- dispatch -----------------------------------------------------------------------------

    def _dispatch(self, round_: Round) -> None:
        while len(round_.calls) < _CALLS_A_ROUND and not self._stopping.is_set():
            pick = self.scheduler.pick(round_.now)
            if pick is None:
                return
            self._claim(round_, pick)

    def _claim(self, round_: Round, pick: Pick) -> None:
        job, row = pick.job, pick.job.row
        self._lease += 1
        items = round_.tx.claim(
            row, pick.stage, self._lease, round_.now + LEASE_SECONDS, round_.now, pick.limit
        )
        if not items:
            # All that is queued waits for its time; without this the pick would come again at once.
            wake = round_.tx.next_available(row, pick.stage)
            load = job.loads[pick.stage]
            if wake is None:
                log.error("job %s: %d items counted as queued are not there", row.id, load.queued)
                load.queued = 0
            else:
                load.wake = max(wake, round_.now + 0.001)
            return
        self.scheduler.taken(pick, len(items))
        stage = job.stage(pick.stage)
        artifacts = round_.tx.artifact_keys(row, [item.idx for item in items]) if pick.stage > 0 else {}
        call = Call(self._lease, row.id, row.kind, stage, row.options, row.meta, items, pick.slots, artifacts)
        running = Running(
            call,
            job,
            pick.stage,
            {item.idx for item in items},
            {item.idx: item for item in items},
            round_.now,
            None if stage.timeout is None else round_.now + stage.timeout,
        )
        round_.calls.append(running)
        if row.started_at is None:
            row.started_at = round_.now
            round_.event(row, "job.started")
        if row.state is State.QUEUED:
            row.state = State.RUNNING
        breaker = self.scheduler.breakers.get((row.kind, stage.name))
        if breaker is not None:
            breaker.started(self._lease)
        if pick.stage != PLAN_STAGE:
            for item in items:
                round_.event(row, "item.started", item.idx, stage=stage.name, attempt=item.attempt)
        round_.touch(row)

    def _kill_overdue(self, now: float) -> None:
        for lease, running in self.calls.items():
            if running.deadline is not None and now >= running.deadline:
                self.executor.kill(lease, _OVERDUE)

    def kill_job(self, job_id: str) -> None:
        """Kill whatever of a job runs now."""
        for lease, running in self.calls.items():
            if running.call.job == job_id:
                self.executor.kill(lease, "cancelled")

    def _renew(self, round_: Round) -> None:
        if round_.now >= self._renew_at:
            self._renew_at = round_.now + _RENEW_SECONDS
            round_.tx.renew(list(self.calls), round_.now + LEASE_SECONDS)

    def _shut_down(self, reports: list[Report]) -> None:
        """Write down what was still reported; what runs is killed and goes on at the next start."""
        self._accepting = False
        try:
            with self.store.begin() as tx:
                round_ = Round(tx, self.clock(), self)
                self._take_reports(round_, list(reports), [])
                self._write(round_)
            for action in round_.afterwards:
                action()
        except Exception:
            log.exception("the last reports could not be written; their items run again at the next start")
        self.executor.stop()
        while self._inbox:
            self._inbox.popleft()[1].set_exception(Unavailable("the engine is stopping"))


_OVERDUE = "it took too long"


def _engine_error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "details": {}}


def _public_error(error: Mapping[str, Any], stage: str) -> dict[str, Any]:
    return {
        "code": error.get("code", "error"),
        "message": error.get("message", ""),
        "details": error.get("details", {}),
        "stage": stage,
    }


def _error_text(error: Mapping[str, Any], stage: str) -> str:
    return orjson.dumps(_public_error(error, stage)).decode()
