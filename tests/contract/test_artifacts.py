"""Downloading artifacts: conditional and partial requests (RFC 9110), names, and safe headers."""

from __future__ import annotations

import hashlib
import random
import re

import pytest

from tests.contract.conftest import Jobs
from tests.live import LiveServer

CONTENT = "".join(random.Random(7).choices("abcdefgh", k=600_000))
PATH = "/jobs/{}/items/0/artifacts/{}"


@pytest.fixture(scope="module")
def url(jobs: Jobs) -> str:
    """Where an artifact of 600,000 bytes is."""
    row = jobs.run({"artifact": "letters.txt", "content": CONTENT})
    return PATH.format(row["job_id"], "letters.txt")


def test_an_artifact_comes_whole_and_named(probe: LiveServer, url: str) -> None:
    reply = probe.client.get(url)
    assert reply.status_code == 200
    assert reply.text == CONTENT
    digest = hashlib.sha256(CONTENT.encode()).hexdigest()
    assert reply.headers["etag"] == f'"{digest}"'
    assert reply.headers["content-length"] == "600000"
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.headers["content-disposition"] == 'attachment; filename="letters.txt"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]


def test_a_job_lists_its_artifacts(probe: LiveServer, url: str) -> None:
    job = url.split("/")[2]
    (listed,) = probe.client.get(f"/jobs/{job}/artifacts").json()["artifacts"]
    assert (listed["name"], listed["item"], listed["stage"], listed["bytes"]) == (
        "letters.txt",
        0,
        "first",
        600_000,
    )
    assert listed["url"] == url
    assert probe.client.get(f"/jobs/{job}/items/0").json()["artifacts"] == [listed]


def test_head_tells_the_same_without_the_content(probe: LiveServer, url: str) -> None:
    whole, head = probe.client.get(url), probe.client.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "content-length", "content-type", "content-disposition", "last-modified"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_client_has_is_not_sent_again(probe: LiveServer, url: str, form: str) -> None:
    etag = probe.client.head(url).headers["etag"]
    reply = probe.client.get(url, headers={"If-None-Match": form.format(etag)})
    assert reply.status_code == 304
    assert reply.content == b""
    assert reply.headers["etag"] == etag
    assert probe.client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=599990-", 599_990, 600_000),
        ("bytes=-5", 599_995, 600_000),
        ("bytes=-9999999", 0, 600_000),
        ("bytes=100-9999999", 100, 600_000),
        ("bytes=1000-400000", 1000, 400_001),
    ],
)
def test_a_part_can_be_asked_for(probe: LiveServer, url: str, asked: str, start: int, end: int) -> None:
    reply = probe.client.get(url, headers={"Range": asked})
    assert reply.status_code == 206
    assert reply.text == CONTENT[start:end]
    assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/600000"
    assert reply.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=600000-", "bytes=700000-800000", "bytes=-0"])
def test_a_part_outside_is_416(probe: LiveServer, url: str, asked: str) -> None:
    reply = probe.client.get(url, headers={"Range": asked})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == "bytes */600000"


@pytest.mark.parametrize("asked", ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=0-1,4-5", "bytes=-", "x"])
def test_a_range_that_is_none_is_answered_with_the_whole(probe: LiveServer, url: str, asked: str) -> None:
    reply = probe.client.get(url, headers={"Range": asked})
    assert reply.status_code == 200
    assert len(reply.content) == 600_000


def test_a_part_of_another_version_is_not_mixed_in(probe: LiveServer, url: str) -> None:
    head = probe.client.head(url).headers
    for same in (head["etag"], head["last-modified"]):
        assert probe.client.get(url, headers={"Range": "bytes=0-1", "If-Range": same}).status_code == 206
    for other in ('"other"', f"W/{head['etag']}", "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert probe.client.get(url, headers={"Range": "bytes=0-1", "If-Range": other}).status_code == 200


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("plain name.txt", 'attachment; filename="plain name.txt"'),
        (
            "Überfall 東京.srt",
            'attachment; filename="_berfall __.srt"; '
            "filename*=UTF-8''%C3%9Cberfall%20%E6%9D%B1%E4%BA%AC.srt",
        ),
        (
            'a"b;c\\d.txt',
            "attachment; filename=\"a_b_c_d.txt\"; filename*=UTF-8''a%22b%3Bc%5Cd.txt",
        ),
    ],
)
def test_any_name_can_be_downloaded(probe: LiveServer, jobs: Jobs, name: str, header: str) -> None:
    row = jobs.run({"artifact": name, "content": "x"})
    (listed,) = probe.client.get(f"/jobs/{row['job_id']}/artifacts").json()["artifacts"]
    assert listed["name"] == name
    reply = probe.client.get(listed["url"])
    assert reply.status_code == 200
    assert reply.headers["content-disposition"] == header


def test_a_stored_page_is_never_shown_as_one(probe: LiveServer, jobs: Jobs) -> None:
    row = jobs.run({"artifact": "page.html", "content": "<script>alert(1)</script>"})
    reply = probe.client.get(PATH.format(row["job_id"], "page.html"))
    assert reply.headers["content-disposition"].startswith("attachment")
    assert re.search(r"default-src 'none'", reply.headers["content-security-policy"])


def test_an_empty_artifact_is_one(probe: LiveServer, jobs: Jobs) -> None:
    row = jobs.run({"artifact": "empty.txt"})
    path = PATH.format(row["job_id"], "empty.txt")
    assert probe.client.get(path).content == b""
    assert probe.client.get(path, headers={"Range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize("name", ["..%2f..%2fmillrace.db", "%2e%2e", "..", "nothing.txt", "letters.txt%00"])
def test_no_other_file_can_be_reached(probe: LiveServer, url: str, name: str) -> None:
    job = url.split("/")[2]
    reply = probe.raw(
        f"GET {PATH.format(job, name)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert reply.split(b" ")[1] in (b"404", b"400")
