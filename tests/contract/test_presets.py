"""``/presets`` on a real server: saved options, used by jobs, forms and schedules."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.live import LiveServer, probe_path


@pytest.fixture(autouse=True)
def clean(probe: LiveServer) -> Iterator[None]:
    yield
    for row in probe.client.get("/presets").json()["presets"]:
        probe.client.delete(f"/presets/{row['kind']}/{row['name']}").raise_for_status()


def save(there: LiveServer, kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    reply = there.client.put(f"/presets/{kind}/{name}", json={"options": options})
    assert reply.status_code in (200, 201), reply.text
    row: dict[str, Any] = reply.json()
    return row


def test_saving_reading_listing_and_deleting(probe: LiveServer) -> None:
    reply = probe.client.put("/presets/probe/night shift", json={"options": {"loud": True}})
    assert reply.status_code == 201
    row = reply.json()
    assert (row["kind"], row["name"], row["options"]) == ("probe", "night shift", {"loud": True})
    assert row["created_at"].endswith("Z")
    again = probe.client.put("/presets/probe/night shift", json={"options": {"loud": False}})
    assert (again.status_code, again.json()["options"]) == (200, {"loud": False})
    assert probe.client.get("/presets/probe/night%20shift").json() == again.json()
    assert probe.client.get("/presets", params={"kind": "probe"}).json() == {"presets": [again.json()]}
    assert probe.client.get("/presets", params={"kind": "tracks"}).json() == {"presets": []}
    gone = probe.client.delete("/presets/probe/night shift")
    assert gone.json() == {"message": "Preset deleted", "kind": "probe", "name": "night shift"}
    assert probe.client.get("/presets/probe/night shift").status_code == 404


def test_a_job_takes_a_presets_options_and_its_own_win(probe: LiveServer) -> None:
    save(probe, "probe", "loud", {"voice": {"loud": True, "pitch": 3}, "x": 1})
    body = {
        "kind": "probe",
        "items": [{"input": {}}],
        "preset": "loud",
        "options": {"voice": {"pitch": 4}},
    }
    job = probe.client.post("/jobs", json=body)
    assert job.status_code == 202, job.text
    assert job.json()["options"] == {"voice": {"loud": True, "pitch": 4}, "x": 1}
    save(probe, "probe", "loud", {"x": 2})
    assert probe.client.get(job.headers["location"]).json()["options"]["x"] == 1


def test_a_form_takes_a_preset_too(probe: LiveServer) -> None:
    save(probe, "probe", "loud", {"x": 1})
    job = json.dumps({"kind": "probe", "preset": "loud"})
    reply = probe.client.post("/jobs", data={"job": job}, files={"file": ("a.txt", b"a")})
    assert (reply.status_code, reply.json()["options"]) == (202, {"x": 1})


def test_an_unknown_preset_makes_no_job(probe: LiveServer) -> None:
    save(probe, "probe", "loud", {})
    save(probe, "tracks", "quiet", {})
    before = probe.client.get("/jobs").json()["total"]
    for name, said in (
        ("quiet", "preset: there is no preset 'quiet' of probe; there are: 'loud'"),
        (5, "preset: "),
    ):
        reply = probe.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}], "preset": name})
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith(said)
    assert probe.client.get("/jobs").json()["total"] == before


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("nonsense", {}, "unknown kind 'nonsense'"),
        ("transcripts", {"tasks": {"asr": "loud"}}, "options.tasks.asr"),
        ("transcripts", {"tusks": {}}, "options.tusks"),
        ("transcripts", {"tasks": {"asr": False, "demucs": False}}, "options.tasks"),
        ("tracks", {"recursive": "deep"}, "options.recursive"),
        ("tracks", {"colour": "red"}, "options.colour"),
        ("documents", {"only": "half"}, "options.only"),
        ("probe", {"file": {"kind": "path", "path": "/etc/passwd"}}, "options.file.path"),
        ("probe", {"file": {"kind": "upload", "index": 0}}, "options.file.index"),
    ],
)
def test_options_that_no_job_could_have_are_refused(
    probe: LiveServer, kind: str, options: dict[str, Any], said: str
) -> None:
    reply = probe.client.put(f"/presets/{kind}/a", json={"options": options})
    assert (reply.status_code, said in reply.json()["detail"]) == (400, True), reply.text
    assert probe.client.get("/presets").json() == {"presets": []}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("transcripts", {"tasks": {"asr": True, "demucs": False}, "vadMaxEndSilenceMs": 80}),
        ("tracks", {"dry_run": True, "pattern": "**/*.mkv"}),
        ("documents", {"only": "extract"}),
        ("images", {}),
        ("sync", {}),
    ],
)
def test_each_kind_has_presets(probe: LiveServer, kind: str, options: dict[str, Any]) -> None:
    assert save(probe, kind, "mine", options)["options"] == options


@pytest.mark.parametrize("body", [{}, {"options": 1}, {"options": {}, "more": 1}, []])
def test_malformed_bodies_are_refused(probe: LiveServer, body: Any) -> None:
    assert probe.client.put("/presets/probe/a", json=body).status_code == 400


def test_a_schedule_takes_the_preset_as_it_is_when_it_is_due(new_server: NewServer, tmp_path: Path) -> None:
    there = new_server(path=probe_path(tmp_path)).start()
    job = {"kind": "probe", "items": [{"input": {}}], "preset": "nightly"}
    refused = there.client.post("/schedules", json={"cron": "* * * * * *", "job": job})
    assert (refused.status_code, "no preset 'nightly'" in refused.json()["detail"]) == (400, True)
    save(there, "probe", "nightly", {"x": 1})
    added = there.client.post("/schedules", json={"cron": "* * * * * *", "job": job, "overlap": True})
    assert added.status_code == 201, added.text
    here = added.headers["location"]

    def tick(wanted: Any) -> dict[str, Any]:
        for _ in range(600):
            for found in there.client.get(f"{here}/ticks").json()["ticks"]:
                if wanted(found):
                    return dict(found)
            time.sleep(0.05)
        raise AssertionError("it never came to pass")

    def took(x: int) -> Any:
        return lambda t: t["job"] and there.client.get(f"/jobs/{t['job']}").json()["options"] == {"x": x}

    tick(took(1))
    save(there, "probe", "nightly", {"x": 2})
    tick(took(2))
    there.client.delete("/presets/probe/nightly").raise_for_status()
    assert "there is no preset 'nightly' of probe" in tick(lambda t: t["error"])["error"]
