"""The documents contract: upload, status, documents, a person's ruling, over HTTP.

``/jobs`` and ``/health``, which the contract has too, are served by the canonical API. A document is
an item; classifying it again is a job of its own that reads what the first one published.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from millrace.engine.model import Artifact, Item, NewItem, NewJob, State
from millrace.engine.store import Record
from millrace.errors import Conflict, InvalidRequest, NotFound
from millrace.server.artifacts import serve_artifact
from millrace.server.idempotency import idempotency
from millrace.server.replies import json_reply
from millrace.server.services import Services
from millrace.server.uploads import Form, Upload
from millrace.workloads.documents import KIND, WORDS, views
from millrace.workloads.documents.extract.sniff import refusal
from millrace.workloads.documents.policy import load
from millrace.workloads.documents.settings import DocumentSettings
from millrace.workloads.documents.views import Entry, Run

AGAIN, DELETED, RULINGS = "documents.again", "documents.deleted", "documents.rulings"
_ALL_ITEMS = 1_000_000
_MAX_EVIDENCE = 2000
DocId = Annotated[str, Path(max_length=128, description="a document's id")]
Wait = Annotated[float, Query(ge=0, le=600, description="seconds to wait for the result")]


class Ruling(BaseModel):
    """A person's ruling on a document."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    doc_id: Annotated[str, Field(min_length=1, max_length=128)]
    category: str = Field(
        validation_alias=AliasChoices("category", "final_category", "corrected_category", "new_category")
    )
    reviewer: str = Field(
        min_length=1, max_length=200, validation_alias=AliasChoices("reviewer", "reviewed_by", "user")
    )
    reason: str = Field(
        "", max_length=4000, validation_alias=AliasChoices("reason", "comment", "feedback", "notes")
    )
    secondary_tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] | None = None


class Classify(BaseModel):
    """How a document is to be classified again; the server's settings where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    redact: bool | None = None
    highlight: bool | None = None


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
        for record in await services.engine.records(RULINGS, None, _ALL_ITEMS):
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


class Desk:
    """Finds, classifies, rules on and deletes documents in the engine's terms."""

    def __init__(self, services: Services, settings: DocumentSettings) -> None:
        self._engine = services.engine
        self._blobs = services.blobs
        self._policy = load(str(settings.policy) if settings.policy else None)

    async def status(self, job_id: str) -> dict[str, Any]:
        """Return a job as the contract shows it; NotFound for other kinds of jobs, too."""
        try:
            job = await self._engine.job(job_id)
        except NotFound:
            job = None
        if job is None or job.kind != KIND:
            raise NotFound("Job not found")
        entries = []
        gone = await self._deleted(job.id)
        for item in await self._engine.items(job_id, limit=_ALL_ITEMS):
            if item.uid in gone:
                continue
            entry = Entry(Run(job, item))
            if job.options.get("only") == "extract":
                entry = await self._with_again(entry)
            entries.append(entry)
        return views.job_view(job, entries)

    async def entry(self, doc_id: str) -> Entry:
        """Return a document; NotFound where there is none, or no longer."""
        try:
            item = await self._engine.item_by_uid(doc_id)
            job = await self._engine.job(item.job)
        except NotFound:
            raise NotFound("Document not found") from None
        if job.kind != KIND or doc_id in await self._deleted(job.id):
            raise NotFound("Document not found")
        return await self._with_again(Entry(Run(job, item)))

    async def _deleted(self, job_id: str) -> frozenset[str]:
        """Return the documents of a job that were deleted while others of it are kept."""
        return frozenset(r.data["doc_id"] for r in await self._engine.records(DELETED, job_id, _ALL_ITEMS))

    async def _with_again(self, entry: Entry) -> Entry:
        for record in reversed(await self._engine.records(AGAIN, entry.doc_id, 1)):
            try:
                job = await self._engine.job(record.data["job"])
                return replace(entry, again=Run(job, await self._engine.item(job.id, 0)))
            except NotFound:
                break  # it has expired before the document: the first classification is in force again
        return entry

    async def artifacts(self, entry: Entry) -> list[Artifact]:
        """Return the artifacts of a document; those of a later classification replace the first ones."""
        found = {a.name: a for a in await self._engine.artifacts(entry.first.job.id, entry.first.item.idx)}
        if entry.again is not None and entry.again.item.state is State.SUCCEEDED:
            found |= {
                a.name: a for a in await self._engine.artifacts(entry.again.job.id, entry.again.item.idx)
            }
        return list(found.values())

    async def view(self, entry: Entry) -> dict[str, Any]:
        """Return a document as the contract shows it."""
        artifacts = await self.artifacts(entry)
        rulings = await self._engine.records(RULINGS, entry.doc_id)
        return views.document_view(entry, await self._classification(artifacts), artifacts, rulings)

    async def _classification(self, artifacts: list[Artifact]) -> Mapping[str, Any] | None:
        key = next((a.key for a in artifacts if a.name == "classification.json"), None)
        return None if key is None else await self._read(key)

    async def _read(self, key: str) -> Any:
        return orjson.loads(await asyncio.to_thread(lambda: b"".join(self._blobs.chunks(key))))

    async def classify(self, entry: Entry, wanted: Classify) -> Entry:
        """Have a document classified (again); while work on it is under way, that is left to end instead."""
        if not entry.latest.item.state.final:
            return entry
        item = entry.first.item
        keys = {a.name: a.key for a in await self.artifacts(entry)}
        if "pages.json" not in keys:
            raise Conflict(f"{item.name} cannot be classified: {views.error(item) or 'it was not read'}")
        options = {k: v for k, v in entry.first.job.options.items() if k != "only"}
        options |= {k: v for k, v in wanted.model_dump().items() if v is not None}
        again = NewItem(
            name=item.name,
            input={"original": item.input, "stored": {"pages.json": keys["pages.json"]}},
            size=item.size,
        )
        job, _ = await self._engine.submit(
            NewJob(id=str(uuid.uuid4()), kind=KIND, items=[again], options={**options, "only": "classify"},
                   label=f"classify {item.name}", meta={"doc_id": entry.doc_id})
        )  # fmt: skip
        await self._engine.put_record(AGAIN, entry.doc_id, {"job": job.id})
        return replace(entry, again=Run(job, await self._engine.item(job.id, 0)))

    async def wait(self, job_id: str, seconds: float) -> None:
        """Return when a job has ended, or after that many seconds."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self._engine.watch(job_id):
                    pass
        except TimeoutError:
            return

    async def rule(self, entry: Entry, ruling: Ruling) -> None:
        """Keep a ruling with the evidence it stands against; InvalidRequest for an unknown category."""
        if ruling.category not in self._policy.categories:
            raise InvalidRequest(
                f"category: {ruling.category!r} is none; there are: {', '.join(self._policy.categories)}"
            )
        artifacts = await self.artifacts(entry)
        classification = await self._classification(artifacts)
        if classification is None:
            raise Conflict(f"{entry.first.item.name} has not been classified yet")
        before = await self._engine.records(RULINGS, entry.doc_id, 1)
        await self._engine.put_record(RULINGS, entry.doc_id, {
            "filename": entry.first.item.name,
            "category": ruling.category,
            "secondary_tags": ruling.secondary_tags,
            "reviewer": ruling.reviewer,
            "reason": ruling.reason,
            "previous_category": before[-1].data["category"] if before else classification["final_category"],
            "automatic_category": classification["final_category"],
            "confidence": classification["confidence"],
            "policy_version": classification["policy_version"],
            "evidence": await self._evidence({a.name: a.key for a in artifacts}),
        })  # fmt: skip

    async def _evidence(self, keys: Mapping[str, str]) -> dict[str, Any]:
        """Return the findings and the pages' facts without any text of the document."""
        document = await self._read(keys["pages.json"])
        findings = (await self._read(keys["findings.json"]))["findings"][:_MAX_EVIDENCE]
        pages = [{**page, "text": "", "spans": [], "layer": 0} for page in document["pages"]]
        bare = [
            {**f, "snippet": "", "boxes": [], "context": None if f["context"] is None else "named"}
            for f in findings
        ]
        return {"document": {**document, "pages": pages}, "findings": bare}

    async def delete(self, entry: Entry) -> None:
        """Delete a document; Conflict while it is being processed with others of its batch."""
        job, item = entry.first.job, entry.first.item
        if entry.again is not None:
            await self._engine.cancel(entry.again.job.id)
            await self._engine.delete(entry.again.job.id)
            await self._engine.delete_records(AGAIN, entry.doc_id)
        siblings = await self._engine.items(job.id, limit=_ALL_ITEMS)
        gone = await self._deleted(job.id)
        if all(other.idx == item.idx or other.uid in gone for other in siblings):
            await self._engine.cancel(job.id)
            await self._engine.delete(job.id)
            await self._engine.delete_records(DELETED, job.id)
            return
        if not item.state.final:
            raise Conflict(f"{item.name} is being processed: wait for it, or cancel the job {job.id}")
        await self._engine.put_record(DELETED, job.id, {"doc_id": entry.doc_id})
        await self._discard(item, await self._engine.artifacts(job.id, item.idx))

    async def _discard(self, item: Item, artifacts: list[Artifact]) -> None:
        keys = [artifact.key for artifact in artifacts]
        if item.input.get("kind") == "upload":
            keys.append(str(item.input["key"]))
        for key in keys:
            await asyncio.to_thread(self._blobs.discard, key)
