"""What the dashboard's pages show, gathered from the engine. Knows no HTTP and no HTML."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millrace.engine.board import RunningItem, WaitingItems
from millrace.engine.engine import Engine, Status
from millrace.engine.model import Artifact, Event, Item, Job, StageRun, State
from millrace.engine.store import JobQuery
from millrace.errors import InvalidRequest, NotFound
from millrace.server.dashboard import words

ROWS = 100
"""Rows of one page of items."""

_SHOWN_RUNNING = 50
_SHOWN_WAITING = 20
_SHOWN_RECENT = 8
_REASONS = 1000


@dataclass(frozen=True, slots=True)
class Lane:
    """One resource: its slots, what runs on them, and what waits for them.

    more   (running, waiting) that are not listed.
    """

    resource: str
    used: int
    slots: int
    running: Sequence[RunningItem]
    waiting: Sequence[WaitingItems]
    more: tuple[int, int]
    waiting_items: int


@dataclass(frozen=True, slots=True)
class Now:
    """All that the first page shows. ``jobs`` holds those that lanes name, by their id."""

    status: Status
    lanes: Sequence[Lane]
    jobs: Mapping[str, Job]
    active: Sequence[Job]
    recent: Sequence[Job]
    active_total: int
    queue_age: float
    pace: Sequence[int]


async def now(engine: Engine, pace: Sequence[int]) -> Now:
    """Return what goes on at this moment."""
    status = engine.status()
    running, waiting = engine.running(), engine.waiting()
    lanes = [
        Lane(
            resource,
            used,
            slots,
            [item for item in running if item.resource == resource][:_SHOWN_RUNNING],
            [item for item in waiting if item.resource == resource][:_SHOWN_WAITING],
            (
                max(0, sum(item.resource == resource for item in running) - _SHOWN_RUNNING),
                max(0, sum(item.resource == resource for item in waiting) - _SHOWN_WAITING),
            ),
            sum(item.number for item in waiting if item.resource == resource and not item.held),
        )
        for resource, (used, slots) in status.slots.items()
    ]
    active, ended = await asyncio.gather(
        engine.jobs(JobQuery(states=(State.RUNNING, State.QUEUED), limit=_SHOWN_WAITING)),
        engine.jobs(
            JobQuery(
                states=(State.SUCCEEDED, State.SKIPPED, State.FAILED, State.CANCELLED),
                order="updated_at",
                limit=_SHOWN_RECENT,
            )
        ),
    )
    jobs = {job.id: job for job in active.jobs}
    named = {item.job for lane in lanes for item in lane.running}
    named |= {item.job for lane in lanes for item in lane.waiting}
    for job_id in named - jobs.keys():
        try:
            jobs[job_id] = await engine.job(job_id)
        except NotFound:
            continue
    return Now(
        status=status,
        lanes=[_known(lane, jobs) for lane in lanes],
        jobs=jobs,
        active=active.jobs,
        recent=ended.jobs,
        active_total=active.total,
        queue_age=await engine.queue_age(),
        pace=pace,
    )


def _known(lane: Lane, jobs: Mapping[str, Job]) -> Lane:
    """Leave out what belongs to a job that was deleted meanwhile."""
    return replace(
        lane,
        running=[item for item in lane.running if item.job in jobs],
        waiting=[item for item in lane.waiting if item.job in jobs],
    )


@dataclass(frozen=True, slots=True)
class Reason:
    """Why items failed: how many, one of their messages, and one that has it."""

    code: str
    stage: str
    number: int
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of a job's items. ``next``: the cursor of the page behind it; None at the end."""

    items: Sequence[Item]
    next: str | None
    show: str
    after: str


SHOWS: Mapping[str, tuple[State, ...]] = {
    "all": (),
    "failed": (State.FAILED,),
    "running": (State.RUNNING,),
    "queued": (State.QUEUED,),
    "done": (State.SUCCEEDED, State.SKIPPED),
    "cancelled": (State.CANCELLED,),
}
_OTHERS = tuple(state for state in State if state is not State.FAILED)


async def item_page(engine: Engine, job_id: str, show: str, after: str) -> ItemPage:
    """Return a page of items: of one state in their order, or of all, those that failed first.

    ``after`` is empty, or the ``next`` of the page before; every page costs the same.
    """
    if show not in SHOWS:
        raise InvalidRequest(f"show: must be one of {', '.join(SHOWS)}, not {show[:40]!r}")
    part, _, last = after.partition(":")
    if after and (part not in ("f", "o") or not last.lstrip("-").isdigit() or len(last) > 12):
        raise InvalidRequest(f"after: {after[:40]!r} is no cursor of this list")
    idx = int(last) if after else -1
    if show != "all":
        found = await engine.items(job_id, after=idx, limit=ROWS + 1, states=SHOWS[show])
        more = f"o:{found[ROWS - 1].idx}" if len(found) > ROWS else None
        return ItemPage(found[:ROWS], more, show, after)
    items: list[Item] = []
    if part != "o":
        items = await engine.items(job_id, after=idx, limit=ROWS + 1, states=SHOWS["failed"])
        if len(items) > ROWS:
            return ItemPage(items[:ROWS], f"f:{items[ROWS - 1].idx}", show, after)
        idx = -1
    room = ROWS - len(items)
    others = await engine.items(job_id, after=idx, limit=room + 1, states=_OTHERS)
    more = None
    if len(others) > room:
        more = f"o:{others[room - 1].idx if room else -1}"
    return ItemPage([*items, *others[:room]], more, show, after)


async def reasons(engine: Engine, job: Job) -> list[Reason]:
    """Return why items of a job failed, the most frequent first, from the first thousand of them."""
    if not job.counts.failed:
        return []
    failed = await engine.items(job.id, limit=_REASONS, states=(State.FAILED,))
    numbers: Counter[tuple[str, str]] = Counter()
    errors: dict[tuple[str, str], Mapping[str, Any]] = {}
    for item in failed:
        error = item.error or {}
        key = (str(error.get("code", "")), str(error.get("stage", "")))
        numbers[key] += 1
        errors.setdefault(key, error)
    return [Reason(code, stage, n, errors[code, stage]) for (code, stage), n in numbers.most_common()]


@dataclass(frozen=True, slots=True)
class Step:
    """A stage as an item's timeline shows it: ``done running waiting failed skipped cancelled todo``."""

    name: str
    state: str
    fraction: float


def steps(job: Job, item: Item) -> list[Step]:
    """Return an item's timeline: one step for each stage of its job."""
    found = []
    for position, name in enumerate(job.stages):
        if item.state is State.SUCCEEDED or position < item.stage:
            found.append(Step(name, "done", 1.0))
        elif position > item.stage:
            found.append(Step(name, "todo", 0.0))
        else:
            found.append(Step(name, _here(item), item.progress if item.state is State.RUNNING else 0.0))
    return found


def _here(item: Item) -> str:
    if item.state is State.QUEUED:
        return "waiting" if item.stage or item.attempt > 1 else "todo"
    return item.state.value


def shown_name(item: Item) -> str:
    """Return an item's name as a heading: of a path its last part."""
    return words.base(item.name) or f"Item {item.idx}"


async def last_events(engine: Engine, job: Job, number: int) -> list[Event]:
    """Return the last lines of a job's log, newest first."""
    found = await engine.events(job.id, after=max(0, job.last_event - number), limit=number)
    return list(reversed(found))


@dataclass(frozen=True, slots=True)
class Timeline:
    """An item's attempts on one axis: for each run where it begins and how long it is, 0–1000."""

    runs: Sequence[tuple[StageRun, float, float]]
    seconds: float


def timeline(runs: Sequence[StageRun]) -> Timeline:
    """Lay an item's attempts out over the time from its first start to its last end."""
    if not runs:
        return Timeline((), 0.0)
    start = min(run.started_at for run in runs)
    whole = max(max(run.finished_at for run in runs) - start, 1e-6)
    return Timeline(
        [
            (
                run,
                round((run.started_at - start) / whole * 1000, 1),
                max(4.0, round((run.finished_at - run.started_at) / whole * 1000, 1)),
            )
            for run in runs
        ],
        whole,
    )


def shown_artifacts(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Leave out what a workload keeps for itself."""
    return [artifact for artifact in artifacts if not artifact.name.startswith(".")]
