"""Takes up what the database has: unfinished jobs, and the calls that run on while servers come and go."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from millrace.engine.executors import Call, Executor
from millrace.engine.round import Running
from millrace.engine.scheduler import ActiveJob, Scheduler
from millrace.engine.store import PLAN_STAGE, JobRow, Transaction
from millrace.engine.workload import Workload

log = logging.getLogger(__name__)


class Recovery:
    """Brings scheduler and calls in line with the database. ``calls`` are shared with the loop."""

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        workloads: Mapping[str, Workload],
        calls: dict[int, Running],
    ) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._workloads = workloads
        self._calls = calls

    def load(self, tx: Transaction, now: float) -> bool:
        """Take up what the database has: jobs, and the calls that run on; whether calls outlive servers."""
        survivors = self._executor.survivors(tx)
        alive = self._calls.keys() if survivors is None else [call.lease for call in survivors]
        tx.requeue_running(now, list(alive))
        self._scheduler.clear()
        for row in tx.active_jobs():
            if self.adopt(tx, row) is None:
                log.error("job %s waits: its workload %r is not installed", row.id, row.kind)
        if survivors is not None:
            for lease in self._calls.keys() - set(alive):
                del self._calls[lease]
                self._executor.forget(lease)
            for call in survivors:
                self._adopt_call(call, now)
        for running in self._calls.values():
            running.open.clear()
            self._scheduler.occupy(running.call.kind, running.call.stage, running.call.slots)
        for job in list(self._scheduler.jobs.values()):
            for idx, _, tries, losses, lease in tx.running_items(job.row):
                if lease in self._calls:
                    self._calls[lease].open.add(idx)
                    item = self._calls[lease].items[idx]
                    item.tries, item.losses = tries, losses
        return survivors is not None

    def _adopt_call(self, call: Call, now: float) -> None:
        """Take up a call that is under way but that this server has not dispatched."""
        if call.lease in self._calls:
            return
        job = self._scheduler.jobs.get(call.job)
        names = {stage.name: index for index, stage in enumerate(job.stages)} if job is not None else {}
        plan = job.workload.plan if job is not None else None
        if plan is not None and plan.name == call.stage.name:
            names[plan.name] = PLAN_STAGE
        if job is None or call.stage.name not in names:
            self._executor.kill(call.lease, "nobody waits for it any more")
            return
        index = names[call.stage.name]
        items = {item.idx: item for item in call.items}
        self._calls[call.lease] = Running(call, job, index, set(), items, now, None)

    def adopt(self, tx: Transaction, row: JobRow) -> ActiveJob | None:
        """Take a job into the scheduler as the database has it; None when its workload is unknown."""
        workload = self._workloads.get(row.kind)
        if workload is None:
            return None
        job = self._scheduler.take_in(row, workload, tx.stage_counts(row))
        for index, load in job.loads.items():
            if load.queued:
                job.wait(index, tx.next_available(row, index) or 0.0)
        for running in self._calls.values():
            if running.call.job == row.id:
                running.job = job
        return job
