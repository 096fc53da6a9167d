"""Following events: each stored one once, through dropped connections, to the end and no further."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.client import NotFound, Retrying, Unreachable
from millrace.client.flow import Answer, Shut
from millrace.client.watching import Parser, watch
from tests.unit.client.play import play

HOW = Retrying(patience=1.5, delay=1.0, longest=2.0)  # three tries
STREAM = Answer(200, {"content-type": "text/event-stream"})
DROPPED = Unreachable("cut off", sent=True)
GREETING = b"retry: 2000\n\n"


def event(seq: int, kind: str = "item.started", **data: Any) -> bytes:
    row = {"seq": seq, "at": None, "type": kind, "job_id": "job_1", "item": 0, "data": data}
    ident = f"id: {seq}\n" if seq else ""
    return f"{ident}event: {kind}\ndata: {json.dumps(row)}\n\n".encode()


FINISHED = event(3, "job.finished")


def follow(*replies: Any, after: int = 0) -> Any:
    return play(watch("job_1", after, HOW), replies)


def test_a_whole_stream_is_told_in_order() -> None:
    played = follow(STREAM, GREETING, event(1) + event(0, "item.progress"), event(2) + FINISHED, None)
    assert [e.seq for e in played.emitted] == [1, 0, 2, 3]
    assert played.waits == []
    assert played.calls[0].headers["last-event-id"] == "0"


def test_a_dropped_stream_goes_on_behind_the_last_event() -> None:
    half = event(2)[:20]
    again = event(1) + event(2) + FINISHED  # a server that sends more than was asked for
    played = follow(STREAM, GREETING, event(1) + half, DROPPED, STREAM, again, None)
    assert [e.seq for e in played.emitted] == [1, 2, 3]
    assert [call.headers["last-event-id"] for call in played.calls] == ["0", "1"]
    assert len(played.waits) == 1


def test_a_stream_that_ends_before_the_job_is_taken_up_again() -> None:
    played = follow(STREAM, event(1), None, STREAM, event(2) + FINISHED, None)
    assert [e.seq for e in played.emitted] == [1, 2, 3]


def test_who_has_everything_is_done() -> None:
    assert follow(Answer(204, {}), after=9).emitted == []
    # The connection broke after the last event had come.
    assert len(follow(STREAM, event(2) + FINISHED, DROPPED).emitted) == 2


def test_a_finished_job_that_was_sent_on_its_way_again_is_followed_on() -> None:
    more = event(4, "job.updated", retried=1)
    played = follow(STREAM, FINISHED + more, DROPPED, STREAM, event(5, "job.finished"), None, after=2)
    assert [e.seq for e in played.emitted] == [3, 4, 5]


def test_a_job_that_is_gone_is_an_error() -> None:
    with pytest.raises(NotFound):
        follow(
            STREAM,
            event(1),
            DROPPED,
            Answer(404, {}),
            b'{"detail": "gone"}',
            None,
        )


def test_a_server_that_stays_away_is_given_up() -> None:
    with pytest.raises(Unreachable, match="cut off"):
        follow(STREAM, event(1), DROPPED, DROPPED, DROPPED)


def test_a_server_that_only_greets_is_given_up() -> None:
    with pytest.raises(Unreachable, match="ended before"):
        follow(*[STREAM, GREETING, None] * 3)


def test_patience_starts_anew_with_each_sign_of_life() -> None:
    alive = [STREAM, GREETING, b": still here\n\n", DROPPED]
    played = follow(*alive * 5, STREAM, GREETING, FINISHED, None)
    assert len(played.waits) == 5
    assert max(played.waits) <= 1.0
    assert sum(isinstance(command, Shut) for command in played.commands) == 6


@given(
    st.lists(st.text(max_size=20), min_size=1, max_size=5), st.sampled_from(["\n", "\r", "\r\n"]), st.data()
)
def test_however_the_bytes_are_cut_the_messages_are_the_same(texts: list[str], end: str, data: Any) -> None:
    bodies = [json.dumps(text) for text in texts]
    whole = "".join(f": c{end}event: e{end}data: {body}{end}{end}" for body in bodies).encode()
    parser, found, rest = Parser(), [], whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += parser.feed(rest[:size])
        rest = rest[size:]
    # A CR at the very end may be half of a CR LF: it counts with the next byte.
    found += parser.feed(b"\n" if end == "\r" else b"")
    assert [(m.event, m.data) for m in found] == [("e", body) for body in bodies]
