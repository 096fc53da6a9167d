"""Finds, shows, classifies, rules on and deletes documents in the engine's terms; knows no HTTP.

A document is an item; classifying it again is a job of its own that reads what the first one published.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from millrace.engine.model import Artifact, Item, NewItem, NewJob, State
from millrace.errors import Conflict, InvalidRequest, NotFound
from millrace.server.services import Services
from millrace.workloads.documents import KIND, views
from millrace.workloads.documents.bodies import Classify, Ruling
from millrace.workloads.documents.document import Document
from millrace.workloads.documents.pages import Gallery, listing
from millrace.workloads.documents.policy import load
from millrace.workloads.documents.settings import DocumentSettings
from millrace.workloads.documents.views import Entry, Run

AGAIN, DELETED, RULINGS = "documents.again", "documents.deleted", "documents.rulings"
_ALL_ITEMS = 1_000_000
_MAX_EVIDENCE = 2000


class Desk:
    """Finds, classifies, rules on and deletes documents in the engine's terms."""

    def __init__(self, services: Services, settings: DocumentSettings) -> None:
        self._engine = services.engine
        self._blobs = services.blobs
        self._policy = load(str(settings.policy) if settings.policy else None)
        site = services.settings
        self._gallery = Gallery(services.blobs, site.media_roots, site.tmp_dir, settings)

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
        return views.document_view(entry, artifacts, rulings)

    async def listing(self, entry: Entry, first: int, limit: int) -> dict[str, Any]:
        """Return some pages with their findings; none of these before the document was searched."""
        keys = {a.name: a.key for a in await self.artifacts(entry)}
        document = await self._document(entry, keys)
        found = (await self._read(keys["findings.json"]))["findings"] if "findings.json" in keys else []
        return await asyncio.to_thread(listing, entry.doc_id, document, found, first, limit)

    async def picture(self, entry: Entry, number: int, width: int) -> bytes:
        """Return a page as PNG."""
        artifacts = await self.artifacts(entry)
        document = await self._document(entry, {a.name: a.key for a in artifacts})
        return await self._gallery.png(document, number, width, entry.first.item.input, artifacts)

    async def _document(self, entry: Entry, keys: Mapping[str, str]) -> Document:
        if "pages.json" not in keys:
            why = views.error(entry.first.item) or "it has not been read yet"
            raise NotFound(f"Document {entry.doc_id} has no pages: {why}")
        stored = await self._read(keys["pages.json"])
        return await asyncio.to_thread(Document.from_json, stored)

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
        classification = views.classification(entry)
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
        return {"document": {**document, "pages": pages, "metadata": None}, "findings": bare}

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
