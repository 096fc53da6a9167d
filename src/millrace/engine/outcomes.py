"""What becomes of items and jobs: worker reports turned into states, counts, artifacts and events.

Everything here happens within a round's transaction; whether a report still holds is decided by
its lease in the database, never by what is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from millrace.engine import lifecycle
from millrace.engine.artifacts import ArtifactStore
from millrace.engine.events import FINISHED
from millrace.engine.executors import OVERDUE, RECALLED, Added, Done, Ended, Executor, Lost, Progress, Report
from millrace.engine.lifecycle import Position
from millrace.engine.model import Counts, Event, State
from millrace.engine.publishing import Publishing
from millrace.engine.round import Round, Running
from millrace.engine.scheduler import ActiveJob, Scheduler
from millrace.engine.store import PLAN_STAGE, Claimed, ItemUpdate, JobRow
from millrace.engine.workload import Workload

log = logging.getLogger(__name__)

ProgressRow = tuple[float, str, float, int, int, int]


class Outcomes:
    """Applies reports.

    calls       lease → call under way; shared with the loop.
    publishing  what becomes of the attempts' files.
    progress    (job, idx) → live fraction and phase of what runs.
    unstored    progress that is not in the database yet.
    finished    called within the transaction that ends a job, with the round and its row.
    attempts    called at the end of every attempt, with (kind, stage, outcome, seconds); must be quick.
    lost        workers that died while running something.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        artifacts: ArtifactStore,
        workloads: Mapping[str, Workload],
        calls: dict[int, Running],
    ) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self.publishing = Publishing(artifacts, calls)
        self.workloads = workloads
        self.calls = calls
        self.progress: dict[tuple[str, int], tuple[float, str]] = {}
        self.unstored: dict[tuple[int, int], ProgressRow] = {}
        self.finished: list[Callable[[Round, JobRow], None]] = []
        self.attempts: list[Callable[[str, str, str, float], None]] = []
        self.lost = 0
        self._just_paused: set[tuple[str, str]] = set()

    def take(self, round_: Round, reports: list[Report], ended: list[int]) -> None:
        """Apply what workers reported; leases of calls that are over are added to ``ended``."""
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
        self.publishing.publish(round_)
        if self._just_paused:
            self.recall(
                round_,
                [
                    lease
                    for lease, running in self.calls.items()
                    if (running.call.kind, running.call.stage.name) in self._just_paused
                ],
                ended,
            )
            self._just_paused.clear()

    def recall(self, round_: Round, leases: Sequence[int], ended: list[int]) -> bool:
        """Take back calls that nobody has begun: their items wait again. Return whether there were any."""
        over = set(ended)
        recalled = self.executor.recall(round_.tx, [lease for lease in leases if lease not in over])
        for lease in recalled:
            self._end_call(round_, Lost(lease, RECALLED, blame=False), ended)
        return bool(recalled)

    def _take_progress(self, round_: Round, report: Progress) -> None:
        running = self.calls.get(report.lease)
        if running is None or report.idx not in running.open:
            return
        job = running.job.row
        self.progress[job.id, report.idx] = (report.fraction, report.phase)
        self.unstored[job.seq, report.idx] = (
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
            job.enqueue(0, number, size)
            round_.event(job.row, "items.added", number=number, total=job.row.total)

    def _finish_items(self, round_: Round, done: list[Done]) -> None:
        """Write the ends of attempts, note their artifacts, count, and tell."""
        updates: list[ItemUpdate] = []
        applied: list[tuple[Running, Done, Claimed, Position]] = []
        for report in map(self.publishing.whole, done):
            running = self.calls.get(report.lease)
            if running is None or report.idx not in running.open:
                self.publishing.discard(round_, report.artifacts)
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
                self.publishing.discard(round_, report.artifacts)
                continue
            if running.job.row.cancel_requested:
                self.publishing.discard(round_, report.artifacts)
            else:
                self.publishing.note(round_, running, item, report.artifacts)
            seconds = report.finished_at - report.started_at
            self.scheduler.learn(
                running.call.kind, running.call.stage.name, seconds, item.size, report.staging
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
        self.unstored.pop((row.seq, item.idx), None)
        round_.touch(row)
        if outcome != "recalled":
            worker = self.executor.worker_of(running.call.lease)
            round_.runs.append((row.seq, item.idx, item.attempt, stage, outcome, started, finished, worker))
            for tell in self.attempts:
                tell(row.kind, stage, outcome, finished - started)
        job.leave(running.stage, item.size)
        if running.stage == PLAN_STAGE:
            self._plan_moved(round_, running, position, error)
            return
        row.running -= 1
        if position.state is State.QUEUED:
            row.queued += 1
            job.enqueue(position.stage, 1, item.size, position.available_at)
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
            self.settle(round_, row)

    def _plan_moved(
        self, round_: Round, running: Running, position: Position, error: Mapping[str, Any] | None
    ) -> None:
        row = running.job.row
        if position.state is State.QUEUED:
            running.job.enqueue(PLAN_STAGE, 1, 0.0, position.available_at)
            return
        row.planning = False
        if position.state is State.FAILED:
            row.error = _error_text(error or {}, running.call.stage.name)
        round_.event(row, "job.planned", total=row.total)
        self.settle(round_, row)

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
                self._just_paused.add(stage)
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
        self.scheduler.occupy(running.call.kind, running.call.stage, -running.call.slots)
        if isinstance(report, Lost):
            self.lost += report.blame
            round_.afterwards.append(lambda: self.publishing.lose(report.lease))
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
        overdue = reason == OVERDUE
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
                position = lifecycle.lose(position, blame=blame)
                outcome = "recalled" if reason == RECALLED else "lost"
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

    def settle(self, round_: Round, row: JobRow) -> None:
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

    def end_queued(self, round_: Round, job: ActiveJob, state: State, error: str | None) -> None:
        """End all items that wait, in that state."""
        row = job.row
        ended = []
        for idx in round_.tx.end_queued(row, round_.now, error, state):
            if idx == PLAN_STAGE:
                row.planning = False
            else:
                ended.append(idx)
        if ended:
            row.queued -= len(ended)
            setattr(row, state.value, getattr(row, state.value) + len(ended))
            data: dict[str, Any] = {"state": state.value, "ranges": _ranges(ended)}
            if error:
                data["error"] = orjson.loads(error)
            # One event for all of them: a hundred thousand would hold up every other job.
            round_.event(row, "items.finished", None, **data)
        job.withdraw_queued()
        round_.touch(row)


def _ranges(idxs: list[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as inclusive (first, last) ranges."""
    ranges: list[tuple[int, int]] = []
    for idx in idxs:
        if ranges and ranges[-1][1] == idx - 1:
            ranges[-1] = (ranges[-1][0], idx)
        else:
            ranges.append((idx, idx))
    return ranges


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
