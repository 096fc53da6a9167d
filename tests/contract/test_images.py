"""The batch API of images, driven through a real server: ``contracts/images.md`` and what goes beyond it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import websockets
from PIL import Image

from tests.conftest import NewServer
from tests.live import LiveServer
from tests.unit.images import odd_files
from tests.unit.local_http import LocalServer

CLIENTS = Path(__file__).parent / "images_clients"
OPEN = {"fetch": {"allow_private": True, "ports": []}, "images": {"read_text": "never"}}
NOT_HTTP = "Image 0: url must be an http or https URL of at most 8192 characters"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def live(new_module_server: NewServer) -> LiveServer:
    return new_module_server(settings=OPEN).start()


@pytest.fixture(scope="module")
def web() -> Iterator[LocalServer]:
    server = LocalServer()
    yield server
    server.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def create(live: LiveServer, *images: dict[str, Any]) -> str:
    answer = live.client.post("/api/v1/batch", json={"images": list(images)})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["job_id"]
    return found


def finished(live: LiveServer, job: str, timeout: float = 60.0) -> dict[str, Any]:
    live.wait(job, timeout=timeout)
    status: dict[str, Any] = live.client.get(f"/api/v1/batch/{job}").raise_for_status().json()
    return status


def run(live: LiveServer, *images: dict[str, Any]) -> dict[str, Any]:
    return finished(live, create(live, *images))


# -- create, status, list ---------------------------------------------------------------------


def test_a_batch_of_urls_and_base64_is_created_processed_and_told_as_documented(live, web):
    url = web.says("/photos/image1.jpg", 200, odd_files.jpeg(), content_type="image/jpeg")
    answer = live.client.post(
        "/api/v1/batch",
        json={
            "images": [
                {"url": url},
                {"base64": f"data:image/png;base64,{b64(odd_files.png())}", "name": "another-image.png"},
            ]
        },
    )
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"job_id", "status", "created_at", "message"}
    assert UUID.fullmatch(body["job_id"])
    assert body["status"] == "pending"
    assert body["message"] == "Batch job created with 2 images"
    assert TIME.fullmatch(body["created_at"])
    status = finished(live, body["job_id"])
    assert set(status) == {
        *("job_id", "status", "total_images", "completed", "failed", "progress", "images"),
        *("created_at", "updated_at", "completed_at"),
    }
    assert status["status"] == "completed"
    assert (status["total_images"], status["completed"], status["failed"]) == (2, 2, 0)
    assert status["progress"] == 100.0
    first, second = status["images"]
    assert set(first) == {
        *("index", "original_filename", "status", "trace_id", "processed_path", "start_time", "end_time")
    }
    assert first["original_filename"] == "image1.jpg"
    assert second["original_filename"] == "another-image.png"
    assert first["processed_path"] == f"{first['trace_id']}/image1.jpg"
    assert TIME.fullmatch(first["start_time"])
    assert TIME.fullmatch(first["end_time"])


def test_all_images_are_listed_from_the_start_and_unset_fields_left_out(live):
    job = create(live, *({"base64": b64(odd_files.jpeg()), "name": f"{n}.jpg"} for n in range(20)))
    status = live.client.get(f"/api/v1/batch/{job}").json()
    assert [image["index"] for image in status["images"]] == list(range(20))
    for image in status["images"]:
        assert image["status"] in ("pending", "processing", "completed")
        if image["status"] == "pending":
            assert set(image) == {"index", "original_filename", "status", "trace_id"}
        assert None not in image.values()
    finished(live, job)


def test_one_bad_image_fails_alone_and_says_why(live, web):
    gone = web.says("/gone.jpg", 404)
    status = run(
        live, {"url": gone}, {"base64": b64(odd_files.png()), "name": "fine.png"}, {"base64": b64(b"x" * 99)}
    )
    assert status["status"] == "completed"
    assert (status["completed"], status["failed"], status["progress"]) == (1, 2, 100.0)
    failed = status["images"][0]
    assert failed["status"] == "failed"
    assert failed["error"] == "Failed to download image: status code 404"
    assert "processed_path" not in failed
    assert "JPEG and PNG are supported" in status["images"][2]["error"]


def test_a_batch_whose_images_all_fail_has_failed(live):
    assert run(live, {"base64": b64(b"no image"), "name": "a.jpg"})["status"] == "failed"


def test_progress_has_two_decimals(live):
    status = run(live, *({"base64": b64(odd_files.jpeg()), "name": f"{n}.jpg"} for n in range(3)))
    assert status["progress"] == 100.0
    from millrace.workloads.images import view

    assert view.progress(2, 0, 3) == 66.67


def test_the_list_holds_every_batch_with_its_images_newest_first(new_server):
    live = new_server(settings=OPEN).start()
    assert live.client.get("/api/v1/batch").json() == {"jobs": [], "total": 0}
    jobs = [create(live, {"base64": b64(odd_files.png()), "name": f"{n}.png"}) for n in range(3)]
    for job in jobs:
        finished(live, job)
    body = live.client.get("/api/v1/batch").json()
    assert body["total"] == 3
    assert [job["job_id"] for job in body["jobs"]] == jobs[::-1]
    assert body["jobs"][0]["images"][0]["original_filename"] == "2.png"
    part = live.client.get("/api/v1/batch", params={"limit": 1, "offset": 1}).json()
    assert [job["job_id"] for job in part["jobs"]] == [jobs[1]]
    assert part["total"] == 3
    common = live.client.get("/jobs").json()
    assert {row["status"] for row in common["jobs"]} == {"completed"}


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "No images provided"),
        ({"images": []}, "No images provided"),
        ({"images": None}, "No images provided"),
        ({"images": [{"url": "http://e.org/a"}] * 101}, "Maximum 100 images per batch"),
        ({"images": [{"base64": "A" * 8000}] * 101}, "Maximum 100 images per batch"),
        ({"images": [{}]}, "Image 0: either url or base64 must be provided"),
        ({"images": [{"url": "", "base64": ""}]}, "Image 0: either url or base64 must be provided"),
        (
            {"images": [{"url": "http://e.org/a"}, {"url": "http://e.org/b", "base64": "AAAA"}]},
            "Image 1: only one of url or base64 should be provided",
        ),
        ({"images": ["x"]}, "Image 0: must be an object with url or base64"),
        ({"images": {"url": "x"}}, "images: must be an array"),
        ({"images": [{"url": 7}]}, "Image 0: url must be a string"),
        ({"images": [{"url": "http://e.org/a", "name": 7}]}, "Image 0: name must be a string"),
        ({"images": [{"url": "ftp://e.org/a"}]}, NOT_HTTP),
        ({"images": [{"url": "http://e.org/" + "a" * 9000}]}, "Image 0: url is too long"),
        ({"images": [{"base64": "@@@"}]}, "Image 0: base64 is not valid: only base64 data is allowed"),
        ({"images": [{"base64": "AA=A" * 5000}]}, None),
        ([], "Invalid request body: must be a JSON object with images"),
    ],
)  # fmt: skip
def test_what_cannot_be_accepted_is_400_in_the_documented_body_and_leaves_nothing(live, body, message):
    before = live.client.get("/api/v1/batch").json()["total"], uploads(live)
    answer = live.client.post("/api/v1/batch", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "status"}
    assert answer.json()["status"] == 400
    assert message is None or answer.json()["error"] == message
    assert (live.client.get("/api/v1/batch").json()["total"], uploads(live)) == before
    assert not list((live.data_dir / "blobs" / "staging" / "aside").glob("*"))


def uploads(live: LiveServer) -> set[str]:
    return {path.name for path in (live.data_dir / "blobs" / "uploads").glob("*")}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"images": [', b'{"images": [{"base64": "' + b"A" * 9999, b"\xff"]
)
def test_malformed_json_is_400(live, raw):
    answer = live.client.post("/api/v1/batch", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Invalid request body: not valid JSON")


@pytest.mark.parametrize("path", ["", "/ws", "/images/0", "/cancel"])
def test_an_unknown_job_is_404_in_the_documented_body(live, path):
    missing = "550e8400-e29b-41d4-a716-446655440000"
    answer = live.client.request("POST" if path == "/cancel" else "GET", f"/api/v1/batch/{missing}{path}")
    assert answer.status_code == 404
    assert answer.json()["status"] == 404
    if path != "/ws":
        assert answer.json()["error"] == f"Job not found: {missing}"


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("DELETE", ""), ("PATCH", "/x"), ("POST", "/x")])
def test_a_wrong_method_is_405_in_the_documented_body(live, method, path):
    answer = live.client.request(method, f"/api/v1/batch{path}")
    assert answer.status_code == 405
    assert set(answer.json()) == {"error", "status"}
    assert answer.json()["status"] == 405


def test_the_same_idempotency_key_and_body_give_the_same_job_another_body_409(live):
    images = {"images": [{"base64": b64(odd_files.jpeg()), "name": "a.jpg"}]}
    headers = {"Idempotency-Key": "batch-1"}
    first = live.client.post("/api/v1/batch", json=images, headers=headers)
    stored = uploads(live)
    again = live.client.post("/api/v1/batch", json=images, headers=headers)
    assert again.status_code == 201
    assert again.json()["job_id"] == first.json()["job_id"]
    assert uploads(live) <= stored
    images["images"][0]["name"] = "b.jpg"
    other = live.client.post("/api/v1/batch", json=images, headers=headers)
    assert other.status_code == 409
    assert set(other.json()) == {"error", "status"}
    assert uploads(live) <= stored


# -- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 5_000, 300_000])
@pytest.mark.parametrize("escape", ["plain", "php", "dotnet", "lines", "urlsafe", "unpadded"])
def test_base64_is_read_however_clients_write_it(live, size, escape):
    data = odd_files.jpeg() + hashlib.shake_256(b"x").digest(size)
    text = b64(data)
    if escape == "urlsafe":
        text = base64.urlsafe_b64encode(data).decode()
    if escape == "unpadded":
        text = text.rstrip("=")
    if escape == "lines":
        text = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    raw = json.dumps({"images": [{"base64": text, "name": "a.jpg"}]})
    if escape == "php":
        raw = raw.replace("/", "\\/")
    if escape == "dotnet":
        raw = raw.replace("+", "\\u002B")
    answer = live.client.post("/api/v1/batch", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    job = answer.json()["job_id"]
    assert finished(live, job)["status"] == "completed"
    detail = live.client.get(f"/api/v1/batch/{job}/images/0").json()
    assert detail["sha256"] == hashlib.sha256(data).hexdigest()


def test_files_can_be_uploaded_as_a_form_on_the_same_path(live, web):
    url = web.says("/one.png", 200, odd_files.png())
    files = [("images", ("Überblick.jpg", odd_files.jpeg())), ("images", ("../../x.png", odd_files.png()))]
    answer = live.client.post("/api/v1/batch", files=files, data={"url": url})
    assert answer.status_code == 201, answer.text
    status = finished(live, answer.json()["job_id"])
    assert [image["original_filename"] for image in status["images"]] == ["Überblick.jpg", "x.png", "one.png"]
    assert status["completed"] == 3
    empty = live.client.post("/api/v1/batch", files={"images": ("", b"")})
    assert (empty.status_code, empty.json()["error"]) == (400, "No images provided")


def test_an_image_over_the_limit_fails_alone_however_it_comes(live, web):
    large = odd_files.jpeg() + bytes(11 * 2**20)
    url = web.says("/large.jpg", 200, large)
    status = run(
        live, {"base64": b64(large), "name": "a.jpg"}, {"url": url}, {"base64": b64(odd_files.jpeg())}
    )
    assert [image["status"] for image in status["images"]] == ["failed", "failed", "completed"]
    assert "Image is too large: 11.5 MB, the limit is 10 MB" in status["images"][0]["error"]
    assert "too large" in status["images"][1]["error"]
    form = live.client.post(
        "/api/v1/batch", files=[("f", ("a.jpg", large)), ("f", ("b.jpg", odd_files.jpeg()))]
    )
    assert [i["status"] for i in finished(live, form.json()["job_id"])["images"]] == ["failed", "completed"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_images_of_ten_megabytes_in_one_body_leave_the_server_small_and_awake(new_server):
    live = new_server(settings=OPEN).start()
    live.client.get("/api/v1/batch")
    idle = peak_memory(live)
    count = 100  # as many as a batch may have: a body of 1.4 GB
    image = b64(bytes(10 * 2**20)).encode()

    def body() -> Iterator[bytes]:
        yield b'{"images":['
        for number in range(count):
            yield b'%s{"name":"%d.jpg","base64":"' % (b"," if number else b"", number)
            for at in range(0, len(image), 2**20):
                yield image[at : at + 2**20]
            yield b'"}'
        yield b"]}"

    done = asyncio.run(_post_and_ping(live, body))
    assert done["status"] == 201, done
    assert done["pings"] > 3
    assert peak_memory(live) - idle < 300 * 2**20
    status = finished(live, done["job_id"], timeout=300)
    assert status["failed"] == count
    live.client.delete(f"/jobs/{done['job_id']}?purge=true").raise_for_status()


async def _post_and_ping(live: LiveServer, body: Any) -> dict[str, Any]:
    """Post a body, and meanwhile ask for the server's health all the time."""

    async def blocks() -> Any:
        for block in body():
            yield block

    pings = 0
    async with httpx.AsyncClient(base_url=live.url, timeout=600) as client:
        post = asyncio.create_task(
            client.post("/api/v1/batch", content=blocks(), headers={"content-type": "application/json"})
        )
        while not post.done():
            assert (await client.get("/livez")).status_code == 200
            pings += not post.done()
            await asyncio.sleep(0.05)
        answer = await post
    return {"status": answer.status_code, "job_id": answer.json().get("job_id"), "pings": pings}


def peak_memory(live: LiveServer) -> int:
    assert live.process is not None
    text = Path(f"/proc/{live.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


# -- results ----------------------------------------------------------------------------------


def test_the_processed_image_is_the_original_with_metadata_and_not_a_pixel_changed(live):
    data = odd_files.every_odd_file()["trailing.jpg"]
    status = run(live, {"base64": b64(data), "name": "harbour at dusk.jpg"})
    path = status["images"][0]["processed_path"]
    answer = live.client.get(f"/api/v1/files/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    with Image.open(io.BytesIO(answer.content)) as after, Image.open(io.BytesIO(data)) as before:
        assert after.tobytes() == before.tobytes()
        assert after.getexif()[0x0112] == before.getexif()[0x0112]
        assert b'<rdf:li xml:lang="x-default">Harbour at dusk</rdf:li>' in answer.content
    assert answer.content.endswith(b"trailing data \xff\xd8 of any kind")
    base = f"/api/v1/batch/{status['job_id']}/images/0"
    assert live.client.get(f"{base}/file").content == answer.content
    thumbnail = live.client.get(f"{base}/thumbnail")
    with Image.open(io.BytesIO(thumbnail.content)) as small:
        assert small.size == (48, 64)  # upright: the original lies on its side
    stored = live.data_dir / "blobs" / path
    assert stored.read_bytes() == answer.content
    part = live.client.get(f"/api/v1/files/{path}", headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"\xff\xd8")


def test_one_image_tells_what_was_found_out_about_it(live):
    status = run(
        live, {"base64": b64(odd_files.with_exif(odd_files.jpeg(), odd_files.exif())), "name": "IMG_0001.jpg"}
    )
    detail = live.client.get(f"/api/v1/batch/{status['job_id']}/images/0").json()
    assert detail["metadata"]["title"] == "Photograph taken on 4 March 2021"
    assert detail["analysis"]["orientation"] == 6
    assert (detail["analysis"]["width"], detail["analysis"]["height"]) == (48, 64)
    assert detail["analysis"]["camera"]["model"] == "M-1"
    assert detail["tagger"] == {"engine": "none"}
    assert live.client.get(f"/api/v1/batch/{status['job_id']}/images/1").status_code == 404


def test_duplicates_within_a_batch_are_named(live):
    image = odd_files.gradient((300, 200))
    status = run(
        live,
        {"base64": b64(odd_files.jpeg(image)), "name": "a.jpg"},
        {"base64": b64(odd_files.png(image.rotate(90, expand=True))), "name": "b.png"},
        {"base64": b64(odd_files.png(image.resize((150, 100)))), "name": "c.png"},
    )
    details = [live.client.get(f"/api/v1/batch/{status['job_id']}/images/{n}").json() for n in range(3)]
    assert [d.get("duplicate_of") for d in details] == [None, None, 0]


def test_files_that_are_not_there_are_404(live):
    status = run(live, {"base64": b64(b"nothing"), "name": "a.jpg"}, {"base64": b64(odd_files.png())})
    job, trace = status["job_id"], status["images"][1]["trace_id"]
    for path in (
        f"/api/v1/batch/{job}/images/0/file",
        f"/api/v1/batch/{job}/images/0/thumbnail",
        f"/api/v1/batch/{job}/images/9/file",
        f"/api/v1/files/{trace}/other.png",
        f"/api/v1/files/{trace}/.thumbnail.jpg",
        "/api/v1/files/nobody/a.png",
        f"/api/v1/files/{trace}/..%2f..%2fmillrace.db",
    ):
        answer = live.client.get(path)
        assert answer.status_code == 404, path
        assert set(answer.json()) == {"error", "status"}


# -- hostile input ----------------------------------------------------------------------------


def hostile() -> dict[str, tuple[bytes, str]]:
    """Name → (file, a word of the error it must fail with)."""
    photo, drawing = odd_files.jpeg(odd_files.gradient((400, 300))), odd_files.png()
    wide = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    bomb = b"\x89PNG\r\n\x1a\n" + odd_files.chunk(b"IHDR", wide) + odd_files.chunk(b"IDAT", pixels)
    packed = zlib.compress(bytes(40 * 2**20), 9)
    sof = photo.index(b"\xff\xc0")
    huge = photo[: sof + 5] + b"\xff\xff\xff\xff" + photo[sof + 9 :]
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    return {
        "text.jpg": (b"hello, I am not an image", "not an image"),
        "empty.jpg": (b"\xff\xd8\xff", "damaged or truncated"),
        "cut.jpg": (photo[: len(photo) // 2], "truncated"),
        "cut.png": (drawing[: len(drawing) - 20], "truncated"),
        "headless.jpg": (photo[:200], "damaged or truncated"),
        "pixels.png": (bomb + odd_files.chunk(b"IEND", b""), "pixels"),
        "pixels.jpg": (huge, "pixels"),
        "ztxt.png": (odd_files.with_chunks(drawing, odd_files.chunk(b"zTXt", b"k\0\0" + packed)), "zTXt"),
        "icc.png": (odd_files.with_chunks(drawing, odd_files.chunk(b"iCCP", b"k\0\0" + packed)), "iCCP"),
        "short-pixels.png": (drawing.replace(drawing[41:80], drawing[41:60] + bytes(20)), "damaged"),
        "drawing.jpg": (svg, "SVG"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC"),
        "page.jpg": (b"<!DOCTYPE html><script>1</script>", "web page"),
        "archive.png": (b"PK\3\4" + bytes(100), "ZIP"),
        "gif.png": (b"GIF89a/*" + photo, "GIF"),
        "document.jpg": (b"%PDF-1.7 " + photo, "PDF"),
        "scans.jpg": (photo[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 5000 + b"\xff\xd9", "scans"),
    }


def test_hostile_files_fail_alone_with_a_reason_and_the_server_goes_on(live):
    files = hostile()
    status = run(live, *({"base64": b64(data), "name": name} for name, (data, _) in files.items()))
    for image in status["images"]:
        assert image["status"] == "failed", image
        assert files[image["original_filename"]][1] in image["error"], image
    assert run(live, {"base64": b64(odd_files.jpeg())})["status"] == "completed"


def test_a_polyglot_is_served_as_the_picture_it_is_and_nothing_else(live):
    data = odd_files.jpeg() + b"<html><script>alert(1)</script></html>"
    status = run(live, {"base64": b64(data), "name": "evil.html"})
    answer = live.client.get(f"/api/v1/files/{status['images'][0]['processed_path']}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "/abs.jpg", "a\x00b.jpg", "c:\\d.jpg", ".hidden.jpg", "x" * 500]
)
def test_a_file_name_cannot_lead_anywhere(live, name):
    status = run(live, {"base64": b64(odd_files.jpeg()), "name": name})
    image = status["images"][0]
    trace, _, rest = image["processed_path"].partition("/")
    assert UUID.fullmatch(trace)
    assert rest
    assert "/" not in rest
    assert not rest.startswith(".")
    assert live.client.get(f"/api/v1/files/{trace}/{rest}").status_code == 200


def test_addresses_that_are_not_public_are_not_fetched_by_default(new_server, web):
    live = new_server(settings={"fetch": {"ports": []}}).start()
    before = len(web.requests)
    status = run(
        live, {"url": web.says("/secret.png", 200, odd_files.png())}, {"url": "http://169.254.169.254/latest"}
    )
    assert status["status"] == "failed"
    assert all("Failed to download image" in image["error"] for image in status["images"])
    assert len(web.requests) == before


# -- WebSocket --------------------------------------------------------------------------------


def ws(live: LiveServer, job: str) -> str:
    return f"ws://127.0.0.1:{live.port}/api/v1/batch/{job}/ws"


async def listen(
    live: LiveServer, job: str, snapshot: asyncio.Event | None = None
) -> tuple[list[dict[str, Any]], int | None]:
    """Return all messages and the code of the end; ``snapshot`` is set once the first one is there."""
    messages = []
    async with websockets.connect(ws(live, job), proxy=None, open_timeout=60) as socket:
        async for message in socket:
            messages.append(json.loads(message))
            if snapshot is not None:
                snapshot.set()
    return messages, socket.close_code


def paused(live: LiveServer, *images: dict[str, Any]) -> str:
    """Create a batch that does not start before ``/workloads/images/resume``."""
    live.client.post("/workloads/images/pause").raise_for_status()
    return create(live, *images)


def test_the_feed_begins_with_a_snapshot_tells_each_image_and_ends_with_the_job(new_server):
    live = new_server(settings=OPEN).start()
    job = paused(
        live,
        *({"base64": b64(odd_files.jpeg()), "name": f"{n}.jpg"} for n in range(3)),
        {"base64": b64(b"no")},
    )

    async def session() -> tuple[list[dict[str, Any]], int | None]:
        snapshot = asyncio.Event()
        task = asyncio.create_task(listen(live, job, snapshot))
        await snapshot.wait()
        await asyncio.to_thread(live.client.post, "/workloads/images/resume")
        return await asyncio.wait_for(task, 60)

    messages, code = asyncio.run(session())
    assert code == 1000
    first, last = messages[0], messages[-1]
    assert first["type"] == "progress"
    assert (first["status"], first["progress"], first["completed"], first["total_images"]) == (
        "pending",
        0.0,
        0,
        4,
    )
    common = {"type", "job_id", "status", "progress", "completed", "failed", "total_images", "timestamp"}
    complete = [m for m in messages if m["type"] == "image_complete"]
    assert sorted(m["image"]["index"] for m in complete) == [0, 1, 2, 3]
    for number, message in enumerate(complete, 1):
        assert set(message) == common | {"image"}
        assert message["completed"] + message["failed"] == number
        assert message["progress"] == round(100 * number / 4, 2)
        assert message["status"] == "processing"
        assert TIME.fullmatch(message["timestamp"])
    good = next(m["image"] for m in complete if m["image"]["status"] == "completed")
    assert set(good) == {"index", "original_filename", "status", "trace_id", "processed_path"}
    bad = next(m["image"] for m in complete if m["image"]["status"] == "failed")
    assert "JPEG and PNG" in bad["error"]
    assert (last["type"], last["status"], last["progress"], last["completed"]) == (
        "job_complete",
        "completed",
        100.0,
        3,
    )
    assert {m["type"] for m in messages} == {"progress", "image_complete", "job_complete"}


def test_a_finished_job_gives_a_snapshot_and_its_end_at_once(live):
    status = run(live, {"base64": b64(odd_files.jpeg())})
    messages, code = asyncio.run(listen(live, status["job_id"]))
    assert [m["type"] for m in messages] == ["progress", "job_complete"]
    assert messages[0]["progress"] == 100.0
    assert code == 1000


def test_an_unknown_job_is_refused_before_the_handshake(live):
    with pytest.raises(websockets.InvalidStatus) as refused:
        asyncio.run(listen(live, "nobody"))
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body) == {"error": "Job not found: nobody", "status": 404}


def test_a_cancelled_job_ends_its_feed(new_server):
    live = new_server(settings=OPEN).start()
    job = paused(live, {"base64": b64(odd_files.jpeg())})

    async def session() -> tuple[list[dict[str, Any]], int | None]:
        snapshot = asyncio.Event()
        task = asyncio.create_task(listen(live, job, snapshot))
        await snapshot.wait()
        cancelled = await asyncio.to_thread(live.client.post, f"/api/v1/batch/{job}/cancel")
        assert cancelled.json()["status"] == "cancelled"
        return await asyncio.wait_for(task, 60)

    messages, code = asyncio.run(session())
    assert (messages[-1]["type"], messages[-1]["status"], code) == ("job_complete", "cancelled", 1000)
    status = live.client.get(f"/api/v1/batch/{job}").json()
    assert (status["status"], status["failed"], status["images"][0]["error"]) == (
        "cancelled",
        1,
        "The job was cancelled",
    )


def test_five_hundred_watchers_of_one_job_see_every_event_in_order(new_server):
    live = new_server(settings=OPEN).start()
    count = 40
    job = paused(live, *({"base64": b64(odd_files.jpeg()), "name": f"{n}.jpg"} for n in range(count)))

    async def session() -> list[tuple[list[dict[str, Any]], int | None]]:
        ready = asyncio.Semaphore(50)
        connected = 0

        async def one() -> tuple[list[dict[str, Any]], int | None]:
            nonlocal connected
            messages = []
            async with ready:
                socket = await websockets.connect(ws(live, job), proxy=None, open_timeout=60)
                messages.append(json.loads(await socket.recv()))
                connected += 1
            async for message in socket:
                messages.append(json.loads(message))
            return messages, socket.close_code

        tasks = [asyncio.create_task(one()) for _ in range(500)]
        while connected < 500:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(live.client.post, "/workloads/images/resume")
        return await asyncio.wait_for(asyncio.gather(*tasks), 100)

    seen = asyncio.run(session())
    first = seen[0][0]
    assert [m["type"] for m in first if m["type"] != "progress"] == ["image_complete"] * count + [
        "job_complete"
    ]
    finished_counts = [m["completed"] for m in first if m["type"] == "image_complete"]
    assert finished_counts == list(range(1, count + 1))
    assert all(messages == first and code == 1000 for messages, code in seen)


def test_a_watcher_may_pass_its_token_in_the_query(new_server):
    live = new_server(settings=OPEN, environ={"REQUIRE_AUTH": "true", "BEARER_TOKEN": "s3cret"}).start()
    assert httpx.get(f"{live.url}/api/v1/batch").status_code == 401
    assert httpx.get(f"{live.url}/api/v1/batch").json()["status"] == 401
    job = create(live, {"base64": b64(odd_files.jpeg())})

    async def connect(query: str) -> str:
        async with websockets.connect(ws(live, job) + query, proxy=None) as socket:
            return json.loads(await socket.recv())["type"]

    assert asyncio.run(connect("?access_token=s3cret")) == "progress"
    for query, code in (("", 401), ("?access_token=wrong", 403)):
        with pytest.raises(websockets.InvalidStatus) as refused:
            asyncio.run(connect(query))
        assert refused.value.response.status_code == code


# -- the document's own clients, with nothing but the base URL changed ---------------------------


def script(name: str, live: LiveServer, job: str = "") -> str:
    text = (CLIENTS / name).read_text().replace("localhost:8080", f"127.0.0.1:{live.port}")
    return text.replace("a1b2c3d4-e5f6-7890-abcd-ef1234567890", job)


def test_the_documents_python_watcher_works_unchanged(live):
    job = create(
        live, {"base64": b64(odd_files.jpeg()), "name": "one.jpg"}, {"base64": b64(b"no"), "name": "two.jpg"}
    )
    done = subprocess.run(
        [sys.executable, "-c", script("watch.py.txt", live, job=job)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "WebSocket connected" in done.stdout
    assert "Completed: 1/2" in done.stdout
    assert done.stdout.rstrip().endswith("Batch job completed!")


@pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="requests is not installed")
def test_the_documents_python_workflow_works_unchanged(live, web):
    for number in (1, 2):
        web.says(f"/image{number}.jpg", 200, odd_files.jpeg())
    web.says("/image3.jpg", 404)
    text = script("workflow.py.txt", live).replace("https://example.com", web.url("").rstrip("/"))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"- image1.jpg: completed\n  Processed path: [0-9a-f-]{36}/image1.jpg", done.stdout)
    assert "- image3.jpg: failed\n  Error: Failed to download image: status code 404" in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_documents_javascript_watcher_works_unchanged(live):
    job = create(
        live, {"base64": b64(odd_files.jpeg()), "name": "one.jpg"}, {"base64": b64(b"no"), "name": "two.jpg"}
    )
    command = [
        "node",
        "--experimental-websocket",
        "--no-warnings",
        "-e",
        script("watch.js.txt", live, job=job),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "WebSocket connected" in done.stdout
    assert "Batch job completed!" in done.stdout
    assert done.stdout.rstrip().endswith("WebSocket disconnected")
    assert "WebSocket error" not in done.stderr


# -- life -------------------------------------------------------------------------------------


def test_a_batch_goes_on_after_the_server_was_killed(new_server):
    live = new_server(settings=OPEN).start()
    job = create(
        live,
        *(
            {"base64": b64(odd_files.jpeg(odd_files.gradient((900, 700)))), "name": f"{n}.jpg"}
            for n in range(30)
        ),
    )
    live.kill()
    live.start()
    live.client.post("/workloads/images/resume")
    status = finished(live, job)
    assert status["completed"] == 30


def test_finished_batches_are_kept_for_a_day(live):
    row = live.wait(run(live, {"base64": b64(odd_files.jpeg())})["job_id"])
    assert time_of(row["expires_at"]) - time_of(row["finished_at"]) == pytest.approx(86_400, abs=2)


def test_a_batch_whose_time_is_over_is_deleted_with_its_files(new_server):
    brief = {**OPEN, "images": {**OPEN["images"], "retention": 4}, "retention": {"sweep": 0.1}}
    live = new_server(settings=brief).start()
    job = create(live, {"base64": b64(odd_files.jpeg()), "name": "a.jpg"})
    status = live.client.get(f"/api/v1/batch/{job}").json()
    deadline = time.monotonic() + 60
    while live.client.get(f"/api/v1/batch/{job}").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (live.data_dir / "blobs" / status["images"][0]["trace_id"]).exists()


def time_of(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_jobs_of_the_common_api_get_the_same_treatment(new_server, tmp_path):
    media = tmp_path / "pictures"
    media.mkdir()
    (media / "cat.png").write_bytes(odd_files.png())
    live = new_server(settings=OPEN, media_roots=[media]).start()
    item = {"input": {"kind": "path", "path": str(media / "cat.png")}, "name": "cat.png"}
    answer = live.client.post("/jobs", json={"kind": "images", "items": [item]})
    assert answer.status_code in (201, 202), answer.text
    status = finished(live, answer.json()["job_id"])
    assert status["completed"] == 1
    assert UUID.fullmatch(status["images"][0]["trace_id"])
    assert (media / "cat.png").read_bytes() == odd_files.png()
    bad = live.client.post("/jobs", json={"kind": "images", "items": [{"input": {"kind": "what"}}]})
    assert bad.status_code == 400


def test_the_common_api_tells_the_words_before_and_after_and_hands_out_both_pictures(live):
    status = run(live, {"base64": b64(odd_files.jpeg()), "name": "lighthouse.jpg"})
    base = f"/jobs/{status['job_id']}/items/0"
    item = live.client.get(base).json()
    analysed = item["results"]["analyse"]
    assert set(analysed["existing"]) >= {"title", "description", "keywords"}
    assert analysed["tags"]["title"]
    assert analysed["tags"]["keywords"]
    assert analysed["analysis"]["format"] == "JPEG"
    names = {artifact["name"] for artifact in item["artifacts"]}
    assert names == {".thumbnail.jpg", "lighthouse.jpg"}
    for name in names:
        file = live.client.get(f"{base}/artifacts/{name}")
        assert (file.status_code, file.headers["content-type"]) == (200, "image/jpeg")
        assert file.content.startswith(b"\xff\xd8")


def test_files_are_tagged_from_the_command_line(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "lighthouse.jpg").write_bytes(odd_files.jpeg())
    (folder / "broken.png").write_bytes(b"nothing")
    before = (folder / "lighthouse.jpg").read_bytes()
    command = [sys.executable, "-m", "millrace.cli", "images", "tag", "--json"]
    environment = {**os.environ, "MILLRACE_DATA_DIR": str(tmp_path / "data")}
    dry = subprocess.run(
        [*command, "--dry-run", str(folder)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    rows = [json.loads(line) for line in dry.stdout.splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["broken.png", "lighthouse.jpg"]
    assert "not an image" in rows[0]["error"]
    assert rows[1]["title"] == "Lighthouse"
    assert dry.returncode == 1
    assert (folder / "lighthouse.jpg").read_bytes() == before
    done = subprocess.run(
        [*command, "--out", "tagged", str(folder / "lighthouse.jpg")],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Lighthouse" in (tmp_path / "tagged" / "lighthouse.jpg").read_bytes()
    assert (folder / "lighthouse.jpg").read_bytes() == before


# -- the object store -------------------------------------------------------------------------


def test_processed_images_live_in_the_bucket_under_their_processed_path(new_server, s3):
    from obstore.store import S3Store

    bucket = s3.make_bucket()
    live = new_server(settings={**OPEN, "blobs": s3.settings(bucket)}).start()
    data = odd_files.jpeg()
    status = run(live, {"base64": b64(data), "name": "Überblick.jpg"}, {"base64": b64(b"no image")})
    assert [image["status"] for image in status["images"]] == ["completed", "failed"]
    path = status["images"][0]["processed_path"]
    store = S3Store(
        bucket,
        endpoint=s3.endpoint,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    stored = bytes(store.get(path).bytes())
    assert stored == live.client.get(f"/api/v1/files/{path}").content
    with Image.open(io.BytesIO(stored)) as after, Image.open(io.BytesIO(data)) as before:
        assert after.tobytes() == before.tobytes()
    base = f"/api/v1/batch/{status['job_id']}/images/0"
    assert live.client.get(f"{base}/thumbnail").content[:2] == b"\xff\xd8"
    live.client.delete(f"/jobs/{status['job_id']}?purge=true").raise_for_status()
    left = [entry["path"] for page in store.list() for entry in page if not entry["path"].startswith(".")]
    assert left == []
