"""The transcripts contract, through a real running server: batches, single jobs, what can go wrong."""

import io
import json
import re
import struct
import time
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

from tests.unit.local_http import LocalServer
from tests.unit.media.media_files import tone, write_media, write_wav
from tests.voice import speak

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SAID = "aei oui"
ASR = {"tasks": {"asr": True, "demucs": False}}
DEMUCS = {"tasks": {"asr": False, "demucs": True}}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Recordings in a media root: speech, and everything that may be wrong with one."""
    folder = tmp_path_factory.mktemp("media")
    voice = speak(SAID, pause=0.6)
    write_wav(folder / "speech.wav", voice)
    write_wav(
        folder / "long.wav", np.concatenate([speak("aeiouoieau" * 3, pitch=100 + 9 * n) for n in range(8)])
    )
    write_wav(folder / "middle.wav", speak("aeiouoieau" * 2))
    write_wav(folder / "silence.wav", np.zeros(32000, np.float32))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("this is no recording\n" * 100)
    whole = (folder / "speech.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    declared = 36000 * 32000
    (folder / "liar.wav").write_bytes(
        b"RIFF" + struct.pack("<I", declared + 36)
        + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
        + b"data" + struct.pack("<I", declared) + whole[44:1044]
    )  # fmt: skip
    write_wav(folder / "desk.wav", np.repeat(voice[:32000, None], 24, axis=1))
    write_wav(folder / "telephone.wav", voice[::2], 8000)
    write_wav(folder / "zero.wav", np.zeros(0, np.float32))
    write_media(folder / "mute.mkv", None, video=1.0)
    write_media(folder / "film.mkv", [tone(1.0, 16000), voice], rate=16000, video=2.0)
    cut = write_media(folder / "whole.m4a", tone(2.0, 48000), codec="aac").read_bytes()
    (folder / "cut.m4a").write_bytes(cut[: len(cut) // 2])
    return folder


@pytest.fixture(scope="module")
def server(new_module_server, recordings):
    return new_module_server(media_roots=[recordings], settings={"transcripts": {"max_seconds": 60}}).start()


def path_item(path):
    return {"kind": "audioPath", "audioPath": str(path)}


def create(server, items, options=None, **query):
    body = {"items": items, **({"options": options} if options else {})}
    reply = server.client.post("/v2/batches", json=body, params=query)
    assert reply.status_code == 202, reply.text
    data = reply.json()["data"]
    assert reply.headers["x-batch-id"] == data["batchId"]
    assert data["statusUrl"] == f"/v2/batches/{data['batchId']}"
    return data["batchId"]


def get(server, batch_id):
    reply = server.client.get(f"/v2/batches/{batch_id}")
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "ok"
    return reply.json()["data"]


def wait(
    server, batch_id, until=lambda data: data["state"] in ("succeeded", "failed", "canceled"), timeout=110
):
    deadline = time.monotonic() + timeout
    while not until(data := get(server, batch_id)):
        assert time.monotonic() < deadline, data
        time.sleep(0.03)
    return data


def refused(reply, *words, status=400, code="bad_request"):
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert body["status"] == "error"
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    for word in words:
        assert word in body["error"]["message"]


def check_srt(text):
    cues = [block.split("\n") for block in text.strip("\n").split("\n\n")] if text else []
    last = -1
    for n, (number, times, *lines) in enumerate(cues, 1):
        assert number == str(n)
        found = re.fullmatch(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})", times)
        h, m, s, ms, h2, m2, s2, ms2 = map(int, found.groups())
        start, end = ((h * 60 + m) * 60 + s) * 1000 + ms, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2
        assert last <= start < end
        assert 1 <= len(lines) <= 2
        assert all(0 < len(line) <= 42 for line in lines)
        last = end
    return cues


@pytest.fixture(scope="module")
def finished(server, recordings):
    """One batch of an upload and a path, with both tasks, when it has ended."""
    items = [{"kind": "upload", "fileIndex": 0}, path_item(recordings / "film.mkv")]
    reply = server.client.post(
        "/v2/batches",
        files=[("audio", ("../../a b.wav", (recordings / "speech.wav").read_bytes(), "audio/wav"))],
        data={
            "items": json.dumps(items),
            "options": json.dumps(
                {"policy": "stage-first", "tasks": {"asr": True, "demucs": True}, "audioStream": 0}
            ),
        },
    )
    assert reply.status_code == 202, reply.text
    return wait(server, reply.json()["data"]["batchId"])


def test_a_batch_ends_with_every_artifact_of_every_item(server, finished):
    assert finished["state"] == "succeeded"
    assert finished["phase"] == "done"
    assert finished["counts"] == {
        "total": 2, "queued": 0, "running": 0, "succeeded": 2, "failed": 0, "canceled": 0
    }  # fmt: skip
    names = {
        "srt": "output.srt", "vocals": "vocals.mp3", "no_vocals": "no_vocals.mp3", "demucs_zip": "demucs.zip",
        "result_zip": "result.zip", "vtt": "output.vtt", "json": "output.json",
    }  # fmt: skip
    for item in finished["items"]:
        assert {key: artifact["name"] for key, artifact in item["artifacts"].items()} == names
        for artifact in item["artifacts"].values():
            assert artifact["ready"] is True
            assert (
                artifact["url"]
                == f"/v2/batches/{finished['id']}/items/{item['idx']}/artifacts/{artifact['name']}"
            )
            reply = server.client.get(artifact["url"])
            assert reply.status_code == 200
            assert len(reply.content) == artifact["bytes"]


def test_a_batch_shows_its_fields_and_leaves_out_what_is_not_set(finished):
    expected = {
        "id",
        "state",
        "phase",
        "createdAt",
        "startedAt",
        "finishedAt",
        "expiresAt",
        "cancelRequested",
    }
    assert set(finished) == expected | {"options", "queue", "counts", "items"}
    assert finished["cancelRequested"] is False
    assert finished["options"] == {
        "policy": "stage-first",
        "tasks": {"asr": True, "demucs": True},
        "vadMaxSingleSegmentMs": 8000,
        "vadMaxEndSilenceMs": 50,
        "audioStream": 0,
    }
    assert set(finished["queue"]) == {"pending", "running"}
    for name in ("createdAt", "startedAt", "finishedAt", "expiresAt"):
        assert TIMESTAMP.fullmatch(finished[name])
    for idx, item in enumerate(finished["items"]):
        assert set(item) == {"idx", "state", "phase", "createdAt", "startedAt", "finishedAt", "artifacts"}
        assert (item["idx"], item["state"], item["phase"]) == (idx, "succeeded", "done")


def test_the_subtitles_are_well_formed(server, finished):
    reply = server.client.get(finished["items"][0]["artifacts"]["srt"]["url"])
    assert not reply.content.startswith(b"\xef\xbb\xbf")
    check_srt(reply.content.decode())
    assert 'filename="output.srt"' in reply.headers["content-disposition"]
    vtt = server.client.get(finished["items"][0]["artifacts"]["vtt"]["url"]).text
    assert vtt.startswith("WEBVTT\n")
    data = server.client.get(finished["items"][0]["artifacts"]["json"]["url"]).json()
    assert data["duration"] == pytest.approx(len(speak(SAID, pause=0.6)) / 16000, abs=0.01)
    assert {"language", "text", "segments", "cues"} <= set(data)


def test_the_archives_hold_the_stems_and_the_subtitles(server, finished):
    artifacts = finished["items"][0]["artifacts"]
    content = {key: server.client.get(entry["url"]).content for key, entry in artifacts.items()}
    with zipfile.ZipFile(io.BytesIO(content["demucs_zip"])) as archive:
        assert sorted(archive.namelist()) == ["no_vocals.mp3", "vocals.mp3"]
        assert archive.read("vocals.mp3") == content["vocals"]
    with zipfile.ZipFile(io.BytesIO(content["result_zip"])) as archive:
        assert sorted(archive.namelist()) == ["no_vocals.mp3", "output.srt", "vocals.mp3"]
        assert archive.read("output.srt") == content["srt"]


def test_the_batch_and_its_artifacts_are_on_disk(server, finished):
    folder = server.data_dir / "tmp" / "batches" / finished["id"]
    saved = json.loads((folder / "batch.json").read_text())
    assert {**saved, "queue": None} == {**finished, "queue": None}
    for item in finished["items"]:
        for artifact in item["artifacts"].values():
            path = folder / "items" / str(item["idx"]) / artifact["name"]
            assert path.read_bytes() == server.client.get(artifact["url"]).content
    assert not list(folder.rglob(".*"))


def test_artifacts_are_served_in_parts_and_validated(server, finished):
    url = finished["items"][0]["artifacts"]["vocals"]["url"]
    whole = server.client.get(url)
    part = server.client.get(url, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert server.client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_stage_first_gives_every_transcript_before_any_stem(server, recordings):
    batch_id = create(server, [path_item(recordings / "speech.wav")] * 3)
    seen = set()

    def watch(data):
        for item in data["items"]:
            ready = {key for key, artifact in item["artifacts"].items() if artifact["ready"]}
            if "vocals" in ready or item["phase"] in ("demucs", "zip_demucs", "zip_result"):
                assert all(other["artifacts"]["srt"]["ready"] for other in data["items"])
            if item["state"] == "queued" and "srt" in ready:
                assert item["phase"] == "queued"
        seen.add(data["phase"])
        return data["state"] not in ("queued", "running")

    assert wait(server, batch_id, watch)["state"] == "succeeded"
    assert seen <= {"validate", "asr", "demucs", "done"}
    assert {"asr", "done"} <= seen


def test_tasks_choose_stages_and_artifacts(server, recordings):
    only_asr = create(server, [path_item(recordings / "speech.wav")], ASR)
    only_demucs = create(server, [path_item(recordings / "speech.wav")], DEMUCS)
    (item,) = wait(server, only_asr)["items"]
    assert set(item["artifacts"]) == {"srt", "vtt", "json"}
    (item,) = wait(server, only_demucs)["items"]
    assert set(item["artifacts"]) == {"vocals", "no_vocals", "demucs_zip"}
    assert all(artifact["ready"] for artifact in item["artifacts"].values())
    assert server.client.get(f"/v2/batches/{only_demucs}/items/0/artifacts/output.srt").status_code == 404


def test_the_query_overrides_the_options(server, recordings):
    batch_id = create(
        server,
        [path_item(recordings / "speech.wav")],
        {**ASR, "vadMaxSingleSegmentMs": 4000, "vadMaxEndSilenceMs": 300},
        vadMaxSingleSegmentMs=1000,
    )
    data = wait(server, batch_id)
    assert data["options"]["vadMaxSingleSegmentMs"] == 1000
    assert data["options"]["vadMaxEndSilenceMs"] == 300
    url = data["items"][0]["artifacts"]["json"]["url"]
    for segment in server.client.get(url).json()["segments"]:
        assert segment["end"] - segment["start"] <= 1.0 + 0.2, "the segment and the silence heard about it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "there is no file"),
        ("empty.wav", "empty"),
        ("text.mp3", "not an audio or video file"),
        ("mute.mkv", "no audio stream"),
        ("zero.wav", "zero length"),
        ("cut.m4a", "cut off"),
        ("../outside.wav", "media root"),
        (".", "not a regular file"),
    ],
)
def test_a_bad_recording_fails_alone_with_bad_audio(server, recordings, name, message):
    batch_id = create(server, [path_item(f"{recordings}/{name}"), path_item(recordings / "silence.wav")], ASR)
    data = wait(server, batch_id)
    assert data["state"] == "failed"
    assert data["phase"] == "error"
    bad, good = data["items"]
    assert (bad["state"], bad["phase"], bad["error"]["code"]) == ("failed", "error", "bad_audio")
    assert message in bad["error"]["message"]
    assert set(bad["error"]) == {"code", "message", "details"}
    assert not any(artifact["ready"] for artifact in bad["artifacts"].values())
    assert good["state"] == "succeeded"
    assert data["error"]["code"] == "bad_audio"
    assert data["counts"]["failed"] == data["counts"]["succeeded"] == 1


def test_odd_recordings_have_right_results(server, recordings):
    names = {
        "silence.wav": 2.0,
        "truncated.wav": None,
        "liar.wav": 500 / 16000,
        "desk.wav": 2.0,
        "telephone.wav": None,
    }
    batch_id = create(server, [path_item(recordings / name) for name in names], ASR)
    data = wait(server, batch_id)
    assert data["state"] == "succeeded", data
    for item, (name, seconds) in zip(data["items"], names.items(), strict=True):
        srt = server.client.get(item["artifacts"]["srt"]["url"]).text
        check_srt(srt)
        found = server.client.get(item["artifacts"]["json"]["url"]).json()
        if seconds is not None:
            assert found["duration"] == pytest.approx(seconds, abs=0.01), name
        if name in ("silence.wav", "liar.wav"):
            assert srt == ""
            assert found["segments"] == found["cues"] == []


def test_a_recording_beyond_the_limit_is_refused_where_it_reaches_it(server, recordings):
    write_wav(recordings / "endless.wav", np.zeros(61 * 16000, np.float32))
    (item,) = wait(server, create(server, [path_item(recordings / "endless.wav")], ASR))["items"]
    assert item["error"]["code"] == "bad_audio"
    assert "longer than the 60 seconds" in item["error"]["message"]


def test_the_chosen_audio_stream_is_transcribed(server, recordings):
    film = path_item(recordings / "film.mkv")
    first = wait(server, create(server, [film], {**ASR, "audioStream": 0}))
    second = wait(server, create(server, [film], {**ASR, "audioStream": 1}))
    third = wait(server, create(server, [film], {**ASR, "audioStream": 2}))
    durations = [
        server.client.get(data["items"][0]["artifacts"]["json"]["url"]).json()["duration"]
        for data in (first, second)
    ]
    assert durations[0] == pytest.approx(1.0, abs=0.05)
    assert durations[1] > 2
    assert "there is no audio stream 2" in third["items"][0]["error"]["message"]


def test_a_url_that_may_not_be_reached_fails_its_item_only(server, recordings):
    items = [
        {"kind": "audioUrl", "audioUrl": "http://127.0.0.1:8080/a.mp3"},
        path_item(recordings / "silence.wav"),
    ]
    data = wait(server, create(server, items, ASR))
    assert [item["state"] for item in data["items"]] == ["failed", "succeeded"]
    assert data["items"][0]["error"]["code"] == "bad_audio"


@pytest.fixture
def web():
    server = LocalServer()
    yield server
    server.close()


def test_a_url_is_fetched_once_for_all_stages_and_a_bad_answer_fails_its_item(new_server, recordings, web):
    good = web.says("/a%20b.wav", body=(recordings / "speech.wav").read_bytes())
    gone = web.says("/gone.wav", 404)
    page = web.says("/page", body=b"<html>not a recording</html>")
    server = new_server(
        settings={
            "fetch": {"allow_private": True, "ports": [web.port]},
            "transcripts": {"recogniser": "sherpa-onnx", "recogniser_model": "nowhere"},
        }
    ).start()
    urls = [{"kind": "audioUrl", "audioUrl": url} for url in (good, gone, page)]
    data = wait(server, create(server, urls, DEMUCS))
    assert [item["state"] for item in data["items"]] == ["succeeded", "failed", "failed"]
    assert "404" in data["items"][1]["error"]["message"]
    assert {item["error"]["code"] for item in data["items"][1:]} == {"bad_audio"}
    assert [path for _, path, _, _ in web.requests].count("/a%20b.wav") == 1
    refused(
        server.client.get(f"/v2/batches/{data['id']}/items/0/artifacts/source"), status=404, code="not_found"
    )
    (item,) = wait(server, create(server, urls[:1], ASR))["items"]
    assert item["error"]["code"] == "engine_error", (
        "a recogniser that is not set up is not the recording's fault"
    )
    missing = "recogniser_model" if find_spec("sherpa_onnx") else "millrace[sherpa]"
    assert missing in item["error"]["message"]


GOOD = [{"kind": "audioPath", "audioPath": "/x.wav"}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"items": []}, ["items", "1 to 10"]),
        ({"items": GOOD * 11}, ["items", "11"]),
        ({}, ["items"]),
        ({"items": "x"}, ["items"]),
        ({"items": [1]}, ["items[0]"]),
        ({"items": [{"kind": "file"}]}, ["items[0].kind", "'file'"]),
        ({"items": [{"kind": "audioPath"}]}, ["items[0].audioPath"]),
        ({"items": [{"kind": "audioPath", "audioPath": 5}]}, ["items[0].audioPath"]),
        ({"items": [{"kind": "audioPath", "audioPath": ""}]}, ["items[0].audioPath"]),
        ({"items": [{"kind": "audioPath", "audioPath": "/a\x00b"}]}, ["items[0].audioPath"]),
        ({"items": [{"kind": "audioUrl", "audioUrl": "ftp://example.com/a"}]}, ["items[0].audioUrl"]),
        ({"items": [{"kind": "audioUrl", "audioUrl": "file:///etc/passwd"}]}, ["items[0].audioUrl"]),
        ({"items": [{"kind": "audioUrl", "audioUrl": None}]}, ["items[0].audioUrl"]),
        ({"items": [{"kind": "upload", "fileIndex": 0}]}, ["items[0].fileIndex", "0 file(s)"]),
        ({"items": GOOD, "options": {"policy": "item-first"}}, ["options.policy", "stage-first"]),
        ({"items": GOOD, "options": []}, ["options"]),
        ({"items": GOOD, "options": {"tasks": {"asr": False, "demucs": False}}}, ["options.tasks"]),
        ({"items": GOOD, "options": {"tasks": {"asr": "yes"}}}, ["options.tasks.asr"]),
        ({"items": GOOD, "options": {"tasks": {"ocr": True}}}, ["options.tasks.ocr"]),
        ({"items": GOOD, "options": {"vadMaxEndSilenceMs": 0}}, ["vadMaxEndSilenceMs", "positive"]),
        ({"items": GOOD, "options": {"vadMaxEndSilenceMs": -5}}, ["vadMaxEndSilenceMs"]),
        ({"items": GOOD, "options": {"vadMaxEndSilenceMs": 1.5}}, ["vadMaxEndSilenceMs"]),
        ({"items": GOOD, "options": {"vadMaxSingleSegmentMs": "8000"}}, ["vadMaxSingleSegmentMs"]),
        ({"items": GOOD, "options": {"vadMaxSingleSegmentMs": True}}, ["vadMaxSingleSegmentMs"]),
        ({"items": GOOD, "options": {"vadMaxSegment": 5}}, ["options.vadMaxSegment"]),
        ({"items": GOOD, "options": {"audioStream": -1}}, ["options.audioStream"]),
        ([], ["body"]),
    ],
)
def test_a_bad_request_names_the_field_and_creates_nothing(server, body, words):
    before = server.client.get("/jobs").json()["total"]
    refused(server.client.post("/v2/batches", json=body), *words)
    assert server.client.get("/jobs").json()["total"] == before


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "abc", "", "٣", "99999999999"])
def test_a_bad_query_value_is_refused(server, value):
    for name in ("vadMaxSingleSegmentMs", "vadMaxEndSilenceMs"):
        refused(server.client.post("/v2/batches", json={"items": GOOD}, params={name: value}), name)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ('[{"kind":"upload","fileIndex":1}]', ["fileIndex", "1 file(s)"]),
        ('[{"kind":"upload","fileIndex":-1}]', ["fileIndex"]),
        ('[{"kind":"upload","fileIndex":0},{"kind":"upload","fileIndex":0}]', ["items[1].fileIndex", "used"]),
        ('[{"kind":"upload","fileIndex":"0"}]', ["fileIndex"]),
        ('[{"kind":"upload"}]', ["fileIndex"]),
        ('[{"kind":"upload",', ["items", "JSON"]),
        ("", ["items"]),
        (None, ["items"]),
    ],
)
def test_a_bad_form_is_refused_and_its_files_are_dropped(server, items, words):
    stored = set(server.data_dir.rglob("blobs/uploads/**/*"))
    files = [("audio", ("a.wav", b"RIFF", "audio/wav"))]
    reply = server.client.post("/v2/batches", files=files, data={} if items is None else {"items": items})
    refused(reply, *words)
    assert {path for path in server.data_dir.rglob("blobs/uploads/**/*") if path.is_file()} <= stored


def test_other_bodies_are_refused(server):
    headers = {"Content-Type": "application/json"}
    refused(server.client.post("/v2/batches", content=b"{not json", headers=headers), "JSON")
    refused(
        server.client.post("/v2/batches", content=b"a=b", headers={"Content-Type": "text/plain"}),
        "Content-Type",
    )
    refused(server.client.post("/v2/batches", content=b""), "Content-Type")
    files = [("audio", (f"{n}.wav", b"x", "audio/wav")) for n in range(11)]
    refused(server.client.post("/v2/batches", files=files, data={"items": "[]"}), "10 files")
    refused(
        server.client.post("/v2/batches", files=[("video", ("a", b"x", "a/b"))], data={"items": "[]"}),
        "video",
    )


def test_what_is_not_there_is_not_found(server, finished):
    refused(server.client.get("/v2/batches/nothing"), "nothing", status=404, code="not_found")
    refused(server.client.post("/v2/batches/nothing/cancel"), status=404, code="not_found")
    for path in (
        "0/artifacts/batch.json",
        "0/artifacts/source",
        "5/artifacts/output.srt",
        "0/artifacts/..%2Foutput.srt",
    ):
        refused(server.client.get(f"/v2/batches/{finished['id']}/items/{path}"), status=404, code="not_found")
    refused(server.client.get(f"/v2/jobs/{finished['id']}"), status=404, code="not_found")
    refused(server.client.get("/v2/elsewhere"), status=404, code="not_found")
    refused(server.client.delete("/v2/batches"), "DELETE", status=405)


def test_cancel_stops_what_runs_and_keeps_what_is_done(server, recordings):
    items = [path_item(recordings / "silence.wav"), *[path_item(recordings / "long.wav")] * 4]
    batch_id = create(server, items)
    wait(server, batch_id, lambda data: data["items"][0]["artifacts"]["srt"]["ready"])
    reply = server.client.post(f"/v2/batches/{batch_id}/cancel")
    assert reply.status_code == 200
    data = reply.json()["data"]
    assert data["state"] == "canceled"
    assert data["cancelRequested"] is True
    assert data["counts"]["running"] == data["counts"]["queued"] == 0
    assert data["counts"]["canceled"] == 5
    assert {item["state"] for item in data["items"]} == {"canceled"}
    assert server.client.get(data["items"][0]["artifacts"]["srt"]["url"]).status_code == 200
    time.sleep(0.3)
    assert get(server, batch_id)["items"] == data["items"], "nothing is published after a cancel"


def test_cancel_of_a_finished_batch_changes_nothing(server, finished):
    reply = server.client.post(f"/v2/batches/{finished['id']}/cancel")
    assert reply.status_code == 200
    assert {**reply.json()["data"], "queue": None} == {**finished, "queue": None}


def test_the_same_key_and_body_answer_with_the_same_batch(server, recordings):
    body = {"items": [path_item(recordings / "silence.wav")], "options": ASR}
    headers = {"Idempotency-Key": "monday"}
    first = server.client.post("/v2/batches", json=body, headers=headers)
    again = server.client.post("/v2/batches", json=body, headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    other = {**body, "options": DEMUCS}
    refused(server.client.post("/v2/batches", json=other, headers=headers), "monday", status=409)
    form = {"data": {"items": '[{"kind":"upload","fileIndex":0}]', "options": json.dumps(ASR)}}
    sent = [
        server.client.post(
            "/v2/batches", files=[("audio", ("a.wav", b"no audio", "audio/wav"))], headers=key, **form
        )
        for key in ({"Idempotency-Key": "tuesday"},) * 2
    ]
    assert sent[0].json() == sent[1].json()


def test_the_request_id_is_echoed(server):
    reply = server.client.get("/v2/batches/nothing", headers={"x-request-id": "abc-123"})
    assert reply.headers["x-request-id"] == "abc-123"


def test_one_file_as_a_job(server, recordings):
    reply = server.client.post(
        "/v2/jobs",
        files=[("audio", ("a.wav", (recordings / "speech.wav").read_bytes(), "audio/wav"))],
        data={"type": "asr-demucs", "options": '{"vadMaxEndSilenceMs": 200}'},
    )
    assert reply.status_code == 202, reply.text
    data = reply.json()["data"]
    assert reply.headers["x-job-id"] == data["jobId"]
    deadline = time.monotonic() + 60
    while (found := server.client.get(data["statusUrl"]).json()["data"])["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found["type"], found["state"], found["phase"]) == ("asr-demucs", "succeeded", "done")
    assert found["options"]["vadMaxEndSilenceMs"] == 200
    for artifact in found["artifacts"].values():
        assert artifact["url"] == f"/v2/jobs/{data['jobId']}/artifacts/{artifact['name']}"
        assert len(server.client.get(artifact["url"]).content) == artifact["bytes"]
    assert server.client.post(f"/v2/jobs/{data['jobId']}/cancel").json()["data"]["state"] == "succeeded"
    refused(server.client.get(f"/v2/batches/{data['jobId']}"), status=404, code="not_found")


def test_a_job_of_a_path_fails_with_its_reason(server, recordings):
    reply = server.client.post("/v2/jobs", json={"type": "asr", "audioPath": str(recordings / "missing.wav")})
    url = reply.json()["data"]["statusUrl"]
    deadline = time.monotonic() + 60
    while (found := server.client.get(url).json()["data"])["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found["state"], found["phase"], found["error"]["code"]) == ("failed", "error", "bad_audio")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "text", "audioPath": "/a.wav"}, ["type"]),
        ({"type": "asr"}, ["audioPath"]),
        ({"type": "asr", "audioPath": "/a.wav", "audioUrl": "https://example.com/a"}, ["exactly one"]),
        ({"type": "asr", "audioPath": "/a.wav", "options": {"tasks": {"asr": True}}}, ["options.tasks"]),
        (
            {"type": "asr", "audioPath": "/a.wav", "options": {"vadMaxEndSilenceMs": 0}},
            ["vadMaxEndSilenceMs"],
        ),
    ],
)
def test_a_bad_job_is_refused(server, body, words):
    refused(server.client.post("/v2/jobs", json=body), *words)


def test_the_canonical_api_sees_and_makes_batches(server, recordings, finished):
    row = server.client.get(f"/jobs/{finished['id']}").json()
    assert (row["kind"], row["status"], row["state"]) == ("transcripts", "succeeded", "succeeded")
    body = {
        "kind": "transcripts",
        "options": ASR,
        "items": [{"input": {"kind": "path", "path": str(recordings / "silence.wav")}}],
    }
    reply = server.client.post("/jobs", json=body)
    assert reply.status_code == 202, reply.text
    assert wait(server, reply.json()["job_id"])["state"] == "succeeded"
    reply = server.client.post("/jobs", json={**body, "items": body["items"] * 11})
    assert reply.status_code == 400
    reply = server.client.post("/jobs", json={**body, "options": {"policy": "x"}})
    assert reply.status_code == 400


def test_a_token_is_needed_where_auth_is_on(new_server):
    server = new_server(environ={"REQUIRE_AUTH": "true", "BEARER_TOKEN": "secret"}).start()
    server.client.headers.pop("Authorization", None)
    refused(server.client.get("/v2/batches/x"), status=401, code="unauthorized")
    wrong = server.client.get("/v2/batches/x", headers={"Authorization": "Bearer wrong"})
    refused(wrong, status=403, code="forbidden")
    right = server.client.get("/v2/batches/x", headers={"Authorization": "Bearer secret"})
    refused(right, status=404, code="not_found")


@pytest.mark.parametrize("on_restart", ["fail", "resume"])
def test_a_restart_fails_a_batch_or_lets_it_go_on(new_server, recordings, on_restart):
    server = new_server(
        media_roots=[recordings], settings={"transcripts": {"on_restart": on_restart}}
    ).start()
    slow = recordings / ("long.wav" if on_restart == "fail" else "middle.wav")
    items = [path_item(recordings / "silence.wav"), path_item(slow), path_item(slow)]
    batch_id = create(server, items, ASR)
    wait(server, batch_id, lambda data: data["items"][0]["artifacts"]["srt"]["ready"])
    assert get(server, batch_id)["state"] == "running"
    server.restart(kill=True)
    data = wait(server, batch_id)
    folder = server.data_dir / "tmp" / "batches" / batch_id
    assert json.loads((folder / "batch.json").read_text())["state"] == data["state"]
    assert data["items"][0]["state"] == "succeeded"
    assert server.client.get(data["items"][0]["artifacts"]["srt"]["url"]).status_code == 200
    if on_restart == "resume":
        assert data["state"] == "succeeded"
        assert all(item["artifacts"]["srt"]["ready"] for item in data["items"])
    else:
        assert (data["state"], data["phase"]) == ("failed", "error")
        assert "interrupted" in json.dumps(data["error"])
        assert data["items"][1]["error"]["details"]["cause"] == "interrupted"


def test_an_expired_batch_is_gone_from_the_disk_too(new_server, recordings):
    server = new_server(
        media_roots=[recordings],
        environ={"JOB_TTL_SECONDS": "1"},
        settings={"retention": {"sweep": 0.2}},
    ).start()
    batch_id = create(server, [path_item(recordings / "silence.wav")], ASR)
    wait(server, batch_id)
    folder = server.data_dir / "tmp" / "batches" / batch_id
    assert folder.is_dir()
    deadline = time.monotonic() + 30
    while server.client.get(f"/v2/batches/{batch_id}").status_code != 404 or folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list((server.data_dir / "blobs").rglob("output.srt"))
