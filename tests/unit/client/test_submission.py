"""What is submitted, as values: references, names, sizes, pairs; and the form that carries the files."""

from __future__ import annotations

import json
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest

from millrace.client import Bytes, JobInfo, LocalError, Pair, Retrying, ServerPath, Unreachable, Url
from millrace.client.core import ClientFlows
from millrace.client.flow import Call
from millrace.client.forms import FileToSend, Form
from tests.unit.client.play import JOB, answer, play

CLIENT = ClientFlows(Retrying(delay=0.01), lambda info: info)


def sent(flow: Any) -> tuple[Call, dict[str, Any]]:
    """Play a submission; return the call, and the job in it."""
    played = play(flow, [answer(JOB, 202)])
    (call,) = played.calls
    assert isinstance(played.result, JobInfo)
    raw = dict(call.body.fields)["job"] if isinstance(call.body, Form) else call.body
    return call, json.loads(raw)


def test_each_source_becomes_a_reference(tmp_path: Path) -> None:
    (tmp_path / "a b.mp3").write_bytes(b"sound")
    sources = [
        tmp_path / "a b.mp3",
        "https://example.com/x.mp3",
        Url("http://example.com/y", name="y.mp3"),
        ServerPath("/srv/media/z.mp3"),
        Bytes(b"", "empty.mp3"),
        str(tmp_path / "a b.mp3"),
    ]
    call, job = sent(CLIENT.submit("transcripts", sources))
    assert job["items"] == [
        {"input": {"kind": "upload", "index": 0}, "name": "a b.mp3", "size": 5},
        {"input": {"kind": "url", "url": "https://example.com/x.mp3"}},
        {"input": {"kind": "url", "url": "http://example.com/y", "name": "y.mp3"}, "name": "y.mp3"},
        {"input": {"kind": "path", "path": "/srv/media/z.mp3"}},
        {"input": {"kind": "upload", "index": 1}, "name": "empty.mp3", "size": 1},
        {"input": {"kind": "upload", "index": 2}, "name": "a b.mp3", "size": 5},
    ]
    assert [file.name for file in call.body.files] == ["a b.mp3", "empty.mp3", "a b.mp3"]


def test_a_job_without_files_is_json() -> None:
    call, job = sent(CLIENT.submit("shout", [{"text": "hello"}], label="greeting", priority="high"))
    assert call.headers["content-type"] == "application/json"
    assert job == {
        "kind": "shout",
        "items": [{"input": {"text": "hello"}}],
        "label": "greeting",
        "priority": "high",
    }


def test_everything_a_job_may_be_given_reaches_the_server() -> None:
    _, job = sent(
        CLIENT.submit(
            "images",
            "https://example.com/a.png",
            options={"x": 1},
            preset="mine",
            parallelism=2,
            held=True,
            callbacks=["https://example.com/hook"],
            notify=["mailto://me@example.com"],
        )
    )
    assert job.pop("items")
    assert job == {
        "kind": "images",
        "options": {"x": 1},
        "preset": "mine",
        "parallelism": 2,
        "held": True,
        "callbacks": [{"url": "https://example.com/hook"}],
        "notify": ["mailto://me@example.com"],
    }


def test_the_workloads_have_their_own_words() -> None:
    url = "https://example.com/a"
    _, job = sent(CLIENT.transcripts(url, stems=False, max_segment_ms=5000, audio_stream=1))
    assert job["options"] == {"tasks": {"demucs": False}, "vadMaxSingleSegmentMs": 5000, "audioStream": 1}
    assert "options" not in sent(CLIENT.transcripts([url]))[1]
    _, job = sent(CLIENT.tracks("/srv/tv", pattern="**/*.mkv", dry_run=True))
    assert job == {"kind": "tracks", "options": {"path": "/srv/tv", "pattern": "**/*.mkv", "dry_run": True}}
    _, job = sent(CLIENT.tracks(["/srv/tv/a.mkv"]))
    assert job["items"] == [{"input": {"kind": "path", "path": "/srv/tv/a.mkv"}}]
    _, job = sent(CLIENT.documents(url, redact=True))
    assert job["options"] == {"redact": True}
    assert sent(CLIENT.images([url, url]))[1]["kind"] == "images"


def test_a_pair_is_one_item_of_two_references(tmp_path: Path) -> None:
    master, dub = tmp_path / "master.wav", tmp_path / "dub.wav"
    master.write_bytes(b"12345")
    dub.write_bytes(b"123")
    pair = Pair(master, dub, methods=("mfcc", "onset"), repair=True, dub_stream=0)
    call, job = sent(CLIENT.sync(pair))
    assert job["items"] == [
        {
            "input": {
                "master": {"kind": "upload", "index": 0},
                "dub": {"kind": "upload", "index": 1},
                "methods": ["mfcc", "onset"],
                "repair": True,
                "dub_stream": 0,
            },
            "name": "master.wav / dub.wav",
            "size": 8,
        }
    ]
    assert len(call.body.files) == 2
    call, job = sent(CLIENT.sync([(master, dub), (str(master), master)]))
    assert len(call.body.files) == 2, "a master of many dubs is sent once"
    assert [item["input"]["dub"]["index"] for item in job["items"]] == [1, 0]
    two = (ServerPath("/a.wav"), ServerPath("/b.wav"))
    assert len(sent(CLIENT.sync(two))[1]["items"]) == 1
    assert len(sent(CLIENT.sync([two, two, pair]))[1]["items"]) == 3
    assert len(sent(CLIENT.sync((pair, pair)))[1]["items"]) == 2


def test_a_submission_that_lost_its_answer_is_the_same_request_again() -> None:
    flow = CLIENT.submit("shout", [Bytes(b"x", "x.txt")])
    played = play(flow, [Unreachable("cut off", sent=True), answer(JOB, 202)])
    first, second = played.calls
    assert first == second
    assert len(first.headers["idempotency-key"]) == 32
    other = play(CLIENT.submit("shout", "http://e.x/"), [answer(JOB)]).calls[0]
    assert other.headers["idempotency-key"] != first.headers["idempotency-key"]
    given = play(CLIENT.submit("shout", "http://e.x/", idempotency_key="monday"), [answer(JOB)]).calls[0]
    assert given.headers["idempotency-key"] == "monday"


@pytest.mark.parametrize(
    ("source", "said"),
    [("nosuch.mp3", "there is no file nosuch.mp3"), (".", "is a directory"), ("http://", "names no host")],
)
def test_what_cannot_be_sent_is_said_before_anything_is(source: str, said: str) -> None:
    with pytest.raises(LocalError, match=said):
        play(CLIENT.submit("transcripts", [source]), [])


def test_a_form_is_exactly_as_long_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 3000)
    told: list[tuple[int, int]] = []
    files = [FileToSend('Ä"\r\n.txt', b"abc", 3), FileToSend.at(path)]
    form = Form([("job", '{"kind": "ü"}')], files, lambda sent, total: told.append((sent, total)))
    raw = b"".join(form.blocks())
    assert len(raw) == form.length
    assert raw == b"".join(form.blocks())
    assert told[len(told) // 2 - 1] == (form.length, form.length)
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {form.content_type}\r\n\r\n".encode() + raw)
    job, first, second = message.iter_parts()
    assert json.loads(job.get_payload(decode=True)) == {"kind": "ü"}
    assert first.get_payload(decode=True) == b"abc"
    assert b'filename="\xc3\x84%22%0D%0A.txt"' in raw
    assert second.get_payload(decode=True) == path.read_bytes()


@pytest.mark.parametrize("now", [b"", b"shorter", b"longer than before"])
def test_a_file_that_changes_while_it_is_sent_is_noticed(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"0123456789")
    form = Form([], [FileToSend.at(path)])
    path.write_bytes(now)
    with pytest.raises(LocalError, match="changed while it was being sent"):
        list(form.blocks())
