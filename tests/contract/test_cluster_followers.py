"""What is asked of a server that is not in charge is seen by the one that is, and done by it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from tests.live import LiveServer
from tests.live_cluster import LiveCluster, cluster_of_its_own, follower, leader, until
from tests.mail_server import MailServer
from tests.unit.local_http import LocalServer

pytest.importorskip("apprise")
pytestmark = [pytest.mark.postgres, pytest.mark.rabbitmq, pytest.mark.timeout(300)]


@dataclass
class Scene:
    """A cluster with two servers and a worker, and what it can reach: a folder, mail, webhooks."""

    cluster: LiveCluster
    media: Path
    mail: MailServer
    receiver: LocalServer

    @property
    def asked(self) -> LiveServer:
        """The server that is not in charge."""
        return follower(self.cluster)

    @property
    def in_charge(self) -> LiveServer:
        return leader(self.cluster)

    def subjects(self) -> list[str]:
        return [str(mail["subject"]) for mail in self.mail.mails]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("followers")
    media = home / "media"
    media.mkdir()
    mail, receiver = MailServer(), LocalServer()
    settings: dict[str, Any] = {
        "media_roots": [str(media)],
        "notify": {"targets": {"ops": mail.address("ops@example.org")}, "attempts": 2, "delay": 0.05},
        "webhooks": {"allow_private": True, "attempts": 2, "delay": 0.05},
    }
    try:
        with cluster_of_its_own(home / "cluster", **settings) as cluster:
            cluster.add_server().start()
            cluster.add_server().start()
            cluster.add_worker().start()
            yield Scene(cluster, media, mail, receiver)
    finally:
        mail.close()
        receiver.close()


@pytest.fixture(autouse=True)
def empty(scene: Scene) -> Iterator[None]:
    yield
    scene.mail.mails.clear()
    scene.receiver.requests.clear()


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def submit(server: LiveServer, **fields: Any) -> str:
    body = {"kind": "probe", "items": [{"name": "a"}], **fields}
    return str(ok(server.client.post("/jobs", json=body), 202)["job_id"])


def test_a_watch_that_a_follower_was_given_is_looked_after_by_the_server_in_charge(scene: Scene) -> None:
    inbox = scene.media / "inbox"
    inbox.mkdir()
    body = {"name": "inbox", "path": str(inbox), "kind": "probe"}
    quick = {"settle_seconds": 0.2, "interval_seconds": 0.1}
    made = scene.asked.client.post("/watches", json={**body, **quick})
    ok(made, 201)
    here = made.headers["location"]
    for server in scene.cluster.servers:
        until(lambda server=server: server.client.get(here).json()["looked_at"], what="a look")  # type: ignore[misc]

    (inbox / "one.bin").write_bytes(b"1")
    until(lambda: len(scene.asked.client.get(here).json()["jobs"]) == 1, what="a job of the file")
    (row,) = scene.in_charge.client.get(here).json()["jobs"]
    assert scene.asked.wait(row["job"])["state"] == "succeeded"

    ok(scene.asked.client.patch(here, json={"enabled": False}))
    assert scene.in_charge.client.get(here).json()["enabled"] is False
    (inbox / "two.bin").write_bytes(b"2")
    ok(scene.asked.client.patch(here, json={"enabled": True}))
    until(lambda: len(scene.asked.client.get(here).json()["jobs"]) == 2, what="a job of the second file")

    assert scene.asked.client.delete(here).status_code in (200, 204)
    assert [server.client.get(here).status_code for server in scene.cluster.servers] == [404, 404]


def test_a_test_notification_asked_of_a_follower_is_sent_once(scene: Scene) -> None:
    sent = scene.asked.client.post("/notifications/test", json={"target": "ops"})
    assert ok(sent, 202)["state"] in ("pending", "delivered")
    here = sent.headers["location"]
    for server in scene.cluster.servers:
        until(
            lambda server=server: server.client.get(here).json()["state"] == "delivered",  # type: ignore[misc]
            what="a delivered test",
        )
    assert len(scene.mail.mails) == 1
    assert scene.mail.mails[0]["to"] == "ops@example.org"


def test_people_are_told_of_a_job_that_a_follower_was_given_and_again_when_it_is_asked(scene: Scene) -> None:
    job = submit(scene.asked, notify=["ops"])
    scene.asked.wait(job)

    def told(server: LiveServer) -> dict[str, Any] | None:
        rows = ok(server.client.get("/notifications", params={"job": job}))["notifications"]
        return rows[0] if len(rows) == 1 and rows[0]["state"] == "delivered" else None

    until(lambda: told(scene.asked), what="a delivered notification")
    found = told(scene.in_charge)
    assert found is not None
    assert len(scene.mail.mails) == 1
    assert ok(scene.asked.client.post(f"/notifications/{found['id']}/resend"), 202)["id"] == found["id"]
    until(lambda: len(scene.mail.mails) == 2, what="the second mail")
    assert len(set(scene.subjects())) == 1
    unknown = scene.asked.client.post("/notifications/msg_none/resend")
    assert unknown.status_code == 404


def test_a_webhook_of_a_job_that_a_follower_was_given_is_sent_and_resent(scene: Scene) -> None:
    url = scene.receiver.says("/hook", 200)
    job = submit(scene.asked, callbacks=[{"url": url}])
    scene.asked.wait(job)
    until(lambda: len(scene.receiver.requests) == 1, what="the webhook")

    def delivered(server: LiveServer) -> list[dict[str, Any]]:
        rows = ok(server.client.get("/deliveries", params={"job": job}))["deliveries"]
        return [row for row in rows if row["state"] == "delivered"]

    for server in scene.cluster.servers:
        until(lambda server=server: delivered(server), what="a delivered webhook")  # type: ignore[misc]
    (row,) = delivered(scene.asked)
    ok(scene.asked.client.post(f"/deliveries/{row['id']}/resend"), 202)
    until(lambda: len(scene.receiver.requests) == 2, what="the second webhook")
    first, second = (headers["webhook-id"] for _, _, headers, _ in scene.receiver.requests)
    assert first == second == row["id"]


def test_a_worker_with_other_blobs_than_the_servers_refuses_to_start(scene: Scene, tmp_path: Path) -> None:
    worker = scene.cluster.add_worker(blobs={"location": str(tmp_path / uuid.uuid4().hex)}).start()
    assert worker.process is not None
    # It gives the servers half a minute: perhaps none has ever run.
    assert worker.process.wait(90) == 2
    assert "are not those of the servers on this database" in worker.log()
    with psycopg.connect(scene.cluster.settings["database"]) as link:
        names = [row[0] for row in link.execute("SELECT name FROM nodes")]
    assert not [name for name in names if name.startswith(worker.home.name)]
