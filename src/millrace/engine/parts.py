"""What runs beside the engine's loop, started and stopped with it: deliveries, schedules, watches, retention.

Knows no part by name, and nothing of what they do.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from millrace.engine.store import LeadershipLost

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


class Part(Protocol):
    """Something that runs beside the engine's loop, on threads of its own."""

    def start(self) -> None:
        """Begin; the engine takes requests by now. Called again where it raised, or after ``stop``."""
        ...

    def stop(self) -> None:
        """End, whether it had begun or not. Blocks until nothing of it runs any more."""
        ...


class Parts:
    """The parts of one engine.

    In a cluster a server that takes charge has nobody to whom it could say that a part does not start, and
    stepping down would help nobody: what keeps a part from starting (a table, a folder, a database that was
    away for a moment) keeps it from starting on another server as well, and jobs would be without a server
    in charge meanwhile. So the others start, and it is tried again until it starts or this server steps down.

    off    name → why it could not be started so far; empty when all is well.
    """

    def __init__(self) -> None:
        self.off: dict[str, str] = {}
        self._parts: list[Part] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def attach(self, part: Part) -> None:
        """Add one; they start in this order, and stop in the opposite one."""
        self._parts.append(part)

    def start(self) -> None:
        """Start all of them; raises what the first raised that could not."""
        for part in self._parts:
            part.start()

    def start_beside(self) -> None:
        """Start them on a thread of its own, for as long as it takes: they may ask the loop for something."""
        with self._lock:
            if self._closed:
                return
            self._ended = threading.Event()
            self._thread = threading.Thread(
                target=self._keep_starting, args=(self._ended,), name="parts", daemon=True
            )
            self._thread.start()

    def _keep_starting(self, ended: threading.Event) -> None:
        missing = list(self._parts)
        while missing:
            for part in list(missing):
                if ended.is_set():
                    return
                try:
                    part.start()
                except LeadershipLost:
                    return  # they are stopped by whoever found that out
                except Exception as error:
                    name = _name(part)
                    if name not in self.off:
                        log.exception("%s could not be started; it is tried again until it can", name)
                    self.off[name] = f"{type(error).__name__}: {error}"
                else:
                    missing.remove(part)
                    if self.off.pop(_name(part), None) is not None:
                        log.info("%s: started after all", _name(part))
            if missing and ended.wait(_RETRY_SECONDS):
                return

    def stop(self) -> None:
        """Stop all of them. Blocks; they can be started again."""
        with self._lock:
            self._ended.set()
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            for part in reversed(self._parts):
                part.stop()
            self.off.clear()

    def close(self) -> None:
        """Stop all of them for good."""
        with self._lock:
            self._closed = True
        self.stop()


def _name(part: Part) -> str:
    return type(part).__name__.lower()
