"""The live feed of jobs' events: what was committed reaches every watcher, in order and at once.

The log in the database is the truth; this only carries news of it from the engine's thread into
event loops. A watcher that falls behind reads what it missed from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from millrace.engine.model import Event

_BUFFER = 10_000
_PAGE = 1_000
FINISHED = "job.finished"


class _Watcher:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer: deque[Event] = deque(maxlen=_BUFFER)
        self.behind = False
        self.news = asyncio.Event()

    def push(self, events: list[Event]) -> None:
        self.buffer.extend(events)
        self.news.set()

    def nudge(self) -> None:
        self.behind = True
        self.news.set()


class Feed:
    """Carries events from the engine to those who watch."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[_Watcher]] = {}
        self._lock = threading.Lock()

    def watched(self, job_id: str) -> bool:
        """Whether anybody watches the job."""
        return job_id in self._watchers

    def publish(self, events: Iterable[Event]) -> None:
        """Hand out events that were committed (or are live progress); from the engine's thread."""
        if not self._watchers:
            return
        by_job: dict[str, list[Event]] = {}
        for event in events:
            if event.job in self._watchers:
                by_job.setdefault(event.job, []).append(event)
        with self._lock:
            targets = [
                (watcher, news) for job, news in by_job.items() for watcher in self._watchers.get(job, ())
            ]
        for watcher, news in targets:
            with contextlib.suppress(RuntimeError):  # its loop was closed meanwhile
                watcher.loop.call_soon_threadsafe(watcher.push, news)

    def nudge(self, job_ids: Iterable[str] | None) -> None:
        """Have the watchers of these jobs (None: of all) look into the log: another server wrote into it."""
        if not self._watchers:
            return
        with self._lock:
            wanted = self._watchers.keys() if job_ids is None else job_ids
            targets = [watcher for job in wanted for watcher in self._watchers.get(job, ())]
        for watcher in targets:
            with contextlib.suppress(RuntimeError):  # its loop was closed meanwhile
                watcher.loop.call_soon_threadsafe(watcher.nudge)

    async def watch(
        self,
        job_id: str,
        after: int,
        read: Callable[[str, int, int], Awaitable[list[Event]]],
        over: Callable[[str, int], Awaitable[bool]],
    ) -> AsyncIterator[Event]:
        """Yield a job's events behind number ``after``, then those to come, until the job has finished.

        Live progress comes in between, with number 0.

        Args:
            job_id: whose events.
            after: the number of the last event already known; 0 for all.
            read: reads the log: (job, after, limit).
            over: whether the job has finished (or is gone) and has no event behind the given number.
        """
        watcher = _Watcher(asyncio.get_running_loop())
        with self._lock:
            self._watchers.setdefault(job_id, set()).add(watcher)
        seen = after
        try:
            while True:
                page = await read(job_id, seen, _PAGE)
                for event in page:
                    seen = event.seq
                    yield event
                if len(page) == _PAGE:
                    continue
                if await over(job_id, seen):
                    return
                behind = False
                while not behind:
                    await watcher.news.wait()
                    watcher.news.clear()
                    nudged, watcher.behind = watcher.behind, False
                    while watcher.buffer and not behind:
                        event = watcher.buffer.popleft()
                        if event.seq == 0:
                            yield event
                        elif event.seq == seen + 1:
                            seen = event.seq
                            yield event
                            # A finished job may have been sent on its way again: the log knows.
                            behind = event.type == FINISHED
                        elif event.seq > seen:
                            behind = True
                    behind = behind or nudged
        finally:
            with self._lock:
                watchers = self._watchers[job_id]
                watchers.discard(watcher)
                if not watchers:
                    del self._watchers[job_id]
