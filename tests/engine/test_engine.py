"""The engine as a whole, with real worker processes: what a job goes through, and who may stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from millrace.engine.engine import Engine
from millrace.engine.model import Event, Item, Job, NewItem, NewJob, State
from millrace.engine.store import JobQuery
from millrace.engine.workload import Retry, Workload
from millrace.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound, QueueFull, Unavailable
from tests.engine.conftest import fresh_database
from tests.engine.executors import MakeExecutor, make_executor, queue_prefix  # noqa: F401 - fixtures
from tests.engine.rig import FLOW, NOOP, ONE, PLANNED, TWO, build, stage

T = TypeVar("T")

PATIENT = Workload("patient", (stage("only", timeout=4.0),))
STRICT = Workload("strict", (stage("only"),), fails_when="any")
SMALL = Workload("small", (stage("only"),), max_queued_jobs=2)
GIVES_UP = Workload("gives_up", (stage("only"),), on_restart="fail", fails_when="any")
WORKLOADS = (ONE, TWO, FLOW, NOOP, PLANNED, PATIENT, STRICT, SMALL, GIVES_UP)
PATIENCE = 20.0
ALONE = 0.3
"""Seconds: items that take so long share no call, however slow the disk is, nor are they sent ahead."""


class Rig:
    """A running engine, restarted at will, and a clock that can be put forward."""

    def __init__(self, directory: Path, url: str, make: MakeExecutor) -> None:
        self.directory = directory
        self.ahead = 0.0
        self.url = url
        self.in_cluster = hasattr(make, "url")
        self._options: dict[str, Any] = {"url": url, "make": make}
        self.engine: Engine = None  # type: ignore[assignment]

    def start(self, slots: dict[str, int] | None = None, workloads: tuple[Workload, ...] = WORKLOADS) -> Rig:
        self.engine = build(
            self.directory,
            workloads=workloads,
            slots=slots,
            clock=lambda: time.time() + self.ahead,
            **self._options,
        )
        self.engine.start()
        return self

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
            self.engine = None  # type: ignore[assignment]

    def forward(self, seconds: float) -> None:
        self.ahead += seconds
        self.engine.loop.executor.wake()

    def do(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(work, PATIENCE)

        return asyncio.run(bounded())

    def submit(self, id: str, *inputs: dict[str, Any], kind: str = "one", **more: Any) -> Job:
        items = [NewItem(name=f"item {n}", input=value) for n, value in enumerate(inputs)]
        return self.do(self.engine.submit(NewJob(id, kind, items, **more)))[0]

    def job(self, id: str) -> Job:
        return self.do(self.engine.job(id))

    def item(self, id: str, idx: int = 0) -> Item:
        return self.do(self.engine.item(id, idx))

    def items(self, id: str) -> list[Item]:
        return self.do(self.engine.items(id, limit=1000))

    def events(self, id: str) -> list[Event]:
        return self.do(self.engine.events(id, limit=10_000))

    def outcomes(self, id: str, idx: int = 0) -> list[str]:
        return [run.outcome for run in self.do(self.engine.runs(id, idx))]

    def end(self, id: str) -> Job:
        self.until(lambda: self.job(id).state.final)
        return self.job(id)

    def run(self, *inputs: dict[str, Any], id: str = "job", **more: Any) -> Job:
        self.submit(id, *inputs, **more)
        return self.end(id)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.005)

    def running(self, id: str, idx: int = 0) -> None:
        self.until(lambda: self.item(id, idx).state is State.RUNNING)

    def files(self) -> list[str]:
        """Blobs that somebody could see."""
        root = self.directory / "blobs"
        found = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        return sorted(name for name in found if not name.startswith("staging"))


@pytest.fixture
def idle(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_executor: MakeExecutor,  # noqa: F811
) -> Iterator[Rig]:
    database = getattr(request, "param", "sqlite")
    if hasattr(make_executor, "url") and database != "sqlite":
        pytest.skip("a cluster is on PostgreSQL in any case")
    with fresh_database(database, tmp_path) as url:
        rig = Rig(tmp_path, getattr(make_executor, "url", url), make_executor)
        yield rig
        rig.stop()


@pytest.fixture
def rig(idle: Rig) -> Rig:
    return idle.start()


@pytest.fixture
def lone(idle: Rig) -> Rig:
    """With one slot for everything, so that order can be told."""
    return idle.start({"cpu": 1, "gpu": 0, "io": 0})


both_databases = pytest.mark.parametrize(
    "idle", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)
"""For what depends on how the store does it; the rest of the engine is the same on both."""

ECHO: dict[str, Any] = {"do": "echo"}


def log_lines(path: Path) -> list[tuple[str, int, str, float, bool]]:
    """Read what the deed ``log`` wrote: job, item, stage, time, whether it is the end of the call."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(line[0], int(line[1]), line[2], float(line[3]), len(line) > 4) for line in lines]


def most_at_once(path: Path) -> int:
    now = most = 0
    for *_, end in sorted(log_lines(path), key=lambda line: line[3]):
        now += -1 if end else 1
        most = max(most, now)
    return most


# -- the way of a job -------------------------------------------------------------------------------


@both_databases
def test_a_job_runs_and_tells_its_story(rig: Rig) -> None:
    job = rig.run(ECHO, ECHO)
    assert job.state is State.SUCCEEDED
    assert (job.counts.total, job.counts.succeeded, job.progress, job.eta_at) == (2, 2, 1.0, None)
    assert job.created_at <= (job.started_at or 0) <= (job.finished_at or 0) < (job.expires_at or 0)
    assert [item.results for item in rig.items("job")] == [
        {"only": {"idx": n, "stage": "only", "attempt": 1}} for n in range(2)
    ]
    events = rig.events("job")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    types = [event.type for event in events]
    assert types[:3] == ["job.created", "job.started", "item.started"]
    assert types[-1] == "job.finished"
    assert types.count("item.finished") == 2
    assert job.last_event == len(events)


def test_a_skipped_item_is_no_failure_and_keeps_its_reason(rig: Rig) -> None:
    job = rig.run({"do": "skip"}, ECHO, kind="strict")
    assert job.state is State.SUCCEEDED
    assert job.counts.skipped == 1
    assert rig.item("job").results["only"] == {"skipped": "nothing to do", "why": "asked"}


@pytest.mark.parametrize(("kind", "state"), [("one", State.SUCCEEDED), ("strict", State.FAILED)])
def test_whether_one_failed_item_fails_the_job_is_the_workloads_choice(
    rig: Rig, kind: str, state: State
) -> None:
    assert rig.run(ECHO, {"do": "bad"}, kind=kind).state is state
    error = rig.item("job", 1).error
    assert error == {"code": "bad_audio", "message": "this input is bad", "details": {}, "stage": "only"}


def test_bad_input_is_not_tried_again(rig: Rig) -> None:
    rig.run({"do": "bad"})
    assert rig.outcomes("job") == ["failed"]


@both_databases
def test_what_a_retry_can_mend_is_tried_again_after_a_wait(rig: Rig) -> None:
    assert rig.run({"do": "flaky", "failures": 2}).state is State.SUCCEEDED
    assert rig.outcomes("job") == ["retried", "retried", "succeeded"]
    first, second, third = rig.do(rig.engine.runs("job", 0))
    assert second.started_at - first.finished_at >= 0.02 * 0.8
    assert third.started_at - second.finished_at >= 0.08 * 0.8


def test_it_is_given_up_when_the_attempts_are_used_up(rig: Rig) -> None:
    assert rig.run({"do": "flaky", "failures": 9}).state is State.FAILED
    assert rig.outcomes("job") == ["retried", "retried", "failed"]
    error = rig.item("job").error
    assert error is not None
    assert error["code"] == "transient"


def test_stage_first_ends_a_stage_before_the_next_begins(rig: Rig) -> None:
    log = rig.directory / "log"
    rig.run(*[{"do": "log", "path": str(log), "seconds": 0.02 * n} for n in range(5)], kind="two")
    lines = log_lines(log)
    last_of_first = max(at for _, _, name, at, _ in lines if name == "first")
    first_of_second = min(at for _, _, name, at, _ in lines if name == "second")
    assert last_of_first <= first_of_second
    assert len(lines) == 20


def test_item_first_brings_an_item_to_its_end_while_others_wait(lone: Rig) -> None:
    log = lone.directory / "log"
    # Short enough to be sent ahead of free slots where that is done, too long to share a call.
    lone.run(*[{"do": "log", "path": str(log), "seconds": 0.2}] * 5, kind="flow")
    order = [(idx, name) for _, idx, name, _, end in log_lines(log) if not end]
    assert order == [(n, name) for n in range(5) for name in ("first", "second")]


def test_a_failed_item_does_not_hold_back_the_next_stage_of_the_others(rig: Rig) -> None:
    job = rig.run(ECHO, {"do": {"first": "bad"}}, kind="two")
    assert (job.counts.succeeded, job.counts.failed) == (1, 1)
    assert set(rig.item("job", 0).results) == {"first", "second"}


def test_a_later_stage_reads_what_an_earlier_one_published(rig: Rig) -> None:
    rig.run({"do": {"first": "write", "second": "read"}}, kind="two")
    assert rig.item("job").results["second"] == {"read": "job 0 first\n"}
    (artifact,) = rig.do(rig.engine.artifacts("job"))
    assert rig.files() == [artifact.key]


@both_databases
def test_thousands_of_tiny_items_share_calls(rig: Rig) -> None:
    items = [NewItem() for _ in range(5000)]
    rig.do(rig.engine.submit(NewJob("job", "noop", items)))
    job = rig.end("job")
    assert job.counts.succeeded == 5000
    assert sum(worker.calls for worker in rig.engine.status().workers) < 2500


def test_large_inputs_and_results(rig: Rig) -> None:
    text = "ß" * 1_000_000
    rig.run({"do": "large", "text": text}, {"do": "large", "text": text})
    assert rig.item("job", 1).results["only"]["echo"] == text


def test_progress_is_live_and_remembered(rig: Rig) -> None:
    seen: list[Event] = []

    async def watch() -> None:
        await rig.engine.submit(NewJob("job", "one", [NewItem(input={"do": "progress"})]))
        async for event in rig.engine.watch("job"):
            seen.append(event)

    rig.do(watch())
    live = [event.data["fraction"] for event in seen if event.type == "item.progress"]
    assert live == sorted(live)
    assert len(live) >= 3
    stored = [event.seq for event in seen if event.seq]
    assert stored == list(range(1, len(stored) + 1))
    assert seen[-1].type == "job.finished"


def test_watching_goes_on_behind_the_last_event_seen(rig: Rig) -> None:
    rig.run(ECHO)

    async def watch(after: int) -> list[int]:
        return [event.seq async for event in rig.engine.watch("job", after=after)]

    whole = rig.do(watch(0))
    assert rig.do(watch(2)) == whole[2:]


# -- order and limits -------------------------------------------------------------------------------


def test_an_urgent_job_overtakes_a_running_one_at_the_next_item(lone: Rig) -> None:
    log, gate = lone.directory / "log", lone.directory / "gate"
    lone.submit("slow", {"do": "gate", "path": str(gate)}, *[{"do": "log", "path": str(log)}] * 3, priority=0)
    lone.running("slow")
    lone.submit("urgent", *[{"do": "log", "path": str(log)}] * 2, priority=3)
    gate.touch()
    lone.end("slow")
    assert [job for job, *_, end in log_lines(log) if end] == ["urgent"] * 2 + ["slow"] * 3


@pytest.mark.parametrize("kind", ["strict", "one"])
def test_what_is_urgent_overtakes_short_items_that_were_sent_ahead(lone: Rig, kind: str) -> None:
    log, gate = lone.directory / "log", lone.directory / "gate"
    lone.run(*[ECHO] * 5, id="quick")
    lone.submit("gate", {"do": "gate", "path": str(gate)})
    lone.running("gate")
    # In a cluster the next of these waits at the worker already, and its slot is never free.
    lone.submit("slow", *[{"do": "log", "path": str(log)}] * 30, priority=0)
    lone.submit("urgent", {"do": "log", "path": str(log)}, kind=kind, priority=3)
    gate.touch()
    lone.end("slow")
    assert [job for job, *_, end in log_lines(log) if end] == ["urgent"] + ["slow"] * 30
    assert [lone.outcomes("slow", idx) for idx in range(30)] == [["succeeded"]] * 30


def test_a_priority_can_be_changed_while_it_waits(lone: Rig) -> None:
    log, gate = lone.directory / "log", lone.directory / "gate"
    lone.submit("gate", {"do": "gate", "path": str(gate)})
    lone.running("gate")
    for name in ("a", "b"):
        lone.submit(name, {"do": "log", "path": str(log)})
    assert lone.do(lone.engine.update("b", priority=2)).priority == 2
    gate.touch()
    lone.end("a")
    assert [job for job, *_, end in log_lines(log) if end] == ["b", "a"]


def test_a_jobs_parallelism_bounds_it_alone(idle: Rig) -> None:
    idle.start({"cpu": 4, "gpu": 0, "io": 0})
    narrow, wide = idle.directory / "narrow", idle.directory / "wide"
    idle.submit("narrow", *[{"do": "log", "path": str(narrow), "seconds": 0.05}] * 6, parallelism=1)
    idle.submit("wide", *[{"do": "log", "path": str(wide), "seconds": 0.05}] * 9)
    idle.end("narrow")
    idle.end("wide")
    assert most_at_once(narrow) == 1
    assert 2 <= most_at_once(wide) <= 4


def test_a_held_job_starts_when_it_is_released(rig: Rig) -> None:
    rig.submit("held", ECHO, held=True)
    rig.run(ECHO, id="other")
    assert rig.job("held").state is State.QUEUED
    assert rig.do(rig.engine.release("held", parallelism=3)).parallelism == 3
    assert rig.end("held").state is State.SUCCEEDED
    with pytest.raises(Conflict, match="started before"):
        rig.do(rig.engine.release("held"))


def test_pausing_draining_and_resuming_a_workload(rig: Rig) -> None:
    rig.do(rig.engine.pause("one"))
    rig.submit("waits", ECHO)
    rig.run(ECHO, id="goes", kind="strict")
    assert rig.job("waits").state is State.QUEUED
    rig.do(rig.engine.drain("one"))
    assert rig.end("waits").state is State.SUCCEEDED
    with pytest.raises(QueueFull, match="draining"):
        rig.submit("late", ECHO)
    rig.do(rig.engine.resume("one"))
    assert rig.run(ECHO, id="again").state is State.SUCCEEDED


def test_a_full_queue_refuses(rig: Rig) -> None:
    for n in range(2):
        rig.submit(f"{n}", ECHO, kind="small", held=True)
    with pytest.raises(QueueFull, match="2 unfinished jobs"):
        rig.submit("2", ECHO, kind="small")
    with pytest.raises(NotFound):
        rig.job("2")


def test_a_scope_is_worked_on_once_at_a_time(rig: Rig) -> None:
    rig.submit("a", ECHO, scope="/films/new", held=True)
    for scope in ("/films/new", "/films", "/films/new/x"):
        with pytest.raises(Conflict):
            rig.submit("b", ECHO, scope=scope)
    rig.do(rig.engine.cancel("a"))
    assert rig.run(ECHO, id="b", scope="/films").state is State.SUCCEEDED


@both_databases
def test_ten_submissions_at_once_with_one_key_make_one_job(rig: Rig) -> None:
    async def submit(n: int) -> tuple[str, bool]:
        job, created = await rig.engine.submit(
            NewJob(f"job-{n}", "one", [NewItem(input=ECHO)], idempotency=("key", "body"))
        )
        return job.id, created

    async def all_at_once() -> list[tuple[str, bool]]:
        return await asyncio.gather(*(submit(n) for n in range(10)))

    answers = rig.do(all_at_once())
    assert len({id for id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    with pytest.raises(IdempotencyConflict):
        rig.submit("other", ECHO, idempotency=("key", "another body"))
    assert rig.do(rig.engine.jobs(JobQuery())).total == 1


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (NewJob("x", "nosuch", [NewItem()]), "unknown kind 'nosuch'"),
        (NewJob("x", "one"), "at least one item"),
        (NewJob("x", "one", [NewItem()], plan=True), "no plan stage"),
        (NewJob("x", "one", [NewItem()], parallelism=0), "at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(rig: Rig, job: NewJob, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        rig.do(rig.engine.submit(job))


# -- planning ---------------------------------------------------------------------------------------


def test_a_plan_finds_the_items(rig: Rig) -> None:
    job = rig.run(kind="planned", plan=True, options={"find": 7, "input": ECHO})
    assert (job.state, job.counts.succeeded, job.counts.total) == (State.SUCCEEDED, 7, 7)


@both_databases
def test_a_plan_that_dies_finds_each_item_once(rig: Rig) -> None:
    job = rig.run(kind="planned", plan=True, options={"find": 20, "input": ECHO, "die_once": True})
    assert (job.state, job.counts.total) == (State.SUCCEEDED, 20)
    assert sorted(item.name for item in rig.items("job")) == sorted(f"found {n}" for n in range(20))


def test_a_plan_that_finds_nothing_ends_the_job(rig: Rig) -> None:
    assert rig.run(kind="planned", plan=True, options={"find": 0}).state is State.SUCCEEDED


# -- cancelling, timeouts, deaths -------------------------------------------------------------------


def test_cancelling_kills_what_runs_and_drops_what_waits(rig: Rig) -> None:
    path = rig.directory / "pids"
    rig.submit("job", {"do": "child", "path": str(path)}, *[{"do": "sleep"}] * 5)
    rig.until(lambda: path.exists() and path.read_text())
    job = rig.do(rig.engine.cancel("job"))
    assert job.state is State.CANCELLED
    assert job.counts.cancelled == 6
    for pid in path.read_text().split():
        assert not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text()
    assert rig.outcomes("job") == ["cancelled"]
    assert rig.run(ECHO, id="next").state is State.SUCCEEDED


@both_databases
def test_what_was_done_before_a_cancel_stays(lone: Rig) -> None:
    lone.submit("job", {"do": "write"}, {"do": "sleep"}, ECHO)
    lone.running("job", 1)
    job = lone.do(lone.engine.cancel("job"))
    assert [item.state for item in lone.items("job")] == [State.SUCCEEDED, State.CANCELLED, State.CANCELLED]
    assert job.state is State.CANCELLED
    assert [artifact.name for artifact in lone.do(lone.engine.artifacts("job"))] == ["out.txt"]


def test_cancelling_what_has_ended_changes_nothing(rig: Rig) -> None:
    before = rig.run(ECHO)
    assert rig.do(rig.engine.cancel("job")) == before
    with pytest.raises(NotFound):
        rig.do(rig.engine.cancel("nosuch"))


def test_cancelling_from_two_sides_at_once_ends_for_both(rig: Rig) -> None:
    rig.submit("job", {"do": "sleep"})
    rig.running("job")

    async def both() -> list[Job]:
        return await asyncio.gather(rig.engine.cancel("job"), rig.engine.cancel("job"))

    assert [job.state for job in rig.do(both())] == [State.CANCELLED] * 2
    assert [event.type for event in rig.events("job")].count("job.cancel_requested") == 1


def test_a_stage_that_takes_too_long_is_killed_and_its_item_fails(rig: Rig) -> None:
    job = rig.run({"do": "sleep"}, {"do": "sleep", "seconds": 0.01}, kind="patient")
    error = rig.item("job", 0).error
    assert error is not None
    assert (error["code"], error["message"]) == ("timeout", "the stage took longer than 4 s")
    assert (job.counts.succeeded, job.counts.failed) == (1, 1)
    assert rig.outcomes("job") == ["timeout"]


def test_an_item_that_kills_its_worker_three_times_fails_and_blocks_nobody(rig: Rig) -> None:
    job = rig.run({"do": "die"}, *[ECHO] * 10)
    assert (job.counts.succeeded, job.counts.failed) == (10, 1)
    error = rig.item("job", 0).error
    assert error is not None
    assert error["code"] == "worker_lost"
    assert "died 3 times" in error["message"]
    assert rig.outcomes("job") == ["lost"] * 3


@both_databases
def test_a_poison_item_hidden_in_a_chunk_is_found_and_costs_the_others_nothing(rig: Rig) -> None:
    job = rig.run(*[ECHO] * 20, {"do": "die"}, *[ECHO] * 20)
    assert (job.counts.succeeded, job.counts.failed) == (40, 1)
    assert rig.item("job", 20).state is State.FAILED


def test_a_worker_killed_from_outside_costs_its_item_one_attempt(rig: Rig) -> None:
    gate = rig.directory / "gate"
    rig.submit("job", {"do": "gate", "path": str(gate)})
    rig.running("job")
    rig.until(lambda: "busy" in [worker.state for worker in rig.engine.status().workers])
    (busy,) = [worker for worker in rig.engine.status().workers if worker.state == "busy"]
    os.kill(busy.pid, signal.SIGKILL)
    rig.until(lambda: rig.outcomes("job") == ["lost"])
    gate.touch()
    assert rig.end("job").state is State.SUCCEEDED
    assert rig.outcomes("job") == ["lost", "succeeded"]
    assert rig.item("job").attempt == 2


def test_an_artifact_of_an_attempt_that_died_is_never_seen(rig: Rig) -> None:
    rig.run({"do": "unstable"})
    (artifact,) = rig.do(rig.engine.artifacts("job"))
    assert (rig.directory / "blobs" / artifact.key).read_text() == "second try"
    assert rig.files() == [artifact.key]


def test_a_failed_stage_publishes_nothing(rig: Rig) -> None:
    rig.run({"do": "half"})
    assert rig.do(rig.engine.artifacts("job")) == []
    assert rig.files() == []


# -- the circuit breaker ----------------------------------------------------------------------------


def test_a_broken_back_end_pauses_its_stage_and_one_probe_opens_it_again(lone: Rig) -> None:
    takes = {"takes": ALONE}
    lone.submit("job", *[{"do": "broken", **takes}] * 3, *[{**ECHO, **takes}] * 4)
    lone.until(lambda: lone.engine.status().paused)
    (paused,) = lone.engine.status().paused
    assert (paused.kind, paused.stage) == ("one", "only")
    assert "the back end is broken" in paused.cause
    assert lone.run(ECHO, id="other", kind="strict").state is State.SUCCEEDED
    job = lone.job("job")
    assert (job.counts.failed, job.counts.queued) == (3, 4)
    lone.forward(6)
    assert lone.end("job").counts.succeeded == 4
    assert lone.engine.status().paused == []
    types = [event.type for event in lone.events("job")]
    assert types.index("stage.paused") < types.index("stage.resumed")


def test_a_pause_takes_back_what_was_sent_ahead(idle: Rig) -> None:
    chunky = Workload("strict", (stage("only", chunk=4),))
    idle.start({"cpu": 1, "gpu": 0, "io": 0}, workloads=(chunky,))
    # However slow this machine is just now: items so short travel four at a time, and are sent ahead.
    idle.engine.loop.scheduler.learn("strict", "only", 0.001, 1.0)
    # One call that fails three times and goes on, and in a cluster another that waits at the worker.
    broken = {"do": "broken", "takes": 0.01}
    idle.submit("job", *[broken] * 3, {"do": "sleep"}, *[broken] * 4, kind="strict")
    idle.until(lambda: idle.engine.status().paused)
    idle.until(lambda: idle.job("job").counts.running == 1)
    counts = idle.job("job").counts
    assert (counts.failed, counts.queued) == (3, 4)
    assert [idle.outcomes("job", idx) for idx in range(4, 8)] == [[]] * 4
    idle.do(idle.engine.cancel("job"))


def test_a_failed_probe_waits_twice_as_long(lone: Rig) -> None:
    lone.submit("job", *[{"do": "broken", "takes": ALONE}] * 4, ECHO)
    lone.until(lambda: lone.engine.status().paused)
    lone.forward(5.5)
    lone.until(lambda: lone.job("job").counts.failed == 4)
    lone.forward(5.5)
    lone.run(ECHO, id="other", kind="strict")
    assert lone.job("job").counts.queued == 1
    lone.forward(5.5)
    assert lone.end("job").counts.succeeded == 1


def test_bad_inputs_never_pause_a_stage(lone: Rig) -> None:
    assert lone.run(*[{"do": "bad"}] * 6, ECHO).counts.succeeded == 1
    assert lone.engine.status().paused == []


# -- trying again, deleting, restarting -------------------------------------------------------------


@both_databases
def test_a_retry_runs_what_failed_and_nothing_else(rig: Rig) -> None:
    key = rig.directory / "key"
    rig.run(ECHO, {"do": {"second": "needs"}, "path": str(key)}, kind="two")
    before = rig.item("job", 0)
    key.touch()
    rig.do(rig.engine.retry("job"))
    job = rig.end("job")
    assert (job.state, job.counts.succeeded, job.counts.failed) == (State.SUCCEEDED, 2, 0)
    assert job.progress == 1.0
    assert rig.item("job", 0) == before
    assert rig.outcomes("job", 1) == ["succeeded", "failed", "succeeded"]
    with pytest.raises(Conflict, match="no failed item"):
        rig.do(rig.engine.retry("job"))


@both_databases
def test_only_what_has_ended_can_be_deleted(rig: Rig) -> None:
    rig.submit("job", {"do": "write"}, held=True)
    with pytest.raises(Conflict):
        rig.do(rig.engine.delete("job"))
    rig.do(rig.engine.release("job"))
    rig.end("job")
    rig.do(rig.engine.delete("job"))
    assert rig.files() == []
    with pytest.raises(NotFound):
        rig.job("job")


@both_databases
def test_a_restart_goes_on_behind_the_last_finished_stage(idle: Rig) -> None:
    gate = idle.directory / "gate"
    deeds = {"first": "write", "second": "gate"}
    idle.start()
    idle.submit("job", *[{"do": deeds, "path": str(gate)}] * 3, kind="two")
    idle.until(lambda: idle.job("job").counts.running == 2 and idle.item("job", 2).stage == 1)
    idle.stop()
    gate.touch()
    idle.start()
    assert idle.end("job").counts.succeeded == 3
    for n in range(3):
        finished = [run.stage for run in idle.do(idle.engine.runs("job", n)) if run.outcome == "succeeded"]
        assert finished == ["first", "second"]


@both_databases
def test_a_restart_fails_what_its_workload_does_not_resume(idle: Rig) -> None:
    if idle.in_cluster:
        pytest.skip("calls outlive a server there, so its restart interrupts nothing")
    idle.start({"cpu": 1, "gpu": 0, "io": 0})
    idle.submit("job", {"do": "write"}, {"do": "sleep"}, ECHO, kind="gives_up")
    idle.running("job", 1)
    idle.stop()
    idle.start()
    job = idle.end("job")
    assert job.state is State.FAILED
    assert [item.state for item in idle.items("job")] == [State.SUCCEEDED, State.FAILED, State.FAILED]
    assert {item.error["code"] for item in idle.items("job")[1:] if item.error} == {"interrupted"}
    assert [artifact.name for artifact in idle.do(idle.engine.artifacts("job"))] == ["out.txt"]


def test_priorities_pauses_and_held_jobs_survive_a_restart(idle: Rig) -> None:
    idle.start()
    idle.do(idle.engine.pause("one"))
    idle.submit("paused", ECHO, priority=2)
    idle.submit("held", ECHO, kind="strict", held=True)
    idle.stop()
    idle.start()
    assert idle.engine.status().modes["one"] == "paused"
    assert idle.job("paused").priority == 2
    assert idle.job("held").held
    idle.do(idle.engine.resume("one"))
    assert idle.end("paused").state is State.SUCCEEDED


def test_jobs_of_a_workload_that_is_gone_wait_for_it(idle: Rig) -> None:
    idle.start()
    idle.submit("job", ECHO, kind="strict", held=True)
    idle.stop()
    idle.start(workloads=(ONE,))
    assert idle.job("job").state is State.QUEUED
    assert idle.run(ECHO, id="other").state is State.SUCCEEDED
    idle.stop()
    idle.start()
    idle.do(idle.engine.release("job"))
    assert idle.end("job").state is State.SUCCEEDED


@both_databases
def test_a_second_server_on_the_same_data_is_refused(rig: Rig) -> None:
    second = build(rig.directory, url=rig.url)
    with pytest.raises(Unavailable, match="already owns"):
        second.start()
    second.stop()
    assert rig.run(ECHO).state is State.SUCCEEDED


def test_waiting_for_a_retry_survives_a_restart(idle: Rig) -> None:
    slow = replace(ONE, stages=(stage("only", retry=Retry(attempts=3, delay=30.0)),))
    idle.start(workloads=(slow,))
    idle.submit("job", {"do": "flaky"})
    idle.until(lambda: idle.outcomes("job") == ["retried"])
    idle.stop()
    idle.start(workloads=(slow,))
    time.sleep(0.1)
    assert idle.outcomes("job") == ["retried"]
    idle.forward(60)
    assert idle.end("job").state is State.SUCCEEDED
