"""Decides what may run next: by priority, then age, within slots and limits, item by item.

It holds what is unfinished in memory, as numbers per job and stage; the items themselves stay in
the database until they are claimed. Used from the engine's thread alone.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from millrace.engine.breaker import Breaker
from millrace.engine.model import State
from millrace.engine.store import PLAN_STAGE, JobRow
from millrace.engine.workload import Stage, Workload

CHUNK_SECONDS = (0.02, 0.25)
"""How long a chunk of small items may take at least and at most: the grain of priorities.

In between it lasts ``_ROUNDS_A_CHUNK`` rounds, so that a worker which waits for its next call while a
round is flushed to disk does so for a small part of its time.
"""

_ROUNDS_A_CHUNK = 16

_PACE_WEIGHT = 0.2
_SHORT_SECONDS = 0.25
"""Items below this are worth sending ahead of a free slot, where workers are far away."""


@dataclass(slots=True)
class Load:
    """What of a job is unfinished at one stage.

    size     the summed size of its items there.
    wake     when the first of its queued items may run (0: now).
    """

    queued: int = 0
    running: int = 0
    size: float = 0.0
    wake: float = 0.0


@dataclass(slots=True)
class ActiveJob:
    """An unfinished job: its row, its workload, and what is left of it at each stage.

    ``demand`` is the scheduler's count of queued items by resource, ``wakes`` its heap of the times
    at which something may start; the methods here keep both up.
    """

    row: JobRow
    workload: Workload
    stages: tuple[Stage, ...]
    demand: dict[str, int]
    wakes: list[float]
    loads: dict[int, Load] = field(default_factory=lambda: defaultdict(Load))
    eta_checked: float = 0.0

    def stage(self, index: int) -> Stage:
        """Return the stage at an index; the plan stage at ``PLAN_STAGE``."""
        if index == PLAN_STAGE:
            assert self.workload.plan is not None
            return self.workload.plan
        return self.stages[index]

    @property
    def running_items(self) -> int:
        """How many of its items run now, the plan call not counted."""
        return self.row.running

    @property
    def limit(self) -> int | None:
        """How many of its items may run at once."""
        return self.row.parallelism or self.workload.parallelism

    def open_stages(self) -> Iterator[int]:
        """Yield the stages that have queued items and whose gate is open, the most advanced first."""
        plan = self.loads.get(PLAN_STAGE)
        if plan and plan.queued:
            yield PLAN_STAGE
        if self.workload.policy == "item_first":
            for index in range(len(self.stages) - 1, -1, -1):
                if self.loads[index].queued:
                    yield index
            return
        last = 1 if self.row.planning else len(self.stages)
        for index in range(last):
            load = self.loads[index]
            if load.queued or load.running:
                if load.queued:
                    yield index
                return

    def goes_ahead(self, index: int) -> bool:
        """Whether a stage may be sent ahead of free slots: not where an item's next stage might need them.

        An item sent ahead would begin before its neighbour's next stage, which ``item_first`` forbids.
        """
        if self.workload.policy == "stage_first":
            return True
        resource = self.stage(index).resource
        return all(stage.resource != resource for stage in self.stages[index + 1 :])

    def enqueue(self, index: int, number: int, size: float, wake: float = 0.0) -> None:
        """Count items (back) into a stage's queue; ``wake``: when the first of them may run."""
        load = self.loads[index]
        load.wake = min(load.wake, wake) if load.queued else wake
        load.queued += number
        load.size += size
        if wake:
            heapq.heappush(self.wakes, wake)
        self.demand[self.stage(index).resource] += number

    def wait(self, index: int, wake: float) -> None:
        """Note that nothing queued at a stage may run before a time."""
        self.loads[index].wake = wake
        heapq.heappush(self.wakes, wake)

    def dequeue(self, index: int, number: int) -> None:
        """Count items out of a stage's queue."""
        self.loads[index].queued -= number
        self.demand[self.stage(index).resource] -= number

    def leave(self, index: int, size: float) -> None:
        """Count one item out of those that run at a stage."""
        load = self.loads[index]
        load.running -= 1
        load.size -= size

    def withdraw_queued(self) -> None:
        """Count all queued items out: they were cancelled. Only sizes of what runs stay, roughly."""
        for index, load in self.loads.items():
            if load.queued:
                load.size *= load.running / (load.running + load.queued)
                self.dequeue(index, load.queued)


@dataclass(frozen=True, slots=True)
class Pick:
    """The scheduler's choice: up to ``limit`` items of that stage, on that many slots."""

    job: ActiveJob
    stage: int
    limit: int
    slots: int


@dataclass(slots=True)
class Pace:
    """How long items of a stage take: running averages.

    work       seconds an item, without what its files took to be flushed to disk: many together take
               hardly longer than one, so this must not make calls smaller.
    per_size   seconds a unit of size, all in all.
    """

    work: float
    per_size: float

    def learn(self, seconds: float, size: float, staging: float) -> None:
        """Take one more item into account."""
        self.work += _PACE_WEIGHT * (seconds - staging - self.work)
        self.per_size += _PACE_WEIGHT * (seconds / max(size, 1e-9) - self.per_size)


class Scheduler:
    """What is unfinished, and what of it may start.

    Args:
        slots: how many there are of each resource, now; may change.
        grain: see ``Executor.grain``.
        ahead: see ``Executor.ahead``.
        limit: see ``Executor.limit``.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        grain: float = CHUNK_SECONDS[0],
        ahead: float = 0.0,
        limit: Callable[[str, Stage], int | None] = lambda kind, stage: None,
    ) -> None:
        self.slots = slots
        self._grain = grain
        self._ahead = ahead
        self._limit = limit
        self.used: dict[str, int] = defaultdict(int)
        self.used_by_stage: dict[tuple[str, str], int] = defaultdict(int)
        self.jobs: dict[str, ActiveJob] = {}
        self.paused: dict[str, Literal["paused", "draining"]] = {}
        self.breakers: dict[tuple[str, str], Breaker] = defaultdict(Breaker)
        self.paces: dict[tuple[str, str], Pace] = {}
        self.demand: dict[str, int] = defaultdict(int)
        self.round_seconds = 0.0
        self._order: list[tuple[int, int, str]] = []
        self._wakes: list[float] = []

    def take_in(
        self, row: JobRow, workload: Workload, counts: list[tuple[int, State, int, float]]
    ) -> ActiveJob:
        """Take a job in (anew), with what the store counted of its unfinished items."""
        self.remove(row.id)
        job = ActiveJob(
            row, workload, tuple(workload.stage(name) for name in row.stages), self.demand, self._wakes
        )
        for index, state, number, size in counts:
            if state is State.QUEUED:
                job.enqueue(index, number, size)
            else:
                job.loads[index].running += number
                job.loads[index].size += size
        self.jobs[row.id] = job
        insort(self._order, _rank(row))
        return job

    def remove(self, job_id: str) -> None:
        """Let a finished job go."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        for index, load in job.loads.items():
            job.dequeue(index, load.queued)
        self._unrank(job.row)

    def set_priority(self, job: ActiveJob, priority: int) -> None:
        """Give a job another place in the order."""
        self._unrank(job.row)
        job.row.priority = priority
        insort(self._order, _rank(job.row))

    def _unrank(self, row: JobRow) -> None:
        rank = _rank(row)
        place = bisect_left(self._order, rank)
        if place < len(self._order) and self._order[place] == rank:
            del self._order[place]

    def clear(self) -> None:
        """Forget all jobs and what runs, to take them in again."""
        self.jobs.clear()
        self.used.clear()
        self.used_by_stage.clear()
        self.demand.clear()
        self._wakes.clear()
        self._order.clear()

    @property
    def ordered(self) -> Iterator[ActiveJob]:
        """All jobs, the most urgent first, the older first among equals."""
        return (self.jobs[rank[2]] for rank in self._order)

    def pick(self, now: float) -> Pick | None:
        """Return what to claim next, or None when nothing may start."""
        if not any(
            self.demand[resource] and self.used[resource] < number * (1 + self._ahead)
            for resource, number in self.slots.items()
        ):
            return None
        crowded: set[str] = set()
        for job in self._eligible():
            for index in job.open_stages():
                pick = self._offer(job, index, now, crowded)
                if pick is not None:
                    return pick
        return None

    @property
    def mixed(self) -> bool:
        """Whether some jobs are more urgent than others."""
        return bool(self._order) and self._order[0][0] != self._order[-1][0]

    def waits(self, now: float, above: int) -> dict[str, int]:
        """Return resource → priority of the most urgent job that waits for its slots, of those beyond one.

        To be asked when ``pick`` has found nothing.
        """
        found: dict[str, int] = {}
        if not self._order or -self._order[0][0] <= above:
            return found
        for job in self._eligible():
            if job.row.priority <= above:
                break
            for index in job.open_stages():
                stage = job.stage(index)
                if self._room(job, index, now) > 0 and self._limit(job.row.kind, stage) != 0:
                    found.setdefault(stage.resource, job.row.priority)
        return found

    def _eligible(self) -> Iterator[ActiveJob]:
        """Yield the jobs of which something may start, the most urgent first."""
        seen: dict[str, int] = defaultdict(int)
        for job in self.ordered:
            row, workload = job.row, job.workload
            if row.held or row.cancel_requested or self.paused.get(row.kind) == "paused":
                continue
            seen[row.kind] += 1
            if workload.max_running_jobs is None or seen[row.kind] <= workload.max_running_jobs:
                yield job

    def _offer(self, job: ActiveJob, index: int, now: float, crowded: set[str]) -> Pick | None:
        """Return what of a stage may start now; ``crowded``: resources for whose slots somebody waits."""
        stage = job.stage(index)
        room = self._room(job, index, now)
        if room <= 0:
            return None
        free = self._free(job, index, ahead=stage.resource not in crowded)
        if free <= 0:
            # Whoever comes after this one gets free slots only: what is sent ahead of them would take
            # its place again and again.
            if self._limit(job.row.kind, stage) != 0:
                crowded.add(stage.resource)
            return None
        breaker = self.breakers.get((job.row.kind, stage.name))
        if breaker is not None and breaker.open:
            return Pick(job, index, 1, 1)
        slots = 1
        if stage.max_slots > 1:
            slots = max(1, min(stage.max_slots, free // max(1, min(room, free))))
        return Pick(job, index, self._chunk(job.row.kind, stage, room, free), slots)

    def _room(self, job: ActiveJob, index: int, now: float) -> int:
        """Return how many items of a stage might start now if there were slots enough."""
        load = job.loads[index]
        if load.wake > now:
            return 0
        breaker = self.breakers.get((job.row.kind, job.stage(index).name))
        if breaker is not None and not breaker.allows(now):
            return 0
        if index == PLAN_STAGE or job.limit is None:
            return load.queued
        return min(load.queued, job.limit - job.running_items)

    def _free(self, job: ActiveJob, index: int, *, ahead: bool) -> int:
        """Return how many slots a call of the stage may take now; ``ahead``: before they are free, too."""
        kind, stage = job.row.kind, job.stage(index)
        pace = self.paces.get((kind, stage.name))
        short = pace is not None and pace.work < _SHORT_SECONDS
        factor = 1 + self._ahead if ahead and short and job.goes_ahead(index) else 1
        free = int(self.slots.get(stage.resource, 0) * factor) - self.used[stage.resource]
        limit = self._limit(kind, stage)
        if limit is not None:
            free = min(free, int(limit * factor) - self.used_by_stage[kind, stage.name])
        return free

    def _chunk(self, kind: str, stage: Stage, room: int, free: int) -> int:
        pace = self.paces.get((kind, stage.name))
        if stage.chunk <= 1 or pace is None:
            return 1
        most = CHUNK_SECONDS[1]
        seconds = min(most, max(self._grain, _ROUNDS_A_CHUNK * self.round_seconds))
        fits = int(seconds / max(pace.work, 1e-6))
        # What is left is shared out over the free slots rather than given to one worker; but a call
        # costs something itself, so none is made for less than a few milliseconds of work.
        return max(1, min(stage.chunk, fits, room, max(-(-room // free), fits // 4)))

    def taken(self, pick: Pick, number: int) -> None:
        """Note what was claimed of a pick."""
        row = pick.job.row
        pick.job.dequeue(pick.stage, number)
        pick.job.loads[pick.stage].running += number
        if pick.stage != PLAN_STAGE:
            row.queued -= number
            row.running += number
        self.occupy(row.kind, pick.job.stage(pick.stage), pick.slots)

    def occupy(self, kind: str, stage: Stage, slots: int) -> None:
        """Note that a call has taken slots; a negative number gives them back."""
        self.used[stage.resource] += slots
        self.used_by_stage[kind, stage.name] += slots

    def learn_round(self, seconds: float) -> None:
        """Note how long a round took until it was committed."""
        self.round_seconds += _PACE_WEIGHT * (seconds - self.round_seconds)

    def learn(self, kind: str, stage: str, seconds: float, size: float, staging: float = 0.0) -> None:
        """Note how long an item took, and how much of that to flush its files."""
        pace = self.paces.get((kind, stage))
        if pace is None:
            self.paces[kind, stage] = Pace(seconds - staging, seconds / max(size, 1e-9))
        else:
            pace.learn(seconds, size, staging)

    def eta(self, job: ActiveJob, now: float) -> float | None:
        """Return when the job is likely to end, from the pace of its stages; None while one is unknown.

        What is left of each stage, in size, times its pace, divided by what may run at once.
        """
        if job.row.planning or job.row.held:
            return None
        left = 0.0
        carried = 0.0
        for index, stage in enumerate(job.stages):
            load = job.loads[index]
            carried += load.size
            if carried <= 0:
                continue
            pace = self.paces.get((job.row.kind, stage.name))
            if pace is None:
                return None
            abreast = max(1, self.slots.get(stage.resource, 1))
            if job.limit is not None:
                abreast = min(abreast, job.limit)
            left += carried * pace.per_size / min(abreast, max(1, job.row.queued + job.row.running))
        return now + left

    def next_wake(self, now: float) -> float | None:
        """Return when something that waits for a time may start; None when nothing does."""
        due = False
        while self._wakes and self._wakes[0] <= now:
            heapq.heappop(self._wakes)
            # It may have come due after the last round looked, which then passed its item over.
            due = True
        if due:
            return now
        times = [b.probe_at for b in self.breakers.values() if b.probe_at is not None and b.probing is None]
        return min([*self._wakes[:1], *times], default=None)


def _rank(row: JobRow) -> tuple[int, int, str]:
    return (-row.priority, row.seq, row.id)
