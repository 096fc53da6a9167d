"""The HTTP contract of sync: ``/api/v1/analysis/…``, ``/api/v1/reports/…`` and ``/api/v1/health``."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, Response

from millrace import __version__, fetch
from millrace.engine.model import Item, Job, Priority
from millrace.errors import BadInput, Conflict, InvalidRequest, NotFound
from millrace.server.artifacts import serve_artifact
from millrace.server.idempotency import idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.uploads import Form
from millrace.workloads.sync import KIND, views
from millrace.workloads.sync.methods import (
    AI_MODELS,
    DEFAULT_METHODS,
    DESCRIPTIONS,
    LABELS,
    METHODS,
    MODEL_DESCRIPTIONS,
    MODEL_LABELS,
)
from millrace.workloads.sync.pairs import read_csv
from millrace.workloads.sync.report import PLOT, html
from millrace.workloads.sync.settings import SyncSettings
from millrace.workloads.sync.single import add_one_pair, described_form
from millrace.workloads.sync.submission import Site, new_job

Word = Literal["low", "normal", "high"]
_PRIORITIES: dict[str, Priority] = {"low": Priority.LOW, "normal": Priority.NORMAL, "high": Priority.HIGH}
_PAGE = 1000
_MAX_TEXT = 4096


class Start(BaseModel):
    """How a batch is to be run."""

    model_config = ConfigDict(extra="ignore")

    parallel_jobs: Annotated[int, Field(ge=1, le=32)] = 2
    priority: Word | None = None
    notification_webhook: str | None = None


class _Face:
    """What the handlers share: the services, and the checks of what callers name."""

    def __init__(self, services: Services, settings: SyncSettings) -> None:
        self.services = services
        self.engine = services.engine
        self.settings = settings
        self.site = Site.of(services.settings, settings)

    def webhook(self, url: str | None) -> list[str]:
        """Return the URL in a list if there is one; InvalidRequest if webhooks may not go there."""
        if not url:
            return []
        rules = self.services.settings.webhooks
        try:
            fetch.parse(url, fetch.FetchPolicy(allow_private=rules.allow_private, ports=rules.ports))
        except BadInput as error:
            raise InvalidRequest(f"notification_webhook: {error.message}") from error
        return [url]

    async def batch(self, batch_id: str) -> Job:
        """Return a batch; NotFound in the contract's words."""
        try:
            job = await self.engine.job(batch_id)
        except NotFound:
            job = None
        if job is None or job.kind != KIND:
            raise NotFound(f"Batch {batch_id} not found")
        return job

    async def items(self, job: Job) -> list[Item]:
        """Return all items of a batch, in order."""
        found: list[Item] = []
        while len(found) < job.counts.total:
            page = await self.engine.items(job.id, after=found[-1].idx if found else -1, limit=_PAGE)
            if not page:
                break
            found += page
        return found


def router(services: Services, settings: SyncSettings) -> APIRouter:
    """Return the routes of the contract."""
    api = APIRouter(prefix="/api/v1", tags=["sync"])
    face = _Face(services, settings)
    _add_about(api, face)
    _add_batches(api, face)
    _add_results(api, face)
    add_one_pair(api, services, settings)
    return api


def _add_about(api: APIRouter, face: _Face) -> None:
    @api.get("/health", summary="Whether analyses can be taken")
    async def health() -> Response:
        """Answer 200 while the server takes work."""
        status = face.engine.status()
        return json_reply(
            {
                "success": True,
                "status": "healthy" if status.failure is None else "degraded",
                "service": "sync",
                "version": __version__,
                "queue": {"pending": status.waiting.get(KIND, 0), "processing": status.running.get(KIND, 0)},
                "timestamp": views.timestamp(),
            },
            200 if status.failure is None else 503,
        )

    @api.get("/analysis/methods", summary="The methods and AI models, and which can be used here")
    async def methods() -> Response:
        """List what the columns ``methods`` and ``ai_model`` may say."""
        models = []
        for name in AI_MODELS:
            missing = await asyncio.to_thread(face.site.places.missing, name)
            models.append(
                {
                    "name": name,
                    "label": MODEL_LABELS[name],
                    "description": MODEL_DESCRIPTIONS[name],
                    "available": missing is None,
                    **({"how_to_get_it": missing} if missing else {}),
                }
            )
        return json_reply(
            {
                "success": True,
                "methods": [
                    {
                        "name": name,
                        "label": LABELS.get(name, "AI"),
                        "description": DESCRIPTIONS[name],
                        "available": True,
                    }
                    for name in METHODS
                ],
                "ai_models": models,
                "default_methods": list(DEFAULT_METHODS),
                "timestamp": views.timestamp(),
            }
        )


def _add_batches(api: APIRouter, face: _Face) -> None:
    engine = face.engine

    @api.post(
        "/analysis/batch/upload-csv",
        summary="Upload a CSV of pairs; nothing runs before the batch is started",
        openapi_extra=described_form(
            {"file": "binary", "description": "", "priority": "", "notification_webhook": ""}
        ),
    )
    async def upload_csv(request: Request) -> Response:
        """Read a CSV with ``master_file`` and ``dub_file`` columns into a batch that waits for its start."""
        async with face.services.uploads.receive(
            request, files={"file"}, max_files=1, max_file_bytes=face.settings.max_csv_bytes
        ) as form:
            if not form.uploads("file"):
                raise InvalidRequest("file: a CSV file is needed")
            raw = await asyncio.to_thread(_content, face.services, form)
            most = face.settings.max_items
            pairs = await asyncio.to_thread(
                read_csv, raw, face.site.reference, face.site.places.missing, most
            )
            job, _ = await engine.submit(
                new_job(
                    pairs,
                    held=True,
                    label=_text(form.get("description"), "description"),
                    priority=_priority(form.get("priority")),
                    webhooks=face.webhook(form.get("notification_webhook")),
                    key=idempotency(request, form.digest),
                )
            )
        return json_reply(views.uploaded(job, await face.items(job)))

    @api.post("/analysis/batch/{batch_id}/start", summary="Start an uploaded batch")
    async def start(batch_id: str, order: Start | None = None) -> Response:
        """Run a batch, ``parallel_jobs`` (1 to 32, default 2) of its items at once."""
        order = order or Start()
        job = await face.batch(batch_id)
        hooks = face.webhook(order.notification_webhook)
        if not job.held:
            raise InvalidRequest(f"Batch {batch_id} was already started; it is {views.status_word(job)}")
        if job.state.final:
            raise InvalidRequest(f"Batch {batch_id} is {views.status_word(job)} and cannot be started")
        if hooks and hooks[0] not in job.meta["webhooks"]:
            await engine.update(batch_id, meta={**job.meta, "webhooks": [*job.meta["webhooks"], *hooks]})
        priority = _PRIORITIES[order.priority] if order.priority else None
        try:
            job = await engine.release(batch_id, parallelism=order.parallel_jobs, priority=priority)
        except Conflict as error:
            raise InvalidRequest(f"Batch {batch_id} was already started") from error
        shown = views.progress(job)
        left = job.counts.queued + job.counts.running
        shown["items_processing"] = max(shown["items_processing"], min(order.parallel_jobs, left))
        jobs = f"{order.parallel_jobs} parallel job{'s' if order.parallel_jobs != 1 else ''}"
        return json_reply({**shown, "message": f"Batch processing started with {jobs}"})

    @api.delete("/analysis/batch/{batch_id}", summary="Cancel a batch")
    async def cancel(batch_id: str) -> Response:
        """Drop what waits and stop what runs; what was finished keeps its results."""
        job = await face.batch(batch_id)
        if job.state.final:
            message = f"Batch is already {views.status_word(job)}; nothing was cancelled"
        else:
            job = await engine.cancel(batch_id)
            message = f"Batch cancelled; {job.counts.cancelled} of {job.counts.total} items were not finished"
        return json_reply({**views.progress(job), "message": message})


def _add_results(api: APIRouter, face: _Face) -> None:
    engine = face.engine

    @api.get("/analysis/batch/{batch_id}/status", summary="How far a batch is")
    async def status(batch_id: str, include_details: bool = False) -> Response:
        """Return the counters of a batch, and with ``include_details`` each of its items."""
        job = await face.batch(batch_id)
        shown = views.progress(job)
        if include_details:
            shown["items_details"] = [views.detail(job, item) for item in await face.items(job)]
        return json_reply(shown)

    @api.get("/analysis/batch/{batch_id}/results", summary="The results so far, as JSON or CSV")
    async def results(
        request: Request,
        batch_id: str,
        export_format: Annotated[Literal["json", "csv"] | None, Query()] = None,
    ) -> Response:
        """Return the results; CSV with ``export_format=csv`` or ``Accept: text/csv``."""
        accepted = request.headers.get("accept", "")
        if export_format is None and "text/csv" in accepted and "application/json" not in accepted:
            export_format = "csv"
        return await report(request, f"{batch_id}.{export_format or 'json'}")

    @api.get("/reports/{name}", summary="A batch's report: <batch>.json, <batch>.csv or <batch>.html")
    async def report(request: Request, name: str) -> Response:
        """Return the results of a batch in the form that the ending asks for."""
        batch_id, _, ending = name.rpartition(".")
        if ending not in ("json", "csv", "html"):
            raise NotFound(f"Report {name} not found; there are <batch>.json, <batch>.csv and <batch>.html")
        job = await face.batch(batch_id)
        items = await face.items(job)
        if ending == "csv":
            headers = {"Content-Disposition": f'attachment; filename="{job.id}.csv"'}
            text = await asyncio.to_thread(views.as_csv, job, items)
            return Response(text, 200, headers, media_type="text/csv; charset=utf-8")
        artifacts = await engine.artifacts(job.id)
        found = await asyncio.to_thread(views.results, job, items, artifacts)
        if ending == "json":
            return json_reply(found)
        plots = {views.item_id(artifact.idx): artifact.key for artifact in artifacts if artifact.name == PLOT}
        page = await asyncio.to_thread(_page, face.services, found, plots, job.label)
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    @api.get("/analysis/batch/{batch_id}/items/{item_id}/{name}", summary="A file of an item: plot.png, …")
    async def file(request: Request, batch_id: str, item_id: str, name: str) -> Response:
        """Return the picture of an item's answer, or its repaired dub."""
        job = await face.batch(batch_id)
        number = re.fullmatch(r"item_(\d{3,9})", item_id)
        if number is None:
            raise NotFound(f"Item {item_id} not found in batch {batch_id}")
        artifact = await engine.artifact(job.id, int(number[1]) - 1, name)
        return await serve_artifact(request, face.services.blobs, artifact)


_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _page(services: Services, found: dict[str, Any], plots: dict[str, str], label: str) -> str:
    pictures = {item: b"".join(services.blobs.chunks(key)) for item, key in plots.items()}
    return html(found, pictures, label)


def _priority(word: str | None) -> Priority:
    if not word:
        return Priority.NORMAL
    if word.lower() not in _PRIORITIES:
        raise InvalidRequest(f"priority: must be one of {', '.join(_PRIORITIES)}, not {word[:40]!r}")
    return _PRIORITIES[word.lower()]


def _text(value: str | None, field: str) -> str:
    if value is not None and len(value) > _MAX_TEXT:
        raise InvalidRequest(f"{field}: must be at most {_MAX_TEXT} characters")
    return value or ""


def _content(services: Services, form: Form) -> bytes:
    return b"".join(services.blobs.chunks(form.uploads("file")[0].key))
