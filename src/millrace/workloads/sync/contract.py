"""The HTTP contract of sync: ``/api/v1/analysis/…``, ``/api/v1/reports/…`` and ``/api/v1/health``."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, Response

from millrace import __version__, fetch, sources
from millrace.engine.model import Item, Job, NewItem, NewJob, Priority, State
from millrace.errors import BadInput, Conflict, InvalidRequest, NotFound
from millrace.server.artifacts import serve_artifact
from millrace.server.idempotency import body_digest, idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.submission import decode
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
    ModelPlaces,
)
from millrace.workloads.sync.pairs import Pair, check, read_csv
from millrace.workloads.sync.report import PLOT, html
from millrace.workloads.sync.settings import SyncSettings

Word = Literal["low", "normal", "high"]
_PRIORITIES: dict[str, Priority] = {"low": Priority.LOW, "normal": Priority.NORMAL, "high": Priority.HIGH}
_PAGE = 1000
_MAX_TEXT = 4096
_PAIR_FIELDS = frozenset(
    ("master_file", "dub_file", "methods", "ai_model", "description", "tags", "repair", "timeout_seconds",
     "master_stream", "dub_stream", "master_channel", "dub_channel")
)  # fmt: skip


class Start(BaseModel):
    """How a batch is to be run."""

    model_config = ConfigDict(extra="ignore")

    parallel_jobs: Annotated[int, Field(ge=1, le=32)] = 2
    priority: Word | None = None
    notification_webhook: str | None = None


class _Contract:
    """What the handlers share: the services, and the checks of what callers name."""

    def __init__(self, services: Services, settings: SyncSettings) -> None:
        self.services = services
        self.engine = services.engine
        self.settings = settings
        self.places = ModelPlaces.of(settings.model_dump(), services.settings.models_dir)

    def reference(self, given: str) -> dict[str, Any]:
        """Return the input reference of a path or URL."""
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", given):
            return sources.url_reference(
                given, fetch.FetchPolicy.of(self.services.settings.fetch.model_dump())
            )
        return sources.path_reference(given, self.services.settings.media_roots)

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

    async def submit(
        self, pairs: Sequence[Pair], *, held: bool, label: str, priority: Priority, webhooks: list[str],
        key: tuple[str, str] | None, owns: Sequence[str] = (),
    ) -> tuple[Job, bool]:  # fmt: skip
        """Create a batch of these pairs."""
        return await self.engine.submit(
            NewJob(
                id=f"batch_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}",
                kind=KIND,
                items=[NewItem(name=_name(pair), input=pair.as_input()) for pair in pairs],
                label=label,
                priority=priority,
                held=held,
                meta={"webhooks": webhooks},
                idempotency=key,
                owns=tuple(owns),
            )
        )


def _name(pair: Pair) -> str:
    return f"{pair.dub_file.rpartition('/')[2]} against {pair.master_file.rpartition('/')[2]}"


def router(services: Services, settings: SyncSettings) -> APIRouter:
    """Return the routes of the contract."""
    api = APIRouter(prefix="/api/v1", tags=["sync"])
    contract = _Contract(services, settings)
    _add_about(api, contract)
    _add_batches(api, contract)
    _add_results(api, contract)
    _add_one_pair(api, contract)
    return api


def _add_about(api: APIRouter, contract: _Contract) -> None:
    @api.get("/health", summary="Whether analyses can be taken")
    async def health() -> Response:
        """Answer 200 while the server takes work."""
        status = contract.engine.status()
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
            missing = await asyncio.to_thread(contract.places.missing, name)
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


def _add_batches(api: APIRouter, contract: _Contract) -> None:
    engine = contract.engine

    @api.post(
        "/analysis/batch/upload-csv",
        summary="Upload a CSV of pairs; nothing runs before the batch is started",
        openapi_extra=_form(
            {"file": "binary", "description": "", "priority": "", "notification_webhook": ""}
        ),
    )
    async def upload_csv(request: Request) -> Response:
        """Read a CSV with ``master_file`` and ``dub_file`` columns into a batch that waits for its start."""
        async with contract.services.uploads.receive(
            request, files={"file"}, max_files=1, max_file_bytes=contract.settings.max_csv_bytes
        ) as form:
            if not form.uploads("file"):
                raise InvalidRequest("file: a CSV file is needed")
            raw = await asyncio.to_thread(_content, contract.services, form)
            most = contract.settings.max_items
            pairs = await asyncio.to_thread(read_csv, raw, contract.reference, contract.places.missing, most)
            job, _ = await contract.submit(
                pairs,
                held=True,
                label=_text(form.get("description"), "description"),
                priority=_priority(form.get("priority")),
                webhooks=contract.webhook(form.get("notification_webhook")),
                key=idempotency(request, form.digest),
            )
        return json_reply(views.uploaded(job, await contract.items(job)))

    @api.post("/analysis/batch/{batch_id}/start", summary="Start an uploaded batch")
    async def start(batch_id: str, order: Start | None = None) -> Response:
        """Run a batch, ``parallel_jobs`` (1 to 32, default 2) of its items at once."""
        order = order or Start()
        job = await contract.batch(batch_id)
        hooks = contract.webhook(order.notification_webhook)
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
        job = await contract.batch(batch_id)
        if job.state.final:
            message = f"Batch is already {views.status_word(job)}; nothing was cancelled"
        else:
            job = await engine.cancel(batch_id)
            message = f"Batch cancelled; {job.counts.cancelled} of {job.counts.total} items were not finished"
        return json_reply({**views.progress(job), "message": message})


def _add_results(api: APIRouter, contract: _Contract) -> None:
    engine = contract.engine

    @api.get("/analysis/batch/{batch_id}/status", summary="How far a batch is")
    async def status(batch_id: str, include_details: bool = False) -> Response:
        """Return the counters of a batch, and with ``include_details`` each of its items."""
        job = await contract.batch(batch_id)
        shown = views.progress(job)
        if include_details:
            shown["items_details"] = [views.detail(job, item) for item in await contract.items(job)]
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
        job = await contract.batch(batch_id)
        items = await contract.items(job)
        if ending == "csv":
            headers = {"Content-Disposition": f'attachment; filename="{job.id}.csv"'}
            text = await asyncio.to_thread(views.as_csv, job, items)
            return Response(text, 200, headers, media_type="text/csv; charset=utf-8")
        artifacts = await engine.artifacts(job.id)
        found = await asyncio.to_thread(views.results, job, items, artifacts)
        if ending == "json":
            return json_reply(found)
        plots = {views.item_id(artifact.idx): artifact.key for artifact in artifacts if artifact.name == PLOT}
        page = await asyncio.to_thread(_page, contract.services, found, plots, job.label)
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    @api.get("/analysis/batch/{batch_id}/items/{item_id}/{name}", summary="A file of an item: plot.png, …")
    async def file(request: Request, batch_id: str, item_id: str, name: str) -> Response:
        """Return the picture of an item's answer, or its repaired dub."""
        job = await contract.batch(batch_id)
        number = re.fullmatch(r"item_(\d{3,9})", item_id)
        if number is None:
            raise NotFound(f"Item {item_id} not found in batch {batch_id}")
        artifact = await engine.artifact(job.id, int(number[1]) - 1, name)
        return await serve_artifact(request, contract.services.blobs, artifact)


_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _page(services: Services, found: dict[str, Any], plots: dict[str, str], label: str) -> str:
    pictures = {item: b"".join(services.blobs.chunks(key)) for item, key in plots.items()}
    return html(found, pictures, label)


def _add_one_pair(api: APIRouter, contract: _Contract) -> None:
    @api.post(
        "/analysis/sync",
        summary="Compare one master and one dub, and wait for the answer",
        openapi_extra=_form({"master": "binary", "dub": "binary", "methods": "", "ai_model": ""}),
    )
    async def compare(request: Request) -> Response:
        """Compare a pair given as JSON (``master_file``, ``dub_file``) or uploaded (``master``, ``dub``).

        Takes the fields of a CSV row and ``timeout_seconds``. 408 when the answer takes longer than
        that, or than the server's own limit; the analysis is stopped then.
        """
        uploads = contract.services.uploads
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            async with uploads.receive(request, files={"master", "dub"}, max_files=2) as form:
                values: dict[str, Any] = dict(form.fields)
                for side in ("master", "dub"):
                    for upload in form.uploads(side):
                        values |= {side: upload.ref(), f"{side}_file": upload.name}
                job, wait, created = await _submit_one(contract, request, values, form.digest, form.owns)
                if created:
                    form.keep()
        else:
            values = decode(await request.body())
            job, wait, _ = await _submit_one(contract, request, values, await body_digest(request), ())
        return await _answer(contract, job, wait)


async def _submit_one(
    contract: _Contract, request: Request, values: dict[str, Any], digest: str, owns: Sequence[str]
) -> tuple[Job, float, bool]:
    unknown = values.keys() - _PAIR_FIELDS - {"master", "dub"}
    if unknown:
        raise InvalidRequest(
            f"{min(unknown)}: not a known field; there are: {', '.join(sorted(_PAIR_FIELDS))}"
        )
    uploaded = {side for side in ("master", "dub") if isinstance(values.get(side), dict) and owns}
    if {"master", "dub"} & values.keys() - uploaded:
        raise InvalidRequest(
            "master, dub: are uploaded files; name paths or URLs in master_file and dub_file"
        )
    wait = _seconds(values.get("timeout_seconds"), contract.settings.wait)
    pair = await asyncio.to_thread(check, values, str, contract.reference, contract.places.missing)
    job, created = await contract.submit(
        [pair],
        held=False,
        label=pair.description,
        priority=Priority.HIGH,
        webhooks=[],
        key=idempotency(request, digest),
        owns=owns,
    )
    return job, wait, created


async def _answer(contract: _Contract, job: Job, wait: float) -> Response:
    """Wait for the one item of a job; stop it and answer 408 when that takes too long."""
    engine = contract.engine

    async def ended() -> None:
        async for _ in engine.watch(job.id):
            pass

    try:
        await asyncio.wait_for(ended(), wait)
    except TimeoutError:
        job = await engine.cancel(job.id)
        if job.state is State.CANCELLED:
            raise HTTPException(
                408, f"Analysis timeout: no answer within {wait:g} s; send long files as a batch"
            ) from None
    except asyncio.CancelledError:
        await asyncio.shield(engine.cancel(job.id))
        raise
    job = await engine.job(job.id)
    item = await engine.item(job.id, 0)
    if item.error is not None:
        raise HTTPException(_status_of(item.error["code"]), str(item.error["message"]))
    if item.state is not State.SUCCEEDED:
        raise HTTPException(409, f"the analysis was {views.ITEM_WORDS[item.state]}")
    artifacts = await engine.artifacts(job.id, 0)
    found = views.outcome(job, item, artifacts)
    return json_reply(
        {
            "success": True,
            "analysis_id": found["analysis_id"],
            "batch_id": job.id,
            **views.described(item),
            "result": found,
            "timestamp": views.timestamp(),
        }
    )


def _status_of(code: str) -> int:
    if code == "timeout":
        return 408
    bad = (
        "bad_audio",
        "too_short",
        "silent",
        "model_unavailable",
        "bad_input",
        "input_missing",
        "input_refused",
    )
    if code in bad or code.startswith("fetch"):
        return 400
    return 500


def _seconds(value: Any, most: float) -> float:
    if value is None or value == "":
        return most
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(
            f"timeout_seconds: must be a positive number of seconds, not {str(value)[:40]!r}"
        )
    return min(seconds, most)


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


def _form(fields: dict[str, str]) -> dict[str, Any]:
    """Return the OpenAPI description of a form; ``binary`` marks its files."""
    properties = {
        name: {"type": "string", **({"format": "binary"} if kind else {})} for name, kind in fields.items()
    }
    return {
        "requestBody": {
            "content": {"multipart/form-data": {"schema": {"type": "object", "properties": properties}}}
        }
    }
