"""What changes jobs: each a function within a round of the server in charge.

A server that is not in charge sends the same by name, with its arguments as JSON; so both are plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.round import Round
from millrace.engine.scheduler import ActiveJob
from millrace.engine.store import PLAN_STAGE, JobRow
from millrace.errors import Conflict, InvalidRequest, NotFound, QueueFull

if TYPE_CHECKING:
    from millrace.engine.engine import Engine

_ROWS_A_BATCH = 2000

Perform = Callable[[Round], Any]


def engine_commands(engine: Engine) -> dict[str, Callable[..., Any]]:
    """Return the engine's own commands by name; its parts add theirs."""
    functions = (
        *(create, release, update, cancel, retry, set_mode, put_record, delete_records),
        *(check_over, delete_rows),
    )
    return {function.__name__: partial(function, engine) for function in functions}


def decoded(commands: Mapping[str, Callable[..., Any]], name: str, body: str) -> Perform:
    """Return what a command that came as text does within a round."""

    def perform(round_: Round) -> Any:
        arguments = orjson.loads(body)
        if name not in commands:
            raise InvalidRequest(f"the server in charge knows no command {name!r}; is it an older one?")
        return commands[name](round_, **arguments)

    return perform


def _new_job(given: NewJob | Mapping[str, Any]) -> NewJob:
    if isinstance(given, NewJob):
        return given
    found = dict(given)
    found["items"] = [NewItem(**item) for item in found["items"]]
    if found["idempotency"] is not None:
        found["idempotency"] = tuple(found["idempotency"])
    return NewJob(**found)


def create(engine: Engine, round_: Round, new: NewJob | Mapping[str, Any]) -> tuple[str, bool]:
    """Create a job; return its id and whether it is new. See ``Engine.submit``."""
    new = _new_job(new)
    stages = _check(engine, new)
    tx, now = round_.tx, round_.now
    workload = engine.workloads[new.kind]
    if new.idempotency is not None:
        known = tx.idempotent(*new.idempotency, new.id, now)
        if known is not None:
            return known, False
    if engine.loop.scheduler.paused.get(new.kind) == "draining":
        raise QueueFull(f"{new.kind} is draining: it takes no new jobs for now")
    limit = workload.max_queued_jobs
    if limit is not None and tx.unfinished_jobs(new.kind) >= limit:
        raise QueueFull(f"{new.kind} has {limit} unfinished jobs already, which is its limit")
    row = tx.insert_job(new, stages, now, new.ttl if new.ttl is not None else workload.ttl)
    engine.loop.recovery.adopt(tx, row)
    round_.event(row, "job.created", total=row.total)
    return row.id, True


def _check(engine: Engine, new: NewJob) -> tuple[str, ...]:
    """Return the stages a new job goes through; InvalidRequest where there is nothing to run."""
    workload = engine.workload(new.kind)
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


def release(
    engine: Engine, round_: Round, job_id: str, parallelism: int | None, priority: int | None
) -> None:
    """Start a held job. See ``Engine.release``."""
    job = _active(engine, job_id)
    if job is None or not job.row.held:
        raise Conflict(f"job {job_id} was started before")
    job.row.held = False
    _steer(engine, round_, job.row, parallelism, priority)


def update(
    engine: Engine,
    round_: Round,
    job_id: str,
    priority: int | None,
    parallelism: int | None,
    meta: Mapping[str, Any] | None,
) -> None:
    """Change a job. See ``Engine.update``."""
    job = _active(engine, job_id)
    row = job.row if job else _row(round_, job_id)
    if job is None and (priority is not None or parallelism is not None):
        raise Conflict(f"job {job_id} has ended ({row.state}); its priority means nothing any more")
    if meta is not None:
        round_.tx.set_meta(row, meta)
    _steer(engine, round_, row, parallelism, priority)


def _steer(engine: Engine, round_: Round, row: JobRow, parallelism: int | None, priority: int | None) -> None:
    if parallelism is not None:
        row.parallelism = parallelism
    if priority is not None:
        job = _active(engine, row.id)
        if job is not None:
            engine.loop.scheduler.set_priority(job, int(priority))
    round_.event(row, "job.updated", priority=row.priority, parallelism=row.parallelism)


def cancel(engine: Engine, round_: Round, job_id: str) -> bool:
    """Drop what waits of a job and kill what runs; whether there is an end to wait for."""
    loop = engine.loop
    job = _active(engine, job_id)
    if job is None:
        _row(round_, job_id)
        return False
    row = job.row
    if not row.cancel_requested:
        row.cancel_requested = True
        round_.event(row, "job.cancel_requested")
        loop.kill_job(job_id)
        loop.outcomes.end_queued(round_, job, State.CANCELLED, None)
        loop.outcomes.settle(round_, row)
    return True


def retry(engine: Engine, round_: Round, job_id: str, idxs: Sequence[int] | None) -> None:
    """Queue failed items again. See ``Engine.retry``."""
    tx = round_.tx
    job = _active(engine, job_id)
    row = job.row if job else _row(round_, job_id)
    if job is None:
        _check_room(engine, round_, row)
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
    engine.loop.scheduler.remove(job_id)
    engine.loop.recovery.adopt(tx, row)


def _check_room(engine: Engine, round_: Round, row: JobRow) -> None:
    limit = engine.workload(row.kind).max_queued_jobs
    if limit is not None and round_.tx.unfinished_jobs(row.kind) >= limit:
        raise QueueFull(f"{row.kind} has {limit} unfinished jobs already, which is its limit")
    if row.scope is not None:
        round_.tx.check_scope(row.kind, row.scope, row.seq)


def set_mode(engine: Engine, round_: Round, kind: str, mode: str) -> None:
    """Pause, drain or resume a workload. See ``Engine.set_mode``."""
    round_.tx.set_fact(f"workload:{kind}", mode)

    def apply() -> None:
        paused = engine.loop.scheduler.paused
        if mode == "active":
            paused.pop(kind, None)
        else:
            paused[kind] = mode  # type: ignore[assignment]

    round_.afterwards.append(apply)


def put_record(engine: Engine, round_: Round, namespace: str, key: str, data: Mapping[str, Any]) -> int:
    """Append a record of a workload's own; return its number."""
    return round_.tx.put_record(namespace, key, data, round_.now)


def delete_records(engine: Engine, round_: Round, namespace: str, key: str) -> int:
    """Delete the records under a key; return how many there were."""
    return round_.tx.delete_records(namespace, key)


def check_over(engine: Engine, round_: Round, job_id: str) -> None:
    """Raise Conflict while a job is unfinished."""
    row = round_.tx.load_job(job_id)
    if row is not None and not row.state.final:
        raise Conflict(f"job {job_id} is {row.state}; cancel it before deleting it")


def delete_rows(engine: Engine, round_: Round, job_id: str) -> bool:
    """Delete some rows of a finished job; whether that was all of them."""
    check_over(engine, round_, job_id)
    return round_.tx.delete_job_rows(job_id, _ROWS_A_BATCH)


def _active(engine: Engine, job_id: str) -> ActiveJob | None:
    return engine.loop.scheduler.jobs.get(job_id)


def _row(round_: Round, job_id: str) -> JobRow:
    row = round_.tx.load_job(job_id)
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    return row
