"""The Store port: what the engine keeps, whichever database keeps it.

Writes happen inside one transaction at a time (``Store.begin``), which the engine's thread groups:
many requests, reports and claims share one commit. Reads use connections of their own and see
only what was committed. ``engine/sql`` holds the one implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from millrace.engine.cluster import ClusterWrites
from millrace.engine.deliveries import DeliveryReads, DeliveryWrites
from millrace.engine.model import Artifact, Event, Item, Job, NewItem, NewJob, StageRun, State
from millrace.engine.presets import PresetReads, PresetWrites
from millrace.engine.retention import RetentionReads, RetentionWrites
from millrace.engine.schedules import ScheduleReads, ScheduleWrites
from millrace.engine.waiting import WaitingReads
from millrace.engine.watches import WatchReads, WatchWrites
from millrace.errors import Unavailable

PLAN_STAGE = -1
"""The stage index (and the item index) of a job's plan call."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Jobs in one state: of one kind, or of any; held ones, others, or both."""

    kind: str | None = None
    state: State = State.QUEUED
    held: bool | None = None


class LeadershipLost(Unavailable):
    """Another server is in charge of the database; nothing was written."""


class TransactionLost(Exception):
    """The database has rolled the whole transaction back by itself: nothing of it can be saved."""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list.

    states     canonical states; empty: any.
    any_of     jobs that fit at least one of these; empty: all.
    text       case-insensitive substring of id or label.
    order      newest first by that time.
    cursor     continue after a page: as returned in ``JobPage.next_cursor``; excludes ``offset``.
    """

    kind: str | None = None
    states: tuple[State, ...] = ()
    any_of: tuple[Selection, ...] = ()
    text: str | None = None
    order: Literal["created_at", "updated_at"] = "created_at"
    limit: int = 50
    offset: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; ``total`` counts all that match."""

    jobs: list[Job]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a workload's own append-only records."""

    seq: int
    key: str
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KindStats:
    """Figures of one kind: jobs by state, items by state, mean duration of finished jobs in seconds."""

    kind: str
    jobs: Mapping[State, int]
    items: Mapping[State, int]
    mean_seconds: float | None


@dataclass(slots=True)
class Claimed:
    """An item as a worker gets it. ``input`` and ``results`` are JSON text, passed on unparsed."""

    idx: int
    name: str
    uid: str | None
    input: str
    results: str | None
    tries: int
    losses: int
    attempt: int
    size: float


@dataclass(slots=True)
class JobRow:
    """A job as the scheduler holds it in memory: the mutable mirror of its row."""

    seq: int
    id: str
    kind: str
    state: State
    priority: int
    parallelism: int | None
    held: bool
    planning: bool
    cancel_requested: bool
    stages: tuple[str, ...]
    options: str
    meta: str
    total: int
    queued: int
    running: int
    succeeded: int
    skipped: int
    failed: int
    cancelled: int
    size_total: float
    size_done: float
    eta_at: float | None
    error: str | None
    scope: str | None
    ttl: float | None
    created_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None
    expires_at: float | None
    last_event: int


ItemUpdate = tuple[str, int, int, int, float, str | None, str | None, float, float | None, int, int, int]
"""state, stage, tries, losses, available_at, results, error, updated_at, finished_at, job, idx, lease."""

ArtifactRow = tuple[int, int, str, str, int, str, str, str, float]
"""job, idx, name, stage, bytes, sha256, media_type, key, created_at."""


class Transaction(
    DeliveryWrites,
    PresetWrites,
    ScheduleWrites,
    RetentionWrites,
    WatchWrites,
    ClusterWrites,
    Protocol,
):
    """One write transaction. Everything in it is committed together or not at all."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo only what happened inside when the block raises.

        Raises:
            TransactionLost: the database undid everything (a full disk, a broken connection).
        """
        ...

    def insert_job(self, new: NewJob, stages: Sequence[str], now: float, ttl: float | None) -> JobRow:
        """Create a job and its items; Conflict where its scope is taken. The id must be new."""
        ...

    def insert_items(self, job: JobRow, items: Sequence[NewItem]) -> tuple[int, float]:
        """Append items (those whose key is there already are dropped); return how many, and their size."""
        ...

    def insert_plan(self, job: JobRow) -> None:
        """Create the hidden item that carries the job's plan call."""
        ...

    def idempotent(self, key: str, body: str, job_id: str, now: float) -> str | None:
        """Remember the key, or return the job that already has it; IdempotencyConflict with another body."""
        ...

    def check_scope(self, kind: str, scope: str, but: int | None = None) -> None:
        """Raise Conflict while an unfinished job of the kind works on the scope, above or below it."""
        ...

    def unfinished_jobs(self, kind: str) -> int:
        """Count jobs of the kind that are queued or running."""
        ...

    def load_job(self, job_id: str) -> JobRow | None:
        """Read one job for writing."""
        ...

    def active_jobs(self) -> list[JobRow]:
        """Read all jobs that are not finished."""
        ...

    def stage_counts(self, job: JobRow) -> list[tuple[int, State, int, float]]:
        """Return (stage, state, number, size) of the job's unfinished items; the plan call included."""
        ...

    def claim(
        self, job: JobRow, stage: int, lease: int, until: float, now: float, limit: int
    ) -> list[Claimed]:
        """Make up to ``limit`` available items of that stage running, under one lease.

        Items that lost a worker before are claimed alone, so that a chunk cannot hide a poison item.
        """
        ...

    def renew(self, leases: Sequence[int], until: float) -> None:
        """Move the deadline of running items."""
        ...

    def finish(self, updates: Sequence[ItemUpdate]) -> list[bool]:
        """Apply the end of attempts; False for each whose lease no longer holds (nothing changed then)."""
        ...

    def next_available(self, job: JobRow, stage: int) -> float | None:
        """Return when the first queued item of the stage may run; None when there is none."""
        ...

    def end_queued(self, job: JobRow, now: float, error: str | None, state: State) -> list[int]:
        """End all queued items of the job in ``state``; return which, ascending."""
        ...

    def requeue_running(self, now: float, alive: Sequence[int] = ()) -> int:
        """Put running items back in their queues, but those whose lease is ``alive``; count all jobs anew."""
        ...

    def running_items(self, job: JobRow) -> list[tuple[int, int, int, int, int]]:
        """Return (idx, stage, tries, losses, lease) of the job's running items."""
        ...

    def retry_items(
        self, job: JobRow, idxs: Sequence[int] | None, now: float
    ) -> list[tuple[int, int, float]]:
        """Queue failed (or named failed/cancelled) items again at their stage; return (idx, stage, size)."""
        ...

    def save_jobs(self, jobs: Iterable[JobRow]) -> None:
        """Write the mutable columns of jobs."""
        ...

    def set_meta(self, job: JobRow, meta: Mapping[str, Any]) -> None:
        """Replace the contract's own facts about a job."""
        ...

    def ended_items(self, job: JobRow, idxs: Sequence[int] | None) -> list[tuple[int, str]]:
        """Return (idx, state) of the job's failed and cancelled items: all, or those named."""
        ...

    def progress(self, rows: Sequence[tuple[float, str, float, int, int, int]]) -> None:
        """Store live progress: (fraction, phase, updated_at, job, idx, lease)."""
        ...

    def insert_events(self, rows: Sequence[tuple[int, int, float, str, int | None, str]]) -> None:
        """Append (job, seq, at, type, idx, data as JSON)."""
        ...

    def insert_runs(self, rows: Sequence[tuple[int, int, int, str, str, float, float, str]]) -> None:
        """Append (job, idx, attempt, stage, outcome, started_at, finished_at, worker)."""
        ...

    def insert_artifacts(self, rows: Sequence[ArtifactRow]) -> None:
        """Add artifacts, each in place of an older one of that name."""
        ...

    def artifact_keys(self, job: JobRow, idxs: Sequence[int]) -> dict[int, dict[str, str]]:
        """Return idx → name → key of what these items have published."""
        ...

    def put_record(self, namespace: str, key: str, data: Mapping[str, Any], now: float) -> int:
        """Append a record; return its number."""
        ...

    def delete_records(self, namespace: str, key: str) -> int:
        """Delete the records of a key; return how many there were."""
        ...

    def fact(self, name: str) -> str | None:
        """Return a fact the engine keeps for itself."""
        ...

    def set_fact(self, name: str, value: str) -> None:
        """Keep a fact."""
        ...


class Store(DeliveryReads, PresetReads, ScheduleReads, RetentionReads, WaitingReads, WatchReads, Protocol):
    """A database that keeps jobs. Opening one creates or upgrades its tables."""

    def acquire(self) -> None:
        """Become the owner of the data; Unavailable while another server is. Held until ``close``."""
        ...

    def lead(self) -> bool:
        """Try to be the one in charge of a database that several servers share; whether this one is.

        From then on ``begin`` raises LeadershipLost when it is not any more.
        """
        ...

    def fence(self, epoch: str) -> None:
        """Have every transaction fail, with LeadershipLost, once the fact ``lease_epoch`` is another."""
        ...

    def depose(self) -> None:
        """Cut the connection of the server in charge: it does not answer any more."""
        ...

    def begin(self) -> AbstractContextManager[Transaction]:
        """One write transaction; commits at the end, rolls back when the block raises."""
        ...

    def close(self) -> None:
        """Close all connections and give up ownership."""
        ...

    def ping(self) -> None:
        """Raise Unavailable when the database does not answer."""
        ...

    def job(self, job_id: str) -> Job | None:
        """Read one job."""
        ...

    def live_progress(self, job_ids: Sequence[str]) -> dict[str, float]:
        """Return job → the summed progress of its running items, as stored."""
        ...

    def jobs(self, query: JobQuery) -> JobPage:
        """Read a page of jobs."""
        ...

    def items(self, job_id: str, after: int, limit: int, states: Sequence[State]) -> list[Item]:
        """Read items in order of idx, beginning behind ``after``."""
        ...

    def item(self, job_id: str, idx: int) -> Item | None:
        """Read one item."""
        ...

    def item_by_uid(self, uid: str) -> Item | None:
        """Read the item that has this uid."""
        ...

    def artifacts(self, job_id: str, idx: int | None) -> list[Artifact]:
        """Read what a job (or one of its items) has published."""
        ...

    def artifact(self, job_id: str, idx: int, name: str) -> Artifact | None:
        """Read one artifact."""
        ...

    def runs(self, job_id: str, idx: int) -> list[StageRun]:
        """Read the attempts of an item, oldest first."""
        ...

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Read a job's log behind event ``after``."""
        ...

    def stats(self, kind: str | None) -> list[KindStats]:
        """Count jobs and items by kind and state."""
        ...

    def records(self, namespace: str, key: str | None, limit: int) -> list[Record]:
        """Read records, oldest first (the newest ``limit`` of them)."""
        ...

    def oldest_queued(self) -> float | None:
        """Return when the oldest job that waits was created."""
        ...
