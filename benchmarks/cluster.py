"""Many machines, measured on one: items a second and latency with 1, 2 and 4 workers, beside bare Celery.

Each worker has two slots; an item takes 10 ms and waits, so that the cost of handing it out shows and the
cores of one machine do not. Celery runs the same on the same RabbitMQ, in the same run, with as many
processes. Then a model: the costs that were measured, in a simulation of a hundred machines.

    python benchmarks/cluster.py
    python benchmarks/cluster.py --seconds 3 --workers 1 2     # a quick look

Needs PostgreSQL on 127.0.0.1:5432 (user postgres) and RabbitMQ on 127.0.0.1:5672 (guest).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.cluster_tasks import BROKER, QUEUES, SECONDS, celery_app  # noqa: E402

from millrace.blobs import open_store  # noqa: E402
from millrace.engine.cluster.hints import Broker, HintSender  # noqa: E402
from millrace.engine.engine import Engine  # noqa: E402
from millrace.engine.executors.celery import CeleryExecutor  # noqa: E402
from millrace.engine.model import NewItem, NewJob, State  # noqa: E402
from millrace.engine.sql import SqlStore  # noqa: E402
from millrace.engine.sql.peers import PostgresPeers  # noqa: E402
from millrace.engine.workload import Stage, Workload  # noqa: E402

POSTGRES = "postgresql://postgres@127.0.0.1:5432"
TASKS = "benchmarks.cluster_tasks"
SLOTS = 2
WORKLOADS = [Workload(kind, (Stage("only", f"{TASKS}:{kind}", chunk=64),)) for kind in ("ten", "moment")]


@dataclass
class Costs:
    """What an item costs, in seconds: CPU of the server, of a worker beside the stage, of the database.

    call     wall time from the end of one call to the beginning of the next on the same slot.
    chunk    items a call.
    """

    server: float
    worker: float
    database: float
    call: float
    chunk: float


def say(what: str, value: str, target: str = "") -> None:
    """Print one figure, and what was aimed at."""
    print(f"{what:<58} {value:>22}   {target}", flush=True)


def cpu_of(pids: list[int]) -> float:
    """Return user and system time of processes, those they have ended included."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def postgres_pids(database: str) -> list[int]:
    """Return the server processes of a database's connections."""
    with psycopg.connect(f"{POSTGRES}/postgres") as link:
        rows = link.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", (database,)).fetchall()
    return [row[0] for row in rows]


def children(pid: int) -> list[int]:
    """Return a process and all below it."""
    found, parents = [pid], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[Engine, list[int], str]]:
    """Run an engine and so many nodes on a database and queues of their own."""
    name, prefix = f"millrace_bench_{uuid.uuid4().hex[:12]}", f"bench-{uuid.uuid4().hex[:8]}."
    with psycopg.connect(f"{POSTGRES}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url, broker = f"{POSTGRES}/{name}", Broker(BROKER, prefix)
    blobs = open_store({"root": str(folder / "blobs")})
    store = SqlStore(url)
    executor = CeleryExecutor(url, store.nodes, HintSender(broker))
    engine = Engine(store, executor, blobs, WORKLOADS, connect=lambda: PostgresPeers(url))
    nodes = []
    try:
        engine.start()
        for number in range(workers):
            config = folder / f"node-{number}.json"
            given = {"slots": {"cpu": SLOTS}, "artifacts": blobs.descriptor(), "database": url}
            given |= {"prefix": prefix, "scratch": str(folder / f"scratch-{number}")}
            config.write_bytes(orjson.dumps(given))
            nodes.append(subprocess.Popen([sys.executable, "-m", TASKS, str(config)], cwd=ROOT))
        while executor.slots["cpu"] < SLOTS * workers:
            time.sleep(0.05)
        yield engine, [node.pid for node in nodes], name
    finally:
        for node in nodes:
            node.kill()
            node.wait()
        engine.stop()
        with broker.app.connection_for_write() as connection:
            for queue in (*(broker.queue(queue).name for queue in QUEUES), broker.dead.name):
                connection.default_channel.queue_delete(queue)
        with psycopg.connect(f"{POSTGRES}/postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def ended(engine: Engine, job: str) -> float:
    """Wait until a job has ended; return when."""
    while True:
        found = await engine.job(job)
        if found.state.final:
            assert found.state is State.SUCCEEDED, found
            return found.finished_at or 0.0
        await asyncio.sleep(0.02)


async def measure(engine: Engine, nodes: list[int], database: str, items: int) -> tuple[float, float, Costs]:
    """Return items a second, the median latency, and what an item costs."""
    await engine.submit(NewJob("warm", "ten", [NewItem() for _ in range(400)]))
    await ended(engine, "warm")
    await engine.submit(NewJob("drain", "ten", [NewItem() for _ in range(items)], held=True))
    backends = postgres_pids(database)
    theirs = [pid for node in nodes for pid in children(node)]
    before = time.process_time(), cpu_of(theirs), cpu_of(backends)
    began = time.time()
    await engine.release("drain")
    seconds = await ended(engine, "drain") - began
    spent = [
        (after - start) / items
        for after, start in zip((time.process_time(), cpu_of(theirs), cpu_of(backends)), before, strict=True)
    ]
    events = await engine.events("drain", limit=1)
    assert events
    slots = SLOTS * len(nodes)
    calls = sum(worker.calls for worker in engine.status().workers)
    chunk = max(1.0, (items + 400) / max(1, calls))
    gap = max(0.0, seconds * slots / items - SECONDS) * chunk
    taken = []
    for number in range(15):
        await engine.submit(NewJob(f"moment-{number}", "moment", [NewItem()]))
        await ended(engine, f"moment-{number}")
        item = await engine.item(f"moment-{number}", 0)
        job = await engine.job(f"moment-{number}")
        taken.append(item.results["only"]["at"] - job.created_at)
    return items / seconds, statistics.median(taken), Costs(spent[0], spent[1], spent[2], gap, chunk)


def bare_celery(folder: Path, processes: int, items: int) -> float:
    """Return items a second of Celery with so many processes, from the first end to the last."""
    queue, marks = f"bench-{uuid.uuid4().hex}", folder / f"marks-{processes}"
    os.environ["BENCH_MARKS"] = str(marks)
    app = celery_app(queue)
    environment = {**os.environ, "BENCH_PEER": queue}
    command = [sys.executable, "-m", "celery", "-A", f"{TASKS}:celery", "worker", "-c", str(processes)]
    command += ["-Q", queue, "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    for _ in range(items):
        app.tasks["ten"].delay()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)
    try:
        while len(lines := marks.read_text().splitlines()) < items:
            time.sleep(0.1)
        times = sorted(map(float, lines))
        return (items - 1) / (times[-1] - times[0])
    finally:
        worker.terminate()
        worker.wait()
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)
        app.close()


def simulate(machines: int, slots: int, item: float, costs: Costs, cores: int = 16) -> tuple[float, str]:
    """Return items a second of a cluster in steady state, and what holds it up.

    A closed queueing network, event by event: each slot runs a call, then its end passes through the
    database (``cores`` processors) and the server in charge (one thread), which dispatches the next.
    """
    chunk = max(1, min(64, int(0.1 / item))) if item < 0.25 else 1
    server_time, base_time = costs.server * chunk, costs.database * chunk
    free_server, free_base = 0.0, [0.0] * cores
    number = machines * slots
    # Slots begin spread out; what is counted begins when each has turned around a few times.
    queue = [(chunk * item * n / number, n) for n in range(number)]
    heapq.heapify(queue)
    done, began, busy_server, busy_base = 0, 0.0, 0.0, 0.0
    ahead = item < 0.25
    total, skipped = 40 * number, 8 * number
    for count in range(total):
        now, slot = heapq.heappop(queue)
        if count == skipped:
            began, done, busy_server, busy_base = now, 0, 0.0, 0.0
        base = min(range(cores), key=free_base.__getitem__)
        free_base[base] = max(now, free_base[base]) + base_time
        free_server = max(free_base[base], free_server) + server_time
        busy_base += base_time
        busy_server += server_time
        # Sent ahead, the next call is there as long as the server keeps up; else it is waited for.
        ready = max(now, free_server - chunk * item) if ahead else free_server
        done += chunk
        heapq.heappush(queue, (ready + costs.call + chunk * item, slot))
    seconds = max(1e-9, now - began)
    use = {"the server in charge": busy_server / seconds, "the database": busy_base / cores / seconds}
    name, most = max(use.items(), key=lambda entry: entry[1])
    return done / seconds, name if most > 0.9 else "the workers"


def model(costs: Costs) -> None:
    """Print what a hundred machines would do with a hundred million items."""
    print("\nA hundred machines with 8 slots each, a hundred million items (simulated with the costs above):")
    for item in (0.01, 0.1, 1.0, 10.0, 60.0):
        rate, bottleneck = simulate(100, 8, item, costs)
        ideal = 800 / item
        say(
            f"items of {item:g} s",
            f"{rate:,.0f} items/s",
            f"{100e6 / rate / 3600:,.1f} h; {rate / ideal:.0%} of ideal; held up by {bottleneck}",
        )
    limit = 1 / costs.server
    say("the server in charge hands out at most", f"{limit:,.0f} items/s", "one thread, one core")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=8.0, help="about how long each drain takes")
    options = parser.parse_args()
    costs: Costs | None = None
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as home:
        for workers in options.workers:
            items = int(options.seconds * workers * SLOTS / SECONDS)
            folder = Path(home, str(workers))
            folder.mkdir()
            celery = bare_celery(folder, workers * SLOTS, items)
            with cluster(folder, workers) as (engine, nodes, database):
                rate, latency, costs = asyncio.run(measure(engine, nodes, database, items))
            what = f"{workers} worker{'s' if workers > 1 else ''} of {SLOTS} slots"
            say(f"{what}: items of 10 ms", f"{rate:,.0f} items/s", f"ideal {workers * SLOTS / SECONDS:,.0f}")
            say("  bare Celery, as many processes", f"{celery:,.0f} items/s")
            say("  as a part of bare Celery", f"{rate / celery:.2f} ×", "target 0.9")
            say("  submitted to begun, idle, median", f"{latency * 1e3:.1f} ms")
            say("  CPU of the server an item", f"{costs.server * 1e6:.0f} µs")
            say("  CPU of the database an item", f"{costs.database * 1e6:.0f} µs")
            say("  CPU of the workers an item", f"{costs.worker * 1e6:.0f} µs")
            say(
                "  items a call; between two calls of a slot", f"{costs.chunk:.1f}; {costs.call * 1e3:.1f} ms"
            )
    assert costs is not None
    model(costs)


if __name__ == "__main__":
    main()
