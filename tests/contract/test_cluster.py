"""Several servers and workers on one database: requests go to any of them, and any of them may vanish."""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.live import LiveServer
from tests.live_cluster import LiveCluster, cluster_of_its_own, follower, leader, leads, until
from tests.s3server import S3Account

pytestmark = [pytest.mark.postgres, pytest.mark.rabbitmq, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """Two servers and a worker."""
    with cluster_of_its_own(tmp_path_factory.mktemp("cluster")) as made:
        made.add_server().start()
        made.add_server().start()
        made.add_worker().start()
        yield made


def submit(server: LiveServer, *inputs: dict[str, Any], **more: Any) -> str:
    items = [{"name": f"{n}", "input": value} for n, value in enumerate(inputs)]
    answer = server.client.post("/jobs", json={"kind": "probe", "items": items, **more})
    return str(answer.raise_for_status().json()["job_id"])


def test_any_server_takes_a_job_and_shows_it(cluster: LiveCluster) -> None:
    for server in cluster.servers:
        job = submit(server, {"artifact": "out.txt", "content": "made"}, {"skip": "not now"}, {})
        for other in cluster.servers:
            row = other.wait(job)
            assert (row["state"], row["counts"]["succeeded"], row["counts"]["skipped"]) == ("succeeded", 2, 1)
            found = other.client.get(f"/jobs/{job}/items/0/artifacts/out.txt")
            assert found.content == b"made"


def test_steering_works_on_a_server_that_is_not_in_charge(cluster: LiveCluster) -> None:
    server = follower(cluster)
    job = submit(server, *[{"sleep": 30}] * 4)
    server.wait(job, "running")
    assert server.client.patch(f"/jobs/{job}", json={"priority": "high"}).json()["priority"] == 2
    cancelled = server.client.delete(f"/jobs/{job}").raise_for_status().json()
    assert cancelled["state"] == "cancelled"
    server.client.delete(f"/jobs/{job}", params={"purge": True}).raise_for_status()
    for each in cluster.servers:
        assert each.client.get(f"/jobs/{job}").status_code == 404


def test_a_refusal_is_the_same_wherever_it_is_asked_for(cluster: LiveCluster) -> None:
    job = submit(leader(cluster), {"fail": "as it was told"})
    leader(cluster).wait(job)
    answers = [server.client.patch(f"/jobs/{job}", json={"priority": "low"}) for server in cluster.servers]
    assert {answer.status_code for answer in answers} == {409}
    assert answers[0].json()["detail"] == answers[1].json()["detail"]
    missing = [server.client.delete("/jobs/no-such").status_code for server in cluster.servers]
    assert missing == [404, 404]


def test_an_idempotency_key_holds_over_all_servers(cluster: LiveCluster) -> None:
    body = {"kind": "probe", "items": [{"name": "a"}]}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    jobs = {
        server.client.post("/jobs", json=body, headers=headers).json()["job_id"]
        for server in cluster.servers
        for _ in range(2)
    }
    assert len(jobs) == 1


def test_events_and_progress_reach_watchers_on_every_server(cluster: LiveCluster) -> None:
    seen: dict[str, list[dict[str, Any]]] = {server.url: [] for server in cluster.servers}
    follower(cluster).client.post("/workloads/probe/pause").raise_for_status()
    job = submit(cluster.servers[0], {"sleep": 1.5})

    def listen(server: LiveServer) -> None:
        with server.client.stream("GET", f"/jobs/{job}/events", timeout=60) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen[server.url].append(json.loads(line[6:]))

    threads = [threading.Thread(target=listen, args=(server,)) for server in cluster.servers]
    for thread in threads:
        thread.start()
    until(lambda: all(seen.values()), what="the first event on every server")
    follower(cluster).client.post("/workloads/probe/resume").raise_for_status()
    for thread in threads:
        thread.join(60)
    logs = [[event for event in events if event["seq"]] for events in seen.values()]
    assert logs[0] == logs[1]
    assert logs[0][-1]["type"] == "job.finished"
    for events in seen.values():
        assert [event for event in events if event["type"] == "item.progress"]


def test_schedules_and_presets_can_be_made_anywhere(cluster: LiveCluster) -> None:
    server = follower(cluster)
    made = server.client.post(
        "/schedules", json={"cron": "0 4 * * *", "job": {"kind": "probe", "items": [{"name": "a"}]}}
    )
    assert made.status_code == 201, made.text
    id = made.json()["id"]
    assert [row["id"] for row in leader(cluster).client.get("/schedules").json()["schedules"]] == [id]
    leader(cluster).client.delete(f"/schedules/{id}").raise_for_status()
    assert server.client.put("/presets/probe/mine", json={"options": {"a": 1}}).status_code in (200, 201)
    assert leader(cluster).client.get("/presets/probe/mine").json()["options"] == {"a": 1}


def test_another_server_takes_over_and_what_runs_goes_on(cluster: LiveCluster) -> None:
    first, second = leader(cluster), follower(cluster)
    job = submit(second, *[{"sleep": 3, "artifact": "out.txt", "content": "x"}] * 2, *[{}] * 20)
    second.wait(job, "running")
    until(
        lambda: len(second.client.get(f"/jobs/{job}/items?state=running").json()["items"]) >= 2,
        what="two items under way",
    )
    first.kill()
    until(lambda: leads(second), patience=30, what="a new server in charge")
    row = second.wait(job)
    assert row["state"] == "succeeded"
    for idx in (0, 1):
        attempts = second.client.get(f"/jobs/{job}/items/{idx}").json()["attempt"]
        # One at each stage: nothing was interrupted.
        assert attempts == 2
    first.start()
    assert first.wait(job)["state"] == "succeeded"


def test_a_part_that_cannot_start_is_told_by_every_server_and_started_when_it_can(tmp_path: Path) -> None:
    media = tmp_path / "media"
    (media / "in").mkdir(parents=True)
    watch = {"name": "in", "path": str(media / "in"), "kind": "probe", "pattern": "*.bin"}
    watch = {**watch, "settle_seconds": 0.2, "interval_seconds": 0.2}
    settings: dict[str, Any] = {"media_roots": [str(media)], "watches": [watch]}
    with cluster_of_its_own(tmp_path / "cluster", **settings) as cluster:
        cluster.add_server().start()
        cluster.add_server().start()
        cluster.add_worker().start()
        first, second = leader(cluster), follower(cluster)
        with psycopg.connect(cluster.settings["database"], autocommit=True) as link:
            link.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'nothing is written here today'; END $$"
            )
            link.execute(
                "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON watches EXECUTE FUNCTION refuse()"
            )
            first.kill()
            until(lambda: leads(second), what="a new server in charge")
            until(lambda: "off" in second.client.get("/health").json(), what="word of what is off")
            health = second.client.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            assert health.json()["off"] == ["watches"]
            assert "today" not in health.text
            assert "watches could not be started" in second.log()
            # All the rest is there.
            assert second.wait(submit(second, {}))["state"] == "succeeded"
            told = second.client.get("/ui/system").raise_for_status().text
            assert "Off: watches" in told
            assert "nothing is written here today" in told
            link.execute("DROP TRIGGER refuse ON watches")
        first.start()
        for server in cluster.servers:
            until(lambda server=server: server.client.get("/health").json()["status"] == "ok")  # type: ignore[misc]
            assert "off" not in server.client.get("/health").json()
        assert "watches: started after all" in second.log()
        (media / "in" / "new.bin").write_bytes(b"x")
        until(
            lambda: second.client.get("/jobs?kind=probe").json()["total"] == 2, what="a job of the new file"
        )


def test_a_job_waits_for_workers_and_they_come_and_go(cluster: LiveCluster) -> None:
    server = cluster.servers[0]
    worker = cluster.workers[0]
    job = submit(server, *[{"sleep": 1}] * 6)
    server.wait(job, "running")
    assert worker.stop() == 0
    assert "has left" in worker.log()
    assert server.wait(job, "running", "succeeded")["state"] == "running"
    worker.start()
    row = server.wait(job)
    assert (row["state"], row["counts"]["failed"]) == ("succeeded", 0)


def test_a_worker_is_asked_whether_it_is_alive(cluster: LiveCluster) -> None:
    worker = cluster.add_worker()
    code, said = worker.check()
    assert (code, said.partition(":")[0]) == (1, "millrace")
    assert "no worker called worker-1 runs here" in said

    worker.start()
    until(lambda: worker.check()[0] == 0, what="a healthy worker")
    code, said = worker.check()
    assert code == 0, said
    assert said.startswith("worker-1-")
    assert "is alive: the database heard of it" in said

    worker.signal(signal.SIGSTOP)
    until(lambda: worker.check()[0] == 1, what="notice of a worker that hangs")
    assert "runs, but the database has not heard of it for" in worker.check()[1]
    worker.signal(signal.SIGCONT)
    until(lambda: worker.check()[0] == 0, what="notice of a worker that goes on")

    database = worker.settings["database"]
    worker.settings["database"] = "postgresql://postgres@127.0.0.1:1/none"
    code, said = worker.check()
    assert (code, "the database does not answer" in said) == (5, True), said
    worker.settings["database"] = database

    worker.kill()
    code, said = worker.check()
    assert (code, "no worker called worker-1 runs here" in said) == (1, True), said
    cluster.workers.remove(worker)


def test_health_and_readiness_hold_on_every_server(cluster: LiveCluster) -> None:
    for server in cluster.servers:
        until(lambda server=server: server.client.get("/health").status_code == 200)  # type: ignore[misc]
        assert server.client.get("/readyz").status_code == 200
        until(lambda server=server: server.client.get("/health").json()["workers"] >= 1)  # type: ignore[misc]
        assert "millrace_slots" in server.client.get("/metrics").text


def test_a_worker_that_vanishes_loses_nothing(cluster: LiveCluster, tmp_path: Path) -> None:
    server = cluster.servers[0]
    worker = cluster.workers[0]
    job = submit(server, *[{"sleep": 1.0, "artifact": "out.txt", "content": "x"}] * 4)
    until(lambda: server.client.get(f"/jobs/{job}").json()["counts"]["running"] >= 2)
    worker.kill()
    time.sleep(0.2)
    worker.start()
    row = server.wait(job, timeout=90)
    assert row["state"] == "succeeded"
    assert row["counts"]["succeeded"] == 4


def test_uploads_and_artifacts_travel_through_the_bucket(tmp_path: Path, s3: S3Account) -> None:
    blobs = {**s3.settings(s3.make_bucket()), "cache_bytes": 1_000_000}
    with cluster_of_its_own(tmp_path, blobs=blobs) as other:
        server = other.add_server().start()
        other.add_worker().start()
        content = bytes(range(256)) * 300
        files = {"audio": ("a.bin", content)}
        answer = server.client.post("/probe/uploads", files=files, data={"id": "through-s3"})
        assert answer.status_code == 202, answer.text
        assert server.wait("through-s3", timeout=120)["state"] == "succeeded"
        found = server.client.get("/jobs/through-s3/items/0/artifacts/copy.bin").raise_for_status()
        assert found.content == content
        assert [path for path in tmp_path.rglob("copy.bin") if path.is_file()] == []
