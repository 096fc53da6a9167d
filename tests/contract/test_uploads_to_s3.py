"""Uploads with a bucket: they go there as they come, in bounded memory, and what fails leaves nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from millrace.blobs import open_blobs
from millrace.settings import Settings
from tests.cutting_proxy import CuttingProxy
from tests.live import LiveServer, probe_path
from tests.s3server import S3Account

MB = 1_000_000
PIECE = os.urandom(MB)
TYPE = {"content-type": "multipart/form-data; boundary=BOUND"}
END = b"\r\n--BOUND--\r\n"


@dataclass
class Stand:
    """A server whose blobs are in a bucket of its own."""

    s3: S3Account
    bucket: str
    server: LiveServer
    before: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def left(self) -> tuple[list[str], list[str]]:
        """Objects, and multipart uploads that are under way."""
        return self.s3.keys(self.bucket), self.s3.unfinished(self.bucket)

    def on_disk(self) -> int:
        """Bytes in files below the server's home but for its log and its database."""
        found = (path for path in self.server.home.rglob("*") if path.is_file())
        spared = ("server.log", "millrace.db")
        return sum(path.stat().st_size for path in found if not path.name.startswith(spared))

    def memory(self, name: str) -> int:
        """Bytes of the server's memory, as its status calls them: VmRSS now, VmHWM at most."""
        assert self.server.process is not None
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads-to-s3")


@pytest.fixture(scope="module")
def running(home: Path, s3: S3Account) -> Iterator[Stand]:
    bucket = s3.make_bucket()
    settings = {"blobs": s3.settings(bucket), "limits": {"upload_bytes": 201 * MB, "parts": 300}}
    with LiveServer(home / "server", settings=settings, path=probe_path(home)) as server:
        yield Stand(s3, bucket, server)


@pytest.fixture
def stand(running: Stand) -> Stand:
    """The server, with nothing of earlier tests in its bucket."""
    for row in running.server.client.get("/jobs").json()["jobs"]:
        running.server.wait(row["job_id"])
        running.server.client.delete(f"/jobs/{row['job_id']}?purge=true").raise_for_status()
    assert running.left() == ([], [])
    return running


def opening(name: str, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"\r\n--BOUND\r\nContent-Disposition: {disposition}\r\n\r\n".encode()


def form(
    megabytes: int,
    tail: bytes = END,
    meanwhile: Callable[[], None] = lambda: None,
    kind: str = "probe",
) -> Iterator[bytes]:
    """A job with one file; ``meanwhile`` is called when half of it was sent."""
    yield opening("job")[2:] + json.dumps({"kind": kind}).encode()
    yield opening("file", "big.bin")
    for number in range(megabytes):
        if number == megabytes // 2:
            meanwhile()
        yield PIECE
    yield tail


def until_nothing_is_left(stand: Stand) -> None:
    """A client that hung up does not hear when it was cleaned up after."""
    deadline = time.monotonic() + 30
    while stand.left() != ([], []) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stand.left() == ([], [])


def test_a_large_upload_goes_to_the_bucket_as_it_comes(stand: Stand) -> None:
    warm = stand.server.client.post("/jobs", content=form(20), headers=TYPE).raise_for_status()
    stand.server.wait(warm.json()["job_id"])
    assert stand.server.process is not None
    Path(f"/proc/{stand.server.process.pid}/clear_refs").write_text("5")  # forget the peak so far
    idle, disk = stand.memory("VmRSS"), stand.on_disk()
    seen: list[Any] = []

    def look() -> None:
        seen.append((stand.s3.unfinished(stand.bucket), stand.on_disk() - disk))

    reply = stand.server.client.post("/jobs", content=form(200, meanwhile=look), headers=TYPE)
    assert reply.status_code == 202, reply.text
    job = stand.server.wait(reply.json()["job_id"], timeout=120)
    assert job["state"] == "succeeded"
    peak = stand.memory("VmHWM") - idle
    assert peak < 60 * MB, f"{peak / MB:.0f} MB above {idle / MB:.0f}"
    (parts, written), *_ = seen
    assert [key.split("/")[0] for key in parts] == ["uploads"]
    assert written < MB
    copy = hashlib.sha256()
    with stand.server.client.stream("GET", f"/jobs/{job['job_id']}/items/0/artifacts/copy.bin") as answer:
        for block in answer.iter_bytes():
            copy.update(block)
    expected = hashlib.sha256()
    for _ in range(200):
        expected.update(PIECE)
    assert copy.hexdigest() == expected.hexdigest()


def test_many_small_files_go_to_the_bucket_in_bounded_memory(stand: Stand) -> None:
    assert stand.server.process is not None
    Path(f"/proc/{stand.server.process.pid}/clear_refs").write_text("5")
    idle = stand.memory("VmRSS")
    job = json.dumps({"kind": "probe", "held": True}).encode()
    body = [opening("job")[2:] + job]
    for number in range(150):
        body += [opening("file", f"{number}.bin"), PIECE]
    reply = stand.server.client.post("/jobs", content=iter([*body, END]), headers=TYPE)
    assert reply.status_code == 202, reply.text
    assert reply.json()["counts"]["total"] == 150
    peak = stand.memory("VmHWM") - idle
    assert peak < 60 * MB, f"{peak / MB:.0f} MB above {idle / MB:.0f}"
    assert len([key for key in stand.left()[0] if key.startswith("uploads/")]) == 150
    stand.server.client.delete(f"/jobs/{reply.json()['job_id']}").raise_for_status()


@pytest.mark.parametrize(
    ("megabytes", "tail", "status", "said"),
    [
        (30, b"", 400, "ends before its closing boundary"),
        (1, b"", 400, "ends before its closing boundary"),
        (1, opening("file", "b") + b"x" * 9 * MB + opening("c") * 301 + END, 413, "more than 300 parts"),
        (202, END, 413, "big.bin: larger than the 201000000 bytes that one file may have"),
        (30, opening("note") + b"x" * (9 * 2**20) + END, 413, "note: a field may have"),
        (30, b"\r\n--BOUND\r\nnonsense\r\n\r\n" + END, 400, "malformed"),
    ],
)
def test_what_is_refused_leaves_neither_object_nor_parts(
    stand: Stand, megabytes: int, tail: bytes, status: int, said: str
) -> None:
    reply = stand.server.client.post("/jobs", content=form(megabytes, tail), headers=TYPE)
    assert reply.status_code == status, reply.text
    assert said in reply.json()["detail"]
    assert stand.left() == ([], [])


def test_what_no_job_comes_of_is_not_kept(stand: Stand) -> None:
    reply = stand.server.client.post("/jobs", content=form(30, kind="nothing of the kind"), headers=TYPE)
    assert reply.status_code in (400, 404, 422), reply.text
    assert stand.left() == ([], [])


@pytest.mark.parametrize("megabytes", [1, 30])
def test_a_client_that_hangs_up_leaves_neither_object_nor_parts(stand: Stand, megabytes: int) -> None:
    head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\nContent-Type: "
    body = b"".join(form(megabytes, b""))
    stand.server.raw(head.encode() + TYPE["content-type"].encode() + b"\r\n\r\n" + body, hang_up=True)
    until_nothing_is_left(stand)


def test_images_in_json_go_to_the_bucket_and_what_is_refused_leaves_nothing(stand: Stand) -> None:
    big, small = base64.b64encode(PIECE * 9).decode(), base64.b64encode(b"small").decode()
    images = [{"base64": big}, {"base64": small}, {"base64": "no base64!"}]
    reply = stand.server.client.post("/api/v1/batch", json={"images": images})
    assert reply.status_code == 400, reply.text
    assert stand.left() == ([], [])
    disk = stand.on_disk()
    unused = {"images": images[:2], "unused": big}
    reply = stand.server.client.post("/api/v1/batch", json=unused, headers={"Idempotency-Key": "a"})
    assert reply.status_code == 201, reply.text
    keys = [key for key in stand.left()[0] if key.startswith("uploads/")]
    assert len(keys) == 2
    assert stand.on_disk() - disk < MB
    again = stand.server.client.post("/api/v1/batch", json=unused, headers={"Idempotency-Key": "a"})
    assert again.json()["job_id"] == reply.json()["job_id"]
    assert [key for key in stand.left()[0] if key.startswith("uploads/")] == keys


def test_the_server_answers_others_while_the_bucket_is_slow_to_take_an_upload(stand: Stand) -> None:
    answered: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=stand.server.url, timeout=30) as other:
            answered.append(other.get("/livez").status_code)

    reply = stand.server.client.post("/jobs", content=form(30, meanwhile=ask), headers=TYPE)
    assert (reply.status_code, answered) == (202, [200])


def test_a_bucket_that_fails_midway_is_told_and_its_parts_are_swept(home: Path, s3: S3Account) -> None:
    bucket = s3.make_bucket()
    proxy = CuttingProxy(int(s3.endpoint.rsplit(":", 1)[1]))
    section = {**s3.settings(bucket), "endpoint": proxy.url}
    folder = home / uuid.uuid4().hex
    with LiveServer(folder / "server", settings={"blobs": section}, path=probe_path(folder)) as server:
        reply = server.client.post("/jobs", content=form(60, meanwhile=proxy.close), headers=TYPE)
        assert reply.status_code == 503, reply.text
        assert "blob store" in reply.json()["detail"]
        assert server.client.get("/jobs").json()["total"] == 0
        stand = Stand(s3, bucket, server)
        assert stand.left()[0] == []
    direct = open_blobs(Settings(data_dir=folder / "direct", blobs=s3.settings(bucket)))
    assert direct.drop_unfinished(time.time() + 3600) <= 1
    assert stand.left() == ([], [])


def test_a_server_killed_midway_leaves_only_what_is_swept(home: Path, s3: S3Account) -> None:
    bucket = s3.make_bucket()
    folder = home / uuid.uuid4().hex
    server = LiveServer(folder / "server", settings={"blobs": s3.settings(bucket)}, path=probe_path(folder))
    server.start()
    with pytest.raises(httpx.TransportError):
        server.client.post("/jobs", content=form(60, meanwhile=server.kill), headers=TYPE)
    assert s3.keys(bucket) == []
    direct = open_blobs(Settings(data_dir=folder / "direct", blobs=s3.settings(bucket)))
    assert direct.drop_unfinished(time.time() + 3600) == 1
    assert s3.unfinished(bucket) == []


def test_a_bucket_that_is_away_while_a_stage_writes_costs_an_attempt_and_nothing_else(
    home: Path, s3: S3Account
) -> None:
    proxy = CuttingProxy(int(s3.endpoint.rsplit(":", 1)[1]))
    section = {**s3.settings(s3.make_bucket()), "endpoint": proxy.url}
    folder = home / uuid.uuid4().hex
    with LiveServer(folder / "server", settings={"blobs": section}, path=probe_path(folder)) as server:
        item = {"name": "a", "input": {"sleep": 1.5, "artifact": "out.txt", "content": "made"}}
        job = server.client.post("/jobs", json={"kind": "probe", "items": [item]}).json()["job_id"]
        server.wait(job, "running")
        proxy.close()
        with server.client.stream("GET", f"/jobs/{job}/events", timeout=60) as events:
            again = next(line for line in events.iter_lines() if "item.requeued" in line)
        proxy.open()
        assert "item.requeued" in again
        assert server.wait(job)["state"] == "succeeded"
        told = server.client.get(f"/jobs/{job}/events", params={"after": 0}, timeout=60).text
        assert '"unavailable"' in told
        assert server.client.get(f"/jobs/{job}/items/0/artifacts/out.txt").text == "made"
    proxy.close()


def test_a_result_that_the_bucket_does_not_publish_waits_until_it_does(home: Path, s3: S3Account) -> None:
    bucket = s3.make_bucket()
    proxy = CuttingProxy(int(s3.endpoint.rsplit(":", 1)[1]))
    proxy.refused = b"x-amz-copy-source"
    section = {**s3.settings(bucket), "endpoint": proxy.url}
    folder = home / uuid.uuid4().hex
    with LiveServer(folder / "server", settings={"blobs": section}, path=probe_path(folder)) as server:
        item = {"name": "a", "input": {"artifact": "out.txt", "content": "made"}}
        job = server.client.post("/jobs", json={"kind": "probe", "items": [item]}).json()["job_id"]
        deadline = time.monotonic() + 60
        while "could not be written" not in server.log():
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.05)
        assert server.client.get(f"/jobs/{job}").json()["counts"]["running"] == 1
        assert [key.split("/")[0] for key in s3.keys(bucket)] == ["staging"]
        proxy.refused = b""
        assert server.wait(job)["state"] == "succeeded"
        # One for each of its two stages: nothing ran twice.
        assert server.client.get(f"/jobs/{job}/items/0").json()["attempt"] == 2
        assert server.client.get(f"/jobs/{job}/items/0/artifacts/out.txt").text == "made"
        (key,) = s3.keys(bucket)
        assert re.fullmatch(rf"jobs/{job}/0\.\d+/out\.txt", key)
    proxy.close()
