"""The server itself: start, stop, health, and what it says when it cannot start."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import NewServer
from tests.live import LiveServer, ServerDied, probe_path


def test_health_says_what_is_there(server: LiveServer) -> None:
    body = server.client.get("/health").raise_for_status().json()
    assert body["status"] == "ok"
    assert body["service"] == "millrace"
    assert body["queue"] == {"pending": 0, "running": 0}
    assert server.client.head("/health").status_code == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])


def test_readiness_checks_the_database_and_the_blobs(server: LiveServer) -> None:
    assert server.client.get("/livez").json() == {"status": "ok"}
    ready = server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ok",
        "checks": {"database": "ok", "blobs": "ok"},
        "queue_age_seconds": 0.0,
    }


def test_readiness_fails_when_blobs_cannot_be_written(server: LiveServer) -> None:
    blobs = server.data_dir / "blobs"
    blobs.rename(server.data_dir / "moved")
    blobs.write_text("not a directory")
    try:
        ready = server.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"database": "ok", "blobs": "unavailable"}
        assert server.client.get("/livez").status_code == 200
    finally:
        blobs.unlink()
        (server.data_dir / "moved").rename(blobs)


def test_stopping_is_graceful_and_quick_to_start_again(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    job = server.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}]}).json()["job_id"]
    server.wait(job)
    assert server.stop() == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url + "/health")
    server.start()
    assert server.client.get(f"/jobs/{job}").json()["state"] == "succeeded"


def test_a_job_goes_on_after_the_server_was_killed(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    items = [{"input": {"sleep": 0.3}} for _ in range(4)]
    job = server.client.post("/jobs", json={"kind": "probe", "items": items}).json()["job_id"]
    server.wait(job, "running")
    server.restart(kill=True)
    row = server.wait(job)
    assert row["state"] == "succeeded"
    assert row["counts"]["succeeded"] == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hots": "127.0.0.1"}, "hots"),
        ({"limits": {"parts": -1}}, "limits.parts"),
        ({"probe": {"greetings": "hi"}}, "probe.greetings"),
        ({"media_roots": ["/no/such/directory"]}, "/no/such/directory"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(
    new_server: NewServer, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    server = new_server(settings=settings, path=probe_path(tmp_path))
    with pytest.raises(ServerDied, match="code 2") as died:
        server.start()
    sentence = str(died.value).splitlines()[1]
    assert sentence.startswith("millrace: ")
    assert said in sentence
    assert "Traceback" not in str(died.value)


def test_a_data_directory_has_one_server(server: LiveServer, new_server: NewServer) -> None:
    second = new_server()
    second.data_dir = server.data_dir
    with pytest.raises(ServerDied, match="already owns the data directory"):
        second.start()
    assert server.client.get("/health").status_code == 200


def test_a_taken_port_is_said_so(server: LiveServer, new_server: NewServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = new_server()
        command = second.command()
        command[command.index("--port") + 1] = str(port)
        second.command = lambda: command  # type: ignore[method-assign]
        with pytest.raises(ServerDied, match=f"cannot listen on 127.0.0.1 port {port}: .*--port"):
            second.start()
