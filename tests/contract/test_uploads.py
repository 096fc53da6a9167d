"""Uploads, friendly and hostile: whatever is refused leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import LiveServer

URL = "/probe/uploads"


@pytest.fixture
def traces(probe: LiveServer) -> Iterator[None]:
    """Check that a test leaves no job and no file."""

    def found() -> tuple[int, set[str]]:
        kept = {str(path) for path in (probe.data_dir / "blobs" / "uploads").rglob("*")}
        kept |= {str(path) for path in (probe.data_dir / "blobs" / "staging" / "aside").rglob("*")}
        return probe.client.get("/jobs").json()["total"], kept

    before = found()
    yield
    deadline = time.monotonic() + 20
    while found() != before and time.monotonic() < deadline:
        time.sleep(0.05)  # a client that hung up does not hear when it was cleaned up after
    assert found() == before


def part(name: str, content: bytes, filename: str | None = None, *headers: str) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    lines = [f"Content-Disposition: {disposition}", *headers]
    return b"--BOUND\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--BOUND--\r\n"


def post(server: LiveServer, body: bytes, content_type: str = "multipart/form-data; boundary=BOUND") -> Any:
    return server.client.post(URL, content=body, headers={"content-type": content_type})


def test_files_and_fields_are_read_side_by_side(probe: LiveServer) -> None:
    job = uuid.uuid4().hex
    reply = probe.client.post(
        URL,
        data={"id": job, "note": "größe"},
        files=[("audio", ("a.wav", b"aaaa", "audio/wav")), ("audio", ("b.wav", b"", "audio/wav"))],
    )
    assert reply.status_code == 202, reply.text
    body = reply.json()
    assert body["fields"] == [["id", job], ["note", "größe"]]
    first, second = body["files"]
    assert first["name"] == "a.wav"
    assert first["size"] == 4
    assert first["sha256"] == hashlib.sha256(b"aaaa").hexdigest()
    assert first["media_type"] == "audio/wav"
    assert (second["name"], second["size"]) == ("b.wav", 0)
    row = probe.wait(job)
    items = probe.client.get(f"/jobs/{job}/items").json()["items"]
    assert row["state"] == "succeeded"
    assert [item["results"]["first"]["bytes"] for item in items] == [4, 0]


def test_a_large_file_arrives_unchanged(probe: LiveServer) -> None:
    content = os.urandom(99_000)
    job = uuid.uuid4().hex
    reply = probe.client.post(URL, data={"id": job}, files={"audio": ("noise.bin", content)})
    assert reply.json()["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    probe.wait(job)
    assert probe.client.get(f"/jobs/{job}/items/0/artifacts/copy.bin").content == content


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system32\\evil.exe", "evil.exe"),
        ("C:\\fakepath\\song.mp3", "song.mp3"),
        ("/absolute/song.mp3", "song.mp3"),
        ("..", "upload"),
        (".", "upload"),
        ("a\tb\x07c.txt", "abc.txt"),
        ("naïve 東京.wav", "naïve 東京.wav"),
        ("x" * 400 + ".flac", "x" * 250 + ".flac"),
        ("right\u202eto\u202dleft.txt", "righttoleft.txt"),
    ],
)
def test_a_file_name_is_only_a_name(probe: LiveServer, sent: str, shown: str) -> None:
    job = uuid.uuid4().hex
    reply = post(probe, part("id", job.encode()) + part("audio", b"x", sent) + END)
    assert reply.status_code == 202, reply.text
    (file,) = reply.json()["files"]
    assert file["name"] == shown
    assert file["key"].startswith("uploads/")
    assert file["key"].endswith("/0")
    assert probe.wait(job)["state"] == "succeeded"


def test_a_name_in_extended_notation_is_understood(probe: LiveServer) -> None:
    disposition = "form-data; name=\"audio\"; filename*=UTF-8''t%C3%B6ne.wav"
    body = f"--BOUND\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n".encode()
    reply = post(probe, part("id", uuid.uuid4().hex.encode()) + body + END)
    assert reply.json()["files"][0]["name"] == "töne.wav"


BIG = b"x" * 100_001


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (part("audio", b"abc", "a"), None, 400, "ends before its closing boundary"),
        (part("audio", b"abc", "a")[:-7], None, 400, "ends before its closing boundary"),
        (b"", None, 400, "ends before its closing boundary"),
        (b"nothing of the kind", None, 400, "malformed"),
        (part("audio", b"abc", "a") + END, "multipart/form-data", 400, "no boundary"),
        (part("audio", b"abc", "a") + END, "multipart/form-data; boundary=OTHER", 400, "malformed"),
        (part("audio", b"abc", "a") + END, "multipart/form-data; boundary=" + "b" * 999, 400, "boundary"),
        (b"{}", "application/json", 400, "must be multipart/form-data, not application/json"),
        (b"abc", "text/plain", 400, "must be multipart/form-data, not text/plain"),
        (b"abc", "", 400, "must be multipart/form-data, not none"),
        (part("video", b"abc", "a") + END, None, 400, "video: no file is expected here, only in audio"),
        (part("audio", b"a", "a") * 4 + END, None, 400, "audio: at most 3 files"),
        (part("audio", BIG, "big.wav") + END, None, 413, "big.wav: larger than the 100000 bytes"),
        (part("x", b"1") * 21 + END, None, 413, "more than 20 parts"),
        (part("x", b"1" * 2_000_001) + END, None, 413, "larger than 2000000 bytes"),
        (b"--BOUND\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, None, 400, "no name"),
        (b"--BOUND\r\n\r\nx\r\n" + END, None, 400, "no name"),
        (b"--BOUND\r\n" + b"A: b\r\n" * 500 + b"\r\nx\r\n" + END, None, 400, "malformed"),
        (b"--BOUND\r\nX: " + b"y" * 100_000 + b"\r\n\r\nx\r\n" + END, None, 400, "malformed"),
        (part("audio", b"abc", "a") + part("refuse", b"1") + END, None, 400, "refuse: as you wish"),
        (part("note", b"nothing to do") + END, None, 400, "at least one item"),
    ],
)
def test_a_hostile_upload_is_refused_and_leaves_nothing(
    probe: LiveServer, body: bytes, content_type: str | None, status: int, said: str
) -> None:
    given = "multipart/form-data; boundary=BOUND" if content_type is None else content_type
    reply = post(probe, body, given)
    assert reply.status_code == status, reply.text
    error = reply.json()["probe_error"]
    assert said in error["message"]
    assert error["code"] == ("too_large" if status == 413 else "bad_request")


@pytest.mark.usefixtures("traces")
def test_an_upload_that_does_not_say_its_length_is_limited_too(probe: LiveServer) -> None:
    def endless() -> Iterator[bytes]:
        yield part("note", b"")[:-2]
        for _ in range(30):
            yield b"x" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=BOUND"}
    assert probe.client.post(URL, content=endless(), headers=headers).status_code == 413


@pytest.mark.usefixtures("traces")
def test_a_client_that_hangs_up_leaves_nothing(probe: LiveServer) -> None:
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=BOUND\r\n"
        "Content-Length: 90000\r\n\r\n"
    )
    probe.raw(head.encode() + part("audio", b"x" * 50_000, "a.wav"), hang_up=True)
    assert probe.client.get("/health").status_code == 200


def test_files_too_large_can_be_told_apart_instead(probe: LiveServer) -> None:
    job = uuid.uuid4().hex
    files = [("audio", ("small.wav", b"small")), ("audio", ("big.wav", BIG))]
    reply = probe.client.post(f"{URL}?mark=true", data={"id": job}, files=files)
    assert reply.status_code == 202, reply.text
    small, big = reply.json()["files"]
    assert (small["oversize"], big["oversize"]) == (False, True)
    assert big["key"] == ""
    assert probe.wait(job)["counts"]["total"] == 1


def test_a_file_input_in_which_nothing_was_chosen_is_no_file(probe: LiveServer) -> None:
    job = uuid.uuid4().hex
    body = part("id", job.encode()) + part("audio", b"", "") + part("audio", b"abc", "a.wav") + END
    reply = post(probe, body)
    assert [file["name"] for file in reply.json()["files"]] == ["a.wav"]
    assert probe.wait(job)["state"] == "succeeded"


def test_files_of_a_repeated_request_are_not_kept_twice(probe: LiveServer) -> None:
    key, job = {"Idempotency-Key": uuid.uuid4().hex}, uuid.uuid4().hex
    uploads = probe.data_dir / "blobs" / "uploads"

    def send(content: bytes) -> Any:
        return probe.client.post(URL, data={"id": job}, files={"audio": ("a", content)}, headers=key)

    assert send(b"one").json()["created"] is True
    kept = sorted(uploads.iterdir())
    assert send(b"one").json()["created"] is False
    assert send(b"two").status_code == 409
    assert sorted(uploads.iterdir()) == kept


def test_uploads_go_with_their_job(probe: LiveServer) -> None:
    reply = probe.client.post(
        "/jobs", data={"job": json.dumps({"kind": "probe"})}, files={"file": ("a", b"abc")}
    )
    job = probe.wait(reply.json()["job_id"])["job_id"]
    uploads = set((probe.data_dir / "blobs" / "uploads").iterdir())
    assert probe.client.delete(f"/jobs/{job}", params={"purge": "true"}).status_code == 200
    assert len(uploads - set((probe.data_dir / "blobs" / "uploads").iterdir())) == 1
