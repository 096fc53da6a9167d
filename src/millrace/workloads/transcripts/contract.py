"""The HTTP contract of transcripts: ``/v2/batches`` and, for a single file, ``/v2/jobs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from millrace.engine.model import Job, NewItem, NewJob
from millrace.errors import InvalidRequest, NotFound
from millrace.fetch import FetchPolicy
from millrace.server.artifacts import serve_artifact
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.uploads import Form
from millrace.workloads.transcripts import examples, submission, view
from millrace.workloads.transcripts.projection import KIND, Projection
from millrace.workloads.transcripts.settings import TranscriptsSettings

BatchId = Annotated[str, Path(max_length=128)]
Name = Annotated[str, Path(max_length=255)]


def router(services: Services, settings: TranscriptsSettings) -> APIRouter:
    """Return the routes below ``/v2``; while the application runs, its batches are also kept on disk."""
    projection = Projection(
        services.engine,
        services.blobs,
        services.settings.tmp_dir / "batches",
        sweep=services.settings.retention.sweep,
    )
    api = APIRouter(prefix="/v2", tags=["transcripts"], lifespan=lambda _: projection.running())
    contract = _Contract(services, projection)
    _add_batches(api, contract)
    _add_jobs(api, contract)
    return api


def _add_batches(api: APIRouter, contract: _Contract) -> None:
    @api.post("/batches", status_code=202, summary="Transcribe up to ten recordings", **examples.CREATE_BATCH)
    async def create_batch(request: Request) -> Response:
        return await contract.create(request, single=False)

    @api.get("/batches/{batch_id}", summary="How far a batch is", **examples.BATCH)
    async def batch(batch_id: BatchId) -> Response:
        return json_reply({"status": "ok", "data": await contract.batch(batch_id)})

    @api.get(
        "/batches/{batch_id}/items/{idx}/artifacts/{name}",
        summary="Download what was made of a recording",
        **examples.ARTIFACT,
    )
    async def artifact(
        request: Request, batch_id: BatchId, idx: Annotated[int, Path(ge=0, lt=2**31)], name: Name
    ) -> Response:
        return await contract.artifact(request, await contract.job(batch_id, single=False), idx, name)

    @api.post("/batches/{batch_id}/cancel", summary="Stop a batch", **examples.BATCH)
    async def cancel_batch(batch_id: BatchId) -> Response:
        await contract.cancel(batch_id, single=False)
        return json_reply({"status": "ok", "data": await contract.batch(batch_id)})


def _add_jobs(api: APIRouter, contract: _Contract) -> None:
    @api.post("/jobs", status_code=202, summary="Transcribe one recording", **examples.CREATE_JOB)
    async def create_job(request: Request) -> Response:
        return await contract.create(request, single=True)

    @api.get("/jobs/{job_id}", summary="How far a job is", **examples.JOB)
    async def job(job_id: BatchId) -> Response:
        return json_reply({"status": "ok", "data": await contract.single(job_id)})

    @api.get(
        "/jobs/{job_id}/artifacts/{name}",
        summary="Download what was made of the recording",
        **examples.ARTIFACT,
    )
    async def job_artifact(request: Request, job_id: BatchId, name: Name) -> Response:
        return await contract.artifact(request, await contract.job(job_id, single=True), 0, name)

    @api.post("/jobs/{job_id}/cancel", summary="Stop a job", **examples.JOB)
    async def cancel_job(job_id: BatchId) -> Response:
        await contract.cancel(job_id, single=True)
        return json_reply({"status": "ok", "data": await contract.single(job_id)})


class _Contract:
    """What the handlers do, over the engine."""

    def __init__(self, services: Services, projection: Projection) -> None:
        self._services = services
        self._engine = services.engine
        self._projection = projection
        self._policy = FetchPolicy.of(services.settings.fetch.model_dump())

    async def create(self, request: Request, *, single: bool) -> Response:
        """Take a request as a form with files, or as JSON, and answer 202."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            key = idempotency(request, await body_digest(request))
            parsed = _object(_parsed(await request.body(), "body"), "body")
            return await self._submit(self._new(request, parsed, None, key, single), single)
        if kind != "multipart/form-data":
            raise InvalidRequest(
                f"the Content-Type must be multipart/form-data or application/json, not {kind or 'missing'}"
            )
        files = submission.MAX_ITEMS if not single else 1
        async with self._services.uploads.receive(request, files={"audio"}, max_files=files) as form:
            key = idempotency(request, form.digest)
            body: dict[str, Any] = dict(form.fields)
            for name in ("items", "options"):
                if name in body:
                    body[name] = _parsed(body[name], name) if body[name].strip() else None
            new = self._new(request, body, form, key, single)
            job, created = await self._engine.submit(new)
            if created:
                form.keep()
        return self._accepted(job, single)

    def _new(
        self,
        request: Request,
        body: dict[str, Any],
        form: Form | None,
        key: tuple[str, str] | None,
        single: bool,
    ) -> NewJob:
        owns = form.owns if form is not None else ()
        files = form.uploads("audio") if form is not None else []
        options = body.get("options")
        if not single:
            chosen = submission.options_of(options, request.query_params)
            items = submission.items_of(body.get("items"), files, self._policy)
            return submission.new_batch(items, chosen, idempotency=key, owns=owns)
        kind, chosen = submission.typed_options(body.get("type"), options, request.query_params)
        item = self._one(body, files)
        return submission.new_batch([item], chosen, idempotency=key, owns=owns, job_type=kind)

    def _one(self, body: dict[str, Any], files: Sequence[submission.UploadedFile]) -> NewItem:
        given = [name for name in ("audioPath", "audioUrl") if body.get(name) is not None]
        if len(given) + len(files) != 1:
            raise InvalidRequest("audio: give exactly one of the file audio, audioPath or audioUrl")
        if files:
            return submission.upload_item(files[0])
        if given[0] == "audioPath":
            return submission.path_item(body["audioPath"], "audioPath")
        return submission.url_item(body["audioUrl"], "audioUrl", self._policy)

    async def _submit(self, new: NewJob, single: bool) -> Response:
        job, _ = await self._engine.submit(new)
        return self._accepted(job, single)

    def _accepted(self, job: Job, single: bool) -> Response:
        self._projection.follow(job.id)
        name, path = ("job", "jobs") if single else ("batch", "batches")
        data = {f"{name}Id": job.id, "statusUrl": f"/v2/{path}/{job.id}"}
        return json_reply({"status": "ok", "data": data}, 202, {f"x-{name}-id": job.id})

    async def job(self, job_id: str, *, single: bool) -> Job:
        """Return a job of this workload, of the API it was made with; else NotFound."""
        what = "job" if single else "batch"
        try:
            job = await self._engine.job(job_id)
        except NotFound:
            raise NotFound(f"there is no {what} {job_id[:128]!r}, or it has expired") from None
        if job.kind != KIND or bool(job.meta.get("type")) != single:
            raise NotFound(f"there is no {what} {job_id[:128]!r}, or it has expired")
        return job

    async def batch(self, job_id: str) -> dict[str, Any]:
        """Return a batch; its files on disk say the same by then."""
        job = await self.job(job_id, single=False)
        items = await self._engine.items(job.id, limit=submission.MAX_ITEMS)
        artifacts = await self._engine.artifacts(job.id)
        await self._projection.write(job, items, artifacts)
        return view.batch_view(job, items, artifacts, self._queue())

    async def single(self, job_id: str) -> dict[str, Any]:
        """Return a job of one file."""
        job = await self.job(job_id, single=True)
        item = await self._engine.item(job.id, 0)
        artifacts = await self._engine.artifacts(job.id, 0)
        await self._projection.write(job, [item], artifacts)
        return view.job_view(job, item, artifacts, self._queue())

    def _queue(self) -> view.Queue:
        status = self._engine.status()
        return view.Queue(status.waiting.get(KIND, 0), status.running.get(KIND, 0))

    async def artifact(self, request: Request, job: Job, idx: int, name: str) -> Response:
        """Serve a file; NotFound while it is not made."""
        if name not in view.PUBLIC_NAMES:
            raise NotFound(
                f"there is no artifact {name!r}; there are: {', '.join(sorted(view.PUBLIC_NAMES))}"
            )
        try:
            artifact = await self._engine.artifact(job.id, idx, name)
        except NotFound:
            raise NotFound(f"{name} of item {idx} is not ready, or there is no such item") from None
        return await serve_artifact(request, self._services.blobs, artifact)

    async def cancel(self, job_id: str, *, single: bool) -> None:
        """Stop what runs, drop what waits; nothing changes where all had ended."""
        job = await self.job(job_id, single=single)
        await self._engine.cancel(job.id)


def _parsed(raw: bytes | str, where: str) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where}: is not valid JSON: {error}") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: must be a JSON object")
    return value
