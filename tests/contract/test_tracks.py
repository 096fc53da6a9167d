"""The tracks contract, through a real server: batches, jobs, webhooks, and what survives a restart."""

import hashlib
import hmac
import json
import os
import re
import shutil
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from millrace.workloads.tracks.repair import inspect
from tests.track_files import Audio, matroska, mp4

ENG_JPN = [Audio("eng", default=True), Audio("jpn", default=False)]
SETTINGS = {"language_priority": ["ja", "fr"], "settle_seconds": 0}
MKV = matroska(ENG_JPN)
MP4 = mp4(ENG_JPN)


def defaults(path):
    with Path(path).open("rb") as file:
        return [track.default for track in inspect(file.fileno(), Path(path))[1].audio]


def make_library(folder, count=6):
    for number in range(count):
        season = folder / f"Show {number % 2}" / "Season 01"
        season.mkdir(parents=True, exist_ok=True)
        kind, data = (("mkv", MKV), ("mp4", MP4))[number % 2]
        (season / f"S01E{number:04}.{kind}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def running(new_module_server, tmp_path_factory):
    media = tmp_path_factory.mktemp("media")
    return new_module_server(settings={"tracks": SETTINGS}, media_roots=[media]).start()


@pytest.fixture
def library(running, request):
    folder = running.media_roots[0] / re.sub(r"\W", "_", request.node.name)
    folder.mkdir()
    return folder


def post(server, path, status=202, headers=None, **body):
    answer = server.client.post("/batch", json={"path": str(path), **body}, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def batch(server, job_id):
    return server.client.get(f"/batch/{job_id}").raise_for_status().json()


def finished(server, job_id):
    server.wait(job_id)
    return batch(server, job_id)


class TestBatch:
    def test_from_the_request_to_the_results(self, running, library):
        make_library(library)
        started = post(running, library, recursive=True, pattern="**/*.{mkv,mp4}", priority="normal")
        assert re.fullmatch(r"job_\d{4}-\d\d-\d\d_[0-9a-f]{6,}", started["job_id"])
        assert started == {
            "status": "started",
            "job_id": started["job_id"],
            "batch_id": started["job_id"],
            "estimated_files": 6,
            "message": "Batch job started",
        }
        done = finished(running, started["job_id"])
        assert done["status"] == "completed"
        assert (done["path"], done["recursive"], done["dry_run"], done["priority"]) == (
            str(library), True, False, "normal",
        )  # fmt: skip
        assert done["progress"] == {
            "total_files": 6, "processed": 6, "success": 6, "skipped": 0, "failed": 0, "remaining": 0,
            "percent": 100.0, "eta_seconds": None,
        }  # fmt: skip
        assert done["error"] is None
        for name in ("started_at", "updated_at", "completed_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", done[name]), name
        assert len(done["results"]) == 6
        for result in done["results"]:
            assert result["status"] == "success"
            assert result["message"].startswith("Set default audio track to 'jpn'")
            assert result["duration_ms"] >= 1
            assert defaults(result["file"]) == [False, True]

    def test_the_second_time_there_is_nothing_to_do(self, running, library):
        make_library(library, 2)
        finished(running, post(running, library)["job_id"])
        again = finished(running, post(running, library)["job_id"])
        assert again["progress"]["skipped"] == 2
        assert {(r["status"], r["reason"]) for r in again["results"]} == {("skipped", "already_correct")}

    def test_a_dry_run_counts_as_success_and_writes_nothing(self, running, library):
        make_library(library, 2)
        before = {path: path.read_bytes() for path in library.rglob("*.m*")}
        done = finished(running, post(running, library, dry_run=True)["job_id"])
        assert done["dry_run"] is True
        assert done["progress"]["success"] == 2
        assert {result["status"] for result in done["results"]} == {"dry_run"}
        assert {path: path.read_bytes() for path in library.rglob("*.m*")} == before

    def test_every_skip_says_why_and_every_failure_too(self, running, library):
        files = {
            "german.mkv": matroska([Audio("ger")]),
            "right.mkv": matroska([Audio("jpn", default=True), Audio("eng", default=False)]),
            "silent.mkv": matroska([]),
            "damaged.mkv": MKV[:200],
            "words.mkv": b"words",
            "locked.mkv": MKV,
        }
        for name, data in files.items():
            (library / name).write_bytes(data)
        (library / "locked.mkv").chmod(0o444)
        (library / "outside.mkv").symlink_to("/etc/hostname")
        done = finished(running, post(running, library)["job_id"])
        found = {Path(r["file"]).name: (r["status"], r.get("reason", r.get("code"))) for r in done["results"]}
        assert found == {
            "german.mkv": ("skipped", "no_matching_track"),
            "right.mkv": ("skipped", "already_correct"),
            "silent.mkv": ("skipped", "no_audio_tracks"),
            "damaged.mkv": ("failed", "damaged"),
            "words.mkv": ("failed", "unreadable"),
            "locked.mkv": ("failed", "read_only"),
            "outside.mkv": ("failed", "outside_roots"),
        }
        assert done["status"] == "completed"
        assert done["progress"] | {"eta_seconds": None} == {
            "total_files": 7, "processed": 7, "success": 0, "skipped": 3, "failed": 4, "remaining": 0,
            "percent": 100.0, "eta_seconds": None,
        }  # fmt: skip
        assert all(result["message"] for result in done["results"])

    def test_filters(self, running, library):
        make_library(library, 4)
        (library / "Sample.mkv").write_bytes(MKV)
        (library / "big.mkv").write_bytes(MKV + b"\xec\x01\x00\x00\x00\x00\x20\x00\x00")
        os.truncate(library / "big.mkv", 3 * 1024 * 1024)
        old = library / "Show 0" / "Season 01" / "S01E0000.mkv"
        os.utime(old, (time.time() - 40 * 86400,) * 2)

        def found(**body):
            done = finished(running, post(running, library, dry_run=True, **body)["job_id"])
            return sorted(Path(result["file"]).name for result in done["results"])

        everything = ["S01E0000.mkv", "S01E0001.mp4", "S01E0002.mkv", "S01E0003.mp4", "Sample.mkv", "big.mkv"]
        assert found() == everything
        nothing = {"min_size_mb": None, "max_age_days": None, "exclude_patterns": None}
        assert found(pattern=None, filters=nothing) == found(filters=None) == everything
        assert found(recursive=False) == ["Sample.mkv", "big.mkv"]
        assert found(pattern="**/*.MP4") == ["S01E0001.mp4", "S01E0003.mp4"]
        assert found(pattern="*.mp4") == ["S01E0001.mp4", "S01E0003.mp4"]
        assert found(pattern="Show 0/**") == ["S01E0000.mkv", "S01E0002.mkv"]
        assert found(filters={"min_size_mb": 1}) == ["big.mkv"]
        assert found(filters={"max_age_days": 30}) == everything[1:]
        assert found(filters={"exclude_patterns": ["*sample*", "Show 1"]}) == [
            "S01E0000.mkv", "S01E0002.mkv", "big.mkv",
        ]  # fmt: skip

    def test_an_empty_folder_ends_at_once(self, running, library):
        started = post(running, library)
        assert started["estimated_files"] == 0
        done = finished(running, started["job_id"])
        assert (done["status"], done["progress"]["total_files"], done["results"]) == ("completed", 0, [])

    def test_one_file(self, running, library):
        (library / "a.mkv").write_bytes(MKV)
        done = finished(running, post(running, library / "a.mkv")["job_id"])
        assert [result["status"] for result in done["results"]] == ["success"]

    def test_a_file_whose_name_is_not_utf8(self, running, library):
        path = library / os.fsdecode(b"caf\xe9.mkv")
        path.write_bytes(MKV)
        done = finished(running, post(running, library)["job_id"])
        assert done["results"][0]["file"].endswith("caf\ufffd.mkv")
        assert done["results"][0]["status"] == "success"
        assert defaults(path) == [False, True]

    def test_results_can_be_paged(self, running, library):
        make_library(library, 5)
        job_id = post(running, library, dry_run=True)["job_id"]
        whole = finished(running, job_id)["results"]
        parts = [
            running.client.get(f"/batch/{job_id}?limit=2&offset={offset}").json()["results"]
            for offset in (0, 2, 4)
        ]
        assert [result for part in parts for result in part] == whole

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({}, "path"),
            ({"path": "/definitely/not/here"}, "/definitely/not/here"),
            ({"path": "relative"}, "relative"),
            ({"path": "/etc"}, "/etc"),
            ({"path": 5}, "path"),
            ({"pattern": "["}, "pattern"),
            ({"pattern": "../*"}, "pattern"),
            ({"priority": "urgent"}, "priority"),
            ({"recursive": "perhaps"}, "recursive"),
            ({"filters": {"min_size_mb": -1}}, "filters.min_size_mb"),
            ({"filters": {"max_age_days": "old"}}, "filters.max_age_days"),
            ({"filters": {"exclude_patterns": "x"}}, "filters.exclude_patterns"),
            ({"filters": {"exclude": []}}, "filters.exclude"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_named_and_leaves_nothing(self, running, library, body, named):
        before = running.client.get("/jobs").json()["total"]
        if body and "path" not in body:
            body = {"path": str(library), **body}
        answer = running.client.post("/batch", json=body)
        assert answer.status_code == 400
        assert list(answer.json()) == ["detail"]
        assert named in answer.json()["detail"]
        assert running.client.get("/jobs").json()["total"] == before

    def test_a_missing_path_inside_the_roots(self, running, library):
        assert "Path not found" in post(running, library / "gone", 400)["detail"]

    def test_malformed_json(self, running):
        answer = running.client.post("/batch", content=b"{", headers={"content-type": "application/json"})
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])

    def test_unknown_jobs(self, running):
        for method in ("get", "delete"):
            answer = getattr(running.client, method)("/batch/job_2024-01-15_abc123")
            assert answer.status_code == 404
            assert "not found" in answer.json()["detail"]

    def test_the_same_idempotency_key_is_the_same_job(self, running, library):
        make_library(library, 1)
        key = {"Idempotency-Key": f"key-{library.name}"}
        first = post(running, library, headers=key)
        running.wait(first["job_id"])
        assert post(running, library, headers=key) == first
        assert "detail" in post(running, library, 409, headers=key, dry_run=True)

    def test_it_shows_among_all_jobs(self, running, library):
        make_library(library, 2)
        job_id = post(running, library)["job_id"]
        running.wait(job_id)
        listed = running.client.get("/jobs", params={"status": "completed", "limit": 1000}).json()
        row = next(row for row in listed["jobs"] if row["job_id"] == job_id)
        assert (row["kind"], row["status"], row["path"]) == ("tracks", "completed", str(library))
        assert row["progress"] == {"percent": 100.0}
        stats = running.client.get("/jobs/stats").json()
        assert stats["completed"] >= 1
        assert stats["total_files_processed"] >= 2
        assert set(stats) >= {
            "total_jobs", "running", "queued", "completed", "failed", "cancelled", "total_files_processed",
            "success_rate", "average_duration_seconds",
        }  # fmt: skip
        assert running.client.get("/health").json()["workloads"]["tracks"]["running"] >= 0

    def test_the_canonical_api_takes_the_same_options(self, running, library):
        make_library(library, 2)
        answer = running.client.post(
            "/jobs", json={"kind": "tracks", "options": {"path": str(library), "dry_run": True}}
        )
        assert answer.status_code == 202, answer.text
        done = finished(running, answer.json()["job_id"])
        assert done["progress"]["success"] == 2
        wrong = running.client.post(
            "/jobs", json={"kind": "tracks", "options": {"path": str(library), "x": 1}}
        )
        assert wrong.status_code == 400


QUEUED = {"tracks": SETTINGS, "jobs": {"max_queue_size": 3}}


@pytest.fixture(scope="module")
def queueing(new_module_server, tmp_path_factory):
    media = tmp_path_factory.mktemp("media")
    return new_module_server(settings=QUEUED, media_roots=[media]).start()


@pytest.fixture
def paused(queueing):
    """A server on which nothing of the workload runs until it is let go; its queue is empty."""
    pause(queueing, True)
    yield queueing
    for status in ("queued", "running"):
        for row in queueing.client.get("/jobs", params={"status": status}).json()["jobs"]:
            queueing.client.delete(f"/jobs/{row['job_id']}").raise_for_status()
    pause(queueing, False)


@pytest.fixture
def ground(queueing, request):
    """A folder of the test's own below that server's media root."""
    folder = queueing.media_roots[0] / re.sub(r"\W", "_", request.node.name)
    folder.mkdir()
    return folder


def pause(server, paused):
    answer = server.client.post(f"/workloads/tracks/{'pause' if paused else 'resume'}")
    assert answer.status_code < 300, answer.text


class TestQueue:
    def test_a_path_in_work_is_refused_above_and_below(self, paused, ground):
        media = ground
        for name in ("tv/a", "tv/b", "movies"):
            (media / name).mkdir(parents=True)
        first = post(paused, media / "tv" / "a")["job_id"]
        for path in (media / "tv" / "a", media / "tv", media):
            answer = post(paused, path, 409)
            assert first in answer["detail"]
        post(paused, media / "tv" / "b")
        (media / "tv" / "a" / "deep").mkdir()
        assert first in post(paused, media / "tv" / "a" / "deep", 409)["detail"]
        (media / "alias").symlink_to(media / "tv" / "a")
        assert first in post(paused, media / "alias", 409)["detail"]
        pause(paused, False)
        paused.wait(first)
        post(paused, media / "tv" / "a")

    def test_a_full_queue_answers_503_with_retry_after(self, paused, ground):
        media = ground
        for number in range(4):
            (media / str(number)).mkdir()
        jobs = [post(paused, media / str(number))["job_id"] for number in range(3)]
        answer = paused.client.post("/batch", json={"path": str(media / "3")})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "limit" in answer.json()["detail"]
        paused.client.delete(f"/batch/{jobs[0]}").raise_for_status()
        post(paused, media / "3")

    def test_cancel_says_how_far_it_was(self, paused, ground):
        make_library(ground, 4)
        job_id = post(paused, ground)["job_id"]
        answer = paused.client.delete(f"/batch/{job_id}")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "cancelled",
            "job_id": job_id,
            "message": "Job cancelled successfully",
            "processed_before_cancel": 0,
        }
        assert batch(paused, job_id)["status"] == "cancelled"
        assert paused.client.delete(f"/batch/{job_id}").status_code == 404
        listed = paused.client.get("/jobs", params={"status": "cancelled"}).json()["jobs"]
        assert job_id in [row["job_id"] for row in listed]

    def test_cancel_in_the_middle_leaves_every_file_whole(self, paused, ground):
        media = make_library(ground, 300)
        job_id = post(paused, media)["job_id"]
        pause(paused, False)
        deadline = time.monotonic() + 60
        while batch(paused, job_id)["progress"]["processed"] < 20:
            assert time.monotonic() < deadline
        answer = paused.client.delete(f"/batch/{job_id}").raise_for_status().json()
        after = batch(paused, job_id)
        assert 20 <= answer["processed_before_cancel"] == after["progress"]["processed"] < 300
        states = {path: defaults(path) for path in media.rglob("*.m*")}
        assert set(map(tuple, states.values())) == {(True, False), (False, True)}
        assert all(states[Path(result["file"])] == [False, True] for result in after["results"])
        changed = sum(state == [False, True] for state in states.values())
        assert changed - len(after["results"]) <= 64, "at most what was in hand when it was stopped"

    def test_the_more_urgent_job_goes_first(self, paused, ground):
        media = ground
        for name in ("low", "high"):
            make_library(media / name, 1)
        low = post(paused, media / "low", priority="low")["job_id"]
        high = post(paused, media / "high", priority="high")["job_id"]
        pause(paused, False)
        ends = [finished(paused, job)["started_at"] for job in (high, low)]
        assert ends[0] <= ends[1]

    def test_jobs_survive_a_kill_of_the_server(self, new_server, tmp_path):
        media = make_library(tmp_path / "media", 30)
        paused = new_server(settings=QUEUED, media_roots=[media]).start()
        pause(paused, True)
        job_id = post(paused, media)["job_id"]
        paused.restart(kill=True)
        assert batch(paused, job_id)["status"] == "queued"
        pause(paused, False)
        time.sleep(0.05)
        paused.restart(kill=True)
        done = finished(paused, job_id)
        assert done["status"] == "completed"
        assert done["progress"]["success"] + done["progress"]["skipped"] == 30
        assert all(defaults(path) == [False, True] for path in media.rglob("*.m*"))

    def test_a_finished_job_goes_after_its_retention(self, new_server, tmp_path):
        (tmp_path / "media").mkdir()
        server = new_server(
            settings={
                "tracks": SETTINGS,
                "jobs": {
                    "max_queue_size": 5, "max_concurrent": 1, "retention_days": 0.00001,
                    "cleanup_interval_hours": 0.0001, "storage_path": str(tmp_path / "jobs.db"),
                },
            },
            media_roots=[tmp_path / "media"],
        ).start()  # fmt: skip
        job_id = post(server, tmp_path / "media")["job_id"]
        deadline = time.monotonic() + 30
        while server.client.get(f"/batch/{job_id}").status_code != 404:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (tmp_path / "jobs.db").exists()


def sonarr(path, **more):
    return {
        "eventType": "Download",
        "instanceName": "Sonarr",
        "series": {
            "id": 1, "title": "A Show", "path": "/data/tv/A Show", "tvdbId": 81189, "tmdbId": 1396,
            "originalLanguage": {"id": 2, "name": "French"},
        },
        "episodes": [{"id": 1, "episodeNumber": 1, "seasonNumber": 1, "title": "One"}],
        "episodeFile": {"id": 1, "relativePath": "Season 01/a.mkv", "path": path, "size": 1},
        "isUpgrade": False,
        **more,
    }  # fmt: skip


TRILINGUAL = [Audio("eng", default=True), Audio("jpn", default=False), Audio("fre", default=False)]


@pytest.fixture(scope="module")
def hooked(new_module_server, tmp_path_factory):
    media = tmp_path_factory.mktemp("media")
    (media / "dubbed").mkdir()
    return new_module_server(
        settings={
            "tracks": {
                **SETTINGS,
                "webhook_secret": "s3cret",
                "path_mappings": [
                    {"remote": "/data/tv", "local": str(media)},
                    {"remote": "D:\\Movies", "local": str(media / "films")},
                ],
                "overrides": [
                    {"path": str(media / "dubbed"), "language_priority": ["de"], "prefer_original": False}
                ],
            }
        },
        media_roots=[media],
    ).start()


def send(server, sender, payload, status=202, secret="s3cret", **headers):
    body = json.dumps(payload).encode()
    if secret:
        headers["X-Webhook-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    answer = server.client.post(f"/webhook/{sender}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


class TestWebhooks:
    def test_an_import_of_sonarr_sets_the_original_language(self, hooked):
        path = hooked.media_roots[0] / "A Show" / "a.mkv"
        path.parent.mkdir()
        path.write_bytes(matroska(TRILINGUAL))
        answer = send(hooked, "sonarr", sonarr("/data/tv/A Show/a.mkv"))
        assert (answer["status"], answer["files"]) == ("accepted", [str(path)])
        done = finished(hooked, answer["job_id"])
        assert done["priority"] == "webhook"
        assert "original language (webhook) is fr" in done["results"][0]["message"]
        assert defaults(path) == [False, False, True]

    def test_several_files_in_one_event(self, hooked):
        media = hooked.media_roots[0]
        names = [f"multi{number}.mkv" for number in range(3)]
        for name in names:
            (media / name).write_bytes(matroska(TRILINGUAL))
        files = [{"id": n, "path": f"/data/tv/{name}"} for n, name in enumerate(names)]
        payload = sonarr("", episodeFile=None, episodeFiles=files, fileCount=3)
        done = finished(hooked, send(hooked, "sonarr", payload)["job_id"])
        assert done["progress"]["success"] == 3

    def test_an_upgrade_of_radarr_on_windows(self, hooked):
        films = hooked.media_roots[0] / "films" / "A Film (2001)"
        films.mkdir(parents=True)
        (films / "a.mp4").write_bytes(mp4(TRILINGUAL))
        payload = {
            "eventType": "Download", "isUpgrade": True,
            "movie": {
                "id": 1, "title": "A Film", "folderPath": "D:\\Movies\\A Film (2001)", "tmdbId": 5,
                "originalLanguage": {"id": 8, "name": "Japanese"},
            },
            "movieFile": {"id": 1, "relativePath": "a.mp4"},
            "deletedFiles": [{"path": "D:\\Movies\\A Film (2001)\\old.mkv"}],
        }  # fmt: skip
        answer = send(hooked, "radarr", payload)
        assert answer["files"] == [str(films / "a.mp4")]
        finished(hooked, answer["job_id"])
        assert defaults(films / "a.mp4") == [False, True, False]

    def test_an_override_by_path(self, hooked):
        path = hooked.media_roots[0] / "dubbed" / "a.mkv"
        path.write_bytes(matroska([*TRILINGUAL, Audio("ger", default=False)]))
        finished(hooked, send(hooked, "sonarr", sonarr("/data/tv/dubbed/a.mkv"))["job_id"])
        assert defaults(path) == [False, False, False, True]

    @pytest.mark.parametrize("sender", ["sonarr", "radarr"])
    def test_test_events_and_others_create_no_job(self, hooked, sender):
        before = hooked.client.get("/jobs").json()["total"]
        assert send(hooked, sender, {"eventType": "Test"}, 200)["status"] == "ok"
        for event in ("Grab", "Rename", "SeriesDelete", "Health", "ManualInteractionRequired"):
            assert send(hooked, sender, {"eventType": event}, 200)["status"] == "ignored"
        assert hooked.client.get("/jobs").json()["total"] == before

    def test_a_wrong_or_missing_signature(self, hooked):
        for secret in (None, "wrong"):
            assert (
                "X-Webhook-Signature" in send(hooked, "sonarr", sonarr("/data/tv/a"), 401, secret)["detail"]
            )

    def test_the_signature_may_name_its_algorithm(self, hooked):
        body = b'{"eventType": "Test"}'
        digits = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        headers = {"X-Webhook-Signature": f"sha256={digits}"}
        assert hooked.client.post("/webhook/sonarr", content=body, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        ("payload", "named"),
        [
            ({}, "eventType"),
            ([], "object"),
            ({"eventType": "Download", "series": {}}, "episodeFile.path"),
            (sonarr("/elsewhere/a.mkv"), "no path mapping fits"),
            (sonarr("/data/tv/../../etc/passwd"), "media root"),
        ],
        ids=["empty", "list", "no file", "unmapped", "traversal"],
    )
    def test_what_is_wrong_is_named(self, hooked, payload, named):
        assert named in send(hooked, "sonarr", payload, 400)["detail"]

    def test_the_connection_can_be_tried_out(self, hooked):
        answer = send(hooked, "test", {"path": "/data/tv/x/y.mkv"}, 200)
        assert (answer["status"], answer["signature"]) == ("ok", "verified")
        assert answer["mapping"]["mapped"] == str(hooked.media_roots[0] / "x" / "y.mkv")

    def test_path_mappings_can_be_tried_out(self, hooked):
        media = hooked.media_roots[0]

        def mapped(path):
            return hooked.client.get("/webhook/map", params={"path": path}).raise_for_status().json()

        found = mapped("d:/movies/x.mkv")
        assert (found["mapped"], found["mapping"]) == (str(media / "films" / "x.mkv"), "D:\\Movies")
        assert (found["allowed"], found["exists"]) == (True, False)
        outside = mapped("/etc/passwd")
        assert (outside["allowed"], outside["exists"], outside["mapping"]) == (False, None, None)

    def test_a_webhook_overtakes_a_running_scan(self, hooked):
        media = hooked.media_roots[0]
        big = media / "big"
        big.mkdir()
        for number in range(600):
            (big / f"{number:04}.mkv").write_bytes(MKV)
        (big / "zz.mkv").write_bytes(matroska(TRILINGUAL))
        scan = post(hooked, big)["job_id"]
        hooked.wait(scan, "running", "succeeded")
        urgent = send(hooked, "sonarr", sonarr("/data/tv/big/zz.mkv"))["job_id"]
        done = finished(hooked, urgent)
        assert done["results"][0]["status"] == "success", "no conflict with the scan of the folder"
        ended = finished(hooked, scan)
        assert done["completed_at"] < ended["completed_at"]
        assert ended["progress"]["success"] == 600
        assert ended["progress"]["skipped"] == 1, "the scan knows the original language that the webhook told"
        shutil.rmtree(big)


class FakeTmdb(BaseHTTPRequestHandler):
    """Stands for api.themoviedb.org, which cannot be reached from a test."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        answers = {
            "/3/movie/603": {"original_language": "fr"},
            "/3/find/81189": {"tv_results": [{"original_language": "ja"}], "movie_results": []},
            "/3/search/movie": {
                "results": [
                    {"title": "Another Film", "release_date": "2001-01-01", "original_language": "de"},
                    {"title": "A  Film!", "release_date": "2001-05-05", "original_language": "fr"},
                ]
            },
        }
        answer = answers.get(self.path.partition("?")[0])
        if "api_key=k3y" not in self.path or answer is None:
            self.send_error(404)
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_tmdb_tells_the_original_language_once(new_server, tmp_path):
    media = tmp_path / "media"
    cases = {"The Matrix {tmdb-603}/a.mkv": 2, "Show [tvdbid-81189]/Season 01/S01E01.mkv": 1,
             "A Film (2001)/A Film (2001).mkv": 2, "Unknown (1999)/a.mkv": 3}  # fmt: skip
    for name in cases:
        (media / name).parent.mkdir(parents=True)
        (media / name).write_bytes(matroska([*TRILINGUAL, Audio("kor", default=False)]))
    FakeTmdb.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeTmdb) as tmdb:
        Thread(target=tmdb.serve_forever, daemon=True).start()
        server = new_server(
            settings={
                "tracks": {
                    "language_priority": ["ko"], "settle_seconds": 0,
                    "tmdb": {"api_key": "k3y", "url": f"http://127.0.0.1:{tmdb.server_port}/3"},
                },
                "fetch": {"allow_private": True, "ports": []},
            },
            media_roots=[media],
        ).start()  # fmt: skip
        done = finished(server, post(server, media)["job_id"])
        assert done["progress"]["success"] == 4, done
        asked = len(FakeTmdb.asked)
        assert asked == 4
        again = finished(server, post(server, media)["job_id"])
        assert again["progress"]["skipped"] == 4
        assert len(FakeTmdb.asked) == asked, "answers are remembered, that there is none as well"
        tmdb.shutdown()
    for name, index in cases.items():
        assert defaults(media / name) == [position == index for position in range(4)], name
    assert "original language (TMDB) is fr" in " ".join(result["message"] for result in done["results"])
