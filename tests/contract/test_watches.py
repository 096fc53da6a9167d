"""``/watches`` on a real server: files that appear below a folder become jobs, each once, whatever dies."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.live import LiveServer, ServerDied, probe_path
from tests.track_files import Audio, matroska

QUICK = {"settle_seconds": 0.3, "interval_seconds": 0.1}


@pytest.fixture(scope="module")
def there(
    new_module_server: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory
) -> LiveServer:
    media = tmp_path_factory.mktemp("media")
    path = probe_path(tmp_path_factory.mktemp("probe"))
    return new_module_server(media_roots=[media], path=path).start()


@pytest.fixture
def inbox(there: LiveServer, request: pytest.FixtureRequest) -> Path:
    folder = there.media_roots[0] / f"inbox-{abs(hash(request.node.name))}"
    folder.mkdir()
    return folder


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


def watch(there: LiveServer, folder: Path, **fields: Any) -> str:
    """Watch a folder; return where it is told of, once it was looked at."""
    body = {"name": "inbox", "path": str(folder), "kind": "probe", **QUICK, **fields}
    answer = there.client.post("/watches", json=body)
    assert answer.status_code == 201, answer.text
    here: str = answer.headers["location"]
    until(lambda: there.client.get(here).json()["looked_at"])
    return here


def jobs(there: LiveServer, here: str, number: int) -> list[dict[str, Any]]:
    """Wait until a watch has made so many jobs and all have ended; return them, oldest first."""

    def made() -> list[dict[str, Any]] | None:
        rows = there.client.get(here, params={"limit": 1000}).json()["jobs"]
        found = [there.client.get(f"/jobs/{row['job']}").json() for row in reversed(rows)]
        over = all(row["finished_at"] for row in found)
        return found if len(found) >= number and over else None

    found: list[dict[str, Any]] = until(made)
    assert len(found) == number
    return found


def test_a_file_that_is_copied_in_becomes_a_job_when_it_is_whole(there: LiveServer, inbox: Path) -> None:
    here = watch(there, inbox, pattern="**/*.bin", options={"x": 1}, priority="high")
    content = os.urandom(50_000)
    (inbox / "sub").mkdir()
    with (inbox / "sub" / "a.bin").open("wb") as file:
        for start in range(0, len(content), 10_000):
            file.write(content[start : start + 10_000])
            file.flush()
            time.sleep(0.05)
    (inbox / "b.txt").write_text("no")
    (inbox / "c.bin.part").write_text("not yet")
    (job,) = jobs(there, here, 1)
    assert (job["label"], job["priority"], job["options"], job["state"]) == (
        "sub/a.bin",
        2,
        {"x": 1},
        "succeeded",
    )
    copy = there.client.get(f"/jobs/{job['job_id']}/items/0/artifacts/copy.bin")
    assert copy.content == content
    (inbox / "c.bin.part").rename(inbox / "c.bin")
    assert [job["label"] for job in jobs(there, here, 2)] == ["sub/a.bin", "c.bin"]


def test_a_preset_is_taken_as_it_is_by_then(there: LiveServer, inbox: Path) -> None:
    there.client.put("/presets/probe/inbox", json={"options": {"x": 1}}).raise_for_status()
    here = watch(there, inbox, preset="inbox", options={"y": 2})
    there.client.put("/presets/probe/inbox", json={"options": {"x": 3}}).raise_for_status()
    (inbox / "a").write_text("a")
    (job,) = jobs(there, here, 1)
    assert job["options"] == {"x": 3, "y": 2}
    there.client.delete("/presets/probe/inbox").raise_for_status()
    (inbox / "b").write_text("b")
    row = until(lambda: (found := there.client.get(here).json())["last_error"] and found)
    assert "there is no preset 'inbox' of probe" in row["last_error"]
    assert (row["pending"], [one["path"] for one in row["settling"]]) == (1, ["b"])
    there.client.put("/presets/probe/inbox", json={"options": {}}).raise_for_status()
    jobs(there, here, 2)


def test_what_is_told_of_a_watch(there: LiveServer, inbox: Path) -> None:
    here = watch(there, inbox, pattern=["*.a", "*.b"])
    row = there.client.get(here).json()
    assert (row["source"], row["enabled"], row["pattern"], row["existing"]) == (
        "api",
        True,
        ["*.a", "*.b"],
        "ignore",
    )
    assert row["id"] in [one["id"] for one in there.client.get("/watches").json()["watches"]]
    off = there.client.patch(here, json={"enabled": False}).json()
    assert off["enabled"] is False
    assert there.client.delete(here).json() == {"message": "Watch deleted", "id": row["id"]}
    for answer in (
        there.client.get(here),
        there.client.delete(here),
        there.client.patch(here, json={"enabled": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path": "/etc"}, "path: the path '/etc' is not below a declared media root"),
        ({"path": "inbox"}, "path: "),
        ({"kind": "nonsense"}, "unknown kind 'nonsense'"),
        ({"pattern": "../*"}, "pattern"),
        ({"pattern": "{a"}, "pattern"),
        ({"pattern": []}, "pattern"),
        ({"preset": "nothing"}, "preset: there is no preset 'nothing'"),
        ({"notify": ["nobody"]}, "notify: there is no target 'nobody'"),
        ({"priority": "soon"}, "priority: "),
        ({"settle_seconds": -1}, "settle_seconds"),
        ({"name": "a/b"}, "name"),
        ({"kind": "transcripts", "options": {"tusks": 1}}, "options.tusks"),
        ({"kind": "transcripts", "per": "batch", "batch_size": 50}, "items: there must be 1 to 10, not 50"),
        ({"more": 1}, "more"),
    ],
)
def test_what_could_make_no_job_is_refused(there: LiveServer, fields: dict[str, Any], said: str) -> None:
    def ids() -> list[str]:
        return [row["id"] for row in there.client.get("/watches").json()["watches"]]

    before = ids()
    body = {"name": "inbox", "path": str(there.media_roots[0]), "kind": "probe", **fields}
    answer = there.client.post("/watches", json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (400, True), answer.text
    assert ids() == before


def test_a_link_out_of_the_media_root_leads_nowhere(there: LiveServer, inbox: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    here = watch(there, inbox, existing="take")
    (inbox / "link").symlink_to(secret)
    (inbox / "folder").symlink_to(tmp_path)
    (inbox / "real").write_text("real")
    assert [job["label"] for job in jobs(there, here, 1)] == ["real"]


def test_the_tracks_workload_does_not_wake_its_own_watch(new_server: NewServer, tmp_path: Path) -> None:
    """The flags are changed in place and the file gets a new time of change; that is no news."""
    media = tmp_path / "media"
    media.mkdir()
    settings = {"tracks": {"language_priority": ["ja"], "settle_seconds": 0, "keep_mtime": False}}
    there = new_server(settings=settings, media_roots=[media]).start()
    here = watch(there, media, kind="tracks", pattern="**/*.mkv")
    film = media / "film.mkv"
    before = matroska([Audio("eng", default=True), Audio("jpn", default=False)])
    film.write_bytes(before)
    written = film.stat().st_mtime_ns
    (job,) = jobs(there, here, 1)
    assert job["state"] == "succeeded"
    assert (film.read_bytes() != before, film.stat().st_mtime_ns > written) == (True, True)
    looked = until(lambda: (row := there.client.get(here).json())["pending"] == 0 and row)
    assert looked["last_error"] is None
    # A second film is a second job: by then the first was looked at again, and left alone.
    shutil.copyfile(film, media / "second.mkv")
    assert [job["label"] for job in jobs(there, here, 2)] == ["film.mkv", "second.mkv"]


def test_a_server_killed_again_and_again_takes_each_file_once(new_server: NewServer, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    watches = [{"name": "inbox", "path": str(media), "kind": "probe", **QUICK, "settle_seconds": 0.05}]
    there = new_server(settings={"watches": watches}, media_roots=[media], path=probe_path(tmp_path)).start()
    here = "/watches/set_inbox"
    until(lambda: there.client.get(here).json()["looked_at"])
    names = [f"{n:02}.bin" for n in range(40)]
    for start in range(0, 40, 10):
        for name in names[start : start + 10]:
            (media / name).write_text(name)
        until(lambda: there.client.get(here).json()["jobs"])
        there.restart(kill=True)
    found = jobs(there, here, 40)
    assert sorted(job["label"] for job in found) == names
    assert there.client.get("/jobs").json()["total"] == 40
    row = there.client.get(here).json()
    assert (row["source"], there.client.delete(here).status_code) == ("settings", 409)
    assert there.client.patch(here, json={"enabled": False}).status_code == 409


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path": "/etc"}, "watches: inbox cannot be watched: path: the path '/etc' is not below"),
        ({"kind": "nonsense"}, "watches: inbox cannot be watched: unknown kind 'nonsense'"),
        ({"patern": "*"}, "unknown setting watches.0.patern"),
        ({"kind": "transcripts", "options": {"tusks": 1}}, "options.tusks"),
    ],
)
def test_wrong_settings_stop_the_start(
    new_server: NewServer, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    watches = [{"name": "inbox", "path": str(media), "kind": "tracks", **fields}]
    with pytest.raises(ServerDied) as caught:
        new_server(settings={"watches": watches}, media_roots=[media]).start()
    assert ("code 2" in str(caught.value), said in str(caught.value)) == (True, True), str(caught.value)
