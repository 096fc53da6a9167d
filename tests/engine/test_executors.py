"""The conformance suite of the Executor port: what the engine may rely on, whoever runs its calls."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from millrace.blobs import open_store
from millrace.engine.executors import OVERDUE, Added, Call, Done, Ended, Executor, Lost, Progress, Report
from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.store import Claimed
from millrace.engine.workload import Stage
from tests.engine.executors import (
    MakeExecutor,
    add_root_to_path,
    make_executor,  # noqa: F401 - a fixture
    make_local,
    queue_prefix,  # noqa: F401 - a fixture
)
from tests.engine.rig import ONE, build, stage
from tests.processes import PATIENCE, gone, pids

SLOTS = {"cpu": 2, "gpu": 0, "io": 1}


@dataclass
class Bench:
    """Hands calls to an executor and collects what it reports, as the engine does."""

    executor: Executor
    blobs: Path
    directory: Path
    reports: list[Report] = field(default_factory=list)
    lease: int = 100

    def call(self, *inputs: dict[str, Any], stage: Stage | None = None, **more: Any) -> int:
        """Submit a call with one item for each input; return its lease."""
        self.lease += 1
        items = [
            Claimed(idx, f"item {idx}", None, orjson.dumps(value).decode(), None, 0, 0, 1, 1.0)
            for idx, value in enumerate(inputs)
        ]
        more = {"options": "{}", "meta": "{}", **more}
        self.executor.submit(Call(self.lease, "job", "one", stage or ACT, items=items, **more))
        return self.lease

    def until(self, done: Callable[[], bool]) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, f"still not after {PATIENCE} s; reported: {self.reports}"
            self.reports += self.executor.poll(0.5)

    def end(self, lease: int) -> list[Report]:
        """Poll until the call is over; return all its reports, which end with how it ended."""
        self.until(lambda: any(isinstance(report, Ended | Lost) for report in self.of(lease)))
        mine = self.of(lease)
        ends = [report for report in mine if isinstance(report, Ended | Lost)]
        assert len(ends) == 1
        assert mine[-1] is ends[0]
        self.executor.forget(lease)
        return mine

    def of(self, lease: int) -> list[Report]:
        return [report for report in self.reports if report.lease == lease]

    def run(self, *inputs: dict[str, Any], **more: Any) -> list[Done]:
        """Run a call that is to end by itself; return what was done."""
        reports = self.end(self.call(*inputs, **more))
        assert isinstance(reports[-1], Ended), reports[-1]
        return [report for report in reports if isinstance(report, Done)]


ACT = stage("only")


def results(done: Done) -> Any:
    return orjson.loads(done.results or "{}").get("only")


@pytest.fixture
def start(tmp_path: Path, make_executor: MakeExecutor) -> Iterator[Callable[..., Bench]]:  # noqa: F811
    """A function that starts an executor with the options given."""
    with contextlib.ExitStack() as stack:

        def start(slots: dict[str, int] = SLOTS, **options: Any) -> Bench:
            blobs = open_store({"root": str(tmp_path / "blobs")})
            executor = make_executor(tmp_path, blobs.descriptor(), slots, **options)
            executor.start()
            stack.callback(executor.stop)
            return Bench(executor, tmp_path / "blobs", tmp_path)

        yield start


@pytest.fixture
def bench(start: Callable[..., Bench]) -> Bench:
    return start()


# -- what a call reports ----------------------------------------------------------------------------


def test_a_call_reports_its_items_and_then_its_end(bench: Bench) -> None:
    done = bench.run({"do": "echo"}, {"do": "echo"}, {"do": "echo"})
    assert [(report.idx, report.verdict) for report in done] == [(n, "succeeded") for n in range(3)]
    assert [results(report)["idx"] for report in done] == [0, 1, 2]
    assert all(report.started_at <= report.finished_at <= time.time() for report in done)


def test_one_items_failure_leaves_the_others_of_the_call_alone(bench: Bench) -> None:
    done = bench.run({"do": "echo"}, {"do": "bad"}, {"do": "raise"}, {"do": "skip"}, {"do": "echo"})
    assert [report.verdict for report in done] == ["succeeded", "failed", "failed", "skipped", "succeeded"]


@pytest.mark.parametrize(
    ("deed", "code", "retryable", "backend"),
    [
        ("bad", "bad_audio", False, False),
        ("flaky", "transient", True, True),
        ("broken", "engine_error", False, True),
        ("raise", "internal_error", False, True),
        ("missing", "internal_error", False, True),
    ],
)
def test_an_error_says_what_it_was_and_whether_a_retry_helps(
    bench: Bench, deed: str, code: str, retryable: bool, backend: bool
) -> None:
    (done,) = bench.run({"do": deed})
    assert done.verdict == "failed"
    assert done.error is not None
    assert (done.error["code"], done.error["retryable"], done.error["backend"]) == (code, retryable, backend)
    assert done.error["message"]


def test_results_of_earlier_stages_stay_beside_the_new_one(bench: Bench) -> None:
    item = Claimed(0, "a", "uid", '{"do": "echo"}', '{"before": {"x": 1}}', 0, 0, 1, 1.0)
    bench.executor.submit(Call(1, "job", "one", ACT, "{}", "{}", [item]))
    done = bench.end(1)[0]
    assert isinstance(done, Done)
    assert orjson.loads(done.results or "") == {
        "before": {"x": 1},
        "only": {"idx": 0, "stage": "only", "attempt": 1},
    }


def test_progress_arrives_while_the_item_runs_in_order_and_before_its_end(bench: Bench) -> None:
    reports = bench.end(bench.call({"do": "progress"}))
    progress = [report for report in reports if isinstance(report, Progress)]
    assert [report.fraction for report in progress] == sorted({report.fraction for report in progress})
    assert len(progress) >= 3
    assert progress[0].phase == "step 1"
    assert isinstance(reports[-2], Done)


def test_artifacts_are_stored_aside_and_described(bench: Bench) -> None:
    (done,) = bench.run({"do": "write", "lines": 3})
    (artifact,) = done.artifacts
    content = b"job 0 only\n" * 3
    assert (bench.blobs / artifact.staged).read_bytes() == content
    assert (artifact.name, artifact.bytes) == ("out.txt", len(content))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.media_type == "text/plain"
    assert artifact.staged.startswith("staging/")


def test_a_failed_item_stores_nothing(bench: Bench) -> None:
    (done,) = bench.run({"do": "half"})
    assert done.artifacts == []
    assert [path for path in bench.blobs.rglob("*") if path.is_file()] == []


def test_work_directories_do_not_stay(bench: Bench) -> None:
    bench.run({"do": "write"}, {"do": "half"}, {"do": "litter"})
    (done,) = bench.run({"do": "litter"})
    assert done.verdict == "succeeded"
    (scratch,) = bench.directory.rglob("scratch")
    assert [path for path in scratch.rglob("*") if path.parent != scratch] == []


def test_a_killed_call_leaves_no_work_files(bench: Bench) -> None:
    told = bench.directory / "where"
    lease = bench.call({"do": "stuck", "path": str(told)})
    bench.until(lambda: told.exists() and told.read_text().endswith("\n"))
    work = Path(told.read_text().strip())
    assert (work / "half").exists()
    bench.executor.kill(lease, "enough")
    bench.end(lease)
    bench.until(lambda: not work.exists())


def test_work_goes_on_when_somebody_has_tidied_the_work_files_away(bench: Bench) -> None:
    bench.run({"do": "write"})
    (scratch,) = bench.directory.rglob("scratch")
    shutil.rmtree(scratch)
    for _ in range(3):
        (done,) = bench.run({"do": "write"})
        assert done.verdict == "succeeded", done.error


def test_where_there_is_no_room_to_work_the_item_says_so_and_its_worker_lives(bench: Bench) -> None:
    bench.run({"do": "write"})
    (scratch,) = bench.directory.rglob("scratch")
    for folder in list(scratch.iterdir()):
        folder.rmdir()
        folder.write_text("in the way")
    (done,) = bench.run({"do": "write"})
    assert (done.verdict, (done.error or {})["code"]) == ("failed", "internal_error")
    for file in list(scratch.iterdir()):
        file.unlink()
    (done,) = bench.run({"do": "write"})
    assert done.verdict == "succeeded", done.error


def test_a_plan_call_adds_items(bench: Bench) -> None:
    planning = stage("plan", "plan")
    reports = bench.end(bench.call({}, stage=planning, options='{"find": 5}'))
    added = [item.key for report in reports if isinstance(report, Added) for item in report.items]
    assert added == ["0", "1", "2", "2", "3", "4"]


def test_a_stage_is_given_settings_site_options_and_slots(start: Callable[..., Bench]) -> None:
    bench = start(settings={"one": {"a": 1}, "two": {"b": 2}}, site={"media_roots": ["/m"]})
    (done,) = bench.run({"do": "given"}, options='{"asr": true}')
    assert results(done) == {
        "settings": {"a": 1},
        "site": {"media_roots": ["/m"]},
        "options": {"asr": True},
    }
    (done,) = bench.run({"do": "slots"}, slots=2)
    assert results(done) == {"slots": 2}


def test_megabytes_go_in_and_come_out(bench: Bench) -> None:
    text = "ü" * 3_000_000
    done = bench.run({"do": "large", "text": text}, {"do": "large", "text": text})
    assert [len(results(report)["echo"]) for report in done] == [3_000_000] * 2


def test_what_a_native_library_prints_disturbs_nothing(bench: Bench) -> None:
    done = bench.run({"do": "print"}, {"do": "echo"})
    assert [report.verdict for report in done] == ["succeeded"] * 2


def test_calls_run_side_by_side(bench: Bench) -> None:
    gate = bench.directory / "gate"
    waiting = bench.call({"do": "gate", "path": str(gate)})
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"
    gate.touch()
    assert isinstance(bench.end(waiting)[-1], Ended)


def test_hundreds_of_calls_one_after_another(bench: Bench) -> None:
    for _ in range(300):
        assert bench.run({"do": "echo"})[0].verdict == "succeeded"
    assert len(bench.executor.workers()) <= 3


# -- killing, and dying -----------------------------------------------------------------------------


def test_a_killed_call_is_dead_with_its_children_when_it_is_reported(bench: Bench) -> None:
    lease = bench.call({"do": "child", "path": str(bench.directory / "pids")})
    worker, child = pids(bench.directory / "pids")
    bench.executor.kill(lease, "cancelled")
    (lost,) = bench.end(lease)
    assert lost == Lost(lease, "cancelled", blame=False)
    gone([worker, child])


def test_a_call_can_be_killed_before_it_has_begun(bench: Bench) -> None:
    lease = bench.call({"do": "sleep"})
    bench.executor.kill(lease, "cancelled")
    assert bench.end(lease)[-1] == Lost(lease, "cancelled", blame=False)
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"


def test_killing_twice_or_what_has_ended_does_nothing(bench: Bench) -> None:
    lease = bench.call({"do": "echo"})
    bench.until(lambda: bool(bench.of(lease)) and isinstance(bench.of(lease)[-1], Ended))
    bench.executor.kill(999, "never was")
    other = bench.call({"do": "sleep"})
    bench.executor.kill(other, "first")
    bench.executor.kill(other, "second")
    assert bench.end(other)[-1] == Lost(other, "first", blame=False)
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"


def test_a_worker_that_dies_takes_only_its_own_call_along(bench: Bench) -> None:
    gate = bench.directory / "gate"
    waiting = bench.call({"do": "gate", "path": str(gate)})
    dying = bench.call({"do": "die"})
    lost = bench.end(dying)[-1]
    assert isinstance(lost, Lost)
    assert lost.blame
    assert "SIGKILL" in lost.reason
    gate.touch()
    assert isinstance(bench.end(waiting)[-1], Ended)
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"


def test_items_done_before_their_worker_died_were_reported(bench: Bench) -> None:
    reports = bench.end(bench.call({"do": "sleep", "seconds": 0.05}, {"do": "die"}, {"do": "echo"}))
    assert isinstance(reports[-1], Lost)
    assert [report.idx for report in reports if isinstance(report, Done)] == [0]


def test_an_idle_worker_that_is_killed_from_outside_is_replaced(bench: Bench) -> None:
    bench.run({"do": "echo"})
    for worker in bench.executor.workers():
        os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.05)
    bench.reports += bench.executor.poll(0.1)
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"


def test_a_call_that_exceeds_its_timeout_is_dead_with_its_children(bench: Bench) -> None:
    lease = bench.call(
        {"do": "child", "path": str(bench.directory / "pids")}, stage=stage("only", timeout=2.0)
    )
    worker, child = pids(bench.directory / "pids")
    if not bench.executor.keeps_time:
        bench.executor.kill(lease, OVERDUE)  # as the engine does, which keeps the time then
    assert bench.end(lease)[-1] == Lost(lease, OVERDUE, blame=False)
    gone([worker, child])
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"


def test_each_item_of_a_call_has_the_timeout_for_itself(bench: Bench) -> None:
    patient = stage("only", timeout=4.0)
    bench.run({"do": "echo"}, stage=patient)
    done = bench.run(*[{"do": "sleep", "seconds": 1.1}] * 4, stage=patient)
    assert [report.verdict for report in done] == ["succeeded"] * 4


def test_a_soft_timeout_is_raised_inside_the_stage_and_leaves_the_worker_alive(bench: Bench) -> None:
    patient = stage("only", soft_timeout=0.2)
    (slow, quick) = bench.run({"do": "sleep"}, {"do": "echo"}, stage=patient)
    assert slow.error is not None
    assert (slow.error["code"], slow.error["retryable"], slow.error["backend"]) == ("timeout", False, False)
    assert quick.verdict == "succeeded"
    (tidy,) = bench.run({"do": "tidy"}, stage=patient)
    assert results(tidy) == {"tidied": True}


def test_memory_beyond_the_limit_fails_the_item_and_not_the_worker(bench: Bench) -> None:
    tight = stage("only", memory=2 << 30)
    (failed, fine) = bench.run({"do": "eat", "bytes": 4 << 30}, {"do": "eat", "bytes": 1 << 20}, stage=tight)
    assert failed.error is not None
    assert failed.error["code"] == "out_of_memory"
    assert fine.verdict == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has in memory is read from /proc")
def test_memory_that_is_kept_for_the_next_item_is_given_back_at_rest(bench: Bench) -> None:
    def resident(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    (small,) = bench.run({"do": "eat", "bytes": 1000})
    pid = results(small)["pid"]
    before = resident(pid)
    (done,) = bench.run({"do": "eat", "bytes": 24 * 2**20})
    assert results(done)["pid"] == pid
    bench.until(lambda: resident(pid) < before + 8 * 2**20)


def test_only_what_nobody_has_begun_is_called_back(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    begun = [bench.call({"do": "gate", "path": str(gate)}) for _ in range(SLOTS["cpu"])]
    if not bench.executor.ahead:
        assert list(bench.executor.recall(None, begun)) == []  # type: ignore[arg-type]  # it has none
    else:
        bench.until(lambda: all(bench.executor.worker_of(lease) for lease in begun))
        waiting = bench.call({"do": "log", "path": str(tmp_path / "log")})
        with bench.executor._store.begin() as tx:  # type: ignore[attr-defined]
            assert list(bench.executor.recall(tx, [*begun, waiting])) == [waiting]
        bench.executor.forget(waiting)
    gate.touch()
    for lease in begun:
        assert isinstance(bench.end(lease)[-1], Ended)
    assert bench.run({"do": "echo"})[0].verdict == "succeeded"
    assert not (tmp_path / "log").exists()


# -- many jobs --------------------------------------------------------------------------------------


def test_a_more_urgent_job_goes_first_when_slots_are_scarce(
    tmp_path: Path,
    make_executor: MakeExecutor,  # noqa: F811
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    url = getattr(make_executor, "url", None)
    engine = build(
        tmp_path, url=url, workloads=(ONE,), slots={"cpu": 1, "gpu": 0, "io": 0}, make=make_executor
    )

    def submit(id: str, number: int, priority: int, **deed: Any) -> None:
        items = [NewItem(name=f"{id} {n}", input=deed) for n in range(number)]
        asyncio.run(engine.submit(NewJob(id, "one", items, priority=priority)))

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    engine.start()
    try:
        submit("gate", 1, 3, do="gate", path=str(gate))
        until(lambda: asyncio.run(engine.item("gate", 0)).state is State.RUNNING)
        for id, priority in (("low", 0), ("normal", 1), ("urgent", 3), ("high", 2)):
            submit(id, 2, priority, do="log", path=str(log), seconds=0.3)
        gate.touch()
        until(lambda: asyncio.run(engine.job("low")).state.final)
    finally:
        engine.stop()
    begun = [line.split()[0] for line in log.read_text().splitlines() if not line.endswith("end")]
    assert begun == ["urgent"] * 2 + ["high"] * 2 + ["normal"] * 2 + ["low"] * 2


# -- models -----------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_the_warm_worker_is_preferred(bench: Bench) -> None:
    first = results(bench.run({"do": "warm"})[0])
    bench.until(lambda: any("model" in worker.warm for worker in bench.executor.workers()))
    assert [results(bench.run({"do": "warm"})[0]) for _ in range(5)] == [first] * 5


def test_an_idle_model_is_unloaded(start: Callable[..., Bench]) -> None:
    bench = start({"cpu": 1, "gpu": 0, "io": 0}, idle=0.1)
    first = results(bench.run({"do": "warm"})[0])
    time.sleep(0.5)
    again = results(bench.run({"do": "warm"})[0])
    assert again["pid"] == first["pid"]
    assert again["model"] != first["model"]


# -- around calls -----------------------------------------------------------------------------------


def test_polling_ends_when_woken_from_another_thread(bench: Bench) -> None:
    while bench.executor.poll(0.3):
        pass
    timer = threading.Timer(0.05, bench.executor.wake)
    timer.start()
    before = time.monotonic()
    bench.executor.poll(PATIENCE)
    assert time.monotonic() - before < PATIENCE / 2
    timer.join()


def test_workers_that_cannot_be_started_are_started_once_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_root_to_path(monkeypatch)
    blobs = open_store({"root": str(tmp_path / "blobs")})
    bench = Bench(make_local(tmp_path, blobs.descriptor(), SLOTS), tmp_path / "blobs", tmp_path)
    bench.executor.start()
    try:
        bench.run({"do": "echo"})
        # A full disk takes no new directory either.
        shutil.rmtree(tmp_path / "scratch")
        (tmp_path / "scratch").write_text("in the way")
        for worker in bench.executor.workers():
            os.kill(worker.pid, signal.SIGKILL)
        bench.until(lambda: not bench.executor.workers())
        lease = bench.call({"do": "echo"})
        assert not bench.executor.poll(0.1)
        (tmp_path / "scratch").unlink()
        assert isinstance(bench.end(lease)[-1], Ended)
    finally:
        bench.executor.stop()


def test_stopping_kills_everything(start: Callable[..., Bench], make_executor: MakeExecutor) -> None:  # noqa: F811
    bench = start()
    bench.call({"do": "child", "path": str(bench.directory / "pids")})
    running = pids(bench.directory / "pids")
    workers = [worker.pid for worker in bench.executor.workers()]
    bench.executor.stop()
    gone([*running, *workers])
    bench.executor.stop = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("slots", [{"cpu": 2, "gpu": 0, "io": 1}, {"cpu": 0, "gpu": 0, "io": 2}])
def test_a_worker_is_ready_before_there_is_work_whatever_the_slots_are_for(
    start: Callable[..., Bench], slots: dict[str, int]
) -> None:
    bench = start(slots)
    bench.until(lambda: any(worker.state == "idle" for worker in bench.executor.workers()))
    assert len(bench.executor.workers()) == max(1, slots["cpu"])


def test_workers_are_described(bench: Bench) -> None:
    lease = bench.call({"do": "child", "path": str(bench.directory / "pids")})
    worker, _ = pids(bench.directory / "pids")
    bench.until(lambda: bench.executor.worker_of(lease))
    bench.until(lambda: any(info.state == "busy" for info in bench.executor.workers()))
    (busy,) = [info for info in bench.executor.workers() if info.state == "busy"]
    assert (busy.pid, busy.kind, busy.stage, busy.calls) == (worker, "one", "only", 1)
    assert bench.executor.worker_of(lease) == busy.name
    bench.executor.kill(lease, "enough")
    bench.end(lease)
