"""What the engine makes of a database that cannot write, or is gone, and of workers that do not start."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace.engine.engine import Engine
from millrace.engine.model import NewItem, NewJob, State
from millrace.errors import NotFound, Unavailable
from tests.engine.rig import build


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def ended(engine: Engine, job_id: str) -> bool:
    return (await engine.job(job_id)).state.final


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def scenario(engine: Engine) -> None:
        items = [NewItem(f"{n}", {"do": "sleep", "seconds": 0.3}) for n in range(2)]
        await engine.submit(NewJob("running", "one", items))
        await until(lambda: started(engine, 2))
        raw = engine.store._raw.dbapi_connection  # type: ignore[attr-defined]
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match="full"):
            await engine.submit(NewJob("big", "noop", [NewItem("x" * 1000) for _ in range(5000)]))
        with pytest.raises(NotFound):
            await engine.job("big")
        raw.execute("PRAGMA max_page_count = 1000000000")
        await until(lambda: ended(engine, "running"))
        job = await engine.job("running")
        assert (job.state, job.counts.succeeded, job.counts.running) == (State.SUCCEEDED, 2, 0)
        await engine.submit(NewJob("big", "noop", [NewItem("x" * 1000) for _ in range(5000)]))
        await until(lambda: ended(engine, "big"))
        assert (await engine.job("big")).counts.succeeded == 5000
        await engine.ping()

    async def started(engine: Engine, number: int) -> bool:
        return (await engine.job("running")).counts.running == number

    with running(build(tmp_path)) as engine:
        asyncio.run(scenario(engine))


@pytest.mark.postgres
def test_a_database_that_drops_all_connections_is_taken_up_again(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    async def scenario(engine: Engine) -> None:
        await engine.submit(NewJob("before", "noop", [NewItem() for _ in range(3000)]))
        for _ in range(3):
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            await asyncio.sleep(0.2)

        async def submitted() -> bool:
            try:
                await engine.submit(NewJob("after", "noop", [NewItem()]))
            except Unavailable:
                return False
            return True

        await until(submitted)
        await until(lambda: ended(engine, "before"))
        await until(lambda: ended(engine, "after"))
        job = await engine.job("before")
        assert (job.counts.succeeded, job.counts.queued, job.counts.running) == (3000, 0, 0)

    with running(build(tmp_path, url=postgres_url)) as engine:
        asyncio.run(scenario(engine))


def test_workers_that_cannot_start_are_tried_slowly_and_a_job_can_still_be_cancelled(tmp_path: Path) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.submit(NewJob("j", "one", [NewItem() for _ in range(4)]))
        await asyncio.sleep(1.5)
        assert engine.loop.rounds < 60
        job = await engine.cancel("j")
        assert (job.state, job.counts.cancelled) == (State.CANCELLED, 4)

    command = (sys.executable, "-c", "raise SystemExit(3)")
    with running(build(tmp_path, command=command)) as engine:
        asyncio.run(scenario(engine))
