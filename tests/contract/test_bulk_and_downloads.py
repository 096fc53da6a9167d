"""Many jobs at once, all of a job's files at once, and a look into the media roots."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Jobs
from tests.live import LiveServer


def bulk(server: LiveServer, status: int = 200, **body: Any) -> dict[str, Any]:
    reply = server.client.post("/jobs/bulk", json=body)
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.fixture
def ended(jobs: Jobs) -> str:
    """A job that has ended."""
    return str(jobs.run({})["job_id"])


@pytest.fixture
def slow(ended: str, probe: LiveServer, jobs: Jobs) -> Iterator[list[str]]:
    """Two jobs under way: of one an item runs already."""
    made = [jobs.submit({"sleep": 60}, {"sleep": 60}, parallelism=1, label="bulk-slow") for _ in range(2)]
    probe.wait(made[0], "running")
    yield made
    for job in made:
        probe.client.delete(f"/jobs/{job}")


def test_it_counts_before_it_cancels(probe: LiveServer, ended: str, slow: list[str]) -> None:
    would = bulk(probe, action="cancel", jobs=[*slow, ended], dry_run=True)
    assert (would["jobs"], would["items"], would["unaffected"], would["dry_run"]) == (2, 4, 1, True)
    assert 1 <= would["running"] <= 2
    assert all(probe.client.get(f"/jobs/{job}").json()["state"] != "cancelled" for job in slow)
    did = bulk(probe, action="cancel", jobs=[*slow, ended])
    assert (did["jobs"], did["refused"]) == (2, [])
    assert [probe.client.get(f"/jobs/{job}").json()["state"] for job in slow] == ["cancelled"] * 2
    assert probe.client.get(f"/jobs/{ended}").json()["state"] == "succeeded"


def test_it_retries_only_what_failed(probe: LiveServer, jobs: Jobs, tmp_path: Path) -> None:
    flag = tmp_path / "now"
    job = jobs.run({"fail_unless": str(flag)}, {})["job_id"]
    well = jobs.run({})["job_id"]
    assert bulk(probe, action="retry", jobs=[job, well], dry_run=True)["items"] == 1
    flag.touch()
    assert bulk(probe, action="retry", jobs=[job, well])["jobs"] == 1
    assert probe.wait(job)["counts"]["succeeded"] == 2


def test_it_changes_the_priority_of_what_a_filter_finds(probe: LiveServer, slow: list[str]) -> None:
    found = bulk(probe, action="priority", priority="high", filter={"kind": "probe", "q": "bulk-slow"})
    assert found["jobs"] >= 2
    assert [probe.client.get(f"/jobs/{job}").json()["priority"] for job in slow] == [2, 2]
    bulk(probe, action="cancel", filter={"q": "bulk-slow", "status": "queued,running"})
    assert [probe.client.get(f"/jobs/{job}").json()["state"] for job in slow] == ["cancelled"] * 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"action": "cancel"}, "either jobs or filter"),
        ({"action": "cancel", "jobs": [], "filter": {}}, "either jobs or filter"),
        ({"action": "priority", "jobs": []}, "priority"),
        ({"action": "cancel", "jobs": [], "priority": 1}, "priority"),
        ({"action": "priority", "jobs": [], "priority": "soon"}, "soon"),
        ({"action": "cancel", "filter": {"status": "odd"}}, "odd"),
        ({"action": "cancel", "filter": {"kind": "odd"}}, "odd"),
        ({"action": "delete", "jobs": []}, "action"),
    ],
)
def test_what_makes_no_sense_is_refused(probe: LiveServer, body: dict[str, Any], words: str) -> None:
    assert words in bulk(probe, 400, **body)["detail"]


def test_a_job_that_is_not_there(probe: LiveServer) -> None:
    assert "nowhere" in bulk(probe, 404, action="cancel", jobs=["nowhere"])["detail"]


def test_all_artifacts_in_one_archive(probe: LiveServer, jobs: Jobs) -> None:
    items = [
        {"name": "../one: a?.txt", "input": {"artifact": "out.txt", "content": "first"}},
        {"name": "two", "input": {"artifact": ".kept", "content": "not shown"}},
        {"name": "two", "input": {"artifact": "out.txt", "content": "third"}},
    ]
    body = {"kind": "probe", "label": "Übung", "items": items}
    job = probe.wait(probe.client.post("/jobs", json=body).json()["job_id"])["job_id"]
    reply = probe.client.get(f"/jobs/{job}/artifacts.zip")
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert "filename*=UTF-8''%C3%9Cbung.zip" in reply.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["0 one a.txt/out.txt", "2 two/out.txt"]
        assert archive.read("2 two/out.txt") == b"third"
    one = probe.client.get(f"/jobs/{job}/artifacts.zip", params={"item": 2})
    with zipfile.ZipFile(io.BytesIO(one.content)) as archive:
        assert archive.namelist() == ["out.txt"]


def test_no_archive_of_nothing(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.run({})["job_id"]
    assert "published nothing" in probe.client.get(f"/jobs/{job}/artifacts.zip").json()["detail"]
    assert probe.client.get("/jobs/nowhere/artifacts.zip").status_code == 404


def test_the_media_roots_can_be_looked_through(probe: LiveServer, tmp_path: Path) -> None:
    root = probe.media_roots[0]
    folder = root / "browse"
    (folder / "Inner").mkdir(parents=True)
    (folder / "b.wav").write_bytes(b"12345")
    (folder / "A.wav").touch()
    (folder / ".hidden").touch()
    (folder / "out").symlink_to(tmp_path)
    (folder / "in.wav").symlink_to(folder / "b.wav")
    top = probe.client.get("/media").json()
    assert [entry["path"] for entry in top["entries"]] == [str(root)]
    found = probe.client.get("/media", params={"path": str(folder)}).json()
    assert [entry["name"] for entry in found["entries"]] == ["Inner", "A.wav", "b.wav", "in.wav"]
    assert found["entries"][2]["bytes"] == 5
    assert found["parent"] == str(root)
    assert probe.client.get("/media", params={"path": str(root)}).json()["parent"] is None


@pytest.mark.parametrize("path", ["/etc", "relative", "{root}/../..", "{root}/browse-out/x"])
def test_nothing_outside_them_is_shown(probe: LiveServer, path: str, tmp_path: Path) -> None:
    root = probe.media_roots[0]
    link = root / "browse-out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    reply = probe.client.get("/media", params={"path": path.format(root=root)})
    assert reply.status_code == 400
    assert "passwd" not in reply.text


def test_a_folder_that_is_not_there(probe: LiveServer) -> None:
    path = str(probe.media_roots[0] / "nowhere")
    assert probe.client.get("/media", params={"path": path}).status_code == 404
