"""Pauses a stage whose back end is broken, and lets a single item through to see whether it is well again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

THRESHOLD = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


@dataclass(slots=True)
class Breaker:
    """The circuit breaker of one stage.

    It opens after ``THRESHOLD`` failures in a row with the same cause, for ``FIRST_PAUSE`` seconds;
    each failed probe doubles the pause up to ``LONGEST_PAUSE``. Failures that are the item's own
    fault are no evidence either way and are not told to it.
    """

    cause: str | None = None
    failures: int = 0
    pause: float = FIRST_PAUSE
    probe_at: float | None = None
    probing: int | None = None

    @property
    def open(self) -> bool:
        """Whether the stage is paused."""
        return self.probe_at is not None

    def allows(self, now: float) -> bool:
        """Whether another item may start."""
        return self.probe_at is None or (self.probing is None and now >= self.probe_at)

    def started(self, lease: int) -> None:
        """Note that a call was dispatched: while open, it is the probe."""
        if self.open:
            self.probing = lease

    def failed(self, cause: str, lease: int, now: float) -> bool:
        """Note a failure of the back end; return whether the breaker opened just now."""
        if self.open:
            if self.probing == lease:
                self.probing = None
                self.pause = min(LONGEST_PAUSE, self.pause * 2)
                self.probe_at = now + self.pause
                self.cause = cause
            return False
        self.failures = self.failures + 1 if cause == self.cause else 1
        self.cause = cause
        if self.failures < THRESHOLD:
            return False
        self.probe_at = now + self.pause
        return True

    def succeeded(self) -> bool:
        """Note that an item went through; return whether the breaker closed just now."""
        was_open = self.open
        self.cause, self.failures, self.pause, self.probe_at, self.probing = None, 0, FIRST_PAUSE, None, None
        return was_open

    def abandoned(self, lease: int) -> None:
        """Note that a call ended without telling anything about the back end."""
        if self.probing == lease:
            self.probing = None

    def state(self) -> Literal["closed", "open", "probing"]:
        """Return the state's usual name."""
        if not self.open:
            return "closed"
        return "open" if self.probing is None else "probing"
