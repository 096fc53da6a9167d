"""Killed with -9 at random moments under load, server and workers: nothing lost, nothing done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from millrace.engine.model import State
from millrace.engine.sql import SqlStore
from tests.engine.crash_server import JOB, deed
from tests.engine.executors import ROOT
from tests.engine.strays import check_strays

ITEMS = 80
KILLS = 4


def start(directory: Path, url: str) -> subprocess.Popen[bytes]:
    (directory / "started").unlink(missing_ok=True)
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.engine.crash_server", str(directory), url, str(ITEMS)],
            cwd=ROOT,
            stderr=log,
            stdout=log,
        )


def wait(directory: Path, server: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + 60
    while not (directory / name).exists():
        assert time.monotonic() < deadline, (directory / "log").read_text()
        assert server.poll() in (None, 0), (directory / "log").read_text()
        time.sleep(0.005)


def workers_of(server: int) -> list[int]:
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == server and fields[0] != "Z":
                    children.append(int(entry.name))
    return children


def gone(pids: list[int]) -> bool:
    def alive(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False

    return not any(map(alive, pids))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments_everything_is_done_once(
    tmp_path: Path, database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    kills = 0
    while not (tmp_path / "finished").exists():
        server = start(tmp_path, database_url)
        if kills == KILLS:
            wait(tmp_path, server, "finished")
            server.wait()
            break
        wait(tmp_path, server, "started")
        time.sleep(chance.uniform(0.0, 0.5))
        workers = workers_of(server.pid)
        if workers and chance.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.2))
            workers = workers_of(server.pid)
        server.kill()
        server.wait()
        kills += 1
        deadline = time.monotonic() + 5
        while not gone(workers):
            assert time.monotonic() < deadline, "workers outlived their server"
            time.sleep(0.005)
    assert kills >= 3, "it was done before it was killed: the test shows nothing"
    check(tmp_path, database_url)


def check(directory: Path, url: str) -> None:
    store = SqlStore(url)
    try:
        job = store.job(JOB)
        assert job is not None
        expected = Counter(expected_state(n) for n in range(ITEMS))
        counts = {state: getattr(job.counts, state.value) for state in expected}
        assert counts == expected
        assert (job.counts.total, job.counts.finished, job.progress) == (ITEMS, ITEMS, 1.0)
        items = store.items(JOB, -1, ITEMS + 1, ())
        assert [(item.idx, item.state) for item in items] == [(n, expected_state(n)) for n in range(ITEMS)]
        for item in items:
            done = [run.stage for run in store.runs(JOB, item.idx) if run.outcome in ("succeeded", "skipped")]
            assert done == ([] if item.state is State.FAILED else ["first", "second"])
        check_events(store)
        check_artifacts(directory, store)
    finally:
        store.close()


def expected_state(n: int) -> State:
    return {5: State.FAILED, 7: State.SKIPPED}.get(n % 17, State.SUCCEEDED)


def check_events(store: SqlStore) -> None:
    events = store.events(JOB, 0, 100_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends = Counter(event.idx for event in events if event.type == "item.finished")
    assert ends == Counter(range(ITEMS))
    types = Counter(event.type for event in events)
    assert (types["job.created"], types["job.started"], types["job.finished"]) == (1, 1, 1)


def check_artifacts(directory: Path, store: SqlStore) -> None:
    """Every row has its whole file; a file without a row is of an attempt that a later one replaced."""
    rows = store.artifacts(JOB, None)
    napping = [n for n in range(ITEMS) if deed(n) == {"do": "nap"}]
    assert {(row.idx, row.name) for row in rows} >= {
        (n, f"{s}.txt") for n in napping for s in ("first", "second")
    }
    assert len({(row.idx, row.name) for row in rows}) == len(rows)
    blobs = directory / "blobs"
    for row in rows:
        assert (blobs / row.key).stat().st_size == row.bytes
    seen = {str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file()}
    check_strays({name for name in seen if not name.startswith("staging/")}, {row.key for row in rows})


def test_a_dead_server_takes_its_workers_along_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'millrace.db'}"
    server = start(tmp_path, url)
    wait(tmp_path, server, "started")
    deadline = time.monotonic() + 20
    while not (workers := workers_of(server.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.kill()
    server.wait()
    deadline = time.monotonic() + 5
    while not gone(workers):
        assert time.monotonic() < deadline
        time.sleep(0.001)
