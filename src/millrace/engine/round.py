"""What one transaction of the engine gathers, and the calls that are under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from millrace.engine.executors import Call
from millrace.engine.model import Event
from millrace.engine.scheduler import ActiveJob
from millrace.engine.store import ArtifactRow, Claimed, JobRow, Transaction

RoundEvent = tuple[JobRow, int, str, int | None, dict[str, Any]]
"""An event before it is stored: its job, number, type, item and data."""


@dataclass(slots=True)
class Running:
    """A call that was dispatched and has not ended. ``asked_back``: whether it was once to be called back."""

    call: Call
    job: ActiveJob
    stage: int
    open: set[int]
    items: dict[int, Claimed]
    started: float
    deadline: float | None
    asked_back: bool = False


@dataclass(slots=True)
class Round:
    """What one transaction gathers: rows to write at its end, and what to do after its commit.

    ``moves`` are the staged files of ``artifacts``, each with the key it is to be published under.
    """

    tx: Transaction
    now: float
    dirty: dict[str, JobRow] = field(default_factory=dict)
    events: list[RoundEvent] = field(default_factory=list)
    runs: list[tuple[int, int, int, str, str, float, float, str]] = field(default_factory=list)
    moves: list[tuple[str, str]] = field(default_factory=list)
    artifacts: list[ArtifactRow] = field(default_factory=list)
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
