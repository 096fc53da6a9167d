"""The batch API of images over HTTP and WebSocket: ``contracts/images.md``, and what goes beyond it.

Beyond the document: multipart uploads on the same path, one image's findings, its processed file
and thumbnail, and cancelling.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response, WebSocket, WebSocketDisconnect
from starlette.responses import StreamingResponse

from millrace.engine.model import Artifact, Item, Job, State
from millrace.engine.store import JobQuery
from millrace.errors import NotFound
from millrace.server.artifacts import serve_artifact
from millrace.server.replies import json_reply
from millrace.workloads.images import KIND, view
from millrace.workloads.images.pipeline import THUMBNAIL
from millrace.workloads.images.settings import ImagesSettings
from millrace.workloads.images.submission import Submission
from millrace.workloads.images.watching import Watchers

if TYPE_CHECKING:
    from millrace.server.services import Services


_PAGE = 100
Index = Annotated[int, Path(ge=0, description="the image's place in the batch, from 0")]


def router(services: Services, settings: ImagesSettings) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["images"])
    engine = services.engine
    watchers = Watchers(engine)
    submission = Submission(services, settings)

    async def job_of(job_id: str) -> Job:
        try:
            job = await engine.job(job_id)
        except NotFound:
            job = None
        if job is None or job.kind != KIND:
            raise NotFound(f"Job not found: {job_id}")
        return job

    async def items_of(job: Job) -> list[Item]:
        return await engine.items(job.id, limit=max(1, job.counts.total))

    async def artifact_of(job: Job, index: int, name: str | None) -> Artifact:
        if index >= job.counts.total:
            raise NotFound(f"Image not found: {index}")
        item = await engine.item(job.id, index)
        if item.state is not State.SUCCEEDED and name is None:
            raise NotFound(f"Image {index} is {view.image(item)['status']}: there is no processed file")
        wanted = name or view.processed_path(item).partition("/")[2]
        return await engine.artifact(job.id, index, wanted)

    @api.post("/api/v1/batch", status_code=201, openapi_extra=REQUEST_BODY)
    async def create_batch(request: Request) -> Response:
        """Create a batch of images, given as URLs and base64 (JSON) or as files (multipart)."""
        job, created = await submission.accept(request)
        count = job.counts.total
        body = {
            "job_id": job.id,
            "status": "pending" if created else view.WORDS[job.state.value],
            "created_at": view.timestamp(job.created_at),
            "message": f"Batch job created with {count} image{'s' if count != 1 else ''}",
        }
        return json_reply(body, 201)

    @api.get("/api/v1/batch")
    async def list_batches(
        limit: Annotated[int | None, Query(ge=1, description="at most so many; all by default")] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        """List the batches, newest first, each with its images; `total` counts all there are."""
        first = await engine.jobs(JobQuery(kind=KIND, limit=min(limit or _PAGE, _PAGE), offset=offset))

        async def body() -> AsyncIterator[bytes]:
            yield b'{"jobs":['
            page, left, comma = first, limit, b""
            while page.jobs:
                for job in page.jobs[:left]:
                    yield comma + orjson.dumps(view.status(job, await items_of(job)))
                    comma = b","
                left = None if left is None else left - len(page.jobs)
                if page.next_cursor is None or (left is not None and left <= 0):
                    break
                page = await engine.jobs(JobQuery(kind=KIND, limit=_PAGE, cursor=page.next_cursor))
            yield b'],"total":%d}' % first.total

        return StreamingResponse(body(), media_type="application/json")

    @api.get("/api/v1/batch/{job_id}")
    async def batch_status(job_id: str) -> Response:
        """Tell how far a batch is, image by image."""
        job = await job_of(job_id)
        return json_reply(view.status(job, await items_of(job)))

    @api.post("/api/v1/batch/{job_id}/cancel")
    async def cancel_batch(job_id: str) -> Response:
        """Stop a batch: what runs is killed, what was processed stays. A finished one stays as it is."""
        await job_of(job_id)
        job = await engine.cancel(job_id)
        return json_reply(view.status(job, await items_of(job)))

    @api.get("/api/v1/batch/{job_id}/images/{index}")
    async def image_detail(job_id: str, index: Index) -> Response:
        """Tell everything found out about one image, and which earlier one of the batch it repeats."""
        from millrace.workloads.images.analysis import duplicates

        job = await job_of(job_id)
        items = await items_of(job)
        if index >= len(items):
            raise NotFound(f"Image not found: {index}")
        repeats = await asyncio.to_thread(duplicates, *view.marks(items))
        return json_reply(view.detail(job, items[index], repeats[index]))

    @api.api_route("/api/v1/batch/{job_id}/images/{index}/file", methods=["GET", "HEAD"])
    async def processed_file(request: Request, job_id: str, index: Index) -> Response:
        """Download the processed image."""
        artifact = await artifact_of(await job_of(job_id), index, None)
        return await serve_artifact(request, services.blobs, artifact)

    @api.api_route("/api/v1/batch/{job_id}/images/{index}/thumbnail", methods=["GET", "HEAD"])
    async def thumbnail(request: Request, job_id: str, index: Index) -> Response:
        """Show a JPEG of at most 512 pixels a side, upright."""
        artifact = await artifact_of(await job_of(job_id), index, THUMBNAIL)
        return await serve_artifact(request, services.blobs, artifact)

    @api.api_route("/api/v1/files/{trace_id}/{name}", methods=["GET", "HEAD"])
    async def by_processed_path(request: Request, trace_id: str, name: str) -> Response:
        """Download a processed image by its `processed_path`."""
        try:
            item = await engine.item_by_uid(trace_id)
            job = await job_of(item.job)
            artifact = await artifact_of(job, item.idx, None)
        except NotFound:
            artifact = None
        if artifact is None or artifact.name != name:
            raise NotFound(f"File not found: {trace_id}/{name}")
        return await serve_artifact(request, services.blobs, artifact)

    @api.websocket("/api/v1/batch/{job_id}/ws")
    async def watch_batch(socket: WebSocket, job_id: str) -> None:
        try:
            job = await job_of(job_id)
        except NotFound as error:
            await socket.send_denial_response(json_reply({"error": error.message, "status": 404}, 404))
            return
        async with watchers.watch(job) as messages:
            await socket.accept()
            await _send_all(socket, messages, services.closing)

    return api


async def _send_all(socket: WebSocket, messages: asyncio.Queue[bytes | None], closing: asyncio.Event) -> None:
    """Send messages until the job is complete, the client leaves or the server stops."""
    gone = asyncio.ensure_future(_hang_up(socket))
    stop = asyncio.ensure_future(closing.wait())
    pull: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            pull = asyncio.ensure_future(messages.get())
            await asyncio.wait({pull, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if not pull.done():
                await socket.close(1001)
                return
            message = pull.result()
            if message is None:
                await socket.close(1000)
                return
            await socket.send_text(message.decode())
    except (WebSocketDisconnect, RuntimeError):
        return  # it went away between two messages
    finally:
        for task in (gone, stop, pull):
            if task is not None:
                task.cancel()


async def _hang_up(socket: WebSocket) -> None:
    """Return when the client has closed; what it says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "description": "either `url` or `base64`",
                                "properties": {
                                    "url": {"type": "string", "description": "where to download it from"},
                                    "base64": {"type": "string", "description": "its bytes, or a data URL"},
                                    "name": {"type": "string", "description": "its file name"},
                                },
                            },
                        }
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "url": {"type": "array", "items": {"type": "string"}},
                    },
                }
            },
        },
    }
}
