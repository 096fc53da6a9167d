"""When a request is sent again: only where that may help and cannot do its work twice."""

from __future__ import annotations

import pytest

from millrace.client import ApiError, BadRequest, Busy, NotFound, Retrying, ServerError, Unreachable
from millrace.client.flow import Call
from millrace.client.retrying import exchange, patiently, tries_within
from tests.unit.client.play import answer, play

GET = Call("GET", "/jobs")
ONCE = Call("POST", "/jobs/1/retry", again=False)
HOW = Retrying(tries=3, delay=1.0, longest=4.0)
LOST = Unreachable("cut off", sent=True)
REFUSED = Unreachable("refused", sent=False)


def test_a_lost_answer_is_asked_for_again() -> None:
    played = play(exchange(GET, HOW), [LOST, LOST, answer([1])])
    assert played.result.json() == [1]
    assert played.calls == [GET, GET, GET]


def test_the_waits_grow_and_are_never_shorter_than_half() -> None:
    played = play(exchange(GET, Retrying(tries=9, delay=1.0, longest=4.0)), [LOST] * 8 + [answer()])
    for wait, full in zip(played.waits, [1, 2, 4, 4, 4, 4, 4, 4], strict=True):
        assert full / 2 <= wait <= full


def test_it_is_given_up_after_so_many_tries() -> None:
    with pytest.raises(Unreachable, match="cut off"):
        play(exchange(GET, HOW), [LOST, LOST, LOST])


def test_what_could_be_done_twice_is_sent_again_only_if_it_never_arrived() -> None:
    assert play(exchange(ONCE, HOW), [REFUSED, answer(7)]).result.json() == 7
    with pytest.raises(Unreachable):
        play(exchange(ONCE, HOW), [LOST])
    with pytest.raises(ServerError):
        play(exchange(ONCE, HOW), [answer(status=502)])


def test_a_server_that_is_busy_is_asked_again_not_before_it_said() -> None:
    busy = answer({"detail": "the queue is full", "code": "queue_full"}, 503, retry_after="30")
    played = play(exchange(ONCE, HOW), [busy, answer(1)])
    assert played.waits == [30.0]
    with pytest.raises(Busy) as caught:
        play(exchange(GET, HOW), [busy] * 3)
    assert caught.value.retry_after == 30
    assert caught.value.code == "queue_full"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequest), (404, NotFound), (418, ApiError), (500, ServerError)]
)
def test_a_refusal_is_final(status: int, kind: type[ApiError]) -> None:
    with pytest.raises(kind) as caught:
        play(exchange(GET, HOW), [answer({"detail": "no"}, status)])
    assert caught.value.status == status
    assert caught.value.message == "no"


def test_whoever_wants_to_know_is_told_before_each_wait() -> None:
    told: list[tuple[str, float]] = []
    how = Retrying(tries=3, delay=1.0, notice=lambda error, wait: told.append((error.message, wait)))
    played = play(exchange(GET, how), [LOST, answer()])
    assert told == [("cut off", played.waits[0])]


def test_patience_outlasts_a_server_that_is_away() -> None:
    how = Retrying(tries=2, patience=20.0, delay=1.0, longest=4.0)
    assert tries_within(how) == 13  # 0.5 + 1 + 10 × 2 is the least that 12 waits come to
    played = play(patiently(GET, how), [REFUSED] * 12 + [answer()])
    assert sum(played.waits) >= 20
    with pytest.raises(Unreachable):
        play(patiently(GET, how), [REFUSED] * 13)
