"""How items and jobs move from state to state: pure functions, drawn in docs/state-machine.md.

What a worker's report, its death or a cancel makes of an item is decided here, whichever database
keeps it. Claims and a person's retry move many rows at once, and are statements of the store.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from millrace.engine.model import Counts, State
from millrace.engine.workload import Retry

MAX_LOSSES = 3
"""An item whose worker died this often while running it fails as poison."""

Verdict = Literal["succeeded", "skipped", "failed"]
"""What a stage says of an item it has finished."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an item stands: its state, its stage, and what it has been through at that stage.

    tries    failed attempts counted against the stage's retry policy.
    losses   workers that died while running it.
    """

    state: State
    stage: int
    tries: int = 0
    losses: int = 0
    available_at: float = 0.0


class IllegalTransition(ValueError):
    """An event arrived that the item's state does not allow: a bug, or a stale worker."""


def _require(position: Position, *states: State) -> None:
    if position.state not in states:
        raise IllegalTransition(f"an item that is {position.state} cannot do this")


def succeed(position: Position, stages: int) -> Position:
    """The stage went well: on to the next one (queued), or succeeded after the last of ``stages``."""
    _require(position, State.RUNNING)
    if position.stage + 1 < stages:
        return Position(State.QUEUED, position.stage + 1)
    return replace(position, state=State.SUCCEEDED)


def skip(position: Position) -> Position:
    """The stage found nothing to do: the item ends as skipped."""
    _require(position, State.RUNNING)
    return replace(position, state=State.SKIPPED)


def fail(
    position: Position,
    *,
    retryable: bool,
    retry: Retry,
    now: float,
    jitter: Callable[[], float] = random.random,
) -> Position:
    """The stage failed: queued again after a wait if a retry may help and tries are left, else failed."""
    _require(position, State.RUNNING)
    tries = position.tries + 1
    if not retryable or tries >= retry.attempts:
        return replace(position, state=State.FAILED, tries=tries)
    wait = backoff(retry, tries, jitter)
    return replace(position, state=State.QUEUED, tries=tries, available_at=now + wait)


def backoff(retry: Retry, tries: int, jitter: Callable[[], float] = random.random) -> float:
    """Return the wait in seconds after ``tries`` failures: exponential, capped, ±20 %."""
    # The exponent is bounded so that a policy with thousands of attempts cannot overflow a float.
    wait = min(retry.max_delay, retry.delay * retry.factor ** min(tries - 1, 64))
    return wait * (0.8 + 0.4 * jitter())


def lose(position: Position, *, blame: bool) -> Position:
    """The worker died or vanished: back in the queue, or failed as poison.

    ``blame`` is False where the item cannot be at fault (the server stopped, a call was withdrawn).
    """
    _require(position, State.RUNNING)
    losses = position.losses + (1 if blame else 0)
    if losses >= MAX_LOSSES:
        return replace(position, state=State.FAILED, losses=losses)
    return replace(position, state=State.QUEUED, losses=losses)


def cancel(position: Position) -> Position:
    """A person cancelled: whatever was not finished ends as cancelled."""
    if position.state.final:
        return position
    return replace(position, state=State.CANCELLED)


def job_state(
    counts: Counts, *, planning: bool, cancelled: bool, started: bool, fails_when: Literal["any", "all"]
) -> State:
    """Return a job's state from those of its items.

    Args:
        counts: of its items.
        planning: whether its plan stage may still add items.
        cancelled: whether a person asked for it to be cancelled.
        started: whether any of it has ever run.
        fails_when: see ``Workload.fails_when``.
    """
    if counts.queued or counts.running or planning:
        return State.RUNNING if started else State.QUEUED
    bad = counts.failed if fails_when == "any" else counts.failed and not (counts.succeeded + counts.skipped)
    if bad and not (cancelled and fails_when == "all"):
        return State.FAILED
    if cancelled or counts.cancelled:
        return State.CANCELLED
    return State.SUCCEEDED
