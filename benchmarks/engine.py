"""The engine's own cost, against huey (SQLite, fsync on) and Celery on RabbitMQ in the same run.

Prints, each with its target where there is one: durable no-op items a second drained by two workers,
the engine's CPU time an item, start latency on an idle engine, CPU when idle, cancel until the process
is dead, kill -9 of the server until the item runs again, and a job of 100,000 items. A peer that is
not installed, or whose broker does not answer, is left out and named. Timings taken while the
machine does something else mean nothing.

    python benchmarks/engine.py
    python benchmarks/engine.py --items 3000 --peer-items 500 --requests 20 --large 5000   # a quick look
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millrace.blobs import open_store
from millrace.engine.engine import Engine
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.sql import SqlStore
from millrace.engine.store import JobQuery
from millrace.engine.workload import Stage, Workload

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TASKS = "benchmarks.engine_tasks"
WORKLOADS = [
    Workload(name, (Stage("only", f"{TASKS}:{name}", chunk=chunk),))
    for name, chunk in (("noop", 256), ("clock", 1), ("sleep", 1))
]
TICKS = os.sysconf("SC_CLK_TCK")


def make_engine(directory: Path, url: str | None, workers: int = 2) -> Engine:
    """Return an engine on a directory, not yet started."""
    blobs = open_store({"root": str(directory / "blobs")})
    executor = LocalExecutor(
        {"cpu": workers, "gpu": 0, "io": 0},
        settings={},
        site={},
        artifacts=blobs.descriptor(),
        scratch=directory / "scratch",
    )
    store = SqlStore(url or f"sqlite:///{directory / 'millrace.db'}")
    return Engine(store, executor, blobs, WORKLOADS)


def cpu_seconds(pid: int) -> float:
    """Return user and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib() -> float:
    """Return this process's resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def finished(engine: Engine, job: str) -> float:
    """Wait until a job has ended; return when."""
    while True:
        found = await engine.job(job)
        if found.state.final:
            assert found.state is State.SUCCEEDED, found
            return found.finished_at or 0.0
        await asyncio.sleep(0.01)


class Report:
    """Prints figures as they come."""

    def line(self, what: str, value: str, target: str = "") -> None:
        """Print one figure, and what was aimed at."""
        print(f"{what:<52} {value:>24}   {target}", flush=True)


async def drain(engine: Engine, report: Report, items: int) -> float:
    """Measure how fast waiting items are drained; return items a second."""
    await engine.submit(NewJob("warm", "noop", [NewItem() for _ in range(500)]))
    await finished(engine, "warm")
    await engine.submit(NewJob("drain", "noop", [NewItem() for _ in range(items)], held=True))
    workers = [worker.pid for worker in engine.status().workers]
    before = sum(map(cpu_seconds, workers)), time.process_time()
    started = time.time()
    await engine.release("drain")
    seconds = await finished(engine, "drain") - started
    theirs = sum(map(cpu_seconds, workers)) - before[0]
    ours = time.process_time() - before[1]
    rate = items / seconds
    report.line(f"drain of {items} durable no-op items, 2 workers", f"{rate:,.0f} items/s", "target 10,000")
    report.line("CPU of the engine an item", f"{ours / items * 1e6:.0f} µs", "moonshot 50 µs")
    report.line("CPU of the workers an item", f"{theirs / items * 1e6:.0f} µs")
    return rate


async def latency(engine: Engine, report: Report, marks: Path, requests: int) -> float:
    """Measure from submitting to running on an idle engine; return the median in seconds."""
    taken = []
    for n in range(requests):
        seen = len(marks.read_text().splitlines())
        before = time.time()
        await engine.submit(NewJob(f"latency-{n}", "clock", [NewItem()]))
        await finished(engine, f"latency-{n}")
        taken.append(float(marks.read_text().splitlines()[seen]) - before)
        await asyncio.sleep(0.01)
    report.line("start latency p50, submit to running", f"{ms(statistics.median(taken))}", "target ≤ 2 ms")
    report.line("start latency p99", f"{ms(sorted(taken)[int(len(taken) * 0.99)])}", "target ≤ 2 ms")
    return statistics.median(taken)


async def idle(engine: Engine, report: Report, seconds: float) -> None:
    """Measure the CPU used by engine and workers when nothing happens."""
    workers = [worker.pid for worker in engine.status().workers]
    before = time.process_time() + sum(map(cpu_seconds, workers))
    await asyncio.sleep(seconds)
    used = time.process_time() + sum(map(cpu_seconds, workers)) - before
    report.line(f"CPU when idle, over {seconds:g} s", f"{used / seconds * 100:.2f} %", "target < 1 %")


async def cancel(engine: Engine, report: Report, directory: Path, times: int) -> None:
    """Measure from the request to the death of the process."""
    taken = []
    for n in range(times):
        path = directory / f"sleeping-{n}"
        await engine.submit(NewJob(f"cancel-{n}", "sleep", [NewItem(input={"path": str(path)})]))
        while not (path.exists() and path.read_text()):
            await asyncio.sleep(0.005)
        pid = int(path.read_text().split()[0])
        before = time.perf_counter()
        await engine.cancel(f"cancel-{n}")
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.0002)
        taken.append(time.perf_counter() - before)
        await asyncio.sleep(0.3)
    report.line("cancel to dead, median", ms(statistics.median(taken)), "target ≤ 50 ms")
    report.line("cancel to dead, slowest", ms(max(taken)))


async def large(engine: Engine, report: Report, items: int) -> None:
    """Measure submitting, listing and paging one large job."""
    before = rss_mib()
    started = time.perf_counter()
    await engine.submit(NewJob("large", "noop", [NewItem(name=f"item {n}") for n in range(items)], held=True))
    report.line(
        f"submit {items:,} items in one job", f"{time.perf_counter() - started:.2f} s", "target < 5 s"
    )
    taken = []
    for n in range(50):
        started = time.perf_counter()
        await engine.jobs(JobQuery(limit=50))
        await engine.items("large", after=items * n // 50, limit=100)
        taken.append(time.perf_counter() - started)
    report.line("list jobs and page items, slowest of 50", ms(max(taken)), "target < 50 ms")
    started_at = time.time()
    await engine.release("large")
    seconds = await finished(engine, "large") - started_at
    report.line("drain of that job", f"{items / seconds:,.0f} items/s")
    report.line("memory, before and after", f"{before:.0f} → {rss_mib():.0f} MiB", "flat")


def ms(seconds: float) -> str:
    """Return a duration for people."""
    return f"{seconds * 1000:.2f} ms"


def serve(directory: Path) -> None:
    """Run until killed, with one sleeping item: what ``restart`` kills and starts again."""

    async def run() -> None:
        engine = make_engine(directory, None)
        engine.start()
        items = [NewItem(input={"path": str(directory / "running")})]
        await engine.submit(NewJob("job", "sleep", items, idempotency=("key", "body")))
        await asyncio.sleep(600)

    asyncio.run(run())


def restart(report: Report, times: int) -> None:
    """Measure from starting a server whose predecessor was killed until the item runs again."""
    taken = []
    with tempfile.TemporaryDirectory() as name:
        running = Path(name) / "running"
        for n in range(times + 1):
            running.unlink(missing_ok=True)
            before = time.time()
            server = subprocess.Popen([sys.executable, __file__, "--serve", name], cwd=ROOT)
            while not (running.exists() and running.read_text()):
                time.sleep(0.001)
            if n:
                taken.append(float(running.read_text().split()[1]) - before)
            server.send_signal(signal.SIGKILL)
            server.wait()
            time.sleep(0.1)
    report.line(
        "kill -9, start again until running, median", f"{statistics.median(taken):.2f} s", "target ≤ 1 s"
    )


# -- peers --------------------------------------------------------------------------------------------


@contextmanager
def consumer(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run a peer's workers."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(marks: Path, count: Callable[[str], int], number: int) -> float:
    """Wait until so many marks are there; return when."""
    deadline = time.monotonic() + 300
    while count(marks.read_text()) < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count(marks.read_text())} of {number} were done after 300 s")
        time.sleep(0.002)
    return time.time()


def measure_peer(
    marks: Path,
    enqueue: Callable[[int], Any],
    tell: Callable[[], Any],
    workers: Callable[[], Any],
    items: int,
    requests: int,
) -> tuple[float, float]:
    """Return a peer's drained items a second, and its median start latency in seconds."""
    marks.write_text("")
    enqueue(items)
    with workers():
        # Its own start does not count: the clock runs from the first hundredth to the last item.
        first = max(1, items // 100)
        began = wait_for(marks, len, first)
        rate = (items - first) / (wait_for(marks, len, items) - began)
        marks.write_text("")
        taken = []
        for n in range(requests):
            before = time.time()
            tell()
            wait_for(marks, lambda text: text.count("\n"), n + 1)
            taken.append(float(marks.read_text().splitlines()[n]) - before)
            time.sleep(0.05)
    return rate, statistics.median(taken)


def huey_figures(marks: Path, items: int, requests: int) -> tuple[float, float]:
    """Measure huey with two worker threads; its fastest polling."""
    from benchmarks.engine_tasks import huey_app

    with tempfile.TemporaryDirectory() as name:
        path = str(Path(name) / "huey.db")
        _, nothing, tell = huey_app(path)
        command = [sys.executable, "-m", "huey.bin.huey_consumer", f"{TASKS}.huey", "-w", "2", "-d", "0.01"]
        command += ["-m", "0.05", "-n", "-q"]
        environment = {"BENCH_HUEY": path, "BENCH_MARKS": str(marks)}
        return measure_peer(
            marks,
            lambda number: [nothing() for _ in range(number)],
            tell,
            lambda: consumer(command, environment),
            items,
            requests,
        )


def celery_figures(marks: Path, items: int, requests: int) -> tuple[float, float]:
    """Measure Celery with two worker processes on a queue of its own, deleted afterwards."""
    from benchmarks.engine_tasks import celery_app

    with socket.create_connection(("127.0.0.1", 5672), timeout=2):
        pass
    queue = f"bench-{uuid.uuid4().hex}"
    app, nothing, tell = celery_app(queue)
    command = [sys.executable, "-m", "celery", "-A", f"{TASKS}:celery", "worker", "-c", "2", "-Q", queue]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    environment = {"BENCH_CELERY": queue, "BENCH_MARKS": str(marks)}
    try:
        return measure_peer(
            marks,
            lambda number: [nothing.delay() for _ in range(number)],
            tell.delay,
            lambda: consumer(command, environment),
            items,
            requests,
        )
    finally:
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)
        app.close()


def peers(report: Report, options: argparse.Namespace, marks: Path, rate: float, start: float) -> None:
    """Measure the peers, and print how many times faster the engine is."""
    for name, figures in (("huey, fsync on", huey_figures), ("Celery + RabbitMQ", celery_figures)):
        try:
            theirs, latency = figures(marks, options.peer_items, options.requests)
        except (ImportError, OSError, TimeoutError) as error:
            report.line(name, "left out", str(error))
            continue
        report.line(f"{name}: drain", f"{theirs:,.0f} items/s", f"ratio {rate / theirs:.1f}")
        report.line(f"{name}: start latency p50", ms(latency), f"ratio {latency / start:.1f}")


async def millrace(report: Report, options: argparse.Namespace, marks: Path) -> tuple[float, float]:
    """Measure the engine; return its rate and its median latency."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        engine = make_engine(directory, options.database)
        engine.start()
        try:
            rate = await drain(engine, report, options.items)
            start = await latency(engine, report, marks, options.requests)
            await idle(engine, report, options.idle)
            await cancel(engine, report, directory, max(3, options.requests // 20))
            await large(engine, report, options.large)
        finally:
            engine.stop()
    return rate, start


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--peer-items", type=int, default=3000)
    parser.add_argument("--requests", type=int, default=200, help="single submissions for the latency")
    parser.add_argument("--large", type=int, default=100_000, help="items of the large job")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds over which idle CPU is measured")
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if options.serve is not None:
        serve(options.serve)
        return
    report = Report()
    with tempfile.NamedTemporaryFile() as file:
        marks = Path(file.name)
        os.environ["BENCH_MARKS"] = file.name
        rate, start = asyncio.run(millrace(report, options, marks))
        restart(report, options.restarts)
        peers(report, options, marks, rate, start)


if __name__ == "__main__":
    main()
