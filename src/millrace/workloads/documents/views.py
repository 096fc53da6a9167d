"""How jobs, documents and rulings read in the documents contract. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.engine.model import Artifact, Item, Job, State
from millrace.engine.store import Record
from millrace.server.replies import rfc3339
from millrace.workloads.documents import WORDS
from millrace.workloads.documents.pipeline import DECIDING, SAVING

_BEGUN = {"extract": 10.0, "classify": 30.0}
_PHASES = {DECIDING: 60.0, SAVING: 90.0}
_PAGES = (
    "format",
    "page_count",
    "image_count",
    "legibility",
    "language",
    "embedded_files",
    "warnings",
    "unread_pages",
    "pages",
)
SHOWN = ("highlighted.pdf", "highlighted.html", "findings.json", "redacted.pdf", "redacted.txt")
"""Artifacts that users may fetch; the others are the stages' own."""


@dataclass(frozen=True, slots=True)
class Run:
    """An item with its job: the first processing of a document, or a later classification of it."""

    job: Job
    item: Item


@dataclass(frozen=True, slots=True)
class Entry:
    """A document: where it was first processed, and where it was last classified again, if it was."""

    first: Run
    again: Run | None = None

    @property
    def doc_id(self) -> str:
        """The document's id."""
        return self.first.item.uid or ""

    @property
    def latest(self) -> Run:
        """Where its classification is made."""
        return self.again or self.first


def progress(run: Run) -> float:
    """Return a document's progress in the contract's stages: 0, 10, 30, 60, 90 or 100."""
    item, stages = run.item, run.job.stages
    if item.state in (State.SUCCEEDED, State.SKIPPED):
        return 100.0 if stages[-1] == "classify" else 30.0
    if item.state in (State.FAILED, State.CANCELLED):
        return 0.0
    stage = stages[min(item.stage, len(stages) - 1)]
    if stage == "classify" and item.state is State.RUNNING and item.phase in _PHASES:
        return _PHASES[item.phase]
    if stage == "extract" and item.state is State.QUEUED:
        return 0.0
    return _BEGUN[stage]


def status(run: Run) -> str:
    """Return a document's status; one that was only read so far is ``pending``."""
    if run.item.state is State.SUCCEEDED and run.job.stages[-1] != "classify":
        return "pending"
    if run.item.state is State.QUEUED and run.item.stage > 0:
        return "processing"
    return WORDS[run.item.state.value]


def error(item: Item) -> str | None:
    """Return what went wrong, as ``code: sentence``."""
    if item.error is None:
        return "cancelled: the job was cancelled" if item.state is State.CANCELLED else None
    return f"{item.error['code']}: {item.error['message']}"


def document_row(entry: Entry) -> dict[str, Any]:
    """Return a document as ``GET /status/{job_id}`` lists it."""
    run = entry.latest
    return {
        "doc_id": entry.doc_id,
        "filename": entry.first.item.name,
        "status": status(run),
        "progress": progress(run),
        "error": error(run.item),
    }


def job_view(job: Job, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return ``GET /status/{job_id}``: the counts and the mean of the documents' progress."""
    rows = [document_row(entry) for entry in entries]
    word = WORDS[job.state.value]
    if (
        job.state is State.SUCCEEDED
        and rows
        and all(row["status"] in ("pending", "processing") for row in rows)
    ):
        word = str(rows[0]["status"])
    return {
        "job_id": job.id,
        "status": word,
        "total_files": len(rows),
        "completed": sum(row["status"] == "completed" for row in rows),
        "failed": sum(row["status"] == "failed" for row in rows),
        "progress": round(sum(row["progress"] for row in rows) / len(rows), 1) if rows else 100.0,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "documents": rows,
        "error": None
        if job.error is None
        else f"{job.error.get('code', 'error')}: {job.error.get('message', '')}",
    }


def document_view(
    entry: Entry,
    artifacts: Iterable[Artifact],
    rulings: Sequence[Record],
) -> dict[str, Any]:
    """Return ``GET /documents/{doc_id}``."""
    read = entry.first.item.results.get("extract") or {}
    return {
        **document_row(entry),
        "job_id": entry.first.job.id,
        "created_at": rfc3339(entry.first.job.created_at),
        "updated_at": rfc3339(entry.latest.item.updated_at),
        **{name: read.get(name) for name in _PAGES},
        "classification": overruled(classification(entry), rulings),
        "artifacts": [
            {
                "name": a.name,
                "bytes": a.bytes,
                "media_type": a.media_type,
                "url": f"/documents/{entry.doc_id}/{a.name}",
            }
            for a in artifacts
            if a.name in SHOWN
        ],
        "history": [ruling_view(record) for record in rulings],
    }


def classification(entry: Entry) -> Mapping[str, Any] | None:
    """Return the newest classification that was finished, as the policy made it; None: there is none yet."""
    runs = (entry.again, entry.first)
    return next((r.item.results["classify"] for r in runs if r and "classify" in r.item.results), None)


def overruled(classification: Mapping[str, Any] | None, rulings: Sequence[Record]) -> dict[str, Any] | None:
    """Return a classification with a person's last ruling in force; what the policy said stays beside it."""
    if classification is None:
        return None
    shown = {**classification, "automatic_category": classification["final_category"], "human_review": None}
    if rulings:
        last = ruling_view(rulings[-1])
        shown["final_category"] = last["category"]
        shown["requires_review"] = False
        shown["human_review"] = last
        if last["secondary_tags"] is not None:
            shown["secondary_tags"] = last["secondary_tags"]
        shown["content_safety"] = {**shown["content_safety"], "safe": last["category"] != "Unsafe"}
    return shown


def ruling_view(record: Record) -> dict[str, Any]:
    """Return a ruling: who, when, what, why, and what it replaced."""
    data = record.data
    return {
        "doc_id": record.key,
        "filename": data["filename"],
        "category": data["category"],
        "previous_category": data["previous_category"],
        "secondary_tags": data.get("secondary_tags"),
        "reviewer": data["reviewer"],
        "reason": data["reason"],
        "decided_at": rfc3339(record.at),
    }


def label_row(record: Record) -> dict[str, Any]:
    """Return a ruling as one line of a labelled set: with evidence, to try policies on."""
    data = record.data
    return {
        "doc_id": record.key,
        "filename": data["filename"],
        "label": data["category"],
        "predicted": data["automatic_category"],
        "confidence": data["confidence"],
        "policy_version": data["policy_version"],
        "reviewer": data["reviewer"],
        "reason": data["reason"],
        "decided_at": rfc3339(record.at),
        "evidence": data["evidence"],
    }
