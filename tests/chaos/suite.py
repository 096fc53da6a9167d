"""Rounds of chaos: each submits jobs, breaks something while they run, mends it, waits, and counts.

``python -m tests.chaos --iterations 200 --seed 1``. What a round does follows from its seed alone; when it
went wrong, the seed and the logs' place are told.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from millrace.engine.model import State
from millrace.engine.sql import SqlStore
from tests.chaos.services import Netns, Postgres, Rabbit, may_cut
from tests.engine.strays import check_strays
from tests.live_cluster import LiveCluster

LEASE = 2.0
PATIENCE = 180.0


@dataclass
class Told:
    """A job that was accepted, and what must become of its items."""

    job: str
    expected: list[State]


@dataclass
class Result:
    """What a round was: its faults, and what was counted."""

    seed: int
    faults: list[str] = field(default_factory=list)
    items: int = 0
    lost: int = 0
    seconds: float = 0.0


class Chaos:
    """A cluster of two servers and three workers on services of its own.

    ``faults`` maps each fault to its weight: what takes long to mend comes seldom.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres = Postgres(home / "postgres")
        self.rabbit = Rabbit(home / "rabbit")
        self.cut: Netns | None = None
        self.faults: dict[Callable[[random.Random], None], int] = {
            self.nothing: 1,
            self.worker_killed: 4,
            self.worker_process_killed: 4,
            self.worker_told_to_leave: 3,
            self.worker_frozen: 3,
            self.server_in_charge_killed: 3,
            self.any_server_killed: 2,
            self.server_frozen: 2,
            self.connections_dropped: 4,
            self.messages_lost: 3,
            self.messages_doubled: 3,
            self.database_killed: 2,
            self.broker_killed: 1,
        }

    # -- around the rounds --------------------------------------------------------------------

    def __enter__(self) -> Chaos:
        self.postgres.create()
        self.postgres.start()
        self.rabbit.start()
        self.cluster = LiveCluster(self.home, self.postgres.url(), self.rabbit.url(), lease=LEASE)
        for _ in range(2):
            self.cluster.add_server().start()
        self.cluster.add_worker()
        self.cluster.add_worker()
        if may_cut():
            self.cut = Netns(1)
            host = self.cut.host
            self.cluster.add_worker(
                prefix=self.cut.prefix,
                database=self.postgres.url(host),
                broker={"url": self.rabbit.url(host), "queue_prefix": ""},
            )
            self.faults[self.worker_cut_off] = 4
        for worker in self.cluster.workers:
            worker.start()
        self.store = SqlStore(self.postgres.url())
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.cluster.close()
        if self.cut is not None:
            self.cut.close()
        self.rabbit.kill()
        self.postgres.kill()

    # -- a round ------------------------------------------------------------------------------

    def round(self, seed: int) -> Result:
        """Run one round and check what came of it; AssertionError where that is wrong."""
        chance = random.Random(seed)
        result = Result(seed)
        began = time.monotonic()
        told = [self.submit(chance) for _ in range(chance.randint(1, 2))]
        for _ in range(chance.choice((1, 1, 2))):
            time.sleep(chance.uniform(0.0, 0.6))
            fault = chance.choices(list(self.faults), list(self.faults.values()))[0]
            result.faults.append(fault.__name__)
            fault(chance)
            if chance.random() < 0.4:
                told.append(self.submit(chance))
        self.mend()
        for each in told:
            self.wait(each.job)
            result.items += len(each.expected)
            result.lost += self.check(each)
        self.check_nothing_is_left()
        result.seconds = time.monotonic() - began
        return result

    def submit(self, chance: random.Random) -> Told:
        """Submit a job to some server, as a client does that keeps trying under one key."""
        kinds: list[tuple[dict[str, Any], State]] = [
            ({}, State.SUCCEEDED),
            ({"artifact": "out.txt", "content": "made " * 100}, State.SUCCEEDED),
            ({"sleep": 0.3, "artifact": "out.txt", "content": "slow"}, State.SUCCEEDED),
            ({"sleep": 1.0}, State.SUCCEEDED),
            ({"skip": "nothing to do"}, State.SKIPPED),
            ({"fail": "as it was told"}, State.FAILED),
        ]
        chosen = chance.choices(kinds, (6, 6, 4, 1, 1, 1), k=chance.randint(5, 30))
        items = [{"name": str(n), "input": wish} for n, (wish, _) in enumerate(chosen)]
        body = {"kind": "probe", "items": items, "priority": chance.randint(0, 3)}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        deadline = time.monotonic() + PATIENCE
        while True:
            server = chance.choice(self.cluster.servers)
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                answer = server.client.post("/jobs", json=body, headers=headers, timeout=40)
                if answer.status_code < 300:
                    return Told(answer.json()["job_id"], [state for _, state in chosen])
            assert time.monotonic() < deadline, "no server takes a job"
            self.revive()
            time.sleep(0.2)

    def revive(self) -> None:
        """Start what was killed, as a supervisor does."""
        for server in self.cluster.servers:
            if server.process is None or server.process.poll() is not None:
                server._forget()
                server.start()
        for worker in self.cluster.workers:
            if not worker.alive:
                worker.start()

    def mend(self) -> None:
        """Undo whatever is still broken."""
        if self.cut is not None:
            self.cut.mend()
        self.revive()

    def wait(self, job: str) -> None:
        """Wait until a job has ended."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(Exception):
                found = self.store.job(job)
                if found is not None and found.state.final:
                    return
                assert found is not None, f"the job {job} was accepted, and is not there"
            assert time.monotonic() < deadline, f"job {job} does not end: {found}"
            time.sleep(0.05)

    # -- invariants ---------------------------------------------------------------------------

    def check(self, told: Told) -> int:
        """Check one job; return how many items lost their worker three times."""
        job = self.store.job(told.job)
        assert job is not None
        items = self.store.items(told.job, -1, 10_000, ())
        assert [item.idx for item in items] == list(range(len(told.expected)))
        lost = 0
        for item, expected in zip(items, told.expected, strict=True):
            if item.state is State.FAILED and item.error and item.error["code"] == "worker_lost":
                lost += 1
                continue
            assert item.state is expected, (told.job, item.idx, item.state, expected, item.error)
            done = [
                run.stage
                for run in self.store.runs(told.job, item.idx)
                if run.outcome in ("succeeded", "skipped")
            ]
            assert len(done) == len(set(done)), (told.job, item.idx, done)
        counts = Counter(item.state for item in items)
        for state in (State.SUCCEEDED, State.SKIPPED, State.FAILED, State.CANCELLED):
            assert getattr(job.counts, state.value) == counts[state], (told.job, job.counts, counts)
        assert (job.counts.queued, job.counts.running, job.counts.finished) == (0, 0, len(items))
        events = self.store.events(told.job, 0, 1_000_000)
        assert [event.seq for event in events] == list(range(1, job.last_event + 1))
        ends = Counter(event.idx for event in events if event.type == "item.finished")
        assert ends == Counter(range(len(items))), (told.job, ends)
        kinds = Counter(event.type for event in events)
        assert (kinds["job.created"], kinds["job.finished"]) == (1, 1), kinds
        self.check_files(told.job)
        return lost

    def check_files(self, job: str) -> None:
        """Every row has its whole file; a file without a row is one that a later attempt's row replaces."""
        rows = {row.key: row.bytes for row in self.store.artifacts(job, None)}
        for key, size in rows.items():
            assert (self.cluster.blobs / key).stat().st_size == size, key
        folder = self.cluster.blobs / "jobs" / job
        seen = {str(path.relative_to(self.cluster.blobs)) for path in folder.rglob("*") if path.is_file()}
        check_strays(seen, rows.keys())

    def check_nothing_is_left(self) -> None:
        """No dispatch stays once all jobs are over: nothing runs that nobody waits for."""
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while True:
            left: list[Any] = []
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.postgres.url()) as link:
                left = link.execute("SELECT lease, state, worker FROM dispatches").fetchall()
                left += link.execute("SELECT seq, lease, body FROM reports").fetchall()
                if not left:
                    return
            assert time.monotonic() < deadline, f"left over: {left}"
            time.sleep(0.1)

    # -- faults -------------------------------------------------------------------------------

    def nothing(self, chance: random.Random) -> None:
        """A round without a fault."""

    def worker_killed(self, chance: random.Random) -> None:
        worker = chance.choice(self.cluster.workers)
        worker.kill()
        time.sleep(chance.uniform(0, 1.5 * LEASE))
        worker.start()

    def worker_process_killed(self, chance: random.Random) -> None:
        """One of the processes that run stages, not the worker itself."""
        worker = chance.choice(self.cluster.workers)
        children = _children(worker.process.pid) if worker.process else []
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGKILL)

    def worker_told_to_leave(self, chance: random.Random) -> None:
        worker = chance.choice(self.cluster.workers)
        if worker.alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.stop()
        worker.kill()
        worker.start()

    def worker_frozen(self, chance: random.Random) -> None:
        """It comes back after its leases have run out, or just before."""
        worker = chance.choice(self.cluster.workers)
        if worker.alive:
            worker.signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.3, 2.5) * LEASE)
            worker.signal(signal.SIGCONT)

    def worker_cut_off(self, chance: random.Random) -> None:
        """Its packets vanish; it works on, and comes back."""
        assert self.cut is not None
        self.cut.cut()
        time.sleep(chance.uniform(0.3, 3.0) * LEASE)
        self.cut.mend()

    def server_in_charge_killed(self, chance: random.Random) -> None:
        for server in self.cluster.servers:
            lines = [line for line in server.log().splitlines() if "this server is in charge" in line]
            if server.process is not None and lines and "in charge now" in lines[-1]:
                server.kill()
                time.sleep(chance.uniform(0, 3))
                server.start()
                return

    def any_server_killed(self, chance: random.Random) -> None:
        server = chance.choice(self.cluster.servers)
        if server.process is not None:
            server.kill()
            server.start()

    def server_frozen(self, chance: random.Random) -> None:
        """Another takes over; the frozen one wakes up and must write nothing."""
        server = chance.choice(self.cluster.servers)
        if server.process is not None:
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(chance.uniform(1.0, 9.0))
            server.process.send_signal(signal.SIGCONT)

    def connections_dropped(self, chance: random.Random) -> None:
        import psycopg

        for _ in range(chance.randint(1, 3)):
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.postgres.url()) as link:
                link.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
            time.sleep(chance.uniform(0, 0.3))

    def messages_lost(self, chance: random.Random) -> None:
        """All that are in the queues, for a while."""
        from kombu import Connection

        until = time.monotonic() + chance.uniform(0.2, 1.0)
        while time.monotonic() < until:
            with contextlib.suppress(Exception), Connection(self.rabbit.url()) as connection:
                channel = connection.default_channel
                for stage in ("first", "second"):
                    channel.queue_purge(f"cpu.probe.{stage}")

    def messages_doubled(self, chance: random.Random) -> None:
        """Hints for work that is not there, or is somebody's already, and what is no hint at all."""
        from millrace.engine.cluster.hints import Broker

        broker = Broker(self.rabbit.url())
        with contextlib.suppress(Exception), broker.app.connection_for_write() as connection:
            for _ in range(chance.randint(5, 50)):
                queue = broker.queue(f"cpu.probe.{chance.choice(('first', 'second'))}")
                name = chance.choice(("millrace.hint", "millrace.hint", "no.such.task"))
                broker.app.send_task(name, (queue.name,), connection=connection, queue=queue, retry=False)

    def database_killed(self, chance: random.Random) -> None:
        self.postgres.kill()
        time.sleep(chance.uniform(0, 2 * LEASE))
        self.postgres.start()

    def broker_killed(self, chance: random.Random) -> None:
        self.rabbit.kill()
        time.sleep(chance.uniform(0, LEASE))
        self.rabbit.start()


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def run(home: Path, iterations: int, seed: int, tell: Callable[[str], None] = print) -> bool:
    """Run so many rounds and tell of each; whether all went well."""
    faults: Counter[str] = Counter()
    items = lost = 0
    with Chaos(home) as chaos:
        tell(f"the logs are in {home}; faults: {', '.join(f.__name__ for f in chaos.faults)}")
        for number in range(iterations):
            try:
                result = chaos.round(seed + number)
            except BaseException as error:
                tell(f"round {number + 1} with seed {seed + number} went wrong: {error!r}")
                raise
            faults.update(result.faults)
            items += result.items
            lost += result.lost
            tell(
                f"{number + 1:>4} seed {result.seed}: {', '.join(result.faults)}: {result.items} items, "
                f"{result.lost} lost three workers, {result.seconds:.1f} s"
            )
    tell(f"{iterations} rounds, {items} items, each ended once; {lost} of them as poison")
    tell("faults: " + ", ".join(f"{name} {number}" for name, number in faults.most_common()))
    shutil.rmtree(home, ignore_errors=True)
    return True
