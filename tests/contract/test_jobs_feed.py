"""A job's events: as Server-Sent Events that can be resumed, as a page, and over a WebSocket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.live import LiveServer, probe_path


def sse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Parse a stream of Server-Sent Events."""
    event: dict[str, Any] = {}
    for line in lines:
        if not line:
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            event[key] = json.loads(value) if key == "data" else value


def read(server: LiveServer, job: str, **headers: str) -> list[dict[str, Any]]:
    """Read a job's stream to its end."""
    with server.client.stream("GET", f"/jobs/{job}/events", headers=headers) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        return list(sse(reply.iter_lines()))


def test_a_stream_tells_a_job_from_its_beginning_to_its_end(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.submit({"sleep": 0.4})
    events = read(probe, job)
    stored = [event for event in events if "id" in event]
    assert [int(event["id"]) for event in stored] == list(range(1, len(stored) + 1))
    types = [event["event"] for event in stored]
    assert types[0] == "job.created"
    assert types[-1] == "job.finished"
    assert types.index("item.started") < types.index("stage.finished") < types.index("item.finished")
    progress = [event["data"] for event in events if event["event"] == "item.progress"]
    assert progress
    assert all(each["seq"] == 0 and each["item"] == 0 for each in progress)
    assert all(event["data"]["job_id"] == job for event in events)


def test_a_stream_goes_on_behind_the_last_event_a_client_has(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.run({})["job_id"]
    whole = read(probe, job)
    rest = read(probe, job, **{"Last-Event-ID": "3"})
    assert [event["id"] for event in rest] == [event["id"] for event in whole][3:]
    assert read(probe, job, **{"Last-Event-ID": "0"}) == whole


def test_a_client_that_has_everything_is_told_not_to_come_back(probe: LiveServer, jobs: Jobs) -> None:
    row = jobs.run({})
    headers = {"Last-Event-ID": str(row["last_event"])}
    assert probe.client.get(f"/jobs/{row['job_id']}/events", headers=headers).status_code == 204


@pytest.mark.parametrize("last", ["abc", "-1", "1.5", "9" * 30])
def test_a_last_event_that_is_none_is_refused(probe: LiveServer, jobs: Jobs, last: str) -> None:
    job = jobs.submit({})
    reply = probe.client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": last})
    assert reply.status_code == 400
    assert "Last-Event-ID" in reply.json()["detail"]


def test_the_log_can_be_read_as_a_page(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.run({})["job_id"]
    accept = {"Accept": "application/json"}
    page = probe.client.get(f"/jobs/{job}/events", params={"after": 1, "limit": 2}, headers=accept).json()
    assert [event["seq"] for event in page["events"]] == [2, 3]
    assert page["last_event"] > 3


def test_a_stream_goes_on_over_a_restart(new_server: NewServer, tmp_path: Any) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    job = Jobs(server).submit({"sleep": 1.0})
    server.wait(job, "running")
    seen = []
    with server.client.stream("GET", f"/jobs/{job}/events") as reply:
        events = sse(reply.iter_lines())
        while "id" not in (event := next(events)) or event["event"] != "item.started":
            seen += [event["id"]] if "id" in event else []
        seen.append(event["id"])
    server.restart(kill=True)
    later = [event["id"] for event in read(server, job, **{"Last-Event-ID": seen[-1]}) if "id" in event]
    assert [*seen, *later] == [str(n) for n in range(1, len(seen) + len(later) + 1)]


def test_stopping_the_server_ends_its_streams(new_server: NewServer, tmp_path: Any) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    job = Jobs(server).submit({}, held=True)
    got = threading.Event()
    ended = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{server.url}/jobs/{job}/events", timeout=60) as reply:
            for _ in reply.iter_lines():
                got.set()
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert got.wait(30)
    with connect(f"{server.url.replace('http', 'ws')}/jobs/{job}/ws") as socket:
        socket.recv(timeout=30)
        assert server.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1001, 1012)
    listener.join(30)
    assert ended.is_set()


def frames(server: LiveServer, path: str) -> tuple[list[dict[str, Any]], int]:
    """Read a WebSocket to its end; return its frames and the code it was closed with."""
    with connect(server.url.replace("http", "ws") + path) as socket:
        received = [json.loads(frame) for frame in socket]
        assert socket.close_code is not None
        return received, socket.close_code


def test_a_websocket_tells_the_same(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.submit({"sleep": 0.3})
    received, code = frames(probe, f"/jobs/{job}/ws")
    assert code == 1000
    stored = [frame for frame in received if frame["seq"]]
    assert stored == [event["data"] for event in read(probe, job) if "id" in event]
    behind, _ = frames(probe, f"/jobs/{job}/ws?after=3")
    assert behind == stored[3:]


def test_a_websocket_to_no_job_is_404(probe: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(probe.url.replace("http", "ws") + "/jobs/none/ws"):
        pass
    assert refused.value.response.status_code == 404
    assert b"no job 'none'" in refused.value.response.body


def test_a_client_that_hangs_up_is_forgotten(probe: LiveServer, jobs: Jobs) -> None:
    before = len(probe.log())
    job = jobs.submit({}, held=True)
    for _ in range(20):
        with connect(f"{probe.url.replace('http', 'ws')}/jobs/{job}/ws") as socket:
            socket.send("nobody listens to this")
            assert json.loads(socket.recv(timeout=30))["type"] == "job.created"
        with probe.client.stream("GET", f"/jobs/{job}/events") as reply:
            next(sse(reply.iter_lines()))
    time.sleep(0.1)
    assert probe.client.delete(f"/jobs/{job}").status_code == 200
    assert "Traceback" not in probe.log()[before:]
