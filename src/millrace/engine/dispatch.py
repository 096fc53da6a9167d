"""Hands out what the scheduler picks: claims the items in the round's transaction, and makes their calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from millrace.engine.executors import Call, Executor
from millrace.engine.model import State
from millrace.engine.outcomes import Outcomes
from millrace.engine.round import Round, Running
from millrace.engine.scheduler import Pick, Scheduler
from millrace.engine.store import PLAN_STAGE

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0


class Dispatch:
    """Makes calls. ``calls`` are those under way, by lease; shared with the loop."""

    def __init__(
        self, scheduler: Scheduler, executor: Executor, outcomes: Outcomes, calls: Mapping[int, Running]
    ) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._outcomes = outcomes
        self._calls = calls
        self._lease = 0

    def number_from(self, lease: int) -> None:
        """Give the calls to come leases above this one."""
        self._lease = lease

    def fill(self, round_: Round, ended: list[int]) -> None:
        """Hand out whatever may start; ``ended``: the leases of calls that are over."""
        while True:
            pick = self._scheduler.pick(round_.now)
            if pick is not None:
                self._claim(round_, pick)
            elif not self._make_room(round_, ended):
                return

    def _make_room(self, round_: Round, ended: list[int]) -> bool:
        """Call back what was sent ahead where something more urgent waits for its slot; return if any was.

        What a worker has begun goes on. Each call is asked back once: begun, it does not become unbegun.
        """
        if not self._executor.ahead or not self._scheduler.mixed:
            return False
        over = set(ended)
        calls = {
            lease: running
            for lease, running in self._calls.items()
            if not running.asked_back and lease not in over
        }
        if not calls:
            return False
        lowest = min(running.job.row.priority for running in calls.values())
        asked = []
        for resource, priority in self._scheduler.waits(round_.now, lowest).items():
            for lease, running in calls.items():
                if running.call.stage.resource == resource and running.job.row.priority < priority:
                    running.asked_back = True
                    asked.append(lease)
        return bool(asked) and self._outcomes.recall(round_, asked, ended)

    def _claim(self, round_: Round, pick: Pick) -> None:
        job, row = pick.job, pick.job.row
        self._lease += 1
        items = round_.tx.claim(
            row, pick.stage, self._lease, round_.now + LEASE_SECONDS, round_.now, pick.limit
        )
        if not items:
            # All that is queued waits for its time; without this the pick would come again at once.
            wake = round_.tx.next_available(row, pick.stage)
            if wake is None:
                queued = job.loads[pick.stage].queued
                log.error("job %s: %d items counted as queued are not there", row.id, queued)
                job.dequeue(pick.stage, queued)
            else:
                job.wait(pick.stage, max(wake, round_.now + 0.001))
            return
        self._scheduler.taken(pick, len(items))
        stage = job.stage(pick.stage)
        artifacts = round_.tx.artifact_keys(row, [item.idx for item in items]) if pick.stage > 0 else {}
        call = Call(self._lease, row.id, row.kind, stage, row.options, row.meta, items, pick.slots, artifacts)
        running = Running(
            call,
            job,
            pick.stage,
            {item.idx for item in items},
            {item.idx: item for item in items},
            round_.now,
            None if stage.timeout is None or self._executor.keeps_time else round_.now + stage.timeout,
        )
        round_.calls.append(running)
        if row.started_at is None:
            row.started_at = round_.now
            round_.event(row, "job.started")
        if row.state is State.QUEUED:
            row.state = State.RUNNING
        breaker = self._scheduler.breakers.get((row.kind, stage.name))
        if breaker is not None:
            breaker.started(self._lease)
        if pick.stage != PLAN_STAGE:
            for item in items:
                round_.event(row, "item.started", item.idx, stage=stage.name, attempt=item.attempt)
        round_.touch(row)
