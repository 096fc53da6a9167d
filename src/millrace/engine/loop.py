"""The engine's thread: takes requests and reports, writes them down together, and hands out work.

Each round is one transaction: requests from the API, reports of workers and new claims share one
commit, and only what was committed is acted on, sent to workers or told to anybody. When a commit
fails, what is in memory is read again from the database and the reports are applied anew.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import orjson

from millrace.engine.artifacts import ArtifactStore
from millrace.engine.dispatch import LEASE_SECONDS, Dispatch
from millrace.engine.events import Feed
from millrace.engine.executors import OVERDUE, Executor, Report
from millrace.engine.model import Event, State
from millrace.engine.outcomes import Outcomes
from millrace.engine.recovery import Recovery
from millrace.engine.round import Round, RoundEvent, Running
from millrace.engine.scheduler import ActiveJob, Scheduler
from millrace.engine.store import LeadershipLost, Store, TransactionLost
from millrace.engine.workload import Workload
from millrace.errors import Unavailable

log = logging.getLogger(__name__)

_RENEW_SECONDS = 10.0
_PROGRESS_SECONDS = 0.1
_ETA_SECONDS = 0.5
_RETRY_COMMIT_SECONDS = 0.5
_CAMPAIGN_SECONDS = 0.5

Request = Callable[[Round], Any]


class EngineLoop:
    """The thread that owns the scheduler, the executor and all writes.

    With ``shared``, several servers have one database, and this one works while it is in charge of it.

    failure     why nothing can be written at the moment; None when all is well.
    leading     whether this server is in charge; always so where it has the database for itself.
    took_over, stepped_down   called when that begins and ends; ``deaf`` says whether the one in charge,
                that holds the lock, has not been heard of for too long.
    serve, announce   called within each round: answers what other servers asked; tells them what happened.
    listeners   called with a round's events after they were committed; must be quick.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        artifacts: ArtifactStore,
        workloads: Mapping[str, Workload],
        feed: Feed,
        clock: Callable[[], float] = time.time,
        *,
        shared: bool = False,
    ) -> None:
        self.shared = shared
        self.leading = False
        self.took_over: Callable[[], None] = lambda: None
        self.stepped_down: Callable[[], None] = lambda: None
        self.deaf: Callable[[], bool] = lambda: False
        self.serve: Callable[[Round], None] | None = None
        self.announce: Callable[[Round], None] | None = None
        self.store = store
        self.executor = executor
        self.artifacts = artifacts
        self.workloads = workloads
        self.feed = feed
        self.clock = clock
        self.scheduler = Scheduler(
            executor.slots, grain=executor.grain, ahead=executor.ahead, limit=executor.limit
        )
        self.calls: dict[int, Running] = {}
        self.outcomes = Outcomes(self.scheduler, executor, artifacts, workloads, self.calls)
        self.dispatch = Dispatch(self.scheduler, executor, self.outcomes, self.calls)
        self.recovery = Recovery(self.scheduler, executor, workloads, self.calls)
        self.failure: str | None = None
        self.listeners: list[Callable[[Sequence[RoundEvent]], None]] = []
        self.rounds = 0
        self._stale = False
        self._round_at = 0.0
        self._inbox: deque[tuple[Request, Future[Any]]] = deque()
        self._progress_at = 0.0
        self._renew_at = 0.0
        self._stopping = threading.Event()
        self._accepting = True
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._ready: Future[None] = Future()

    # -- from other threads -------------------------------------------------------------------

    def start(self) -> None:
        """Recover what an earlier server left and begin; returns when work can be taken."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Kill what runs and end; running items go back to their queues."""
        self._stopping.set()
        self.executor.wake()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self.executor.stop()

    def request(self, request: Request) -> Future[Any]:
        """Have a function run inside the next transaction; its future resolves after the commit."""
        future: Future[Any] = Future()
        self._inbox.append((request, future))
        if self._accepting and self.leading:
            self.executor.wake()
        else:
            # Only now: whoever ends the loop may have emptied the inbox just before.
            self._refuse()
        return future

    def _refuse(self) -> None:
        """Tell whoever asked for something that nothing of it was done."""
        while True:
            try:
                _, future = self._inbox.popleft()
            except IndexError:
                return
            if self._accepting:
                future.set_exception(LeadershipLost("another server is in charge"))
            else:
                future.set_exception(Unavailable("the engine is stopping"))

    # -- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.executor.start()
            if not self.shared:
                self._recover()
                self.leading = True
        except BaseException as error:  # noqa: BLE001 - told to whoever starts the engine
            self._ready.set_exception(error)
            self.executor.stop()
            return
        try:
            if self.shared:
                self._take_turns()
            else:
                self._ready.set_result(None)
                self._work()
        except BaseException:
            # Without this thread the server only looks alive: whoever supervises it must start it anew.
            log.critical("the engine's thread ended by an error; the server stops", exc_info=True)
            self._accepting = False
            self.failure = "the engine has stopped"
            self.executor.stop()
            os.kill(os.getpid(), signal.SIGTERM)

    def _take_turns(self) -> None:
        """Be in charge whenever nobody else is."""
        while not self._stopping.is_set():
            try:
                if self.store.lead():
                    self._recover()
                    self.leading = True
                elif self.deaf():
                    log.error("the server in charge holds the lock but is not heard of; it is cut off")
                    self.store.depose()
            except Exception as error:  # noqa: BLE001 - the database is away: it is tried again
                log.warning("who is in charge cannot be found out: %s", error)
                self.failure = f"{type(error).__name__}: {error}"
            else:
                self.failure = None
            if not self._ready.done():
                self._ready.set_result(None)
            if not self.leading:
                self._stopping.wait(_CAMPAIGN_SECONDS)
                continue
            log.info("this server is in charge now")
            self.took_over()
            try:
                self._work()
            except LeadershipLost as error:
                log.warning("this server is in charge no more: %s", error.message)
            self._step_down()
        if self._accepting:
            self._accepting = False
            self.executor.stop()

    def _step_down(self) -> None:
        """Forget what is another server's business now. What it was asked meanwhile was not done."""
        self.leading = False
        self._refuse()
        if not self._stopping.is_set():
            self.stepped_down()
        self.executor.disown()
        self.scheduler.clear()
        self.calls.clear()
        self.outcomes.progress.clear()
        self.outcomes.unstored.clear()
        self.scheduler.paused.clear()
        self.scheduler.breakers.clear()
        self._stale = False
        self.rounds = 0

    def _work(self) -> None:
        reports: list[Report] = []
        requests: list[tuple[Request, Future[Any]]] = []
        while not self._stopping.is_set():
            # The first round is due at once: what was recovered waits, and nobody may ever say a word.
            due = self._inbox or reports or not self.rounds
            reports += self.executor.poll(0.0 if due else self._timeout())
            while self._inbox:
                requests.append(self._inbox.popleft())
            try:
                if self._stale:
                    self._take_up()
                self._round(reports, requests)
            except LeadershipLost as error:
                for _, future in requests:
                    if not future.done():
                        future.set_exception(error)
                raise
            except Exception as error:  # noqa: BLE001 - logged there, and told to whoever asked
                self._undo(requests, error)
            else:
                reports = []
            requests = []
        self._shut_down(reports)

    def _timeout(self) -> float | None:
        now = self.clock()
        times = [running.deadline for running in self.calls.values() if running.deadline is not None]
        if self.calls:
            times.append(self._renew_at)
        if self.outcomes.unstored:
            times.append(self._progress_at + _PROGRESS_SECONDS)
        # By the last round's time: what became due since then has not been looked at yet.
        wake = self.scheduler.next_wake(self._round_at)
        if wake is not None:
            times.append(wake)
        return max(0.0, min(times) - now) if times else None

    def _recover(self) -> None:
        with self.store.begin() as tx:
            # First of all: from here on whoever was in charge before can write nothing more.
            epoch = int(tx.fact("lease_epoch") or 0) + 1
            tx.set_fact("lease_epoch", str(epoch))
            self.dispatch.number_from(epoch << 32)
            round_ = Round(tx, self.clock())
            outlived = self.recovery.load(tx, round_.now)
            for kind in self.workloads:
                mode = tx.fact(f"workload:{kind}")
                if mode in ("paused", "draining"):
                    self.scheduler.paused[kind] = mode  # type: ignore[assignment]
            for job in list(self.scheduler.jobs.values()):
                # Where calls outlive the server, its restart interrupts nothing.
                if job.workload.on_restart == "fail" and not job.row.held and not outlived:
                    self._interrupt(round_, job)
                self.outcomes.settle(round_, job.row)
            self._write(round_)
        if self.shared:
            self.store.fence(str(epoch))
        if outlived:
            self.outcomes.publishing.take_over(epoch << 32)
        else:
            self.artifacts.discard("staging")
        log.info("took up %d unfinished jobs, %d calls run on", len(self.scheduler.jobs), len(self.calls))

    def _interrupt(self, round_: Round, job: ActiveJob) -> None:
        error = orjson.dumps(
            {
                "code": "interrupted",
                "message": "the server was restarted while this was unfinished",
                "details": {},
            }
        ).decode()
        self.outcomes.end_queued(round_, job, State.FAILED, error)
        job.row.error = error

    def _round(self, reports: list[Report], requests: list[tuple[Request, Future[Any]]]) -> None:
        now = self._round_at = self.clock()
        began = time.perf_counter()
        self.rounds += 1
        self._kill_overdue(now)
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        ended: list[int] = []
        with self.store.begin() as tx:
            round_ = Round(tx, now)
            for request, future in requests:
                answers.append((future, *self.answer(round_, request)))
            if self.serve is not None:
                self.serve(round_)
            reports = [*reports, *self.executor.collect(tx)]
            if reports:
                self.outcomes.take(round_, reports, ended)
            if not self._stopping.is_set():
                self.dispatch.fill(round_, ended)
            if round_.calls:
                self.executor.record(tx, [(each.call, each.job.row.priority) for each in round_.calls])
            self._renew(round_)
            self._write(round_)
            if self.announce is not None:
                self.announce(round_)
        self.failure = None
        self.scheduler.learn_round(time.perf_counter() - began)
        for lease in ended:
            self.calls.pop(lease, None)
            self.executor.forget(lease)
        for running in round_.calls:
            self.calls[running.call.lease] = running
            self.executor.submit(running.call)
        self._publish(round_)
        self._act(round_)
        for future, result, error in answers:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def answer(self, round_: Round, request: Request) -> tuple[Any, BaseException | None]:
        """Run a request within a round; return its result, or what it raised: then nothing of it happened."""
        marks = (len(round_.events), len(round_.afterwards))
        try:
            with round_.tx.savepoint():
                return request(round_), None
        except TransactionLost:
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            for row, *_ in round_.events[marks[0] :]:
                row.last_event -= 1
            del round_.events[marks[0] :], round_.afterwards[marks[1] :]
            return None, error

    def _undo(self, requests: list[tuple[Request, Future[Any]]], error: Exception) -> None:
        """A round could not be committed: its reports are kept, and what is in memory no longer holds."""
        if self.failure is None:
            log.exception("a round could not be written; nothing of it happened, it is tried again")
        self.failure = f"{type(error).__name__}: {error}"
        self._stale = True
        for _, future in requests:
            if not future.done():
                future.set_exception(Unavailable(f"the database could not write: {error}"))
        self._stopping.wait(_RETRY_COMMIT_SECONDS)

    def _take_up(self) -> None:
        """Take up what the database has, whatever became of the commit that failed."""
        with self.store.begin() as tx:
            self.recovery.load(tx, self.clock())
        self._stale = False

    def _write(self, round_: Round) -> None:
        tx, now = round_.tx, round_.now
        if round_.runs:
            tx.insert_runs(round_.runs)
        if self.outcomes.unstored and now - self._progress_at >= _PROGRESS_SECONDS:
            tx.progress(list(self.outcomes.unstored.values()))
            self.outcomes.unstored.clear()
            self._progress_at = now
        if round_.events:
            tx.insert_events(
                [
                    (job.seq, seq, now, kind, idx, orjson.dumps(data).decode() if data else "{}")
                    for job, seq, kind, idx, data in round_.events
                ]
            )
        if round_.dirty:
            for row in round_.dirty.values():
                job = self.scheduler.jobs.get(row.id)
                if job is not None and now - job.eta_checked >= _ETA_SECONDS:
                    job.eta_checked = now
                    row.eta_at = self.scheduler.eta(job, now)
                row.updated_at = now
            tx.save_jobs(round_.dirty.values())

    def _publish(self, round_: Round) -> None:
        self.feed.publish(round_.live)
        if round_.events:
            for listen in self.listeners:
                listen(round_.events)
            self.feed.publish(
                Event(job.id, seq, round_.now, kind, idx, data)
                for job, seq, kind, idx, data in round_.events
                if self.feed.watched(job.id)
            )

    @staticmethod
    def _act(round_: Round) -> None:
        for action in round_.afterwards:
            try:
                action()
            except Exception:
                log.exception("what was to be done after a commit failed")

    def _kill_overdue(self, now: float) -> None:
        for lease, running in self.calls.items():
            if running.deadline is not None and now >= running.deadline:
                self.executor.kill(lease, OVERDUE)

    def kill_job(self, job_id: str) -> None:
        """Kill whatever of a job runs now."""
        for lease, running in self.calls.items():
            if running.call.job == job_id:
                self.executor.kill(lease, "cancelled")

    def _renew(self, round_: Round) -> None:
        if round_.now >= self._renew_at:
            self._renew_at = round_.now + _RENEW_SECONDS
            round_.tx.renew(list(self.calls), round_.now + LEASE_SECONDS)

    def _shut_down(self, reports: list[Report]) -> None:
        """Write down what was still reported; what runs is killed and goes on at the next start."""
        self._accepting = False
        try:
            with self.store.begin() as tx:
                round_ = Round(tx, self.clock())
                self.outcomes.take(round_, list(reports), [])
                self._write(round_)
            self._act(round_)
        except Exception:
            log.exception("the last reports could not be written; their items run again at the next start")
        self.executor.stop()
        self._refuse()
