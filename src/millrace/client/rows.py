"""What the jobs API answers, as frozen values. Fields that a newer server adds are only in ``raw``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

FINAL = frozenset({"succeeded", "skipped", "failed", "cancelled"})
"""The canonical states in which a job or an item has ended."""

Raw = Mapping[str, Any]


def _time(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _same_names(made: type, row: Raw, **others: Any) -> dict[str, Any]:
    """Return the fields of a class that have the name they have in the row; ``others`` as they are given.

    What ends in ``_at`` is a time; what a server does not say is None.
    """
    found = {}
    for each in fields(made):
        value = row.get(each.name)
        found[each.name] = _time(value) if each.name.endswith("_at") else value
    return found | {"raw": row} | others


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items a job has, by state."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Items that have ended, however."""
        return self.succeeded + self.skipped + self.failed + self.cancelled

    @classmethod
    def of(cls, row: Raw) -> Counts:
        """Read them from a job's ``counts``."""
        return cls(**{name: int(row.get(name, 0)) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the server described it at one moment.

    state        canonical: queued, running, succeeded, skipped, failed or cancelled.
    status       the same in the words of the job's own contract.
    percent      0 to 100.
    stages       what an item goes through; ``Item.stage`` counts them from 0.
    eta_seconds  from the measured pace; None while there is none.
    error        ``code``, ``message`` and more, where the job failed as a whole.
    """

    id: str
    kind: str
    state: str
    status: str
    label: str
    percent: float
    priority: int
    counts: Counts
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    stages: tuple[str, ...]
    eta_seconds: float | None
    held: bool
    parallelism: int | None
    options: Raw
    error: Raw | None
    last_event: int
    raw: Raw = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in FINAL

    @property
    def well(self) -> bool:
        """Whether it has ended and every item was done, or rightly left alone."""
        return self.state in ("succeeded", "skipped") and not self.counts.failed and not self.counts.cancelled

    @classmethod
    def of(cls, row: Raw) -> JobInfo:
        """Read a row of ``GET /jobs`` or the answer of ``GET /jobs/{id}``."""
        return cls(
            **_same_names(
                cls,
                row,
                id=row["job_id"],
                label=row.get("label") or "",
                percent=float(row["progress"]["percent"]),
                counts=Counts.of(row["counts"]),
                stages=tuple(row.get("stages", ())),
                held=bool(row.get("held", False)),
                options=row.get("options") or {},
                last_event=row.get("last_event", 0),
            )
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an item's stage has published. ``item`` is the item's number."""

    job: str
    item: int
    name: str
    stage: str
    bytes: int
    sha256: str
    media_type: str
    url: str
    created_at: datetime | None
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw, job: str) -> Artifact:
        """Read a row of ``GET /jobs/{id}/artifacts``."""
        return cls(**_same_names(cls, row, job=job))


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a job.

    idx        its number, from 0.
    stage      the number of the stage it is at.
    progress   of that stage, 0 to 1; ``phase`` says in a word what goes on in it.
    results    what each finished stage found, by the stage's name.
    error      ``code``, ``message`` and more, when it failed.
    artifacts, runs   only from ``Job.item``: what it published, and its attempts.
    """

    idx: int
    name: str
    state: str
    stage: int
    progress: float
    phase: str
    attempt: int
    size: float
    results: Raw
    error: Raw | None
    started_at: datetime | None
    finished_at: datetime | None
    artifacts: tuple[Artifact, ...]
    runs: tuple[Raw, ...]
    raw: Raw = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in FINAL

    @classmethod
    def of(cls, row: Raw, job: str) -> Item:
        """Read a row of ``GET /jobs/{id}/items`` or the answer of ``GET /jobs/{id}/items/{idx}``."""
        return cls(
            **_same_names(
                cls,
                row,
                phase=row.get("phase") or "",
                results=row.get("results") or {},
                artifacts=tuple(Artifact.of(each, job) for each in row.get("artifacts", ())),
                runs=tuple(row.get("runs", ())),
            )
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    seq    its number within the job, from 1; 0 for live progress, which the server does not keep.
    type   such as ``job.created``, ``item.started``, ``item.progress``, ``item.finished``, ``job.finished``.
    item   the item's number; None when it is about the job.
    """

    seq: int
    type: str
    job: str
    item: int | None
    at: datetime | None
    data: Raw
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Event:
        """Read the data of a server-sent event."""
        data = row.get("data") or {}
        return cls(**_same_names(cls, row, job=row["job_id"], at=_time(row.get("at")), data=data))


@dataclass(frozen=True, slots=True)
class Page:
    """A page of ``GET /jobs``. ``cursor`` gets the next one; None: this was the last."""

    jobs: tuple[JobInfo, ...]
    total: int
    cursor: str | None
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Page:
        """Read the answer."""
        return cls(
            jobs=tuple(JobInfo.of(each) for each in row["jobs"]),
            total=row["total"],
            cursor=row.get("next_cursor"),
            raw=row,
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """What ``GET /jobs/stats`` counts: jobs by state, items judged, and the same by kind.

    success_rate   0 to 1, of the items that succeeded or failed; None while there are none.
    """

    total_jobs: int
    running: int
    queued: int
    completed: int
    failed: int
    cancelled: int
    items: int
    success_rate: float | None
    mean_seconds: float | None
    by_kind: Raw
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Stats:
        """Read the answer."""
        items, mean = row["total_files_processed"], row["average_duration_seconds"]
        return cls(**_same_names(cls, row, items=items, mean_seconds=mean))


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of jobs, and how it is: ``mode`` is ``active``, ``paused`` or ``draining``."""

    kind: str
    mode: str
    stages: tuple[str, ...]
    queued: int
    running: int
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Workload:
        """Read a row of ``GET /workloads``."""
        return cls(**_same_names(cls, row, stages=tuple(stage["name"] for stage in row["stages"])))


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job by the clock; see ``docs/schedules.md``."""

    id: str
    name: str
    cron: str
    zone: str
    job: Raw
    missed: str
    overlap: bool
    enabled: bool
    next_at: datetime | None
    last_at: datetime | None
    last_job: str | None
    last_error: str | None
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Schedule:
        """Read a row of ``GET /schedules``."""
        return cls(**_same_names(cls, row))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook: ``state`` is ``pending``, ``delivered`` or ``failed``; ``status`` the receiver's last."""

    id: str
    job: str
    kind: str
    url: str
    event: str
    state: str
    attempts: int
    status: int | None
    error: str | None
    next_at: datetime | None
    created_at: datetime | None
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Delivery:
        """Read a row of ``GET /deliveries``."""
        return cls(**_same_names(cls, row))


@dataclass(frozen=True, slots=True)
class Preset:
    """Options of a kind that were saved under a name."""

    kind: str
    name: str
    options: Raw
    created_at: datetime | None
    updated_at: datetime | None
    raw: Raw = field(repr=False)

    @classmethod
    def of(cls, row: Raw) -> Preset:
        """Read a row of ``GET /presets``."""
        return cls(**_same_names(cls, row))
