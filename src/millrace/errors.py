"""Every error Millrace raises on purpose, as one tree.

    MillraceError
    ├── SettingsError        a setting is unknown, malformed or contradicts another
    ├── InvalidRequest       what a caller sent cannot be accepted (HTTP 400)
    ├── NotFound             no such job, item, artifact … (404)
    ├── Conflict             the request contradicts what is already there (409)
    │   └── IdempotencyConflict  the key was used before with another body
    ├── TooLarge             more bytes, parts, pixels or pages than the limits allow (413)
    ├── QueueFull            the workload's queue is at its capacity (503)
    ├── Unavailable          a part that is needed is not there or not working now (503)
    └── StageError           an item cannot go on; raised inside a stage
        ├── BadInput         the input is at fault: never retried
        ├── TookTooLong      the stage's soft timeout is over
        └── Transient        a retry may help: network, busy, worker lost

A message says what was wrong, with which value, and what to do. ``code`` is a stable,
machine-readable word; contracts map it onto their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MillraceError(Exception):
    """Something Millrace refuses or cannot do; see the subclasses."""

    code = "error"

    def __init__(
        self, message: str, *, code: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.details: dict[str, Any] = dict(details or {})


class SettingsError(MillraceError):
    """A setting is unknown, malformed or contradicts another."""

    code = "bad_setting"


class InvalidRequest(MillraceError):
    """What the caller sent cannot be accepted; nothing was created."""

    code = "bad_request"


class NotFound(MillraceError):
    """The thing named does not exist, or no longer."""

    code = "not_found"


class Conflict(MillraceError):
    """The request contradicts what is already there."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"


class TooLarge(MillraceError):
    """More bytes, parts, pixels or pages than the limits allow."""

    code = "too_large"


class QueueFull(MillraceError):
    """The workload's queue is at its capacity. ``retry_after`` is in seconds."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after: int = 30) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(MillraceError):
    """A part that is needed is not there, or not working now."""

    code = "unavailable"


class StageError(MillraceError):
    """An item cannot go on. Raised inside a stage; its code and message become the item's error.

    ``retryable`` says whether another attempt may mend it. ``backend`` says that the engine
    behind the stage is at fault rather than the item, so that repeated failures open the
    stage's circuit breaker.
    """

    code = "engine_error"
    retryable = False
    backend = True


class BadInput(StageError):
    """The input is at fault (not audio, truncated, a password, …): fails at once, is never retried."""

    code = "bad_input"
    backend = False


class TookTooLong(StageError):
    """The stage's soft timeout is over. Raised inside the stage, wherever it is just then."""

    code = "timeout"
    backend = False


class Transient(StageError):
    """A retry may help: the network, a busy file, a service that is down."""

    code = "transient"
    retryable = True
