"""Batches as files: ``TMP_DIR/batches/<id>/batch.json`` and the artifacts of each item beside it.

A projection of the database for people and scripts that look at the disk; nothing is ever read
from it. Every file is written aside and renamed. It is made anew where it is behind, and removed when
its batch has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from millrace.blobs import Blobs
from millrace.engine.engine import Engine
from millrace.engine.model import Artifact, Item, Job
from millrace.engine.store import JobQuery
from millrace.errors import MillraceError, NotFound
from millrace.workloads.transcripts import view

log = logging.getLogger(__name__)

KIND = "transcripts"
_PAGE = 200
_MAX_ITEMS = 10_000


class Projection:
    """Keeps the files of all batches up to date, in an event loop; writes in threads.

    sweep   seconds between two looks at all batches, for those that nobody follows here (made or
            retried through another API) and those that are gone.
    """

    def __init__(self, engine: Engine, blobs: Blobs, folder: Path, *, sweep: float = 60.0) -> None:
        self._engine = engine
        self._blobs = blobs
        self._folder = folder
        self._sweep = sweep
        self._written: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background while the context lasts."""
        sweeper = asyncio.create_task(self._run())
        try:
            yield
        finally:
            tasks = [sweeper, *self._followers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self, job_id: str) -> None:
        """Write the batch at each of its events, until it has finished."""
        if job_id not in self._followers:
            task = asyncio.create_task(self._follow(job_id))
            self._followers[job_id] = task
            task.add_done_callback(lambda _: self._followers.pop(job_id, None))

    async def write(self, job: Job, items: Sequence[Item], artifacts: Sequence[Artifact]) -> None:
        """Bring a batch's files up to what is given, if they are behind it; a full disk is only logged."""
        async with self._locks.setdefault(job.id, asyncio.Lock()):
            if self._written.get(job.id, -1) >= job.last_event:
                return
            status = self._engine.status()
            queue = view.Queue(status.waiting.get(KIND, 0), status.running.get(KIND, 0))
            data = view.batch_view(job, items, artifacts, queue)
            try:
                await asyncio.to_thread(self._write, job.id, data, artifacts)
            except OSError as error:
                log.warning("the files of batch %s could not be written: %s", job.id, error)
            else:
                self._written[job.id] = job.last_event

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except (MillraceError, OSError) as error:
                log.warning("the files of batches could not be brought up to date: %s", error)
            await asyncio.sleep(self._sweep)

    async def _look(self) -> None:
        known: set[str] = set()
        cursor: str | None = None
        while True:
            page = await self._engine.jobs(JobQuery(kind=KIND, limit=_PAGE, cursor=cursor))
            known.update(job.id for job in page.jobs)
            for job_id in await asyncio.to_thread(self._behind, page.jobs):
                self.follow(job_id)
            cursor = page.next_cursor
            if cursor is None:
                break
        self._written = {key: value for key, value in self._written.items() if key in known}
        self._locks = {key: lock for key, lock in self._locks.items() if key in known or lock.locked()}
        gone = await asyncio.to_thread(self._unknown, known)
        for name in gone:
            await self._remove_if_gone(name)

    def _behind(self, jobs: Sequence[Job]) -> list[str]:
        """Return the jobs that go on, and those that ended after their file was written."""
        behind = []
        for job in jobs:
            if job.state.final and self._written.get(job.id, -1) >= job.last_event:
                continue
            try:
                written = (self._folder / job.id / "batch.json").stat().st_mtime
            except OSError:
                written = 0.0
            if not job.state.final or written < job.updated_at:
                behind.append(job.id)
            else:
                self._written[job.id] = job.last_event
        return behind

    async def _remove_if_gone(self, job_id: str) -> None:
        """Remove the files of a batch that is no more; it may have been made since they were listed."""
        try:
            await self._engine.job(job_id)
        except NotFound:
            await asyncio.to_thread(shutil.rmtree, self._folder / job_id, ignore_errors=True)

    async def _follow(self, job_id: str) -> None:
        with contextlib.suppress(NotFound):
            await self._refresh(job_id)
            async for event in self._engine.watch(job_id):
                if event.seq > self._written.get(job_id, -1):
                    await self._refresh(job_id)

    async def _refresh(self, job_id: str) -> None:
        try:
            job = await self._engine.job(job_id)
            items = await self._engine.items(job_id, limit=_MAX_ITEMS)
            await self.write(job, items, await self._engine.artifacts(job_id))
        except NotFound:
            return
        except MillraceError as error:
            log.warning("the files of batch %s could not be written: %s", job_id, error.message)

    def _unknown(self, known: set[str]) -> list[str]:
        if not self._folder.is_dir():
            return []
        return [entry.name for entry in self._folder.iterdir() if entry.is_dir() and entry.name not in known]

    def _write(self, job_id: str, data: Mapping[str, Any], artifacts: Sequence[Artifact]) -> None:
        folder = self._folder / job_id
        folder.mkdir(parents=True, exist_ok=True)
        for artifact in artifacts:
            if artifact.name in view.PUBLIC_NAMES:
                self._place(artifact, folder / "items" / str(artifact.idx))
        aside = folder / f".{uuid.uuid4().hex}"
        aside.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2))
        aside.replace(folder / "batch.json")

    def _place(self, artifact: Artifact, folder: Path) -> None:
        """Put an artifact into its item's directory: a second link to the blob, or a copy of it."""
        target = folder / artifact.name
        with contextlib.suppress(FileNotFoundError):
            found = target.stat()
            if found.st_size == artifact.bytes and found.st_mtime >= artifact.created_at - 60:
                return
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{uuid.uuid4().hex}"
        try:
            blob = self._blobs.path(artifact.key)
            if blob is None or not _linked(blob, aside):
                with aside.open("wb") as out:
                    for chunk in self._blobs.chunks(artifact.key):
                        out.write(chunk)
            aside.replace(target)
        except NotFound:
            aside.unlink(missing_ok=True)


def _linked(blob: Path, target: Path) -> bool:
    try:
        os.link(blob, target)
    except OSError:
        return False
    return True
