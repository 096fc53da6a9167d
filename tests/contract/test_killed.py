"""A server or worker that is killed outright leaves nothing running: no stage, nor what one has started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import NewServer
from tests.live import LiveServer, probe_path
from tests.live_cluster import cluster_of_its_own, until
from tests.processes import alive, descendants, gone, pids

pytestmark = pytest.mark.timeout(180)


def run_on(server: LiveServer, folder: Path, *, stuck: bool) -> list[int]:
    """Have a stage start a process and wait for it; return the numbers of both."""
    said = folder / "pids"
    body = {"kind": "probe", "items": [{"name": "a", "input": {"child": str(said), "stuck": stuck}}]}
    server.client.post("/jobs", json=body).raise_for_status()
    found = pids(said)
    assert all(alive(pid) for pid in found)
    return found


@pytest.mark.parametrize("stuck", [False, True])
def test_what_a_killed_server_ran_is_gone(new_server: NewServer, tmp_path: Path, stuck: bool) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    running = run_on(server, tmp_path, stuck=stuck)
    assert server.process is not None
    below = descendants(server.process.pid)
    assert set(running) < set(below)
    server.kill()
    gone(below)


@pytest.mark.postgres
@pytest.mark.rabbitmq
@pytest.mark.parametrize("stuck", [False, True])
def test_what_a_killed_worker_ran_is_gone(tmp_path: Path, stuck: bool) -> None:
    with cluster_of_its_own(tmp_path) as cluster:
        server = cluster.add_server().start()
        worker = cluster.add_worker().start()
        until(lambda: server.client.get("/health").json()["workers"] >= 2, what="the worker")
        running = run_on(server, tmp_path, stuck=stuck)
        assert worker.process is not None
        below = descendants(worker.process.pid)
        assert set(running) < set(below)
        worker.kill()
        gone(below)
