"""The sync contract, through a real server."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import NewServer
from tests.live import LiveServer
from tests.unit.media.media_files import write_media
from tests.unit.sync.sounds import RATE, bed, later, write

CONTRACT = Path(__file__).parents[3] / "shared" / "contracts" / "sync.md"
BATCH = "/api/v1/analysis/batch"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sync-media")
    sound = bed(30, 1)
    write(folder / "master.wav", sound)
    write(folder / "late.wav", later(sound, 5.023))
    write(folder / "cut.wav", np.concatenate([sound[: 12 * RATE], sound[18 * RATE :]]))
    write(folder / "other.wav", bed(30, 2))
    write(folder / "silent.wav", np.zeros(5 * RATE, np.float32))
    write(folder / "short.wav", sound[: RATE // 2])
    (folder / "broken.mov").write_bytes(b"not a film at all" * 100)
    write_media(folder / "mute.mkv", None, video=2.0)
    write_media(folder / "film.mkv", later(np.repeat(sound, 3), 2.0, 48000), video=8.0)
    return folder


@pytest.fixture(scope="module")
def server(new_module_server: NewServer, media: Path) -> LiveServer:
    return new_module_server(media_roots=[media], settings={"webhooks": {"allow_private": True}}).start()


def upload(server: LiveServer, text: str | bytes, **fields: str):
    return server.client.post(f"{BATCH}/upload-csv", files={"file": ("batch.csv", text)}, data=fields)


def run(server: LiveServer, text: str, **order) -> dict:
    batch = upload(server, text).raise_for_status().json()["batch_id"]
    server.client.post(f"{BATCH}/{batch}/start", json=order).raise_for_status()
    return ended(server, batch)


def ended(server: LiveServer, batch: str) -> dict:
    deadline = time.monotonic() + 90
    while True:
        status = server.client.get(f"{BATCH}/{batch}/status").raise_for_status().json()
        if status["status"] in ("completed", "failed", "cancelled"):
            return server.client.get(f"{BATCH}/{batch}/results").raise_for_status().json()
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_upload_describes_what_will_be_done_and_starts_nothing(server: LiveServer, media: Path) -> None:
    text = (
        "master_file,dub_file,methods,ai_model,description,tags\n"
        f'{media}/master.wav,{media}/late.wav,"mfcc,ai",spectral,Daily item,"daily,batch"\n'
        f"{media}/master.wav,{media}/cut.wav,onset,,,\n"
    )
    body = upload(server, text, description="Daily", priority="high").json()
    assert body["success"] is True
    assert re.fullmatch(r"batch_\d{8}_\d{6}_[0-9a-f]{8}", body["batch_id"])
    assert body["items_count"] == 2
    assert body["message"] == "Batch uploaded successfully with 2 items"
    assert STAMP.fullmatch(body["timestamp"])
    assert body["items"][0] == {
        "item_id": "item_001",
        "master_file": f"{media}/master.wav",
        "dub_file": f"{media}/late.wav",
        "methods": ["mfcc", "ai"],
        "ai_model": "spectral",
        "description": "Daily item",
        "tags": ["daily", "batch"],
        "status": "pending",
    }
    status = server.client.get(f"{BATCH}/{body['batch_id']}/status?include_details=true").json()
    assert status["status"] == "uploaded"
    assert (status["progress"], status["items_processing"]) == (0.0, 0)
    assert [item["status"] for item in status["items_details"]] == ["pending", "pending"]
    row = server.client.get(f"/jobs/{body['batch_id']}").json()
    assert (row["kind"], row["status"]) == ("sync", "uploaded")
    early = server.client.get(f"{BATCH}/{body['batch_id']}/results").json()
    assert (early["status"], early["summary"]["items_completed"]) == ("uploaded", 0)


def test_a_batch_runs_to_results_in_json_csv_and_html(server: LiveServer, media: Path) -> None:
    text = (
        "\ufeffdub_file;master_file;methods;description\n"
        f"{media}/late.wav;{media}/master.wav;mfcc;=late\n"
        f"{media}/cut.wav;{media}/master.wav;auto;\n"
        f"{media}/other.wav;{media}/master.wav;;\n"
        f"{media}/nowhere.wav;{media}/master.wav;;\n"
    )
    batch = upload(server, text).raise_for_status().json()["batch_id"]
    begun = server.client.post(
        f"{BATCH}/{batch}/start", json={"parallel_jobs": 2, "priority": "normal"}
    ).json()
    assert begun["status"] == "processing"
    assert begun["items_processing"] == 2
    assert begun["message"] == "Batch processing started with 2 parallel jobs"
    found = ended(server, batch)
    assert found["status"] == "completed"
    summary = found["summary"]
    assert (summary["items_total"], summary["items_completed"], summary["items_failed"]) == (4, 3, 1)
    late, cut, other, gone = found["results"]
    assert late["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)
    assert late["result"]["method_used"] == "MFCC"
    assert late["result"]["confidence"] > 0.9
    assert re.fullmatch(r"\d{8}_\d{6}", late["result"]["analysis_id"])
    assert cut["result"]["status"] == "cuts"
    assert [s["offset_seconds"] for s in cut["result"]["segments"]] == pytest.approx([0, 6], abs=1e-3)
    assert other["status"] == "completed"
    assert (other["result"]["status"], other["result"]["offset_seconds"]) == ("no_match", None)
    assert gone["status"] == "failed"
    assert "nowhere.wav" in gone["error"]
    assert server.client.get(f"{BATCH}/{batch}/status").json()["progress"] == 100.0

    links = found["download_links"]
    assert server.client.get(links["json_report"]).json()["results"] == found["results"]
    exported = server.client.get(f"{BATCH}/{batch}/results?export_format=csv")
    assert exported.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert [row["status"] for row in rows] == ["completed", "completed", "completed", "failed"]
    assert float(rows[0]["offset_seconds"]) == pytest.approx(-5.023, abs=1e-4)
    assert rows[0]["description"] == "'=late"
    assert server.client.get(links["csv_export"]).text == exported.text
    by_header = server.client.get(f"{BATCH}/{batch}/results", headers={"Accept": "text/csv"})
    assert by_header.text == exported.text

    plot = server.client.get(late["result"]["files"]["plot.png"])
    assert plot.content.startswith(b"\x89PNG")
    page = server.client.get(links["html_report"]).text
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)='?https?:", page)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("master_file,methods\na,b\n", "line 1: the column dub_file is missing"),
        ("master_file,dub_file\n", "no rows"),
        ("master_file,dub_file\n{m}/master.wav,\n", "line 2, column dub_file: a path or URL is needed"),
        ("master_file,dub_file,methods\n{m}/a,{m}/b,mfc\n", "line 2, column methods: 'mfc' is no method"),
        (
            "master_file,dub_file,methods,ai_model\n{m}/a,{m}/b,ai,gpt\n",
            "line 2, column ai_model: 'gpt' is no AI",
        ),
        ("master_file,dub_file,methods\n{m}/a,{m}/b,mfcc,onset\n", "line 2: 4 values for 3 columns"),
        ("master_file,dub_file\n\n{m}/a,/etc/passwd\n", "line 3, column dub_file: the path '/etc/passwd'"),
        ("master_file,dub_file\n{m}/a,{m}/../x\n", "line 2, column dub_file"),
        ("master_file,dub_file\n{m}/a,ftp://x/y\n", "line 2, column dub_file"),
        ("master_file,dub_file,dub_stream\n{m}/a,{m}/b,first\n", "line 2, column dub_stream"),
        (b"master_file,dub_file\n/a,\xff\n", "line 2"),
        (b"\x00\x01\x02", "not a text file"),
    ],
)
def test_a_bad_csv_is_refused_whole(server: LiveServer, media: Path, text: str | bytes, said: str) -> None:
    before = server.client.get("/jobs?kind=sync").json()["total"]
    text = text.replace("{m}", str(media)) if isinstance(text, str) else text
    reply = upload(server, text)
    assert reply.status_code == 400
    body = reply.json()
    assert body["success"] is False
    assert said in body["error"]
    assert set(body) == {"success", "error", "timestamp"}
    assert server.client.get("/jobs?kind=sync").json()["total"] == before


@pytest.mark.parametrize("model", ["wav2vec2", "yamnet"])
def test_a_model_without_weights_is_refused_and_said_to_be_missing(
    server: LiveServer, media: Path, model: str
) -> None:
    reply = upload(server, f"master_file,dub_file,methods,ai_model\n{media}/a,{media}/b,ai,{model}\n")
    assert reply.status_code == 400
    assert f"{model} is not available" in reply.json()["error"]
    listed = server.client.get("/api/v1/analysis/methods").json()
    assert {each["name"] for each in listed["methods"]} >= {"mfcc", "onset", "spectral", "ai"}
    models = {each["name"]: each for each in listed["ai_models"]}
    assert models["spectral"]["available"] is True
    assert models[model]["available"] is False
    assert models[model]["how_to_get_it"]


def test_other_bad_requests(server: LiveServer, media: Path) -> None:
    text = f"master_file,dub_file\n{media}/master.wav,{media}/late.wav\n"
    assert upload(server, text, priority="urgent").status_code == 400
    assert upload(server, text, notification_webhook="file:///etc/passwd").status_code == 400
    nothing = server.client.post(f"{BATCH}/upload-csv", data={"description": "x"})
    assert nothing.status_code == 400
    batch = upload(server, text).json()["batch_id"]
    for order in ({"parallel_jobs": 0}, {"parallel_jobs": 33}, {"priority": "asap"}):
        reply = server.client.post(f"{BATCH}/{batch}/start", json=order)
        assert reply.status_code == 400
        assert next(iter(order)) in reply.json()["error"]
    server.client.post(f"{BATCH}/{batch}/start").raise_for_status()
    again = server.client.post(f"{BATCH}/{batch}/start", json={})
    assert again.status_code == 400
    assert "already started" in again.json()["error"]
    ended(server, batch)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{BATCH}/batch_12345/status"),
        ("GET", f"{BATCH}/batch_12345/results"),
        ("POST", f"{BATCH}/batch_12345/start"),
        ("DELETE", f"{BATCH}/batch_12345"),
        ("GET", "/api/v1/reports/batch_12345.json"),
    ],
)
def test_an_unknown_batch_is_404_in_the_contracts_body(server: LiveServer, method: str, path: str) -> None:
    reply = server.client.request(method, path)
    assert reply.status_code == 404
    body = reply.json()
    assert (body["success"], body["error"]) == (False, "Batch batch_12345 not found")
    assert STAMP.fullmatch(body["timestamp"])


def test_an_idempotency_key_gives_the_same_batch(server: LiveServer, media: Path) -> None:
    text = f"master_file,dub_file\n{media}/master.wav,{media}/late.wav\n"
    key = {"Idempotency-Key": "once"}

    def post(content: str):
        return server.client.post(f"{BATCH}/upload-csv", files={"file": ("a.csv", content)}, headers=key)

    first, second = post(text).json(), post(text).json()
    assert first["batch_id"] == second["batch_id"]
    assert post(text + text.splitlines()[1] + "\n").status_code == 409


def test_bad_media_fail_their_item_with_the_reason(server: LiveServer, media: Path) -> None:
    dubs = {
        "broken.mov": "not an audio or video file",
        "mute.mkv": "no audio",
        "silent.wav": "silent",
        "short.wav": "0.50 s long",
    }
    rows = "".join(f"{media}/master.wav,{media}/{name}\n" for name in dubs)
    found = run(server, "master_file,dub_file\n" + rows, parallel_jobs=4)
    assert found["status"] == "failed"
    assert found["summary"]["average_confidence"] == 0.0
    for item, said in zip(found["results"], dubs.values(), strict=True):
        assert item["status"] == "failed"
        assert "dub: " in item["error"]
        assert said in item["error"]


def test_cancel_before_and_after_the_end(server: LiveServer, media: Path) -> None:
    text = f"master_file,dub_file\n{media}/master.wav,{media}/master.wav\n"
    batch = upload(server, text).json()["batch_id"]
    gone = server.client.delete(f"{BATCH}/{batch}").json()
    assert (gone["success"], gone["status"], gone["items_cancelled"]) == (True, "cancelled", 1)
    assert server.client.post(f"{BATCH}/{batch}/start", json={}).status_code == 400
    done = run(server, text)
    assert done["results"][0]["result"]["status"] == "in_sync"
    assert done["results"][0]["result"]["offset_seconds"] == 0.0
    after = server.client.delete(f"{BATCH}/{done['batch_id']}").json()
    assert after["status"] == "completed"


def test_one_pair_is_answered_at_once(server: LiveServer, media: Path) -> None:
    order = {"master_file": f"{media}/master.wav", "dub_file": f"{media}/late.wav", "methods": ["mfcc"]}
    body = server.client.post("/api/v1/analysis/sync", json=order).raise_for_status().json()
    assert body["success"] is True
    assert body["status"] == "completed"
    assert body["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)
    files = {"master": (media / "master.wav").read_bytes(), "dub": (media / "late.wav").read_bytes()}
    sent = {side: ("same.wav", content) for side, content in files.items()}
    body = server.client.post("/api/v1/analysis/sync", files=sent).raise_for_status().json()
    assert body["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)


def test_one_pair_that_takes_too_long_is_408_and_stopped(server: LiveServer, media: Path) -> None:
    order = {"master_file": f"{media}/film.mkv", "dub_file": f"{media}/late.wav", "timeout_seconds": 0.001}
    reply = server.client.post("/api/v1/analysis/sync", json=order)
    assert reply.status_code == 408
    assert reply.json()["success"] is False
    assert server.client.get("/jobs?kind=sync&status=processing").json()["total"] == 0


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"dub_file": "silent.wav"}, 400, "silent"),
        ({"dub_file": "nowhere.wav"}, 400, "nowhere.wav"),
        ({"methods": "guess"}, 400, "guess"),
        ({"colour": "red"}, 400, "colour"),
        ({"dub": {"kind": "upload", "key": "uploads/x"}}, 400, "uploaded files"),
        ({"timeout_seconds": -1}, 400, "timeout_seconds"),
    ],
)
def test_one_bad_pair_is_refused(
    server: LiveServer, media: Path, change: dict, status: int, said: str
) -> None:
    order = {"master_file": "master.wav", "dub_file": "late.wav", **change}
    for side in ("master_file", "dub_file"):
        order[side] = f"{media}/{order[side]}"
    reply = server.client.post("/api/v1/analysis/sync", json=order)
    assert reply.status_code == status
    assert said in reply.json()["error"]


def test_a_repair_is_made_verified_and_keeps_the_film(
    server: LiveServer, media: Path, tmp_path: Path
) -> None:
    text = f"master_file,dub_file,repair\n{media}/master.wav,{media}/film.mkv,yes\n"
    (item,) = run(server, text)["results"]
    assert item["result"]["offset_seconds"] == pytest.approx(-2, abs=1e-3)
    mended = item["result"]["repair"]
    assert mended["done"] is True
    assert mended["verified"]["status"] == "in_sync"
    assert mended["verified"]["offset_seconds"] == pytest.approx(0, abs=1e-3)
    film = tmp_path / "film.mkv"
    film.write_bytes(server.client.get(item["result"]["files"][mended["file"]]).content)
    from millrace.media.probe import probe

    assert probe(film).video == 1


def test_health_needs_no_token_and_everything_else_does(new_server: NewServer) -> None:
    guarded = new_server(environ={"REQUIRE_AUTH": "true", "BEARER_TOKEN": "secret"}).start()
    guarded.client.headers.pop("Authorization")
    health = guarded.client.get("/api/v1/health")
    assert health.status_code == 200
    assert health.json()["status"] == "healthy"
    refused = guarded.client.get("/api/v1/analysis/methods")
    assert refused.status_code == 401
    assert refused.json()["success"] is False


def test_webhooks_tell_of_the_end(server: LiveServer, media: Path) -> None:
    told: list[tuple[str, dict]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((self.path, json.loads(raw)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        home = f"http://127.0.0.1:{receiver.server_port}"
        text = f"master_file,dub_file\n{media}/master.wav,{media}/late.wav\n"
        batch = upload(server, text, notification_webhook=f"{home}/complete").json()["batch_id"]
        order = {"parallel_jobs": 1, "notification_webhook": f"{home}/status"}
        server.client.post(f"{BATCH}/{batch}/start", json=order).raise_for_status()
        ended(server, batch)
        deadline = time.monotonic() + 30
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
    assert sorted(path for path, _ in told) == ["/complete", "/status"]
    body = told[0][1]
    assert STAMP.fullmatch(body.pop("timestamp"))
    assert body == {
        "event": "batch.completed",
        "batch_id": batch,
        "status": "completed",
        "items_total": 1,
        "items_completed": 1,
        "items_failed": 0,
    }


def test_a_batch_goes_on_after_the_server_was_killed(new_server: NewServer, media: Path) -> None:
    server = new_server(media_roots=[media]).start()
    row = f"{media}/film.mkv,{media}/late.wav\n"
    batch = upload(server, "master_file,dub_file\n" + 3 * row).json()["batch_id"]
    held = upload(server, "master_file,dub_file\n" + row).json()["batch_id"]
    server.client.post(f"{BATCH}/{batch}/start", json={"parallel_jobs": 1}).raise_for_status()
    server.restart(kill=True)
    found = ended(server, batch)
    assert [item["status"] for item in found["results"]] == ["completed"] * 3
    assert server.client.get(f"{BATCH}/{held}/status").json()["status"] == "uploaded"


@pytest.mark.skipif(not CONTRACT.is_file(), reason="the contract's document is not here")
def test_the_documents_own_script_runs(server: LiveServer, media: Path, tmp_path: Path) -> None:
    pytest.importorskip("requests", reason="the script uses requests")
    (script,) = re.findall(r"```python\n(#!/usr/bin/env python3.*?)```", CONTRACT.read_text(), re.DOTALL)
    script = script.replace("http://localhost:8000", server.url)
    (tmp_path / "batch_processor.py").write_text(script)
    rows = f'{media}/master.wav,{media}/late.wav,"mfcc,ai",spectral,one,"daily,batch"\n'
    rows += f'{media}/master.wav,{media}/cut.wav,"onset,spectral",,two,\n'
    (tmp_path / "batch.csv").write_text("master_file,dub_file,methods,ai_model,description,tags\n" + rows)
    done = subprocess.run(
        [sys.executable, "batch_processor.py", "batch.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Batch processing finished with status: completed" in done.stdout
    assert "Completed: 2" in done.stdout
    (saved,) = tmp_path.glob("batch_results_batch_*.json")
    offsets = [item["result"]["offset_seconds"] for item in json.loads(saved.read_text())["results"]]
    assert offsets == pytest.approx([-5.023, 0.0], abs=1e-3)


def test_a_batch_can_come_as_a_job(server: LiveServer, media: Path, tmp_path: Path) -> None:
    pair = {
        "master": {"kind": "path", "path": f"{media}/master.wav"},
        "dub": {"kind": "path", "path": f"{media}/late.wav"},
    }
    named = {"master_file": f"{media}/master.wav", "dub_file": f"{media}/cut.wav", "methods": "auto"}
    order = {
        "kind": "sync",
        "label": "From a script",
        "options": {"methods": ["mfcc"]},
        "items": [{"input": pair}, {"input": named, "name": "the cut one"}],
    }
    made = server.client.post("/jobs", json=order).raise_for_status().json()
    assert re.fullmatch(r"batch_\d{8}_\d{6}_[0-9a-f]{8}", made["job_id"])
    late, cut = ended(server, made["job_id"])["results"]
    assert late["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)
    assert late["dub_file"] == f"{media}/late.wav"
    assert (late["result"]["method_used"], cut["result"]["status"]) == ("MFCC", "cuts")
    items = server.client.get(f"/jobs/{made['job_id']}/items").json()["items"]
    assert [item["name"] for item in items] == ["late.wav against master.wav", "the cut one"]


def test_a_job_can_bring_its_files(server: LiveServer, media: Path) -> None:
    order = {"master": {"kind": "upload", "index": 0}, "dub": {"kind": "upload", "index": 1}}
    body = {"kind": "sync", "items": [{"input": order}]}
    files = [("files", (name, (media / name).read_bytes())) for name in ("master.wav", "late.wav")]
    made = server.client.post("/jobs", data={"job": json.dumps(body)}, files=files)
    (item,) = ended(server, made.raise_for_status().json()["job_id"])["results"]
    assert (item["master_file"], item["dub_file"]) == ("master.wav", "late.wav")
    assert item["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "path", "path": "{m}/master.wav"}, "a pair is needed"),
        ({"master_file": "{m}/master.wav"}, "items.0.input.dub_file: a path or URL is needed"),
        ({"master_file": "{m}/a", "dub_file": "/etc/passwd"}, "items.0.input.dub_file: the path"),
        ({"master_file": "{m}/a", "dub_file": "{m}/b", "methods": "guess"}, "items.0.input.methods"),
        ({"master_file": "{m}/a", "dub_file": "{m}/b", "colour": "red"}, "items.0.input.colour"),
        (
            {"master_file": "{m}/a", "dub_file": "{m}/b", "methods": "ai", "ai_model": "yamnet"},
            "yamnet is not available",
        ),
        ({"master": "{m}/a", "dub_file": "{m}/b"}, "items.0.input.master: must name a file"),
    ],
)
def test_a_job_of_bad_pairs_is_refused_whole(server: LiveServer, media: Path, given: dict, said: str) -> None:
    order = json.dumps({"kind": "sync", "items": [{"input": given}]}).replace("{m}", str(media))
    reply = server.client.post("/jobs", content=order)
    assert reply.status_code == 400
    assert said in reply.json()["detail"]


def test_options_can_be_saved_and_bad_ones_cannot(server: LiveServer, media: Path) -> None:
    saved = server.client.put("/presets/sync/quick", json={"options": {"methods": "onset", "repair": False}})
    assert saved.status_code == 201
    files = {"master_file": f"{media}/master.wav", "dub_file": f"{media}/late.wav"}
    order = {"kind": "sync", "preset": "quick", "items": [{"input": files}]}
    made = server.client.post("/jobs", json=order).raise_for_status().json()
    (item,) = ended(server, made["job_id"])["results"]
    assert item["result"]["method_used"] == "Onset"
    for options in ({"methods": "guess"}, {"colour": "red"}, {"dub_channel": "left"}):
        refused = server.client.put("/presets/sync/bad", json={"options": options})
        assert refused.status_code == 400
        assert f"options.{next(iter(options))}" in refused.json()["detail"]


def test_pairs_come_from_the_python_client(server: LiveServer, media: Path) -> None:
    from millrace.client import Millrace, ServerPath

    with Millrace(server.url) as client:
        late = (ServerPath(f"{media}/master.wav"), media / "late.wav")
        job = client.sync(late, options={"methods": "mfcc"})
        job.wait(timeout=90)
    (item,) = ended(server, job.id)["results"]
    assert item["result"]["offset_seconds"] == pytest.approx(-5.023, abs=1e-4)
