"""The images contract on workers of a queue each: who takes what, and what waits for whom."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.engine.executors import BROKER
from tests.live import LiveServer
from tests.live_cluster import LiveCluster, LiveWorker, cluster_of_its_own, until
from tests.unit.images import odd_files
from tests.unit.local_http import LocalServer

pytestmark = [pytest.mark.postgres, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

QUEUES = {"fetch": "image_upload", "analyse": "image_analysis", "write": "image_writing"}
SLOTS = {"fetch": "io=2", "analyse": "cpu=1", "write": "io=2"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LiveCluster]:
    """A server of the images contract, and no worker yet."""
    settings = {
        "fetch": {"allow_private": True, "ports": []},
        "images": {"read_text": "never"},
        # So long does a worker count as there after it was killed.
        "cluster": {"lease": 30.0},
    }
    with cluster_of_its_own(tmp_path, **settings) as made:
        made.add_server().start()
        yield made


@pytest.fixture
def web() -> Iterator[LocalServer]:
    server = LocalServer()
    yield server
    server.close()


def add_worker(cluster: LiveCluster, stage: str) -> LiveWorker:
    """Start a worker that takes from the queue of one stage alone."""
    return cluster.add_worker("--queues", QUEUES[stage], "--slots", SLOTS[stage]).start()


def create(server: LiveServer, web: LocalServer) -> str:
    """Create a batch of three pictures, one of which has to be fetched."""
    url = web.says("/one.jpg", 200, odd_files.jpeg(), content_type="image/jpeg")
    encoded = base64.b64encode(odd_files.png()).decode()
    images = [{"url": url}, *({"base64": encoded, "name": f"{n}.png"} for n in range(2))]
    answer = server.client.post("/api/v1/batch", json={"images": images})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def items(server: LiveServer, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get(f"/jobs/{job}/items").raise_for_status().json()["items"]
    return found


def wait_until_all_wait_for(stage: str, server: LiveServer, job: str) -> None:
    before = list(QUEUES)[: list(QUEUES).index(stage)]

    def look() -> bool:
        return all(row["state"] == "queued" and list(row["results"]) == before for row in items(server, job))

    until(look, what=f"all pictures waiting for {stage}")


def stages_run(server: LiveServer, job: str) -> dict[str, set[str]]:
    """Return stage → the machines that have run it."""
    found: dict[str, set[str]] = {}
    for row in items(server, job):
        item = server.client.get(f"/jobs/{job}/items/{row['idx']}").raise_for_status().json()
        for run in item["runs"]:
            found.setdefault(run["stage"], set()).add(run["worker"].partition("/")[0].rpartition("-")[0])
    return found


def dispatched(cluster: LiveCluster) -> set[str]:
    """Return the queues to which something has been dispatched that is not over."""
    with psycopg.connect(cluster.settings["database"]) as link:
        return {row[0] for row in link.execute("SELECT queue FROM dispatches")}


def test_each_worker_takes_from_its_queue_alone_and_pictures_wait_for_the_next(
    cluster: LiveCluster, web: LocalServer
) -> None:
    (server,) = cluster.servers
    job = create(server, web)
    wait_until_all_wait_for("fetch", server, job)
    assert dispatched(cluster) == set()

    workers: dict[str, LiveWorker] = {}
    for stage, following in (("fetch", "analyse"), ("analyse", "write")):
        workers[stage] = add_worker(cluster, stage)
        wait_until_all_wait_for(following, server, job)
        # The worker is idle now, and the rest is not for it.
        assert stages_run(server, job) == {each: {worker.home.name} for each, worker in workers.items()}
        assert dispatched(cluster) == set()
        status = server.client.get(f"/api/v1/batch/{job}").json()
        assert (status["status"], status["completed"]) == ("processing", 0)

    workers["write"] = add_worker(cluster, "write")
    server.wait(job)
    status = server.client.get(f"/api/v1/batch/{job}").json()
    assert (status["status"], status["completed"], status["failed"]) == ("completed", 3, 0)
    assert stages_run(server, job) == {each: {worker.home.name} for each, worker in workers.items()}
    for stage, worker in workers.items():
        assert f"on {QUEUES[stage]}\n" in worker.log()


def test_a_picture_travels_through_the_brokers_queue_of_its_stage(
    cluster: LiveCluster, web: LocalServer
) -> None:
    from kombu import Connection

    (server,) = cluster.servers
    worker = add_worker(cluster, "fetch")
    until(lambda: server.client.get("/health").json()["workers"] >= 1, what="the worker")
    prefix = cluster.settings["broker"]["queue_prefix"]
    with Connection(BROKER) as connection:
        channel = connection.default_channel
        channel.queue_declare(f"{prefix}image_upload", passive=True)
        # Nobody takes hints any more: they are seen where they lie.
        worker.kill()
        until(lambda: channel.queue_declare(f"{prefix}image_upload", passive=True).consumer_count == 0)
        job = create(server, web)
        until(
            lambda: channel.queue_declare(f"{prefix}image_upload", passive=True).message_count > 0,
            what="a hint in image_upload",
        )
    worker.start()
    wait_until_all_wait_for("analyse", server, job)
