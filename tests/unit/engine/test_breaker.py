"""The circuit breaker of a stage."""

from __future__ import annotations

from millrace.engine.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker


def opened() -> Breaker:
    breaker = Breaker()
    assert not breaker.failed("no model", 1, 100.0)
    assert not breaker.failed("no model", 2, 101.0)
    assert breaker.failed("no model", 3, 102.0)
    return breaker


def test_it_opens_at_the_third_failure_in_a_row_with_the_same_cause() -> None:
    breaker = opened()
    assert breaker.state() == "open"
    assert not breaker.allows(102.0 + FIRST_PAUSE - 0.1)
    assert breaker.allows(102.0 + FIRST_PAUSE)


def test_other_causes_and_successes_in_between_keep_it_closed() -> None:
    breaker = Breaker()
    for lease, cause in enumerate(["a", "a", "b", "b", "a", "a"]):
        assert not breaker.failed(cause, lease, 0.0)
    breaker.succeeded()
    assert not breaker.failed("a", 9, 0.0)
    assert breaker.allows(0.0)


def test_one_probe_at_a_time_and_its_success_closes_it() -> None:
    breaker = opened()
    breaker.started(7)
    assert breaker.state() == "probing"
    assert not breaker.allows(1e9)
    assert breaker.succeeded()
    assert breaker.allows(0.0)
    assert not breaker.succeeded()


def test_a_failed_probe_doubles_the_pause_up_to_a_limit() -> None:
    breaker = opened()
    now = 102.0
    pauses = []
    for lease in range(10, 20):
        assert breaker.probe_at is not None
        now = breaker.probe_at
        breaker.started(lease)
        breaker.failed("no model", lease, now)
        pauses.append(breaker.probe_at - now)
    assert pauses[:3] == [FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_probe_that_tells_nothing_lets_the_next_one_go() -> None:
    breaker = opened()
    breaker.started(7)
    breaker.abandoned(7)
    assert breaker.allows(102.0 + FIRST_PAUSE)


def test_failures_of_calls_that_started_before_it_opened_do_not_count_as_probes() -> None:
    breaker = opened()
    probe_at = breaker.probe_at
    breaker.failed("no model", 4, 102.5)
    assert breaker.probe_at == probe_at
