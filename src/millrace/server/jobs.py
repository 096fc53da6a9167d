"""The canonical jobs API, for jobs of every kind: list, read, watch, submit, steer.

``GET /jobs``, ``GET /jobs/{id}``, ``DELETE /jobs/{id}`` and ``GET /jobs/stats`` carry the fields of
the tracks and documents contracts, which both claim them; a job's ``status`` is in its own
contract's words, its ``state`` in the canonical ones.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, WebSocket
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from millrace.engine.model import Job, NewJob, State
from millrace.engine.store import JobQuery
from millrace.errors import InvalidRequest, NotFound
from millrace.server import examples, submission
from millrace.server.artifacts import serve_artifact
from millrace.server.feed import event_row, event_socket, event_stream, resume_point
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply
from millrace.server.rows import artifact_row, detail_row, item_row, job_row, run_row, stats_row
from millrace.server.services import Services
from millrace.server.uploads import Form
from millrace.server.words import Words

JobId = Annotated[str, Path(max_length=128)]
Index = Annotated[int, Path(ge=0, lt=2**31)]


class Retry(BaseModel):
    """Which items to try again; all that failed unless named."""

    model_config = ConfigDict(extra="forbid")

    items: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(
        default=None, min_length=1, max_length=10_000
    )


class Change(BaseModel):
    """What can be changed of a job that has not ended."""

    model_config = ConfigDict(extra="forbid")

    priority: int | str | None = None
    parallelism: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Change:
        if self.priority is None and self.parallelism is None:
            raise ValueError("give priority, parallelism or both")
        return self


def router(services: Services, words: Words) -> APIRouter:
    """Return the routes below ``/jobs``."""
    api = APIRouter(prefix="/jobs", tags=["jobs"])
    _add_reads(api, services, words)
    _add_items(api, services)
    _add_feed(api, services)
    _add_steering(api, services, words)
    return api


def _add_reads(api: APIRouter, services: Services, words: Words) -> None:
    engine = services.engine

    @api.get("", summary="List the jobs of all kinds, newest first", **examples.LIST)
    async def list_jobs(
        status: Annotated[
            list[str] | None, Query(description="in the words of any contract; several, or with commas")
        ] = None,
        kind: Annotated[str | None, Query(description="of one workload only")] = None,
        q: Annotated[str | None, Query(description="part of the id or the label", max_length=200)] = None,
        order_by: Literal["created_at", "updated_at"] = "created_at",
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        cursor: Annotated[
            str | None, Query(description="`next_cursor` of the page before; instead of `offset`")
        ] = None,
    ) -> Response:
        """Page by ``limit`` and ``offset``, or, steadily while jobs come and go, by ``cursor``."""
        if cursor is not None and offset:
            raise InvalidRequest("cursor: cannot be combined with offset")
        given = [word for value in status or () for word in value.split(",") if word.strip()]
        query = JobQuery(
            kind=engine.workload(kind).kind if kind is not None else None,
            any_of=words.select(given),
            text=q,
            order=order_by,
            limit=limit,
            offset=offset,
            cursor=cursor,
        )
        page = await engine.jobs(query)
        return json_reply(
            {
                "jobs": [job_row(job, words) for job in page.jobs],
                "total": page.total,
                "limit": limit,
                "offset": offset,
                "next_cursor": page.next_cursor,
            }
        )

    @api.get("/stats", summary="Count jobs and items, of all kinds or of one", **examples.STATS)
    async def stats(kind: str | None = None) -> Response:
        """Count what is stored now: jobs that have expired are not in it."""
        if kind is not None:
            engine.workload(kind)
        return json_reply(stats_row(await engine.stats(kind)))

    @api.get("/{job_id}", summary="One job", **examples.DETAIL)
    async def job(job_id: JobId) -> Response:
        """Say all about a job but its items."""
        return json_reply(detail_row(await engine.job(job_id), words))


def _add_items(api: APIRouter, services: Services) -> None:
    engine = services.engine

    @api.get("/{job_id}/items", summary="Items of a job, in their order", **examples.ITEMS)
    async def items(
        job_id: JobId,
        after: Annotated[int, Query(ge=-1, lt=2**31, description="`next_after` of the page before")] = -1,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        state: Annotated[list[State] | None, Query(description="canonical states")] = None,
    ) -> Response:
        """Page through the items by ``after``: every page costs the same, however many there are."""
        await engine.job(job_id)
        found = await engine.items(job_id, after=after, limit=limit + 1, states=state or ())
        rows = [item_row(item) for item in found[:limit]]
        return json_reply({"items": rows, "next_after": rows[-1]["idx"] if len(found) > limit else None})

    @api.get("/{job_id}/items/{idx}", summary="One item, its attempts and artifacts", **examples.ITEM)
    async def item(job_id: JobId, idx: Index) -> Response:
        """Say all about an item."""
        found = await engine.item(job_id, idx)
        artifacts = await engine.artifacts(job_id, idx)
        runs = await engine.runs(job_id, idx)
        row = item_row(found)
        row["artifacts"] = [artifact_row(artifact) for artifact in artifacts]
        row["runs"] = [run_row(run) for run in runs]
        return json_reply(row)

    @api.get("/{job_id}/artifacts", summary="What a job has published so far", **examples.ARTIFACTS)
    async def artifacts(job_id: JobId) -> Response:
        """List the artifacts of all items."""
        await engine.job(job_id)
        found = await engine.artifacts(job_id)
        return json_reply({"artifacts": [artifact_row(artifact) for artifact in found]})

    @api.head("/{job_id}/items/{idx}/artifacts/{name}", include_in_schema=False)
    @api.get("/{job_id}/items/{idx}/artifacts/{name}", summary="Download an artifact", **examples.ARTIFACT)
    async def artifact(request: Request, job_id: JobId, idx: Index, name: str) -> Response:
        """Send a file: whole, in part (``Range``), or not again (``If-None-Match``)."""
        found = await engine.artifact(job_id, idx, name)
        return await serve_artifact(request, services.blobs, found)


def _add_feed(api: APIRouter, services: Services) -> None:
    engine = services.engine

    @api.get("/{job_id}/events", summary="A job's events, as they happen", **examples.EVENTS)
    async def events(
        request: Request,
        job_id: JobId,
        after: Annotated[int, Query(ge=0, lt=2**62, description="as Last-Event-ID")] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000, description="of a JSON answer")] = 1000,
    ) -> Response:
        """Stream Server-Sent Events from behind ``Last-Event-ID`` on, until the job has finished.

        The WebSocket ``/jobs/{job_id}/ws`` (``?after=``) sends the same, one JSON object a frame. Live
        progress has no id. With ``Accept: application/json`` the log is answered as a page.
        """
        job = await engine.job(job_id)
        if "application/json" in request.headers.get("accept", ""):
            found = await engine.events(job_id, after=resume_point(request), limit=limit)
            return json_reply({"events": [event_row(event) for event in found], "last_event": job.last_event})
        return await event_stream(request, services, job)

    @api.websocket("/{job_id}/ws")
    async def socket(
        websocket: WebSocket, job_id: JobId, after: Annotated[int, Query(ge=0, lt=2**62)] = 0
    ) -> None:
        """Send the same events as JSON frames; close with 1000 when the job has finished."""
        try:
            job = await engine.job(job_id)
        except NotFound as error:
            await websocket.send_denial_response(
                json_reply({"detail": error.message, "code": error.code, "status": 404}, 404)
            )
            return
        await event_socket(websocket, services, job, after)


def _add_steering(api: APIRouter, services: Services, words: Words) -> None:
    engine = services.engine

    @api.post("", status_code=202, summary="Submit a job of any kind", **examples.SUBMIT)
    async def submit(request: Request) -> Response:
        """Create a job from JSON, or from a form with the field ``job`` and any number of files.

        A form may name whom to tell in fields ``notify`` of its own.

        With an ``Idempotency-Key`` the same request again answers with the same job.
        """
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            async with services.uploads.receive(request) as form:
                raw = form.get("job")
                if raw is None:
                    raise InvalidRequest("job: the form must have a field of this name, with the job as JSON")
                job, created = await _submit(request, raw.encode(), form.digest, form)
                if created:
                    form.keep()
        else:
            raw_body = await request.body()
            job, created = await _submit(request, raw_body, await body_digest(request), None)
        headers = {"Location": f"/jobs/{job.id}"}
        if not created:
            headers["Idempotent-Replayed"] = "true"
        return json_reply(detail_row(job, words), 202, headers)

    async def _submit(request: Request, raw: bytes, digest: str, form: Form | None) -> tuple[Job, bool]:
        key = idempotency(request, digest)
        new = await asyncio.to_thread(_prepare, services, raw, key, form)
        return await engine.submit(new)

    @api.post("/{job_id}/retry", status_code=202, summary="Try failed items again", **examples.RETRY)
    async def retry(job_id: JobId, body: Retry | None = None) -> Response:
        """Queue the failed items again, each at the stage that failed; cancelled ones too where named."""
        named = body.items if body is not None else None
        for idx in named or ():
            await engine.item(job_id, idx)
        return json_reply(detail_row(await engine.retry(job_id, named), words), 202)

    @api.delete("/{job_id}", summary="Cancel a job, or delete one that has ended", **examples.CANCEL)
    async def cancel(
        job_id: JobId,
        purge: Annotated[
            bool, Query(description="also delete the job, its uploads and its artifacts")
        ] = False,
    ) -> Response:
        """Stop what runs, drop what waits; answer when nothing of it runs any more.

        A job that has ended already stays as it is. What was finished before keeps its results.
        """
        before = await engine.job(job_id)
        job = await engine.cancel(job_id)
        row = detail_row(job, words)
        if before.state.final:
            row["message"] = "Job had ended before; nothing was changed"
        else:
            row["message"] = "Job cancelled successfully"
        row["processed_before_cancel"] = job.counts.finished - job.counts.cancelled
        if purge:
            await engine.delete(job_id)
            row["message"] = "Job deleted"
        return json_reply(row)

    @api.patch("/{job_id}", summary="Change a job's priority or parallelism", **examples.PATCH)
    async def change(job_id: JobId, body: Change) -> Response:
        """Take effect from the next item on."""
        priority = submission.priority_of(body.priority) if body.priority is not None else None
        job = await engine.update(job_id, priority=priority, parallelism=body.parallelism)
        return json_reply(detail_row(job, words))


def _prepare(services: Services, raw: bytes, key: tuple[str, str] | None, form: Form | None) -> NewJob:
    body = submission.decode(raw)
    if form is not None and "notify" not in body and (named := form.all("notify")):
        body["notify"] = named
    return submission.prepare(services, body, key, form)
