"""Tells any number of WebSocket clients how a job goes, from one reading of its event log.

All watchers of a job share one feed: an event is read and written as JSON once, and handed to each
in order. A client's first message is a snapshot; what follows begins exactly where it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import orjson

from millrace.engine.model import Event, Item, Job
from millrace.errors import NotFound
from millrace.workloads.images import view

Message = bytes | None


class Jobs(Protocol):
    """What is needed of the engine."""

    async def job(self, job_id: str) -> Job:
        """See ``Engine.job``."""
        ...

    async def items(self, job_id: str, *, after: int = -1, limit: int = 100) -> list[Item]:
        """See ``Engine.items``."""
        ...

    def watch(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """See ``Engine.watch``."""
        ...


class _Broadcast:
    """The feed of one job: its state so far, and a queue for each who listens."""

    def __init__(self, engine: Jobs, job: Job, items: dict[int, Item]) -> None:
        self._engine = engine
        self._job = job
        self._items = items
        self._status = view.WORDS[job.state.value]
        self._completed = view.completed(job.counts)
        self._failed = view.failed(job.counts)
        self._at = job.updated_at
        self._task: asyncio.Task[None] | None = None
        self.queues: set[asyncio.Queue[Message]] = set()
        self.over = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"images-watch-{self._job.id}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def subscribe(self) -> asyncio.Queue[Message]:
        """Return a queue that begins with a snapshot; None ends it."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        queue.put_nowait(self._message("progress"))
        if self.over:
            queue.put_nowait(self._message("job_complete"))
            queue.put_nowait(None)
        else:
            self.queues.add(queue)
        return queue

    def _message(self, kind: str, **more: object) -> bytes:
        body = view.message(
            kind, self._job.id, self._status, self._completed, self._failed, self._job.counts.total, self._at
        )
        stamp = body.pop("timestamp")
        return orjson.dumps({**body, **more, "timestamp": stamp})

    def _tell(self, message: Message) -> None:
        for queue in self.queues:
            queue.put_nowait(message)

    async def _run(self) -> None:
        try:
            if not self._job.state.final:
                async for event in self._engine.watch(self._job.id, after=self._job.last_event):
                    await self._take(event)
            self._finish(view.WORDS[(await self._engine.job(self._job.id)).state.value])
        except NotFound:
            self._finish(self._status)
        finally:
            self.over = True
            self._tell(None)
            self.queues.clear()

    def _finish(self, status: str) -> None:
        self._status = status
        self.over = True
        self._tell(self._message("job_complete"))

    async def _take(self, event: Event) -> None:
        self._at = event.at
        if event.type == "job.started":
            self._status = "processing"
            self._tell(self._message("progress"))
        elif event.type == "job.updated" and "retried" in event.data:
            await self._recount()
            self._tell(self._message("progress"))
        elif event.type == "item.finished" and event.idx is not None:
            state = str(event.data["state"])
            if view.WORDS[state] == "completed":
                self._completed += 1
            else:
                self._failed += 1
            item = self._items[event.idx]
            told = view.finished_image(item, state, event.data.get("error"))
            self._tell(self._message("image_complete", image=told))

    async def _recount(self) -> None:
        counts = (await self._engine.job(self._job.id)).counts
        self._completed, self._failed = view.completed(counts), view.failed(counts)


class Watchers:
    """The feeds of all jobs that are being watched."""

    def __init__(self, engine: Jobs) -> None:
        self._engine = engine
        self._feeds: dict[str, _Broadcast] = {}
        self._listening: dict[str, int] = {}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def watch(self, job: Job) -> AsyncIterator[asyncio.Queue[Message]]:
        """Yield a queue of messages (JSON), beginning with a snapshot, ended by None."""
        async with self._lock:
            feed = self._feeds.get(job.id)
            if feed is None or feed.over:
                items = await self._engine.items(job.id, limit=max(1, job.counts.total))
                # Read again: what happened meanwhile must be in the snapshot or in the feed, not in neither.
                job = await self._engine.job(job.id)
                feed = self._feeds[job.id] = _Broadcast(self._engine, job, {item.idx: item for item in items})
                feed.start()
            self._listening[job.id] = self._listening.get(job.id, 0) + 1
            queue = feed.subscribe()
        try:
            yield queue
        finally:
            feed.queues.discard(queue)
            self._listening[job.id] -= 1
            if not self._listening[job.id]:
                del self._listening[job.id]
                if self._feeds.get(job.id) is feed:
                    del self._feeds[job.id]
                await feed.stop()
