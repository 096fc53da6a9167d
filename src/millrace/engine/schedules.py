"""Cron schedules: jobs that are created by the clock, each tick at most once.

A tick is a row whose key is (schedule, time), written in the transaction that creates its job: however
often it is tried, there is one job. Times are told in the schedule's own zone as Debian's cron tells
them: a tick in the hour that a change to summer time skips comes right after it, one in the hour that is
repeated comes once. What a scheduled job is made of is handed in; this module knows no requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from millrace.engine.model import NewJob, State
from millrace.engine.timer import Timer
from millrace.errors import InvalidRequest, MillraceError, NotFound

if TYPE_CHECKING:
    from millrace.engine.engine import Engine
    from millrace.engine.round import Round

log = logging.getLogger(__name__)

Missed = Literal["skip", "once", "all"]
GRACE = 60.0
"""A tick this many seconds late was not missed: the server was only busy or starting."""
_MOST_MADE_UP = 100
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as stored.

    cron, zone  when: five fields as in crontab(5) (or six, seconds first, or ``@daily`` and so on), and the
                IANA name of the time zone they are told in.
    request     what the job is made of, as given to the function that makes it.
    missed      what becomes of ticks that passed while no server ran: ``skip`` them, make them up by ``once``
                for all, or run them ``all`` (the latest hundred).
    overlap     whether a tick starts a job while the one before is unfinished.
    last_error  why the last tick made no job; None when it did.
    """

    id: str
    name: str
    cron: str
    zone: str
    request: Mapping[str, Any]
    missed: Missed
    overlap: bool
    enabled: bool
    next_at: float | None
    last_at: float | None
    last_job: str | None
    last_error: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Tick:
    """One time a schedule came due: the job it made, or why it made none."""

    schedule: str
    at: float
    job: str | None
    error: str | None


class ScheduleWrites(Protocol):
    """What a transaction must offer for schedules."""

    def insert_schedule(self, schedule: Schedule) -> None:
        """Add a schedule."""
        ...

    def save_schedule(self, schedule: Schedule) -> None:
        """Write a schedule's columns."""
        ...

    def load_schedule(self, id: str) -> Schedule | None:
        """Read one schedule for writing."""
        ...

    def delete_schedule(self, id: str) -> bool:
        """Delete a schedule and its ticks; False if there is none."""
        ...

    def insert_tick(self, tick: Tick) -> bool:
        """Write a tick down; False if it was before."""
        ...


class ScheduleReads(Protocol):
    """What a store must offer for schedules."""

    def schedules(self) -> list[Schedule]:
        """Read all schedules, in order of creation."""
        ...

    def schedule(self, id: str) -> Schedule | None:
        """Read one schedule."""
        ...

    def due_schedules(self, now: float) -> list[Schedule]:
        """Read enabled schedules that are due."""
        ...

    def next_schedule(self) -> float | None:
        """Return when the first enabled schedule is due."""
        ...

    def ticks(self, id: str, limit: int) -> list[Tick]:
        """Read a schedule's ticks, newest first."""
        ...


MakeJob = Callable[[Mapping[str, Any]], NewJob]
"""Makes a job, with an id of its own, from a schedule's request; InvalidRequest where it cannot be made."""


def _expression(cron: str) -> str:
    return _NICKNAMES.get(cron.strip().lower(), cron)


def check(cron: str, zone: str) -> None:
    """Raise InvalidRequest unless the expression and the zone can be understood, and ever come due."""
    if len(cron) > 200:
        raise InvalidRequest("cron: longer than 200 characters")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(f"zone: {zone!r} is no time zone; write it like Europe/Berlin or UTC") from None
    try:
        due = next_tick(cron, zone, time.time())
    except CronSimError as error:
        raise InvalidRequest(
            f"cron: {cron!r} is not a cron expression ({error}); write it like '30 3 * * *'"
        ) from None
    if due is None:
        raise InvalidRequest(f"cron: {cron!r} never comes due")


def next_tick(cron: str, zone: str, after: float) -> float | None:
    """Return the first time (epoch seconds) behind ``after`` at which the schedule is due; None if never."""
    for due in CronSim(_expression(cron), datetime.fromtimestamp(after, ZoneInfo(zone))):
        # Inside a repeated hour the expression may name the first of the two, which is over.
        if due.timestamp() > after:
            return due.timestamp()
    return None


def last_tick(cron: str, zone: str, until: float) -> float | None:
    """Return the last time at or before ``until`` at which the schedule was due."""
    start = datetime.fromtimestamp(until + 1, ZoneInfo(zone))
    for due in CronSim(_expression(cron), start, reverse=True):
        if due.timestamp() <= until:
            return due.timestamp()
    return None


def due_ticks(schedule: Schedule, now: float) -> list[float]:
    """Return the ticks to be run now, oldest first, by the schedule's policy for missed ones. Pure."""
    first = schedule.next_at
    if first is None or first > now:
        return []
    if schedule.missed == "all":
        ticks = [first]
        while (
            following := next_tick(schedule.cron, schedule.zone, ticks[-1])
        ) is not None and following <= now:
            ticks.append(following)
            del ticks[:-_MOST_MADE_UP]
        return ticks
    last = max(first, last_tick(schedule.cron, schedule.zone, now) or first)
    if schedule.missed == "skip" and now - last > GRACE:
        return []
    return [last]


def upcoming(schedule: Schedule, number: int, now: float) -> list[float]:
    """Return the next ``number`` times an enabled schedule will be due."""

    def times() -> Iterator[float]:
        at = next_tick(schedule.cron, schedule.zone, now)
        while at is not None:
            yield at
            at = next_tick(schedule.cron, schedule.zone, at)

    return list(islice(times(), number)) if schedule.enabled else []


class Schedules:
    """Creates jobs when their schedules are due, on a thread of its own."""

    def __init__(self, engine: Engine, make: MakeJob, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._store = engine.store
        self._make = make
        self._clock = clock
        self._timer = Timer("schedules", self._step)
        engine.commands["schedules.add"] = self._add
        engine.commands["schedules.enable"] = self._enable
        engine.commands["schedules.delete"] = self._delete

    def start(self) -> None:
        """Begin, with what was missed."""
        self._timer.start()

    def stop(self) -> None:
        """Create nothing more."""
        self._timer.stop()

    async def add(
        self,
        cron: str,
        request: Mapping[str, Any],
        *,
        name: str = "",
        zone: str = "UTC",
        missed: Missed = "once",
        overlap: bool = False,
        enabled: bool = True,
    ) -> Schedule:
        """Add a schedule. InvalidRequest where the times or the request cannot be understood."""
        check(cron, zone)
        await asyncio.to_thread(self._make, request)
        now = self._clock()
        schedule = Schedule(
            id=f"sch_{uuid.uuid4().hex[:16]}",
            name=name,
            cron=cron,
            zone=zone,
            request=dict(request),
            missed=missed,
            overlap=overlap,
            enabled=enabled,
            next_at=next_tick(cron, zone, now) if enabled else None,
            last_at=None,
            last_job=None,
            last_error=None,
            created_at=now,
            updated_at=now,
        )
        await self._engine.command("schedules.add", schedule=schedule)
        return schedule

    def _add(self, round_: Round, schedule: Schedule | Mapping[str, Any]) -> None:
        given = schedule if isinstance(schedule, Schedule) else Schedule(**schedule)
        round_.tx.insert_schedule(given)
        round_.afterwards.append(self._timer.wake)

    async def enable(self, id: str, enabled: bool) -> Schedule:
        """Switch a schedule on or off. What it would have run while off is not made up."""

        await self._engine.command("schedules.enable", id=id, enabled=enabled)
        return await self.get(id)

    def _enable(self, round_: Round, id: str, enabled: bool) -> None:
        schedule = round_.tx.load_schedule(id)
        if schedule is None:
            raise NotFound(f"no schedule {id!r}")
        if schedule.enabled == enabled:
            return
        next_at = next_tick(schedule.cron, schedule.zone, round_.now) if enabled else None
        round_.tx.save_schedule(replace(schedule, enabled=enabled, next_at=next_at, updated_at=round_.now))
        round_.afterwards.append(self._timer.wake)

    async def delete(self, id: str) -> None:
        """Delete a schedule; its jobs stay. NotFound if there is none."""
        await self._engine.command("schedules.delete", id=id)

    def _delete(self, round_: Round, id: str) -> None:
        if not round_.tx.delete_schedule(id):
            raise NotFound(f"no schedule {id!r}")
        round_.afterwards.append(self._timer.wake)

    async def list(self) -> Sequence[Schedule]:
        """Return all schedules."""
        return await asyncio.to_thread(self._store.schedules)

    async def get(self, id: str) -> Schedule:
        """Return a schedule; NotFound if there is none."""
        schedule = await asyncio.to_thread(self._store.schedule, id)
        if schedule is None:
            raise NotFound(f"no schedule {id!r}")
        return schedule

    async def ticks(self, id: str, limit: int = 50) -> Sequence[Tick]:
        """Return what a schedule has done, newest first."""
        await self.get(id)
        return await asyncio.to_thread(self._store.ticks, id, limit)

    def _step(self) -> float | None:
        now = self._clock()
        for schedule in self._store.due_schedules(now):
            if self._timer.stopping:
                return 0.0
            self._run_due(schedule, now)
        due = self._store.next_schedule()
        return None if due is None else due - self._clock()

    def _run_due(self, schedule: Schedule, now: float) -> None:
        for at in due_ticks(schedule, now):
            try:
                new = self._make(schedule.request)
                self._write(schedule, at, new, None)
            except MillraceError as error:
                log.warning("schedule %s (%s): no job: %s", schedule.id, schedule.name, error.message)
                self._write(schedule, at, None, error.message.replace("\0", ""))
        following = next_tick(schedule.cron, schedule.zone, now)

        def move_on(round_: Round) -> None:
            current = round_.tx.load_schedule(schedule.id)
            if current is not None and current.next_at == schedule.next_at and current.enabled:
                round_.tx.save_schedule(replace(current, next_at=following, updated_at=round_.now))

        self._engine.loop.request(move_on).result()

    def _write(self, schedule: Schedule, at: float, new: NewJob | None, error: str | None) -> None:
        """Write a tick down and create its job, both or neither; nothing when it was before."""

        def tick(round_: Round) -> None:
            tx = round_.tx
            current = tx.load_schedule(schedule.id)
            if current is None or not current.enabled:
                return
            problem = error
            if new is not None and not current.overlap and current.last_job is not None:
                last = tx.load_job(current.last_job)
                if last is not None and last.state in (State.QUEUED, State.RUNNING):
                    problem = f"the job of the tick before, {last.id}, is still {last.state}"
            made = new.id if new is not None and problem is None else None
            if not tx.insert_tick(Tick(schedule.id, at, made, problem)):
                return
            if new is not None and made is not None:
                self._engine.create(round_, new)
            tx.save_schedule(
                replace(
                    current,
                    last_at=at,
                    last_job=made or current.last_job,
                    last_error=problem,
                    updated_at=round_.now,
                )
            )

        self._engine.loop.request(tick).result()
