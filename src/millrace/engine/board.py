"""What runs and what waits right now, read from the scheduler's memory for people to look at.

Read from other threads than the engine's own: every collection is copied in one step first, and what
is seen may be a moment old. Knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.engine.round import Running
from millrace.engine.scheduler import ActiveJob, Scheduler
from millrace.engine.store import PLAN_STAGE


@dataclass(frozen=True, slots=True)
class RunningItem:
    """An item at work. ``idx`` is -1 for a plan call; ``attempt`` counts from 1, ``fraction`` is 0–1."""

    job: str
    kind: str
    idx: int
    name: str
    stage: str
    resource: str
    slots: int
    attempt: int
    since: float
    fraction: float
    phase: str


@dataclass(frozen=True, slots=True)
class WaitingItems:
    """Items of one job that wait for one stage, in the order in which jobs are served.

    why     what they wait for, for people.
    since   when the job was created: no item of it waits longer.
    """

    job: str
    kind: str
    stage: str
    resource: str
    number: int
    priority: int
    why: str
    since: float
    held: bool = False


def running(
    calls: Mapping[int, Running], progress: Mapping[tuple[str, int], tuple[float, str]]
) -> list[RunningItem]:
    """Return the items of all calls under way, the longest running first."""
    found = []
    for under_way in list(calls.values()):
        call = under_way.call
        for idx in sorted(under_way.open.copy()):
            item = under_way.items[idx]
            fraction, phase = progress.get((call.job, idx), (0.0, ""))
            found.append(
                RunningItem(
                    job=call.job,
                    kind=call.kind,
                    idx=idx,
                    name=item.name or call.stage.name,
                    stage=call.stage.name,
                    resource=call.stage.resource,
                    slots=call.slots,
                    attempt=item.tries + item.losses + 1,
                    since=under_way.started,
                    fraction=fraction,
                    phase=phase,
                )
            )
    return sorted(found, key=lambda item: (item.since, item.job, item.idx))


def waiting(scheduler: Scheduler, now: float) -> list[WaitingItems]:
    """Return what waits, the most urgent first, then the oldest."""
    jobs = sorted(scheduler.jobs.values(), key=lambda job: (-job.row.priority, job.row.seq))
    return [
        WaitingItems(
            job=job.row.id,
            kind=job.row.kind,
            stage=job.stage(index).name,
            resource=job.stage(index).resource,
            number=load.queued,
            priority=job.row.priority,
            why=_why(scheduler, job, index, now),
            since=job.row.created_at,
            held=job.row.held,
        )
        for job in jobs
        for index, load in sorted(job.loads.items())
        if load.queued
    ]


def _why(scheduler: Scheduler, job: ActiveJob, index: int, now: float) -> str:
    stage, row = job.stage(index), job.row
    if row.held:
        return "held until it is released"
    if scheduler.paused.get(row.kind) == "paused":
        return f"{row.kind} is paused"
    breaker = scheduler.breakers.get((row.kind, stage.name))
    if breaker is not None and breaker.open:
        return f"{stage.name} is paused: {breaker.cause}"
    if index not in list(job.open_stages()):
        return "for the stage before it"
    if job.loads[index].wake > now:
        return "to be tried again"
    if index != PLAN_STAGE and job.limit is not None and row.running >= job.limit:
        return f"{job.limit} of this job run at once"
    if scheduler.used[stage.resource] >= scheduler.slots.get(stage.resource, 0):
        return f"for a free {stage.resource} slot"
    return "next"
