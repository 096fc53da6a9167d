"""Jobs and images in the words of the batch contract (``contracts/images.md``). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from millrace.engine.model import Counts, Item, Job, State
from millrace.sources import plain_name

WORDS = {
    "queued": "pending",
    "running": "processing",
    "succeeded": "completed",
    "skipped": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_CANCELLED = "The job was cancelled"


def timestamp(seconds: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC with milliseconds and a trailing ``Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def progress(completed: int, failed: int, total: int) -> float:
    """Return the share of images that are through, 0–100 with two decimals."""
    return round(100.0 * (completed + failed) / total, 2) if total else 0.0


def completed(counts: Counts) -> int:
    """Return how many images were processed."""
    return counts.succeeded + counts.skipped


def failed(counts: Counts) -> int:
    """Return how many images were not, for whatever reason."""
    return counts.failed + counts.cancelled


def processed_path(item: Item) -> str:
    """Return the key of the processed image in the object store."""
    return f"{item.uid}/{plain_name(item.name, 'image')}"


def finished_image(item: Item, state: str, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an image that is through, as ``image_complete`` tells of it."""
    out: dict[str, Any] = {"index": item.idx, "original_filename": item.name}
    if WORDS[state] == "completed":
        return {**out, "status": "completed", "trace_id": item.uid, "processed_path": processed_path(item)}
    message = str((error or {}).get("message") or _CANCELLED)
    return {**out, "status": "failed", "trace_id": item.uid, "error": message}


def image(item: Item) -> dict[str, Any]:
    """Return an image of the status answer; what is not known yet is left out."""
    if item.state.final:
        out = finished_image(item, item.state.value, item.error)
    else:
        begun = item.state is State.RUNNING or item.started_at is not None
        out = {
            "index": item.idx,
            "original_filename": item.name,
            "status": "processing" if begun else "pending",
            "trace_id": item.uid,
        }
    if item.started_at is not None:
        out["start_time"] = timestamp(item.started_at)
    if item.finished_at is not None:
        out["end_time"] = timestamp(item.finished_at)
    return out


def status(job: Job, items: Iterable[Item]) -> dict[str, Any]:
    """Return the status answer of a job."""
    counts = job.counts
    out: dict[str, Any] = {
        "job_id": job.id,
        "status": WORDS[job.state.value],
        "total_images": counts.total,
        "completed": completed(counts),
        "failed": failed(counts),
        "progress": progress(completed(counts), failed(counts), counts.total),
        "images": [image(item) for item in items],
        "created_at": timestamp(job.created_at),
        "updated_at": timestamp(job.updated_at),
    }
    if job.finished_at is not None:
        out["completed_at"] = timestamp(job.finished_at)
    return out


def detail(job: Job, item: Item, duplicate: int | None) -> dict[str, Any]:
    """Return everything known about one image; what is not known is left out."""
    out: dict[str, Any] = {"job_id": job.id, **image(item)}
    analysed = item.results.get("analyse")
    if analysed:
        out["metadata"] = analysed["tags"]
        out["analysis"] = analysed["analysis"]
        out["tagger"] = analysed["tagger"]
        out["sha256"] = analysed["sha256"]
    notes = [
        note for stage in ("analyse", "write") for note in (item.results.get(stage) or {}).get("notes", ())
    ]
    if notes:
        out["notes"] = notes
    if duplicate is not None:
        out["duplicate_of"] = duplicate
    if item.error is not None and item.state is State.FAILED:
        out["error_code"] = item.error.get("code", "engine_error")
    if item.state is State.SUCCEEDED:
        base = f"/api/v1/batch/{job.id}/images/{item.idx}"
        out["links"] = {"file": f"{base}/file", "thumbnail": f"{base}/thumbnail"}
    return out


def marks(items: Sequence[Item]) -> tuple[list[str | None], list[str | None]]:
    """Return fingerprints and digests of a job's images, None where they were not analysed."""
    analysed = [item.results.get("analyse") or {} for item in items]
    return (
        [found.get("analysis", {}).get("fingerprint") for found in analysed],
        [found.get("sha256") for found in analysed],
    )


def message(
    kind: str, job_id: str, job_status: str, done: int, lost: int, total: int, at: float
) -> dict[str, Any]:
    """Return a WebSocket message of the given type."""
    return {
        "type": kind,
        "job_id": job_id,
        "status": job_status,
        "progress": progress(done, lost, total),
        "completed": done,
        "failed": lost,
        "total_images": total,
        "timestamp": timestamp(at),
    }
