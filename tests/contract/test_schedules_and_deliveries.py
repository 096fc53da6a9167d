"""``/schedules`` and ``/deliveries`` on a real server: jobs by the clock, webhooks that arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.conftest import NewServer
from tests.live import LiveServer, probe_path
from tests.unit.local_http import LocalServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JOB = {"kind": "probe", "items": [{"input": {}}]}


@pytest.fixture(scope="module")
def there(
    new_module_server: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory
) -> LiveServer:
    settings = {"webhooks": {"allow_private": True, "secret": SECRET, "attempts": 2, "delay": 0.05}}
    path = probe_path(tmp_path_factory.mktemp("probe"))
    return new_module_server(settings=settings, path=path).start()


@pytest.fixture
def receiver() -> Iterator[LocalServer]:
    server = LocalServer()
    yield server
    server.close()


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(500):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


def delivered(there: LiveServer, job: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = there.client.get("/deliveries", params={"job": job}).json()["deliveries"]
        return found[0] if found and found[0]["state"] != "pending" else None

    return until(ended)


def submit(there: LiveServer, *urls: str) -> str:
    answer = there.client.post("/jobs", json={**JOB, "callbacks": [{"url": url} for url in urls]})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def test_a_job_tells_its_end_by_a_signed_webhook(there: LiveServer, receiver: LocalServer) -> None:
    job = submit(there, receiver.says("/hook", 200, b"thanks"))
    row = delivered(there, job)
    assert (row["state"], row["status"], row["attempts"], row["response"]) == ("delivered", 200, 1, "thanks")
    _, _, headers, body = receiver.requests[0]
    assert Webhook(SECRET).verify(body, headers)["data"]["id"] == job
    whole = there.client.get(f"/deliveries/{row['id']}").json()
    assert whole["body"]["type"] == "job.finished"


def test_what_failed_is_listed_and_sent_again(there: LiveServer, receiver: LocalServer) -> None:
    job = submit(there, receiver.says("/hook", 500))
    row = delivered(there, job)
    assert (row["state"], row["attempts"], row["error"]) == (
        "failed",
        2,
        "the receiver answered with status code 500",
    )
    failed = there.client.get("/deliveries", params={"state": "failed"}).json()["deliveries"]
    assert row["id"] in [entry["id"] for entry in failed]
    receiver.says("/hook", 204)
    again = there.client.post(f"/deliveries/{row['id']}/resend")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    assert delivered(there, job)["state"] == "delivered"


def test_paging_through_deliveries(there: LiveServer, receiver: LocalServer) -> None:
    url = receiver.says("/hook")
    job = submit(there, url, url, url)
    there.wait(job)
    seen: list[str] = []
    before = None
    while True:
        params = {"job": job, "limit": 2, **({"before": before} if before else {})}
        page = there.client.get("/deliveries", params=params).json()
        seen += [entry["id"] for entry in page["deliveries"]]
        before = page["next_before"]
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 3


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://user:pw@example.org/", "nonsense", ""])
def test_a_callback_that_cannot_be_reached_is_refused_with_the_job(there: LiveServer, url: str) -> None:
    answer = there.client.post("/jobs", json={**JOB, "callbacks": [{"url": url}]})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("callbacks.0.url: ")


@pytest.mark.parametrize("callbacks", [{}, [1], [{"url": 1}], [{"uri": "x"}], [{"url": "http://a/"}] * 11])
def test_malformed_callbacks_are_refused(there: LiveServer, callbacks: Any) -> None:
    answer = there.client.post("/jobs", json={**JOB, "callbacks": callbacks})
    assert (answer.status_code, answer.json()["detail"][:9]) == (400, "callbacks")


def test_webhooks_go_to_no_inner_address_by_default(
    new_server: NewServer, receiver: LocalServer, tmp_path: Path
) -> None:
    there = new_server(path=probe_path(tmp_path)).start()
    row = delivered(there, submit(there, receiver.says("/hook")))
    assert (row["state"], row["attempts"]) == ("failed", 1)
    assert "a loopback address, not a public one" in row["error"]
    assert receiver.requests == []


def test_an_unknown_delivery_is_not_found(there: LiveServer) -> None:
    for answer in (there.client.get("/deliveries/msg_x"), there.client.post("/deliveries/msg_x/resend")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_schedule_makes_jobs_by_the_clock(there: LiveServer) -> None:
    added = there.client.post("/schedules", json={"cron": "* * * * * *", "job": JOB, "name": "every second"})
    assert added.status_code == 201, added.text
    schedule = added.json()
    here = added.headers["location"]
    assert here == f"/schedules/{schedule['id']}"
    tick, *_ = until(lambda: there.client.get(f"{here}/ticks").json()["ticks"])
    assert tick["error"] is None
    assert there.client.get(f"/jobs/{tick['job']}").json()["kind"] == "probe"

    off = there.client.patch(here, json={"enabled": False}).json()
    assert (off["enabled"], off["next_at"]) == (False, None)
    assert there.client.get(here).json()["upcoming"] == []
    assert there.client.delete(here).status_code == 200
    assert there.client.get(here).status_code == 404


def test_a_schedule_is_read_back_as_it_was_given(there: LiveServer) -> None:
    body = {"cron": "30 3 * * 1", "zone": "Europe/Berlin", "job": JOB, "missed": "skip", "overlap": True}
    added = there.client.post("/schedules", json=body).json()
    found = there.client.get(f"/schedules/{added['id']}").json()
    assert {key: found[key] for key in body} == body
    assert len(found["upcoming"]) == 5
    assert found["upcoming"][0] == found["next_at"]
    assert added["id"] in [row["id"] for row in there.client.get("/schedules").json()["schedules"]]
    there.client.delete(f"/schedules/{added['id']}")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"cron": "61 * * * *"}, "cron: '61 * * * *' is not a cron expression"),
        ({"zone": "Mars/Base"}, "zone: 'Mars/Base' is no time zone"),
        ({"job": {"kind": "nothing"}}, "unknown kind 'nothing'"),
        (
            {"job": {"kind": "probe", "items": [{"input": {"kind": "path", "path": "/etc/passwd"}}]}},
            "media root",
        ),
        ({"missed": "twice"}, "missed: "),
        ({"when": "now"}, "when: "),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(there: LiveServer, change: dict[str, Any], part: str) -> None:
    before = len(there.client.get("/schedules").json()["schedules"])
    answer = there.client.post("/schedules", json={"cron": "@daily", "job": JOB, **change})
    assert answer.status_code == 400
    assert part in answer.json()["detail"]
    assert len(there.client.get("/schedules").json()["schedules"]) == before


def test_expired_jobs_are_gone(new_server: NewServer, tmp_path: Path) -> None:
    there = new_server(
        path=probe_path(tmp_path), environ={"JOB_TTL_SECONDS": "0.2"}, settings={"retention": {"sweep": 0.1}}
    ).start()
    job = submit(there)
    until(lambda: there.client.get(f"/jobs/{job}").status_code == 404)
