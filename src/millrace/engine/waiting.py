"""How long work has waited for a slot, by stage: what workers are scaled by.

Only what could run counts. An item whose retry is not due yet, a job that is held, and a stage whose gate
is closed (``stage_first``) wait for something that more workers would not bring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from millrace.engine.workload import Resource, Workload

JOBS_LOOKED_AT = 100
"""How many jobs of a kind are asked for the head of their queue, the oldest first."""


@dataclass(frozen=True, slots=True)
class QueueHead:
    """The next item of a job at one stage.

    stages    the job's stages; ``stage`` indexes them, a negative one is its plan.
    running   the earliest stage at which an item of the job runs; None when none does.
    since     when the item could first have been run.
    """

    job: int
    stages: tuple[str, ...]
    planning: bool
    stage: int
    running: int | None
    since: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """For how many seconds the oldest item that could run at a stage has waited; 0 when none does."""

    kind: str
    stage: str
    resource: Resource
    seconds: float


class WaitingReads(Protocol):
    """What a store tells of queues; a part of ``engine.store.Store``."""

    def queue_heads(self, kind: str, now: float, limit: int) -> list[QueueHead]:
        """Return the next item of each stage of the kind's ``limit`` oldest jobs that have queued items."""
        ...


def waiting(workloads: Mapping[str, Workload], store: WaitingReads, now: float) -> list[Waiting]:
    """Return how long each stage of each kind has kept its oldest item waiting."""
    found = []
    for kind, workload in workloads.items():
        stages = [*([workload.plan] if workload.plan else []), *workload.stages]
        ages = dict.fromkeys((stage.name for stage in stages), 0.0)
        for head in _open(workload, store.queue_heads(kind, now, JOBS_LOOKED_AT)):
            name = workload.plan.name if head.stage < 0 and workload.plan else head.stages[head.stage]
            ages[name] = max(ages.get(name, 0.0), now - head.since)
        found += [Waiting(kind, stage.name, stage.resource, ages[stage.name]) for stage in stages]
    return found


def _open(workload: Workload, heads: Iterable[QueueHead]) -> Iterable[QueueHead]:
    """Leave out what waits behind a closed gate; see ``ActiveJob.open_stages``."""
    if workload.policy == "item_first":
        return heads
    heads = list(heads)
    first: dict[int, int] = {}
    for head in heads:
        if head.stage >= 0:
            earliest = head.stage if head.running is None else min(head.stage, max(0, head.running))
            first[head.job] = min(first.get(head.job, earliest), 0 if head.planning else earliest)
    return [head for head in heads if head.stage < 0 or head.stage == first[head.job]]
