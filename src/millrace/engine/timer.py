"""A thread that does something when its time has come. Deliveries, schedules and retention each have one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
_AFTER_ERROR = 5.0


class Timer:
    """Calls ``step``, waits for as many seconds as it returned (None: until woken), and calls it again.

    No wait is longer than a minute, so that a clock that was set is noticed. When ``step`` raises,
    that is logged and it is called again after some seconds.
    """

    def __init__(self, name: str, step: Callable[[], float | None]) -> None:
        self._step = step
        self._name = name
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin at once. It may be started again after it was stopped."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have ``step`` called now, from any thread."""
        self._news.set()

    def stop(self) -> None:
        """End after the present step. Blocks until then."""
        self._stopping = True
        self._news.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def stopping(self) -> bool:
        """Whether ``step`` should come to an end."""
        return self._stopping

    def _run(self) -> None:
        while not self._stopping:
            self._news.clear()
            try:
                wait = self._step()
            except Exception:
                log.exception("%s failed; it is tried again in %g s", self._name, _AFTER_ERROR)
                wait = _AFTER_ERROR
            if not self._stopping:
                self._news.wait(_LONGEST_WAIT if wait is None else max(0.0, min(wait, _LONGEST_WAIT)))
