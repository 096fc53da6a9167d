"""``POST /jobs/bulk``: cancel, retry or reprioritise many jobs at once, and say before what it would do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from millrace.engine.engine import Engine
from millrace.engine.model import Job
from millrace.engine.store import JobQuery
from millrace.errors import MillraceError, NotFound
from millrace.server import examples, submission
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.words import Words

MOST = 10_000
"""Jobs that one request may touch."""

_PAGE = 500
_ABREAST = 8


class Filter(BaseModel):
    """Jobs as ``GET /jobs`` selects them."""

    model_config = ConfigDict(extra="forbid")

    kind: str | None = None
    status: str | None = None
    q: Annotated[str | None, Field(max_length=200)] = None


class Bulk(BaseModel):
    """What to do to which jobs: those named, or those a filter finds."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["cancel", "retry", "priority"]
    jobs: Annotated[list[Annotated[str, Field(max_length=128)]] | None, Field(max_length=MOST)] = None
    filter: Filter | None = None
    priority: int | str | None = None
    dry_run: Annotated[bool, Field(description="only count what would be done")] = False

    @model_validator(mode="after")
    def _one_choice(self) -> Bulk:
        if (self.jobs is None) == (self.filter is None):
            raise ValueError("give either jobs or filter")
        if (self.action == "priority") != (self.priority is not None):
            raise ValueError("priority: belongs to the action priority, and is needed there")
        return self


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action does to one job: how many of its items it touches; none: the job is left as it is."""

    job: str
    items: int
    running: int = 0


def effect(action: str, job: Job) -> Effect:
    """Return what the action would do to a job as it is now."""
    counts = job.counts
    if action == "retry":
        return Effect(job.id, counts.failed)
    if job.state.final:
        return Effect(job.id, 0)
    # A job that still looks for its items has none to count, yet it is touched.
    return Effect(job.id, max(1, counts.queued + counts.running), counts.running)


def router(services: Services, words: Words) -> APIRouter:
    """Return ``POST /jobs/bulk``."""
    api = APIRouter(prefix="/jobs", tags=["jobs"])
    engine = services.engine

    @api.post("/bulk", summary="Cancel, retry or reprioritise many jobs", **examples.BULK)
    async def bulk(body: Bulk) -> Response:
        """Do it to each job it applies to; ``dry_run`` only counts. One job's refusal stops no other's."""
        priority = submission.priority_of(body.priority) if body.priority is not None else None
        effects = [effect(body.action, job) for job in await _select(engine, words, body)]
        touched = [found for found in effects if found.items]
        refused: list[dict[str, str]] = []
        if not body.dry_run:
            refused = await _apply(touched, _action(engine, body.action, priority))
        return json_reply(
            {
                "action": body.action,
                "dry_run": body.dry_run,
                "jobs": len(touched) - len(refused),
                "items": sum(found.items for found in touched),
                "running": sum(found.running for found in touched),
                "unaffected": len(effects) - len(touched),
                "refused": refused,
            }
        )

    return api


async def _select(engine: Engine, words: Words, body: Bulk) -> list[Job]:
    if body.jobs is not None:
        found = []
        for job_id in dict.fromkeys(body.jobs):
            try:
                found.append(await engine.job(job_id))
            except NotFound as error:
                raise NotFound(f"jobs: {error.message}") from error
        return found
    chosen = body.filter or Filter()
    query = JobQuery(
        kind=engine.workload(chosen.kind).kind if chosen.kind else None,
        any_of=words.select(word for word in (chosen.status or "").split(",") if word.strip()),
        text=chosen.q or None,
        limit=_PAGE,
    )
    jobs: list[Job] = []
    cursor: str | None = None
    while len(jobs) < MOST:
        page = await engine.jobs(
            JobQuery(query.kind, (), query.any_of, query.text, limit=_PAGE, cursor=cursor)
        )
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            break
    return jobs[:MOST]


def _action(engine: Engine, action: str, priority: int | None) -> Callable[[str], Awaitable[Any]]:
    if action == "cancel":
        return engine.cancel
    if action == "retry":
        return engine.retry
    return lambda job_id: engine.update(job_id, priority=priority)


async def _apply(touched: list[Effect], act: Callable[[str], Awaitable[Any]]) -> list[dict[str, str]]:
    refused: list[dict[str, str]] = []
    gate = asyncio.Semaphore(_ABREAST)

    async def one(job_id: str) -> None:
        async with gate:
            try:
                await act(job_id)
            except MillraceError as error:
                refused.append({"job_id": job_id, "reason": error.message})

    await asyncio.gather(*(one(found.job) for found in touched))
    return refused
