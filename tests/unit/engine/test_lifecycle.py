"""How items and jobs move from state to state."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.engine import lifecycle
from millrace.engine.lifecycle import IllegalTransition, Position
from millrace.engine.model import Counts, State
from millrace.engine.workload import Retry

RUNNING = Position(State.RUNNING, 0)


def claimed(position: Position) -> Position:
    assert position.state is State.QUEUED
    return dataclasses.replace(position, state=State.RUNNING)


def test_only_what_runs_can_come_to_an_end() -> None:
    with pytest.raises(IllegalTransition, match="queued"):
        lifecycle.succeed(Position(State.QUEUED, 0), 1)


def test_success_leads_to_the_next_stage_with_a_clean_slate_and_at_last_to_the_end() -> None:
    tried = Position(State.RUNNING, 0, tries=2, losses=1, available_at=5.0)
    assert lifecycle.succeed(tried, 2) == Position(State.QUEUED, 1)
    assert lifecycle.succeed(Position(State.RUNNING, 1), 2).state is State.SUCCEEDED


def test_only_what_a_retry_can_mend_is_tried_again() -> None:
    retry = Retry(attempts=3, delay=2.0, factor=3.0)
    assert lifecycle.fail(RUNNING, retryable=False, retry=retry, now=0.0).state is State.FAILED
    first = lifecycle.fail(RUNNING, retryable=True, retry=retry, now=100.0, jitter=lambda: 0.5)
    assert (first.state, first.tries, first.available_at) == (State.QUEUED, 1, 102.0)
    second = lifecycle.fail(claimed(first), retryable=True, retry=retry, now=200.0, jitter=lambda: 0.5)
    assert (second.tries, second.available_at) == (2, 206.0)
    assert lifecycle.fail(claimed(second), retryable=True, retry=retry, now=300.0).state is State.FAILED


def test_an_item_that_killed_its_worker_three_times_is_poison() -> None:
    position = Position(State.QUEUED, 0)
    for _ in range(2):
        position = lifecycle.lose(claimed(position), blame=True)
        assert position.state is State.QUEUED
    assert lifecycle.lose(claimed(position), blame=True).state is State.FAILED


def test_a_loss_that_is_not_its_fault_is_never_held_against_an_item() -> None:
    position = Position(State.QUEUED, 0)
    for _ in range(20):
        position = lifecycle.lose(claimed(position), blame=False)
    assert position == Position(State.QUEUED, 0)


def test_cancel_ends_what_is_unfinished_and_leaves_what_is_done() -> None:
    assert lifecycle.cancel(RUNNING).state is State.CANCELLED
    done = Position(State.SUCCEEDED, 1)
    assert lifecycle.cancel(done) is done


@given(
    tries=st.integers(1, 5000),
    delay=st.floats(0.0, 100.0),
    factor=st.floats(1.0, 10.0),
    limit=st.floats(0.0, 1000.0),
    jitter=st.floats(0.0, 1.0),
)
def test_the_wait_is_never_longer_than_the_limit_and_its_jitter(
    tries: int, delay: float, factor: float, limit: float, jitter: float
) -> None:
    wait = lifecycle.backoff(Retry(delay=delay, factor=factor, max_delay=limit), tries, lambda: jitter)
    assert 0.0 <= wait <= limit * 1.2 + 1e-9


counts = st.builds(
    Counts,
    total=st.integers(0, 50),
    queued=st.integers(0, 3),
    running=st.integers(0, 3),
    succeeded=st.integers(0, 3),
    skipped=st.integers(0, 3),
    failed=st.integers(0, 3),
    cancelled=st.integers(0, 3),
)


@given(counts, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["any", "all"]))
def test_a_job_ends_exactly_when_nothing_of_it_is_left(
    counts: Counts, planning: bool, cancelled: bool, started: bool, fails_when: str
) -> None:
    state = lifecycle.job_state(
        counts,
        planning=planning,
        cancelled=cancelled,
        started=started,
        fails_when=fails_when,  # type: ignore[arg-type]
    )
    assert state.final == (not (counts.queued or counts.running or planning))


@pytest.mark.parametrize(
    ("counts", "cancelled", "fails_when", "expected"),
    [
        (Counts(3, succeeded=3), False, "any", State.SUCCEEDED),
        (Counts(3, succeeded=2, skipped=1), False, "all", State.SUCCEEDED),
        (Counts(3, succeeded=2, failed=1), False, "any", State.FAILED),
        (Counts(3, succeeded=2, failed=1), False, "all", State.SUCCEEDED),
        (Counts(3, failed=3), False, "all", State.FAILED),
        (Counts(3, succeeded=1, failed=1, cancelled=1), True, "any", State.FAILED),
        (Counts(3, succeeded=1, cancelled=2), True, "any", State.CANCELLED),
        (Counts(3, failed=1, cancelled=2), True, "all", State.CANCELLED),
        (Counts(3, succeeded=3), True, "any", State.CANCELLED),
        (Counts(0), False, "all", State.SUCCEEDED),
    ],
)
def test_the_end_of_a_job(counts: Counts, cancelled: bool, fails_when: str, expected: State) -> None:
    state = lifecycle.job_state(
        counts,
        planning=False,
        cancelled=cancelled,
        started=True,
        fails_when=fails_when,  # type: ignore[arg-type]
    )
    assert state is expected
