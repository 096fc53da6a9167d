"""The documents contract: upload, status, documents, a person's ruling, over HTTP.

``/jobs`` and ``/health``, which the contract has too, are served by the canonical API.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from millrace.engine.model import NewItem, NewJob
from millrace.engine.store import Record
from millrace.errors import InvalidRequest, NotFound
from millrace.server.artifacts import serve_artifact
from millrace.server.idempotency import idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.uploads import Form, Upload
from millrace.workloads.documents import KIND, WORDS, views
from millrace.workloads.documents.bodies import Classify, Ruling
from millrace.workloads.documents.desk import RULINGS, Desk
from millrace.workloads.documents.extract.sniff import refusal
from millrace.workloads.documents.settings import DocumentSettings

_ALL_RULINGS = 1_000_000
DocId = Annotated[str, Path(max_length=128, description="a document's id")]
Wait = Annotated[float, Query(ge=0, le=600, description="seconds to wait for the result")]


def router(services: Services, settings: DocumentSettings) -> APIRouter:
    """Return the contract's routes."""
    api = APIRouter(tags=["documents"])
    desk = Desk(services, settings)

    @api.post("/batch/upload", summary="Upload documents and classify them in the background")
    async def batch_upload(request: Request) -> Response:
        """Take the files of the form's ``files``; optional fields ``redact``, ``highlight``."""
        async with services.uploads.receive(
            request, files={"files", "file"}, max_files=settings.max_batch,
            max_file_bytes=settings.max_file_bytes, oversize="mark",
        ) as form:  # fmt: skip
            taken, refused = _sort(form.files)
            job = NewJob(
                id=str(uuid.uuid4()), kind=KIND, items=[_item(upload) for upload in taken],
                options=_options(form),
                meta={"refused": refused}, owns=form.owns, idempotency=idempotency(request, form.digest),
            )  # fmt: skip
            stored, created = await services.engine.submit(job)
            if created:
                form.keep()
        count = stored.counts.total
        message = f"Batch upload initiated. Successfully queued {count} document{'' if count == 1 else 's'}."
        if failed := stored.meta.get("refused"):
            message += f" Failed: {', '.join(failed)}."
        status = "pending" if created else WORDS[stored.state.value]
        return json_reply({"job_id": stored.id, "total_files": count, "status": status,
                           "message": message})  # fmt: skip

    @api.get("/status/{job_id}", summary="A job's progress, document by document")
    async def job_status(job_id: DocId) -> Response:
        """Progress of a document: 10 started, 30 read, 60 detected, 90 classified, 100 saved."""
        return json_reply(await desk.status(job_id))

    @api.get("/documents/{doc_id}", summary="A document and its classification")
    async def document(doc_id: DocId) -> Response:
        """Return what was read, what it was classified as and why, and the rulings on it."""
        return json_reply(await desk.view(await desk.entry(doc_id)))

    @api.get("/documents/{doc_id}/findings", summary="Findings page by page, with their boxes")
    async def findings(
        doc_id: DocId,
        first: Annotated[int, Query(ge=0, le=1_000_000, description="the first page wanted")] = 1,
        limit: Annotated[int, Query(ge=1, le=500, description="how many pages")] = 50,
    ) -> Response:
        """Return pages with their size, the address of their picture and their findings.

        ``boxes`` are (left, top, right, bottom) in the page's own ``width`` and ``height``.
        """
        return json_reply(await desk.listing(await desk.entry(doc_id), first, limit))

    @api.get("/documents/{doc_id}/pages/{page}.png", summary="A page as a picture", response_class=Response)
    async def picture(
        doc_id: DocId,
        page: Annotated[int, Path(ge=0, le=1_000_000)],
        width: Annotated[int, Query(ge=50, le=2400, description="pixels; less for very long pages")] = 1000,
    ) -> Response:
        """Render a page of a PDF or picture, or set a page of text; the findings are not drawn on it."""
        png = await desk.picture(await desk.entry(doc_id), page, width)
        headers = {"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
        return Response(png, media_type="image/png", headers=headers)

    @api.get("/documents/{doc_id}/{name}", summary="A marked or redacted copy, or the findings")
    async def artifact(request: Request, doc_id: DocId, name: str) -> Response:
        """Download ``highlighted.pdf``, ``highlighted.html``, ``findings.json`` or ``redacted.*``."""
        found = {a.name: a for a in await desk.artifacts(await desk.entry(doc_id))}
        if name not in views.SHOWN or name not in found:
            raise NotFound(f"Document {doc_id} has no artifact {name}")
        return await serve_artifact(request, services.blobs, found[name])

    @api.delete("/documents/{doc_id}", summary="Delete a document with all that was made of it")
    async def delete(doc_id: DocId) -> Response:
        """Delete the file, its text, findings and copies. Rulings on it stay, without its text."""
        await desk.delete(await desk.entry(doc_id))
        return json_reply({"doc_id": doc_id, "deleted": True, "message": "Document deleted"})

    @api.post("/upload", summary="Upload one document; it is read, but not classified yet")
    async def upload(request: Request, wait: Wait = 30.0) -> Response:
        """Take the form's ``file``; answers once its pages were read, or after ``wait`` seconds."""
        async with services.uploads.receive(
            request,
            files={"file", "files"},
            max_files=1,
            max_file_bytes=settings.max_file_bytes,
            oversize="mark",
        ) as form:
            taken, _ = _sort(form.files)
            job = NewJob(
                id=str(uuid.uuid4()), kind=KIND, items=[_item(taken[0])],
                options={**_options(form), "only": "extract"},
                owns=form.owns, idempotency=idempotency(request, form.digest),
            )  # fmt: skip
            stored, created = await services.engine.submit(job)
            if created:
                form.keep()
        await desk.wait(stored.id, wait)
        item = await services.engine.item(stored.id, 0)
        return json_reply(await desk.view(await desk.entry(item.uid or "")))

    @api.post("/classify/{doc_id}", summary="Classify a document, for the first time or again")
    async def classify(doc_id: DocId, body: Classify | None = None, wait: Wait = 120.0) -> Response:
        """Answer with the document: 200 once it is classified, 202 when ``wait`` seconds were not enough."""
        entry = await desk.classify(await desk.entry(doc_id), body or Classify())
        await desk.wait(entry.latest.job.id, wait)
        view = await desk.view(await desk.entry(doc_id))
        return json_reply(view, 202 if view["status"] in ("pending", "processing") else 200)

    @api.post("/hitl", summary="Overrule a classification")
    async def rule(body: Ruling) -> Response:
        """Keep a person's ruling: who, when, why. The newest one is in force."""
        entry = await desk.entry(body.doc_id)
        await desk.rule(entry, body)
        return json_reply(await desk.view(entry))

    @api.get("/hitl", summary="Rulings, newest first")
    async def rulings(
        doc_id: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Return the rulings on one document, or on all."""
        found = await services.engine.records(RULINGS, doc_id, limit)
        return json_reply({"total": len(found), "rulings": [views.ruling_view(r) for r in reversed(found)]})

    @api.get("/hitl/labels", summary="The rulings as a labelled set (JSON Lines)")
    async def labels() -> Response:
        """Return the last ruling on every document with its evidence, for ``millrace documents evaluate``."""
        latest: dict[str, Record] = {}
        for record in await services.engine.records(RULINGS, None, _ALL_RULINGS):
            latest[record.key] = record

        async def lines() -> AsyncIterator[bytes]:
            for record in latest.values():
                yield orjson.dumps(views.label_row(record)) + b"\n"

        headers = {"Content-Disposition": 'attachment; filename="labels.jsonl"'}
        return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)

    return api


def _sort(files: list[Upload]) -> tuple[list[Upload], list[str]]:
    """Part the files that can be taken from those that cannot, these with why; InvalidRequest if none can."""
    if not files:
        raise InvalidRequest("files: at least one file is needed")
    taken, refused, names = [], [], []
    for upload in files:
        why = "too large" if upload.oversize else refusal(upload.head, upload.name)
        if why is None:
            taken.append(upload)
        else:
            refused.append(f"{upload.name} ({why})")
            names.append(upload.name)
    if not taken:
        raise InvalidRequest(f"All uploads failed. Files: {', '.join(names)}", details={"refused": refused})
    return taken, refused


def _item(upload: Upload) -> NewItem:
    return NewItem(name=upload.name, input=upload.ref(), size=max(1, upload.size), uid=str(uuid.uuid4()))


def _options(form: Form) -> dict[str, bool]:
    options = {}
    for name in ("redact", "highlight"):
        value = form.get(name)
        if value is None:
            continue
        if value.lower() not in ("true", "false", "1", "0"):
            raise InvalidRequest(f"{name}: must be true or false, not {value!r}")
        options[name] = value.lower() in ("true", "1")
    return options
