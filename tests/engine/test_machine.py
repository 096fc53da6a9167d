"""Any order of submissions, reports, deaths, cancels, retries and restarts, on both databases.

A machine drives the real engine, its loop and its store; only the executor is scripted, so that the
machine decides what becomes of each call. A model beside it says what must be true afterwards.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from millrace.blobs import open_store
from millrace.engine import loop
from millrace.engine.engine import Engine
from millrace.engine.executors import Call, DiesWithServer, Done, Ended, Lost, Report, WorkerInfo
from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.sql import SqlStore
from millrace.engine.sql.transaction import SqlTransaction
from millrace.engine.workload import Retry, Workload
from millrace.errors import Conflict, Unavailable
from tests.engine.conftest import fresh_database
from tests.engine.rig import stage

T = TypeVar("T")

ATTEMPTS, LOSSES, TIMEOUT, DELAY = 3, 3, 1000.0, 10.0
SLOTS = {"cpu": 3, "gpu": 0, "io": 0}
RETRY = Retry(attempts=ATTEMPTS, delay=DELAY, factor=1.0)


def steps(*names: str, chunk: int = 1) -> Any:
    return tuple(stage(name, retry=RETRY, timeout=TIMEOUT, chunk=chunk) for name in names)


WORKLOADS = {
    "one": Workload("one", steps("a", chunk=3), fails_when="any"),
    "two": Workload("two", steps("a", "b"), policy="stage_first"),
    "flow": Workload("flow", steps("a", "b"), policy="item_first", max_running_jobs=2),
}


class FlakyStore(SqlStore):
    """A store whose next transactions fail at their very end, as on a full disk."""

    failures = 0

    @contextmanager
    def begin(self) -> Iterator[SqlTransaction]:
        with super().begin() as tx:
            yield tx
            if self.failures:
                self.failures -= 1
                raise OSError("no space left on device")


class ScriptedExecutor(DiesWithServer):
    """Runs nothing: keeps the calls it is given until the machine says what became of them."""

    slots: Mapping[str, int] = SLOTS

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self._reports: list[Report] = []
        self._something = threading.Event()

    def report(self, *reports: Report) -> None:
        self._reports += reports
        self._something.set()

    def start(self) -> None:
        pass

    def submit(self, call: Call) -> None:
        assert call.lease not in self.calls
        self.calls[call.lease] = call

    def kill(self, lease: int, reason: str) -> None:
        if self.calls.pop(lease, None) is not None:
            self.report(Lost(lease, reason, blame=False))

    def poll(self, timeout: float | None) -> Sequence[Report]:
        self._something.wait(timeout)
        self._something.clear()
        number = len(self._reports)
        reports, self._reports[:number] = self._reports[:number], []
        return reports

    def wake(self) -> None:
        self._something.set()

    def worker_of(self, lease: int) -> str:
        return "scripted"

    def forget(self, lease: int) -> None:
        pass

    def workers(self) -> list[WorkerInfo]:
        return []

    def stop(self) -> None:
        self.calls.clear()


@dataclass
class ModelItem:
    state: str = "queued"
    stage: int = 0
    tries: int = 0
    losses: int = 0
    available: float = 0.0

    @property
    def over(self) -> bool:
        return self.state not in ("queued", "running")


@dataclass
class ModelJob:
    kind: str
    items: list[ModelItem]
    held: bool
    parallelism: int | None
    cancelled: bool = False

    @property
    def stages(self) -> int:
        return len(WORKLOADS[self.kind].stages)

    @property
    def over(self) -> bool:
        return all(item.over for item in self.items)

    def expected_end(self) -> State:
        states = [item.state for item in self.items]
        any_fails = WORKLOADS[self.kind].fails_when == "any"
        if "failed" in states and (
            any_fails or (not {"succeeded", "skipped"} & set(states) and not self.cancelled)
        ):
            return State.FAILED
        if self.cancelled or "cancelled" in states:
            return State.CANCELLED
        return State.SUCCEEDED

    def gate_open(self, item: ModelItem) -> bool:
        if WORKLOADS[self.kind].policy == "item_first":
            return True
        return not any(not other.over and other.stage < item.stage for other in self.items)


@dataclass
class World:
    """What the machine believes, and the engine it believes it of."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    open: dict[int, list[int]] = field(default_factory=dict)
    ahead: float = 0.0
    paused: set[str] = field(default_factory=set)


class EngineMachine(RuleBasedStateMachine):
    """The rules; ``database`` is set by the subclasses."""

    database = "sqlite"

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.stack.callback(setattr, loop, "_RETRY_COMMIT_SECONDS", loop._RETRY_COMMIT_SECONDS)
        loop._RETRY_COMMIT_SECONDS = 0.005
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.directory = directory
        self.url = self.stack.enter_context(fresh_database(self.database, directory))
        self.world = World()
        self.dead: list[tuple[int, int]] = []
        self.failing = 0
        self.engine: Engine | None = None
        self.boot()

    def boot(self) -> None:
        self.executor = ScriptedExecutor()
        blobs = open_store({"root": str(self.directory / "blobs")})
        self.store = FlakyStore(self.url)
        self.engine = Engine(
            self.store,
            self.executor,
            blobs,
            list(WORKLOADS.values()),
            clock=lambda: time.time() + self.world.ahead,
        )
        self.engine.start()
        # What was recovered must go on by itself, before anybody asks for anything.
        deadline = time.monotonic() + 20
        while self.engine.loop.rounds == 0:
            assert time.monotonic() < deadline, "the engine sleeps after its start"
            time.sleep(0.0005)
        self.settle()

    def teardown(self) -> None:
        if getattr(self, "engine", None) is not None:
            for id in self.world.jobs:
                events = self.do(self.engine.events(id, limit=100_000))
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
            self.engine.stop()
        if hasattr(self, "stack"):
            self.stack.close()

    def do(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(work, 20)

        return asyncio.run(bounded())

    def settle(self) -> None:
        """Let the engine take what was reported and hand out what it can; then look at its calls."""
        ticks = 0
        while ticks < 2:
            try:
                self.do(self.engine.put_record("test", "tick", {}))
                ticks += 1
            except Unavailable:
                continue
        open_now = dict(self.executor.calls)
        for lease, call in open_now.items():
            if lease not in self.world.open:
                self.world.open[lease] = [item.idx for item in call.items]
                for item in call.items:
                    self.claimed(call, item.idx)

    def claimed(self, call: Call, idx: int) -> None:
        job = self.world.jobs[call.job]
        item = job.items[idx]
        assert item.state == "queued", "an item was handed out twice"
        assert call.stage.name == WORKLOADS[job.kind].stages[item.stage].name
        assert item.available <= time.time() + self.world.ahead
        assert not job.held
        assert job.kind not in self.world.paused
        assert job.gate_open(item), "a stage began before its time"
        running = sum(other.state == "running" for other in job.items)
        assert job.parallelism is None or running < job.parallelism
        item.state = "running"

    @rule(times=st.integers(1, 3))
    def the_disk_fills_up_for_a_moment(self, times: int) -> None:
        self.failing = times

    def disk(self) -> None:
        """Let what comes next happen while the disk is full, if that was said."""
        self.store.failures, self.failing = self.failing, 0

    # -- what clients do ----------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(sorted(WORKLOADS)),
        items=st.integers(1, 6),
        priority=st.integers(0, 3),
        parallelism=st.sampled_from([None, None, 1, 2]),
        held=st.sampled_from([False, False, False, True]),
    )
    def submit(self, kind: str, items: int, priority: int, parallelism: int | None, held: bool) -> None:
        id = f"job-{len(self.world.jobs)}"
        self.world.jobs[id] = ModelJob(kind, [ModelItem() for _ in range(items)], held, parallelism)
        new = NewJob(
            id,
            kind,
            [NewItem(name=str(n)) for n in range(items)],
            priority=priority,
            parallelism=parallelism,
            held=held,
        )
        self.do(self.engine.submit(new))
        self.settle()

    def some_job(self, data: st.DataObject, *, over: bool | None = None) -> str | None:
        ids = [id for id, job in self.world.jobs.items() if over is None or job.over == over]
        return data.draw(st.sampled_from(ids)) if ids else None

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = self.some_job(data)
        if id is None:
            return
        job = self.world.jobs[id]
        if not job.over:
            job.cancelled = True
            for item in job.items:
                if not item.over:
                    item.state = "cancelled"
            self.forget_calls(id)
        self.do(self.engine.cancel(id))
        self.settle()

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        id = self.some_job(data)
        if id is None:
            return
        job = self.world.jobs[id]
        failed = [item for item in job.items if item.state == "failed"]
        if not failed:
            with pytest.raises(Conflict):
                self.do(self.engine.retry(id))
            return
        job.cancelled = False
        for item in failed:
            item.state, item.tries, item.losses, item.available = "queued", 0, 0, 0.0
        self.do(self.engine.retry(id))
        self.settle()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = [id for id, job in self.world.jobs.items() if job.held and not job.over]
        if held:
            id = data.draw(st.sampled_from(held))
            self.world.jobs[id].held = False
            self.do(self.engine.release(id))
            self.settle()

    @rule(data=st.data(), priority=st.integers(0, 3), parallelism=st.integers(1, 3))
    def steer(self, data: st.DataObject, priority: int, parallelism: int) -> None:
        id = self.some_job(data, over=False)
        if id is not None:
            self.world.jobs[id].parallelism = parallelism
            self.do(self.engine.update(id, priority=priority, parallelism=parallelism))
            self.settle()

    @rule(kind=st.sampled_from(sorted(WORKLOADS)))
    def pause_or_resume(self, kind: str) -> None:
        if kind in self.world.paused:
            self.world.paused.discard(kind)
            self.do(self.engine.resume(kind))
        else:
            self.world.paused.add(kind)
            self.do(self.engine.pause(kind))
        self.settle()

    # -- what workers do ----------------------------------------------------------------------

    @precondition(lambda self: self.world.open)
    @rule(data=st.data(), verdict=st.sampled_from(["succeeded", "succeeded", "skipped", "bad", "transient"]))
    def finish(self, data: st.DataObject, verdict: str) -> None:
        lease = data.draw(st.sampled_from(sorted(self.world.open)))
        idx = self.world.open[lease][0]
        job = self.world.jobs[self.executor.calls[lease].job]
        item = job.items[idx]
        item.state = "queued"
        if verdict == "succeeded":
            if item.stage + 1 == job.stages:
                item.state = "succeeded"
            else:
                item.stage, item.tries, item.losses, item.available = item.stage + 1, 0, 0, 0.0
        elif verdict == "skipped":
            item.state = "skipped"
        else:
            item.tries += 1
            if verdict == "bad" or item.tries == ATTEMPTS:
                item.state = "failed"
            else:
                item.available = time.time() + self.world.ahead + DELAY * 0.8
        self.disk()
        self.executor.report(self.done(lease, idx, verdict))
        self.world.open[lease].pop(0)
        self.dead.append((lease, idx))
        if not self.world.open[lease]:
            del self.world.open[lease]
            self.executor.calls.pop(lease)
            self.executor.report(Ended(lease))
        self.settle()

    def done(self, lease: int, idx: int, verdict: str) -> Done:
        now = time.time() + self.world.ahead
        if verdict in ("succeeded", "skipped"):
            return Done(lease, idx, verdict, '{"a": {}}', None, [], now - 0.001, now)  # type: ignore[arg-type]
        error = {
            "code": verdict,
            "message": "",
            "details": {},
            "retryable": verdict == "transient",
            "backend": False,
        }
        return Done(lease, idx, "failed", None, error, [], now - 0.001, now)

    @precondition(lambda self: self.world.open)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.world.open)))
        self.lose(lease)
        self.executor.calls.pop(lease)
        self.disk()
        self.executor.report(Lost(lease, "its worker died", blame=True))
        self.settle()

    def lose(self, lease: int) -> None:
        job = self.world.jobs[self.executor.calls[lease].job]
        for idx in self.world.open.pop(lease):
            item = job.items[idx]
            item.losses += 1
            item.state = "failed" if item.losses == LOSSES else "queued"
            self.dead.append((lease, idx))

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), verdict=st.sampled_from(["succeeded", "bad"]))
    def stale_report(self, data: st.DataObject, verdict: str) -> None:
        lease, idx = data.draw(st.sampled_from(self.dead))
        # A call that still runs other items of its chunk has not ended: no executor says so.
        over = verdict == "bad" and lease not in self.executor.calls
        self.executor.report(self.done(lease, idx, verdict), Ended(lease if over else 0))
        self.settle()

    # -- what time and operators do -----------------------------------------------------------

    @rule()
    def time_passes(self) -> None:
        self.world.ahead += DELAY * 1.2
        self.executor.wake()
        self.settle()

    @precondition(lambda self: self.world.open)
    @rule()
    def everything_takes_too_long(self) -> None:
        self.world.ahead += TIMEOUT + 1
        for lease in list(self.world.open):
            job = self.world.jobs[self.executor.calls[lease].job]
            if len(self.world.open[lease]) == 1:
                idx = self.world.open.pop(lease)[0]
                job.items[idx].state = "failed"
                job.items[idx].tries += 1
                self.dead.append((lease, idx))
            else:
                self.lose(lease)
        self.disk()
        self.executor.wake()
        self.settle()

    @rule()
    def restart(self) -> None:
        for lease in list(self.world.open):
            job = self.world.jobs[self.executor.calls[lease].job]
            for idx in self.world.open.pop(lease):
                job.items[idx].state = "queued"
                self.dead.append((lease, idx))
        self.engine.stop()
        self.boot()

    def forget_calls(self, id: str) -> None:
        for lease, call in list(self.executor.calls.items()):
            if call.job == id:
                self.dead += [(lease, idx) for idx in self.world.open.pop(lease, [])]

    # -- what must always be true -------------------------------------------------------------

    @invariant()
    def the_database_says_what_happened(self) -> None:
        for id, model in self.world.jobs.items():
            job = self.do(self.engine.job(id))
            items = self.do(self.engine.items(id, limit=100))
            assert [item.state.value for item in items] == [item.state for item in model.items]
            assert [item.stage for item in items] == [item.stage for item in model.items]
            for state in State:
                expected = sum(item.state == state.value for item in model.items)
                assert getattr(job.counts, state.value) == expected, state
            if model.over:
                assert job.state is model.expected_end()
                assert job.finished_at is not None
                if not any(item.state == "cancelled" for item in model.items):
                    assert job.progress == pytest.approx(1.0)
            else:
                assert job.state in (State.QUEUED, State.RUNNING)
                assert job.finished_at is None

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "world"):
            return
        assert sum(call.slots for call in self.executor.calls.values()) <= SLOTS["cpu"]

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        if not hasattr(self, "world") or len(self.executor.calls) >= SLOTS["cpu"]:
            return
        now = time.time() + self.world.ahead
        for model in self.world.jobs.values():
            running = sum(item.state == "running" for item in model.items)
            if model.held or model.over or model.kind in self.world.paused or model.kind == "flow":
                continue
            if model.parallelism is not None and running >= model.parallelism:
                continue
            ready = [
                item
                for item in model.items
                if item.state == "queued" and item.available + DELAY < now and model.gate_open(item)
            ]
            assert not ready, f"{len(ready)} items of {model} wait though slots are free"


class SqliteMachine(EngineMachine):
    database = "sqlite"


class PostgresMachine(EngineMachine):
    database = "postgresql"


def limits(examples: int, count: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        # A failing example says enough as it is; making it smaller takes minutes.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )


SqliteMachine.TestCase.settings = limits(10, 30)
PostgresMachine.TestCase.settings = limits(4, 30)

TestOnSqlite = pytest.mark.timeout(300)(SqliteMachine.TestCase)
TestOnPostgres = pytest.mark.timeout(300)(pytest.mark.postgres(PostgresMachine.TestCase))
