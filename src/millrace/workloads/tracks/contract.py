"""The HTTP contract of the tracks workload: ``/batch`` here, ``/webhook`` in ``reception``."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.responses import Response

from millrace.engine.model import Item, Job, NewItem, NewJob, Priority, State
from millrace.errors import InvalidRequest, NotFound
from millrace.patterns import check_pattern
from millrace.server.errors import explain
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply, rfc3339
from millrace.sources import allowed_path
from millrace.workloads.tracks.journal import Journal
from millrace.workloads.tracks.paths import to_json, walk
from millrace.workloads.tracks.pipeline import (
    STAGE,
    filters_of,
    journal_directory,
    new_item,
)
from millrace.workloads.tracks.reception import add_webhooks
from millrace.workloads.tracks.settings import TracksSettings

if TYPE_CHECKING:
    from millrace.server.services import Services

KIND = "tracks"
WORDS = {"succeeded": "completed", "skipped": "completed"}
_FOUND_WITHIN = 1.0
_PAGE = 1000
_RECOVER_EVERY = 1.0
_ENDED = (State.SUCCEEDED, State.SKIPPED, State.FAILED)

JobId = Annotated[str, PathParameter(max_length=128)]


class BatchFilters(BaseModel):
    """Which files of the folder are taken."""

    model_config = ConfigDict(extra="forbid")

    min_size_mb: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    max_age_days: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    exclude_patterns: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=1000)] | None
    ) = None


class BatchRequest(BaseModel):
    """A batch: the folder (or file) to go through, and how."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    recursive: bool = True
    pattern: str | None = None
    dry_run: bool = False
    priority: Literal["low", "normal", "high", "webhook"] = "normal"
    filters: BatchFilters = BatchFilters()

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                check_pattern(pattern)
            except InvalidRequest as error:
                raise ValueError(error.message) from None
        return pattern

    @field_validator("filters", mode="before")
    @classmethod
    def _none_is_none(cls, filters: Any) -> Any:
        return {} if filters is None else filters

    def options(self, path: Path) -> dict[str, Any]:
        """Return the job's options; ``path`` is the folder, made absolute."""
        return {
            **to_json(path),
            "recursive": self.recursive,
            "pattern": self.pattern,
            "dry_run": self.dry_run,
            "filters": self.filters.model_dump(exclude_none=True),
        }


def new_job_id() -> str:
    """Return an id in the contract's form, ``job_YYYY-MM-DD_…``."""
    return f"job_{time.strftime('%Y-%m-%d', time.gmtime())}_{secrets.token_hex(6)}"


def prepare(new: NewJob) -> NewJob:
    """Complete a job that came by ``POST /jobs``: the options are those of ``POST /batch``."""
    if new.items:
        for item in new.items:
            if not isinstance(item.input.get("path"), str):
                raise InvalidRequest(f"items: {item.name!r} names no path; write {{kind: path, path: …}}")
        return replace(new, id=new_job_id(), label=new.label or f"{len(new.items)} files")
    request = batch_request(new.options)
    path = Path(os.path.normpath(request.path))
    if not path.is_absolute():
        raise InvalidRequest(f"options.path: {request.path!r} must be absolute")
    return replace(
        new,
        id=new_job_id(),
        label=new.label or str(path),
        options=request.options(path),
        meta={"path": str(path)},
        scope=os.path.realpath(path),
        plan=True,
    )


def batch_request(options: Mapping[str, Any]) -> BatchRequest:
    """Return options as ``POST /batch`` takes them; InvalidRequest where it would not."""
    try:
        return BatchRequest.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidRequest(f"options.{explain(error.errors())[0]}") from None


def router(services: Services, settings: TracksSettings) -> APIRouter:
    """Return the contract's routes. Also finishes what a crash interrupted, now and while it runs."""
    api = APIRouter(tags=["tracks"])
    _add_batch(api, services)
    add_webhooks(api, services, settings, new_job_id)
    _keep_recovering(services)
    return api


def _keep_recovering(services: Services) -> None:
    """Finish half-done changes at the start, and whenever a worker was killed with one in hand."""
    journal = Journal(journal_directory(services.settings.data_dir))
    journal.recover()

    def watch() -> None:
        while not services.closing.is_set():
            time.sleep(_RECOVER_EVERY)
            journal.recover()

    threading.Thread(target=watch, name="tracks-recovery", daemon=True).start()


def _add_batch(api: APIRouter, services: Services) -> None:
    engine = services.engine

    @api.post("/batch", status_code=202, summary="Set the default audio track of a folder's files")
    async def start(request: Request, body: BatchRequest) -> Response:
        """Go through a folder. 409 while another batch works on it, above it or below it; 503 when full."""
        key = idempotency(request, await body_digest(request))
        path = _existing(body.path, services)
        options = body.options(path)
        found = await asyncio.to_thread(_find, path, options, services)
        job, created = await engine.submit(
            NewJob(
                id=new_job_id(),
                kind=KIND,
                items=found or (),
                plan=not found,
                options=options,
                meta={"path": str(path), "estimated_files": None if found is None else len(found)},
                label=str(path),
                priority=Priority[body.priority.upper()],
                scope=os.path.realpath(path),
                idempotency=key,
            )
        )
        reply = {
            "status": "started",
            "job_id": job.id,
            "batch_id": job.id,
            "estimated_files": job.meta.get("estimated_files"),
            "message": "Batch job started",
        }
        headers = {"Location": f"/batch/{job.id}"}
        if not created:
            headers["Idempotent-Replayed"] = "true"
        return json_reply(reply, 202, headers)

    @api.get("/batch/{job_id}", summary="A batch, its progress and its results")
    async def batch(
        job_id: JobId,
        limit: Annotated[
            int | None, Query(ge=0, le=100_000, description="of results; all by default")
        ] = None,
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    ) -> Response:
        """Say how far a batch is, and what became of each file so far."""
        job = await _job(services, job_id)
        results = await _results(services, job, offset, limit)
        return json_reply(batch_row(job, results))

    @api.delete("/batch/{job_id}", summary="Cancel a batch")
    async def cancel(job_id: JobId) -> Response:
        """Stop a batch; files that are done stay done. 404 when it is unknown or has ended."""
        job = await _job(services, job_id)
        if job.state.final:
            raise NotFound(f"Job not found or already completed: {job_id} is {word_of(job)}")
        job = await engine.cancel(job_id)
        await asyncio.to_thread(Journal(journal_directory(services.settings.data_dir)).recover)
        if job.state is not State.CANCELLED:
            raise NotFound(f"Job not found or already completed: {job_id} is {word_of(job)}")
        return json_reply(
            {
                "status": "cancelled",
                "job_id": job.id,
                "message": "Job cancelled successfully",
                "processed_before_cancel": _processed(job),
            }
        )


def _existing(path: str, services: Services) -> Path:
    """Return the folder or file that a request names; InvalidRequest when it is not there or not allowed."""
    found = allowed_path(path, services.settings.media_roots)
    if not os.path.lexists(found) or not found.exists():
        raise InvalidRequest(f"Path not found: {path}")
    if not (found.is_dir() or found.is_file()):
        raise InvalidRequest(f"path: {path} is neither a folder nor a file")
    return found


def _find(path: Path, options: Mapping[str, Any], services: Services) -> list[NewItem] | None:
    """Return the files of a folder when they can be found within a second, else None: the job finds them."""
    roots = [root.resolve() for root in services.settings.media_roots]
    until = time.monotonic() + _FOUND_WITHIN
    try:
        return [new_item(file) for file in walk(path, filters_of(options), roots, until=until)]
    except TimeoutError:
        return None


async def _job(services: Services, job_id: str) -> Job:
    try:
        job = await services.engine.job(job_id)
    except NotFound:
        job = None
    if job is None or job.kind != KIND:
        raise NotFound(f"Job not found: {job_id}")
    return job


async def _results(services: Services, job: Job, offset: int, limit: int | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after = -1
    skip = offset
    while limit is None or len(rows) < limit:
        items = await services.engine.items(job.id, after=after, limit=_PAGE, states=_ENDED)
        for item in items[skip:]:
            if limit is not None and len(rows) >= limit:
                break
            rows.append(result_row(item))
        skip = max(0, skip - len(items))
        if len(items) < _PAGE:
            break
        after = items[-1].idx
    return rows


def word_of(job: Job) -> str:
    """Return a job's status in the contract's words."""
    return WORDS.get(job.state.value, job.state.value)


def _processed(job: Job) -> int:
    return job.counts.finished - job.counts.cancelled


def batch_row(job: Job, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a batch as ``GET /batch/{job_id}`` shows it."""
    counts, done = job.counts, _processed(job)
    eta = None
    if not job.state.final and job.eta_at is not None and not job.planning:
        eta = max(0, round(job.eta_at - time.time()))
    return {
        "job_id": job.id,
        "batch_id": job.id,
        "status": word_of(job),
        "path": job.meta.get("path"),
        "recursive": job.options.get("recursive", True),
        "pattern": job.options.get("pattern"),
        "dry_run": job.options.get("dry_run", False),
        "priority": Priority(job.priority).name.lower(),
        "progress": {
            "total_files": counts.total,
            "processed": done,
            "success": counts.succeeded,
            "skipped": counts.skipped,
            "failed": counts.failed,
            "remaining": counts.total - done,
            "percent": round(100.0 * done / counts.total, 1) if counts.total else 0.0,
            "eta_seconds": eta,
        },
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "updated_at": rfc3339(job.updated_at),
        "completed_at": rfc3339(job.finished_at),
        "results": list(results),
        "error": job.error.get("message") if job.error else None,
    }


def result_row(item: Item) -> dict[str, Any]:
    """Return what became of one file."""
    result = item.results.get(STAGE) or {}
    row: dict[str, Any] = {"file": item.name}
    if item.state is State.FAILED:
        error = item.error or {}
        row |= {"status": "failed", "message": error.get("message", "failed"), "code": error.get("code")}
    else:
        row |= {"status": result.get("status", "success"), "message": result.get("message", "")}
        if item.state is State.SKIPPED:
            row |= {"status": "skipped", "reason": result.get("reason", result.get("skipped"))}
    spent = (item.finished_at or 0) - (item.started_at or item.finished_at or 0)
    row["duration_ms"] = result.get("duration_ms", max(0, round(spent * 1000)))
    row["timestamp"] = rfc3339(item.finished_at)
    return row
