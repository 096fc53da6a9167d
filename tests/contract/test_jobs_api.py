"""The canonical jobs API: submitting, listing, reading and steering jobs of any kind."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.live import LiveServer, probe_path

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# -- submitting -------------------------------------------------------------------------------


def test_a_job_is_accepted_and_says_where_it_is(probe: LiveServer) -> None:
    body = {"kind": "probe", "label": "first try", "items": [{"name": "a", "input": {}}], "priority": "high"}
    reply = probe.client.post("/jobs", json=body)
    assert reply.status_code == 202
    row = reply.json()
    assert reply.headers["location"] == f"/jobs/{row['job_id']}" == row["links"]["self"]
    assert row["kind"] == "probe"
    assert row["label"] == "first try"
    assert row["priority"] == 2
    assert row["counts"]["total"] == 1
    assert row["stages"] == ["first", "second"]
    assert TIME.fullmatch(row["created_at"])


def test_results_are_shown_without_what_stages_keep_to_themselves(probe: LiveServer, jobs: Jobs) -> None:
    row = jobs.run({})
    item = probe.client.get(f"/jobs/{row['job_id']}/items/0").json()
    assert item["state"] == "succeeded"
    assert item["results"] == {"first": {"greeting": "hello"}, "second": {"seen": 0}}
    assert [(run["stage"], run["outcome"]) for run in item["runs"]] == [
        ("first", "succeeded"),
        ("second", "succeeded"),
    ]


def test_paths_below_a_media_root_become_inputs(probe: LiveServer, jobs: Jobs) -> None:
    file = probe.media_roots[0] / "voice.bin"
    file.write_bytes(b"the voice")
    row = jobs.run({"file": {"kind": "path", "path": str(file)}})
    item = probe.client.get(f"/jobs/{row['job_id']}/items/0").json()
    assert item["results"]["first"]["bytes"] == 9


def test_a_form_with_files_becomes_a_job_of_its_files(probe: LiveServer) -> None:
    files = [("file", ("a.txt", b"aaa")), ("file", ("../../b.txt", b"bb"))]
    reply = probe.client.post("/jobs", data={"job": json.dumps({"kind": "probe"})}, files=files)
    assert reply.status_code == 202, reply.text
    row = probe.wait(reply.json()["job_id"])
    assert row["state"] == "succeeded"
    items = probe.client.get(f"/jobs/{row['job_id']}/items").json()["items"]
    assert [(item["name"], item["results"]["first"]["bytes"]) for item in items] == [
        ("a.txt", 3),
        ("b.txt", 2),
    ]


def test_items_of_a_form_refer_to_files_by_number(probe: LiveServer) -> None:
    job = {"kind": "probe", "items": [{"name": "x", "input": {"file": {"kind": "upload", "index": 1}}}]}
    files = [("file", ("a.txt", b"aaa")), ("file", ("b.txt", b"bb"))]
    reply = probe.client.post("/jobs", data={"job": json.dumps(job)}, files=files)
    row = probe.wait(reply.json()["job_id"])
    item = probe.client.get(f"/jobs/{row['job_id']}/items/0").json()
    assert item["results"]["first"]["name"] == "b.txt"


def test_a_workload_with_a_plan_finds_its_items_itself(probe: LiveServer) -> None:
    reply = probe.client.post("/jobs", json={"kind": "probe", "options": {"found": 5}})
    row = probe.wait(reply.json()["job_id"])
    assert (row["state"], row["counts"]["succeeded"]) == ("succeeded", 5)


def test_a_hundred_thousand_items_fit_one_request(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    items = [{"name": f"item {n}", "input": {}} for n in range(100_000)]
    body = json.dumps({"kind": "probe", "items": items, "held": True})
    reply = server.client.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 202, reply.text
    job = reply.json()["job_id"]
    assert reply.json()["counts"]["total"] == 100_000
    page = server.client.get(f"/jobs/{job}/items", params={"after": 99_995}).json()
    assert [item["name"] for item in page["items"]] == [f"item {n}" for n in range(99_996, 100_000)]
    assert page["next_after"] is None
    assert server.client.delete(f"/jobs/{job}").json()["counts"]["cancelled"] == 100_000


ITEM = {"input": {}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "kind: must be the name of a workload"),
        ({"kind": "nonsense", "items": [ITEM]}, "unknown kind 'nonsense'"),
        ({"kind": "probe", "items": {}}, "items: must be a list"),
        ({"kind": "probe", "items": [3]}, "items.0: must be an object"),
        ({"kind": "probe", "items": [ITEM, {"inputs": {}}]}, "items.1.inputs: not a known field"),
        ({"kind": "probe", "items": [{"input": []}]}, "items.0.input: must be an object"),
        ({"kind": "probe", "items": [{"size": 0}]}, "items.0.size: must be a positive number"),
        ({"kind": "probe", "items": [{"size": True}]}, "items.0.size: must be a positive number"),
        ({"kind": "probe", "items": [{"name": 7}]}, "items.0.name: must be a string"),
        ({"kind": "probe", "items": [ITEM], "priority": "urgent"}, "priority: must be one of low (0)"),
        ({"kind": "probe", "items": [ITEM], "priority": 9}, "priority: must be one of low (0)"),
        ({"kind": "probe", "items": [ITEM], "parallelism": 0}, "parallelism: must be a whole number"),
        ({"kind": "probe", "items": [ITEM], "held": "yes"}, "held: must be true or false"),
        ({"kind": "probe", "items": [ITEM], "options": []}, "options: must be an object"),
        ({"kind": "probe", "items": [ITEM], "colour": "red"}, "colour: not a known field"),
        (
            {"kind": "probe", "items": [{"input": {"kind": "path", "path": "/etc/passwd"}}]},
            "items.0.input.path: the path '/etc/passwd' is not below a declared media root",
        ),
        (
            {"kind": "probe", "items": [{"input": {"deep": [{"kind": "path", "path": "a/b"}]}}]},
            "items.0.input.deep.0.path: the path 'a/b' must be absolute",
        ),
        (
            {"kind": "probe", "items": [{"input": {"kind": "url", "url": "file:///etc/passwd"}}]},
            "items.0.input.url: ",
        ),
        (
            {"kind": "probe", "items": [{"input": {"kind": "upload", "key": "uploads/x/0"}}]},
            "items.0.input.index: must be the number of one of the 0 files sent",
        ),
        (
            {"kind": "probe", "items": [ITEM], "options": {"kind": "upload", "key": "jobs/x/0/a"}},
            "options.index: must be",
        ),
    ],
)
def test_what_is_wrong_with_a_submission_is_named(probe: LiveServer, body: dict[str, Any], said: str) -> None:
    before = probe.client.get("/jobs").json()["total"]
    reply = probe.client.post("/jobs", json=body)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == 400
    assert problem["code"] == "bad_request"
    assert problem["detail"].startswith(said)
    assert probe.client.get("/jobs").json()["total"] == before


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'{"kind": \xff}', b'{"kind": NaN}'])
def test_malformed_json_is_refused(probe: LiveServer, raw: bytes) -> None:
    reply = probe.client.post("/jobs", content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("body: ")


def test_a_body_beyond_the_limit_is_refused(probe: LiveServer) -> None:
    body = b'{"kind": "' + b"x" * 3_000_000 + b'"}'
    headers = {"content-type": "application/json"}
    told = probe.client.post("/jobs", content=body, headers=headers)
    assert told.status_code == 413
    assert told.json()["code"] == "too_large"
    chunks = (body[n : n + 100_000] for n in range(0, len(body), 100_000))
    assert probe.client.post("/jobs", content=chunks, headers=headers).status_code == 413


def test_the_same_key_and_body_answer_with_the_same_job(probe: LiveServer) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"kind": "probe", "items": [{"input": {}}]}
    first = probe.client.post("/jobs", json=body, headers=key)
    again = probe.client.post("/jobs", json=body, headers=key)
    assert first.json()["job_id"] == again.json()["job_id"]
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = probe.client.post("/jobs", json={**body, "label": "another"}, headers=key)
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_conflict"


def test_the_key_of_a_form_looks_at_its_content_not_its_boundary(probe: LiveServer) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    data = {"job": '{"kind": "probe"}'}
    replies = [
        probe.client.post("/jobs", data=data, files={"file": ("a.txt", content)}, headers=key)
        for content in (b"same", b"same", b"else")
    ]
    assert [reply.status_code for reply in replies] == [202, 202, 409]
    assert replies[0].json()["job_id"] == replies[1].json()["job_id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
def test_a_key_that_is_none_is_refused(probe: LiveServer, key: str) -> None:
    body = {"kind": "probe", "items": [{"input": {}}]}
    reply = probe.client.post("/jobs", json=body, headers={"Idempotency-Key": key})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("Idempotency-Key: ")


def test_a_full_queue_says_when_to_come_back(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(settings={"probe": {"max_queued_jobs": 1}}, path=probe_path(tmp_path)).start()
    body = {"kind": "probe", "items": [{"input": {}}], "held": True}
    assert server.client.post("/jobs", json=body).status_code == 202
    full = server.client.post("/jobs", json=body)
    assert full.status_code == 503
    assert full.json()["code"] == "queue_full"
    assert int(full.headers["retry-after"]) > 0


# -- listing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(probe: LiveServer, jobs: Jobs) -> dict[str, str]:
    """Jobs in four states, all with one label, by their status word."""
    label = {"label": "listed"}
    made = {
        "completed": jobs.submit({}, **label),
        "failed": jobs.submit({"fail": "no good"}, **label),
        "uploaded": jobs.submit({}, held=True, **label),
        "cancelled": jobs.submit({}, held=True, **label),
    }
    probe.client.delete(f"/jobs/{made['cancelled']}").raise_for_status()
    probe.wait(made["completed"])
    probe.wait(made["failed"])
    return made


def found(probe: LiveServer, **params: Any) -> dict[str, Any]:
    answer: dict[str, Any] = probe.client.get("/jobs", params=params).raise_for_status().json()
    return answer


def test_a_row_carries_the_fields_of_both_contracts(probe: LiveServer, listed: dict[str, str]) -> None:
    answer = found(probe, q="listed")
    assert {"jobs", "total", "limit", "offset"} <= answer.keys()
    assert (answer["total"], answer["limit"], answer["offset"]) == (4, 50, 0)
    row = next(row for row in answer["jobs"] if row["job_id"] == listed["completed"])
    assert {
        *("job_id", "kind", "status", "path", "progress", "total_files", "completed", "failed"),
        *("created_at", "started_at", "updated_at"),
    } <= row.keys()
    assert row["status"] == "completed"
    assert row["progress"] == {"percent": 100.0}
    assert (row["total_files"], row["completed"], row["failed"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["completed"], {"completed"}),
        (["succeeded"], {"completed"}),
        (["failed"], {"failed"}),
        (["canceled"], {"cancelled"}),
        (["CANCELLED"], {"cancelled"}),
        (["uploaded"], {"uploaded"}),
        (["asleep"], set()),
        (["awake", "processing", "running"], set()),
        (["completed", "failed"], {"completed", "failed"}),
        (["completed,failed,uploaded"], {"completed", "failed", "uploaded"}),
    ],
)
def test_status_accepts_the_words_of_any_contract(
    probe: LiveServer, listed: dict[str, str], words: list[str], expected: set[str]
) -> None:
    answer = found(probe, q="listed", status=words)
    assert {row["job_id"] for row in answer["jobs"]} == {listed[word] for word in expected}
    assert answer["total"] == len(expected)
    assert {row["status"] for row in answer["jobs"]} == expected


def test_jobs_are_listed_newest_first_and_in_pages(probe: LiveServer, listed: dict[str, str]) -> None:
    whole = [row["job_id"] for row in found(probe, q="listed")["jobs"]]
    assert whole == list(reversed(listed.values()))
    by_offset = [found(probe, q="listed", limit=1, offset=n)["jobs"][0]["job_id"] for n in range(4)]
    assert by_offset == whole
    by_cursor, cursor = [], None
    for _ in range(4):
        page = found(probe, q="listed", limit=1, **({"cursor": cursor} if cursor else {}))
        assert page["total"] == 4
        by_cursor.append(page["jobs"][0]["job_id"])
        cursor = page["next_cursor"]
    assert by_cursor == whole
    assert cursor is None
    by_update = [row["updated_at"] for row in found(probe, q="listed", order_by="updated_at")["jobs"]]
    assert by_update == sorted(by_update, reverse=True)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"status": "sleepy"}, "status: 'sleepy' is no status; there are: asleep, awake, canceled"),
        ({"kind": "nonsense"}, "unknown kind 'nonsense'"),
        ({"limit": 0}, "limit: "),
        ({"limit": "many"}, "limit: "),
        ({"limit": 1001}, "limit: "),
        ({"offset": -1}, "offset: "),
        ({"order_by": "colour"}, "order_by: "),
        ({"cursor": "rubbish"}, "cursor"),
        ({"cursor": "eyJ9", "offset": 1}, "cursor: cannot be combined with offset"),
    ],
)
def test_a_bad_filter_is_named(probe: LiveServer, params: dict[str, Any], said: str) -> None:
    reply = probe.client.get("/jobs", params=params)
    assert reply.status_code == 400
    assert said in reply.json()["detail"]


def test_statistics_count_jobs_and_items(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    empty = server.client.get("/jobs/stats").json()
    assert empty["total_jobs"] == 0
    assert empty["success_rate"] is None
    own = Jobs(server)
    own.run({}, {}, {})
    own.run({"fail": "no"})
    own.submit({}, held=True)
    stats = server.client.get("/jobs/stats").json()
    assert {
        key: stats[key] for key in ("total_jobs", "running", "queued", "completed", "failed", "cancelled")
    } == {
        "total_jobs": 3,
        "running": 0,
        "queued": 1,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
    }
    assert stats["total_files_processed"] == 4
    assert stats["success_rate"] == 0.75
    assert stats["average_duration_seconds"] >= 0
    assert stats["by_kind"]["probe"]["items"]["succeeded"] == 3
    assert server.client.get("/jobs/stats", params={"kind": "probe"}).json() == stats


# -- reading ----------------------------------------------------------------------------------


def test_items_are_paged_and_filtered(probe: LiveServer, jobs: Jobs) -> None:
    row = jobs.run({}, {"fail": "no good"}, {}, {"skip": "nothing to do"})
    job = row["job_id"]
    assert row["counts"] == {
        "total": 4,
        "queued": 0,
        "running": 0,
        "succeeded": 2,
        "skipped": 1,
        "failed": 1,
        "cancelled": 0,
    }
    first = probe.client.get(f"/jobs/{job}/items", params={"limit": 3}).json()
    assert [item["idx"] for item in first["items"]] == [0, 1, 2]
    rest = probe.client.get(f"/jobs/{job}/items", params={"after": first["next_after"]}).json()
    assert [item["idx"] for item in rest["items"]] == [3]
    assert rest["next_after"] is None
    failed = probe.client.get(f"/jobs/{job}/items", params={"state": "failed"}).json()["items"]
    assert [item["idx"] for item in failed] == [1]
    assert failed[0]["error"]["code"] == "bad_probe"
    assert failed[0]["error"]["message"] == "no good"


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/none",
        "/jobs/none/items",
        "/jobs/none/items/0",
        "/jobs/none/artifacts",
        "/jobs/none/items/0/artifacts/a",
        "/jobs/none/events",
    ],
)
def test_what_is_not_there_is_404(probe: LiveServer, path: str) -> None:
    reply = probe.client.get(path)
    assert reply.status_code == 404
    problem = reply.json()
    assert problem["code"] == "not_found"
    assert problem["title"] == "Not Found"
    assert "none" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/jobs/none"),
        ("POST", "/jobs/none/retry"),
        ("PATCH", "/jobs/none"),
        ("POST", "/workloads/x/pause"),
    ],
)
def test_what_is_not_there_cannot_be_steered(probe: LiveServer, method: str, path: str) -> None:
    body = {"priority": 1} if method == "PATCH" else None
    assert probe.client.request(method, path, json=body).status_code == 404


@pytest.mark.parametrize("idx", ["-1", "one", "99999999999"])
def test_an_index_that_is_none_is_refused(probe: LiveServer, jobs: Jobs, idx: str) -> None:
    job = jobs.submit({})
    reply = probe.client.get(f"/jobs/{job}/items/{idx}")
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("idx: ")


# -- steering ---------------------------------------------------------------------------------


def test_cancelling_stops_what_runs_and_keeps_what_is_done(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.submit({}, {"sleep": 30}, {"sleep": 30}, parallelism=1)
    while probe.client.get(f"/jobs/{job}").json()["counts"]["succeeded"] == 0:
        pass
    reply = probe.client.delete(f"/jobs/{job}")
    assert reply.status_code == 200
    row = reply.json()
    assert (row["status"], row["state"]) == ("cancelled", "cancelled")
    assert row["processed_before_cancel"] == 1
    assert row["counts"] | {"total": 3} == row["counts"]
    assert (row["counts"]["succeeded"], row["counts"]["cancelled"]) == (1, 2)
    again = probe.client.delete(f"/jobs/{job}")
    assert again.status_code == 200
    assert again.json()["state"] == "cancelled"
    assert again.json()["finished_at"] == row["finished_at"]


def test_purging_deletes_the_job_and_its_files(probe: LiveServer) -> None:
    files = {"file": ("a.txt", b"aaa")}
    reply = probe.client.post("/jobs", data={"job": '{"kind": "probe"}'}, files=files)
    job = probe.wait(reply.json()["job_id"])["job_id"]
    assert probe.client.delete(f"/jobs/{job}", params={"purge": "true"}).status_code == 200
    assert probe.client.get(f"/jobs/{job}").status_code == 404
    kept = [path for path in (probe.data_dir / "blobs").rglob("*") if job in str(path)]
    assert kept == []


def test_retrying_runs_the_failed_items_only(probe: LiveServer, jobs: Jobs, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    job = jobs.run({}, {"fail_unless": str(mended)}, {"fail": "never"})["job_id"]
    mended.touch()
    reply = probe.client.post(f"/jobs/{job}/retry", json={"items": [1]})
    assert reply.status_code == 202
    row = probe.wait(job)
    assert (row["counts"]["succeeded"], row["counts"]["failed"]) == (2, 1)
    assert probe.client.post(f"/jobs/{job}/retry").status_code == 202
    assert probe.wait(job)["counts"]["failed"] == 1
    outcomes = [run["outcome"] for run in probe.client.get(f"/jobs/{job}/items/0").json()["runs"]]
    assert outcomes == ["succeeded", "succeeded"]
    assert probe.client.post(f"/jobs/{job}/retry", json={"items": [7]}).status_code == 404
    assert probe.client.post(f"/jobs/{job}/retry", json={"items": []}).status_code == 400


def test_there_must_be_something_to_retry(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.run({})["job_id"]
    reply = probe.client.post(f"/jobs/{job}/retry")
    assert reply.status_code == 409
    assert reply.json()["code"] == "conflict"


def test_priority_and_parallelism_can_be_changed_until_the_end(probe: LiveServer, jobs: Jobs) -> None:
    job = jobs.submit({}, held=True)
    row = probe.client.patch(f"/jobs/{job}", json={"priority": "webhook", "parallelism": 3}).json()
    assert (row["priority"], row["parallelism"]) == (3, 3)
    for body, said in (
        ({}, "give priority, parallelism or both"),
        ({"priority": "urgent"}, "priority: must be one of"),
        ({"parallelism": 0}, "parallelism: "),
        ({"colour": "red"}, "colour: "),
    ):
        reply = probe.client.patch(f"/jobs/{job}", json=body)
        assert reply.status_code == 400
        assert said in reply.json()["detail"]
    probe.client.delete(f"/jobs/{job}")
    assert probe.client.patch(f"/jobs/{job}", json={"priority": "low"}).status_code == 409


def test_a_paused_workload_starts_nothing_and_a_draining_one_takes_nothing(
    new_server: NewServer, tmp_path: Path
) -> None:
    server = new_server(path=probe_path(tmp_path)).start()
    own = Jobs(server)
    paused = server.client.post("/workloads/probe/pause").json()
    assert (paused["kind"], paused["mode"]) == ("probe", "paused")
    job = own.submit({})
    server.restart()
    modes = {each["kind"]: each["mode"] for each in server.client.get("/workloads").json()["workloads"]}
    assert modes["probe"] == "paused"
    assert set(modes.values()) <= {"paused", "active"}
    assert server.client.get(f"/jobs/{job}").json()["state"] == "queued"
    assert server.client.post("/workloads/probe/drain").json()["mode"] == "draining"
    assert server.wait(job)["state"] == "succeeded"
    refused = server.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}]})
    assert refused.status_code == 503
    assert "draining" in refused.json()["detail"]
    assert server.client.post("/workloads/probe/resume").json()["mode"] == "active"
    assert own.run({})["state"] == "succeeded"


def test_workloads_say_what_stages_they_have(probe: LiveServer) -> None:
    workloads = probe.client.get("/workloads").json()["workloads"]
    mine = next(workload for workload in workloads if workload["kind"] == "probe")
    assert [stage["name"] for stage in mine["stages"]] == ["first", "second"]
    assert mine["stages"][0]["paused"] is None
    assert probe.client.post("/workloads/probe/explode").status_code == 400
