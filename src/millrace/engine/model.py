"""Jobs, items and their states, and the transitions between them as pure functions.

Times are seconds since the epoch (UTC) as floats; the edges write RFC 3339. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal


class State(StrEnum):
    """Canonical states of jobs and items; each contract spells them its own way."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing moves it any more but a person's retry."""
        return self not in (State.QUEUED, State.RUNNING)


class Priority(IntEnum):
    """Urgency; a higher one goes first, decided item by item."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    WEBHOOK = 3


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be created.

    name    what people see (a file name, a path, a URL).
    input   what the stages need to find their input: JSON-able.
    size    relative weight for progress and ETA (bytes or seconds, the same unit within a job).
    uid     an id of its own, unique over all jobs, where a contract addresses items directly.
    key     unique within the job; a second item with the same key is dropped silently.
    """

    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    size: float = 1.0
    uid: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created, with all it needs in one transaction.

    id            the public id, made by the contract in its own form; must be unique.
    items         the items, or empty with ``plan=True`` when the workload's plan stage finds them.
    held          created but not scheduled until ``Engine.release``.
    scope         a path-like key (``/a/b``): refused with Conflict while an unfinished job of the
                  kind holds the same scope, one above or one below it.
    idempotency   ``(key, body hash)``; see ``Engine.submit``.
    callbacks     whom to tell when the job ends, as ``{"url": …}``; see ``Workload.notifications``.
    notify        whom to tell in words people read: names of targets, or URLs of services.
    owns          key prefixes in the artifact store (its uploads) that are deleted with the job.
    ttl           seconds from its end until it is deleted; None: the workload's.
    meta          the contract's own facts about the job, never read by the engine.
    """

    id: str
    kind: str
    items: Sequence[NewItem] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    priority: int = Priority.NORMAL
    parallelism: int | None = None
    plan: bool = False
    held: bool = False
    scope: str | None = None
    idempotency: tuple[str, str] | None = None
    callbacks: Sequence[Mapping[str, Any]] = ()
    notify: Sequence[str] = ()
    owns: Sequence[str] = ()
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items of a job are in each state."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Items that will not move any more."""
        return self.succeeded + self.skipped + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. ``seq`` orders jobs by creation; ``stages`` names those it goes through.

    ``progress`` is 0–1 over all items and stages, weighted by size; ``eta_at`` when it is likely to
    end, or None while no pace is known.
    """

    seq: int
    id: str
    kind: str
    state: State
    label: str
    priority: int
    parallelism: int | None
    held: bool
    planning: bool
    cancel_requested: bool
    stages: tuple[str, ...]
    options: dict[str, Any]
    meta: dict[str, Any]
    callbacks: tuple[dict[str, Any], ...]
    notify: tuple[str, ...]
    owns: tuple[str, ...]
    counts: Counts
    progress: float
    eta_at: float | None
    error: dict[str, Any] | None
    scope: str | None
    created_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None
    expires_at: float | None
    last_event: int


@dataclass(frozen=True, slots=True)
class Item:
    """An item as stored. ``stage`` indexes ``Job.stages``; ``results`` maps stage name to result.

    ``error`` is ``{code, message, details, stage}``. ``progress`` is 0–1 within the present stage,
    ``phase`` what the stage last said it is doing.
    """

    job: str
    idx: int
    uid: str | None
    name: str
    state: State
    stage: int
    attempt: int
    progress: float
    phase: str
    input: dict[str, Any]
    results: dict[str, Any]
    error: dict[str, Any] | None
    size: float
    available_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class StageRun:
    """One attempt of one item at one stage. ``outcome`` is what became of it."""

    idx: int
    stage: str
    attempt: int
    outcome: Literal["succeeded", "skipped", "failed", "retried", "lost", "cancelled", "timeout"]
    started_at: float
    finished_at: float
    worker: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a stage published for an item; ``key`` names it in the artifact store."""

    job: str
    idx: int
    name: str
    stage: str
    bytes: int
    sha256: str
    media_type: str
    key: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Notification:
    """A webhook to be sent when a job has ended: where to, the event's name, and its JSON body."""

    url: str
    event: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's append-only log. ``seq`` counts from 1 within the job.

    Live progress between two lines has ``seq`` 0: it is streamed, never stored.
    """

    job: str
    seq: int
    at: float
    type: str
    idx: int | None
    data: dict[str, Any]
