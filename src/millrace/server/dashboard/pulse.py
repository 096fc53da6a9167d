"""Tells pages that something has changed, on any job or on one: a hint to look again, not the news itself.

Hints are gathered for a moment, so that ten thousand quick items cost a page a few looks a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import orjson

from millrace.engine.round import RoundEvent

if TYPE_CHECKING:
    from millrace.server.services import Services

GATHER = 0.3
"""Seconds between two hints, at least."""

LOOK = 1.0
"""Seconds after which a page looks again while something runs: live progress makes no hints."""

HEARTBEAT = 15.0
_BUCKET = 5
_KEPT = 60


class Pulse:
    """Hears of every commit of the engine, on its thread, and wakes those who watch."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watchers: set[_Watcher] = set()
        self._lock = threading.Lock()
        self._ended: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        services.engine.loop.listeners.append(self._hear)

    def _hear(self, events: Sequence[RoundEvent]) -> None:
        ended = sum(1 for _, _, kind, _, _ in events if kind == "item.finished")
        if ended:
            bucket = int(time.time()) // _BUCKET
            if self._ended and self._ended[-1][0] == bucket:
                self._ended[-1] = (bucket, self._ended[-1][1] + ended)
            else:
                self._ended.append((bucket, ended))
        if not self._watchers:
            return
        jobs = {job.id for job, *_ in events}
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            if watcher.job is None or watcher.job in jobs:
                with contextlib.suppress(RuntimeError):  # its loop was closed meanwhile
                    watcher.loop.call_soon_threadsafe(watcher.news.set)

    def pace(self) -> list[int]:
        """Return how many items ended in each five seconds of the last five minutes, oldest first."""
        last = int(time.time()) // _BUCKET
        counts = dict(list(self._ended))
        return [counts.get(bucket, 0) for bucket in range(last - _KEPT + 1, last + 1)]

    async def watch(self, job: str | None) -> AsyncIterator[bytes]:
        """Yield Server-Sent Events: one ``change`` at once, then one whenever there is something to see."""
        watcher = _Watcher(asyncio.get_running_loop(), job)
        with self._lock:
            self._watchers.add(watcher)
        closing = asyncio.ensure_future(self._services.closing.wait())
        quiet = 0.0
        try:
            yield b"retry: 1000\n\n" + _hint()
            while not closing.done():
                news = asyncio.ensure_future(watcher.news.wait())
                await asyncio.wait({news, closing}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if closing.done():
                    return
                if watcher.news.is_set() or self._busy(job):
                    watcher.news.clear()
                    quiet = 0.0
                    yield _hint()
                    await asyncio.sleep(GATHER)
                    continue
                quiet += LOOK
                if quiet >= HEARTBEAT:
                    quiet = 0.0
                    yield b": still here\n\n"
        finally:
            closing.cancel()
            with self._lock:
                self._watchers.discard(watcher)

    def _busy(self, job: str | None) -> bool:
        calls = list(self._services.engine.loop.calls.values())
        return any(job is None or running.call.job == job for running in calls)


class _Watcher:
    def __init__(self, loop: asyncio.AbstractEventLoop, job: str | None) -> None:
        self.loop = loop
        self.job = job
        self.news = asyncio.Event()


def _hint() -> bytes:
    return b"event: change\ndata: " + orjson.dumps({"at": time.time()}) + b"\n\n"
