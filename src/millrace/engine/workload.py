"""The port a workload implements: its stages, and how its jobs are to be run.

A workload is data plus stage functions. The engine never imports a stage function into the
server: it is named by a dotted path and imported in the worker process that runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from millrace.engine.model import Job, Notification

Policy = Literal["stage_first", "item_first"]
Resource = Literal["cpu", "gpu", "io"]

_HIDDEN_KEY = "jobs/{job}/{idx}.{lease}{name}"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after how long, a stage is tried again when a retry can help.

    ``attempts`` counts the first one. The wait before attempt *n + 1* is
    ``min(max_delay, delay * factor ** (n - 1))`` seconds, with ±20 % of jitter.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 4.0
    max_delay: float = 300.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One step that every item of a job goes through.

    run           ``package.module:function``, called as ``function(ctx: StageContext)``; what it
                  returns (a JSON-able mapping, None, or ``Skip``) is kept as the stage's result.
    resource      which kind of slot a call takes while it runs.
    max_slots     the most slots one call may take when nothing else waits for them (a stage that
                  can spread one item over several cores reads ``ctx.slots``). It always gets one.
    timeout       seconds one item may take before its process is killed; None: no limit.
    soft_timeout  seconds after which ``TookTooLong`` is raised inside the stage, which may still clean up;
                  the item fails with ``timeout`` unless it does otherwise. None: never.
    chunk         the most items one call may carry. Chunks only form while the stage's items
                  take a few milliseconds each: a chunk lasts about 20 ms, or up to 250 ms where
                  the database is slow to commit.
    memory        bytes of address space beyond which allocations in the worker fail; None: no limit.
    queue         the broker queue its calls are hinted at in a cluster; None: ``resource.kind.stage``.
    enabled       whether jobs with these options go through the stage at all.
    """

    name: str
    run: str
    resource: Resource = "cpu"
    max_slots: int = 1
    timeout: float | None = 3600.0
    soft_timeout: float | None = None
    chunk: int = 64
    memory: int | None = None
    retry: Retry = field(default_factory=Retry)
    queue: str | None = None
    enabled: Callable[[Mapping[str, Any]], bool] = lambda options: True


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of job.

    kind              the name in URLs, tables and settings.
    stages            in order; an item succeeds when it has left the last one.
    plan              a stage that runs once, before any item: it finds the items of a job whose
                      items are not known when it is submitted (``ctx.add_items``). While it runs,
                      items already found may run too.
    policy            ``stage_first``: no item enters a stage while another of its job has not left
                      the one before; ``item_first``: each goes on as soon as it can.
    max_queued_jobs   submissions beyond this many unfinished jobs are refused (QueueFull).
    max_running_jobs  at most this many jobs of the kind run at once, the most urgent first.
    parallelism       how many items of one job run at once unless the job says; None: as many as
                      there are slots.
    fails_when        ``any``: a job fails when one item failed; ``all``: only when every one did.
    on_restart        ``resume``: a job goes on after a restart of the server; ``fail``: what was
                      queued or running then fails with code ``interrupted``.
    ttl               seconds from a job's end until it is deleted; None: kept.
    notifications     what is told to whom when a job ends, in the contract's own words; by default each of
                      ``Job.callbacks`` gets the canonical ``job.finished``.
    writes_inputs     its stages change the files they were given, which a watched folder is not to take
                      for news.
    artifact_key      where artifacts are kept in the store: a format of ``job, idx, lease, uid, name``. With
                      ``lease``, which every attempt has for itself, no attempt can ever write over what
                      another has published, however late it comes; without it the key is fixed, and
                      only what an attempt has staged can be taken away from it. Workloads whose
                      contract tells the key leave it out. Artifacts whose names begin with a dot are the
                      server's own and lie elsewhere, many in one folder.
    """

    kind: str
    stages: tuple[Stage, ...]
    plan: Stage | None = None
    policy: Policy = "item_first"
    max_queued_jobs: int | None = None
    max_running_jobs: int | None = None
    parallelism: int | None = None
    fails_when: Literal["any", "all"] = "all"
    on_restart: Literal["resume", "fail"] = "resume"
    ttl: float | None = 7 * 86400.0
    notifications: Callable[[Job], Sequence[Notification]] | None = None
    writes_inputs: bool = False
    artifact_key: str = "jobs/{job}/{idx}.{lease}/{name}"

    def key_of(self, job: str, idx: int, lease: int, uid: str | None, name: str) -> str:
        """Return the key under which an item's artifact of the attempt with that lease is kept."""
        template = _HIDDEN_KEY if name.startswith(".") else self.artifact_key
        return template.format(job=job, idx=idx, lease=lease, uid=uid, name=name)

    def stage_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the stages that a job with these options goes through."""
        return tuple(stage.name for stage in self.stages if stage.enabled(options))

    def stage(self, name: str) -> Stage:
        """Return the stage of that name (``plan`` included); KeyError if there is none."""
        if self.plan is not None and self.plan.name == name:
            return self.plan
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(f"workload {self.kind!r} has no stage {name!r}")
