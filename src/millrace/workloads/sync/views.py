"""How batches and items look in the contract. Pure; knows no HTTP."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from millrace.engine.model import Artifact, Item, Job, State
from millrace.workloads.sync import BATCH_WORDS, STAGE
from millrace.workloads.sync.timecode import FRAME_RATES

ITEM_WORDS = {
    State.QUEUED: "pending",
    State.RUNNING: "processing",
    State.SUCCEEDED: "completed",
    State.SKIPPED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
PREFIX = "/api/v1/analysis/batch"


def timestamp(seconds: float | None = None) -> str:
    """Return RFC 3339 in UTC to the second, now by default."""
    at = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def item_id(idx: int) -> str:
    """Return the contract's name of an item: ``item_001`` for the first row."""
    return f"item_{idx + 1:03d}"


def status_word(job: Job) -> str:
    """Return a batch's state in the contract's words."""
    return BATCH_WORDS["held"] if job.held and job.state is State.QUEUED else BATCH_WORDS[job.state.value]


def uploaded(job: Job, items: Sequence[Item]) -> dict[str, Any]:
    """Return the answer to an upload."""
    count = job.counts.total
    return {
        "success": True,
        "batch_id": job.id,
        "items_count": count,
        "items": [described(item) for item in items],
        "message": f"Batch uploaded successfully with {count} item{'s' if count != 1 else ''}",
        "timestamp": timestamp(job.created_at),
    }


def described(item: Item) -> dict[str, Any]:
    """Return an item as it was asked for."""
    given = item.input
    shown = {
        "item_id": item_id(item.idx),
        "master_file": given["master_file"],
        "dub_file": given["dub_file"],
        "methods": given["methods"],
        "ai_model": given.get("ai_model"),
        "description": given.get("description", ""),
        "tags": given.get("tags", []),
        "status": ITEM_WORDS[item.state],
    }
    if given.get("repair"):
        shown["repair"] = True
    return {**shown, **(given.get("choices") or {})}


def progress(job: Job) -> dict[str, Any]:
    """Return the counters of a batch."""
    counts = job.counts
    finish = None if job.state.final else job.eta_at
    return {
        "success": True,
        "batch_id": job.id,
        "status": status_word(job),
        "progress": round(100.0 * (1.0 if job.state is State.SUCCEEDED else job.progress), 1),
        "items_total": counts.total,
        "items_completed": counts.succeeded + counts.skipped,
        "items_processing": counts.running,
        "items_failed": counts.failed,
        "items_cancelled": counts.cancelled,
        "description": job.label,
        "estimated_completion": timestamp(finish) if finish is not None else None,
        "timestamp": timestamp(),
    }


def detail(job: Job, item: Item, artifacts: Sequence[Artifact] = ()) -> dict[str, Any]:
    """Return an item with what is known of it: its result, or why it failed."""
    shown: dict[str, Any] = {"item_id": item_id(item.idx), "status": ITEM_WORDS[item.state]}
    if item.state is State.RUNNING:
        shown["progress"] = round(100.0 * item.progress, 1)
        if item.phase:
            shown["phase"] = item.phase
    result = item.results.get(STAGE)
    if item.state is State.SUCCEEDED and result:
        shown["result"] = outcome(job, item, artifacts)
    if item.error is not None:
        shown["error"] = item.error["message"]
        shown["error_code"] = item.error["code"]
    return shown


def outcome(job: Job, item: Item, artifacts: Sequence[Artifact] = ()) -> dict[str, Any]:
    """Return an item's result, the contract's fields first."""
    found = {key: value for key, value in item.results[STAGE].items() if not key.startswith("_")}
    began = datetime.fromtimestamp(item.started_at or item.updated_at, UTC)
    shown = {key: found.pop(key) for key in ("offset_seconds", "confidence", "method_used")}
    shown["analysis_id"] = began.strftime("%Y%m%d_%H%M%S")
    shown |= found
    shown["files"] = {
        artifact.name: f"{PREFIX}/{job.id}/items/{item_id(item.idx)}/{artifact.name}"
        for artifact in artifacts
    }
    return shown


def results(job: Job, items: Sequence[Item], artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Return all results of a batch, finished or not."""
    of_item: dict[int, list[Artifact]] = {}
    for artifact in artifacts:
        of_item.setdefault(artifact.idx, []).append(artifact)
    trust = [item.results[STAGE]["confidence"] for item in items if STAGE in item.results]
    ended = job.finished_at or time.time()
    return {
        "success": True,
        "batch_id": job.id,
        "status": status_word(job),
        "summary": {
            "items_total": job.counts.total,
            "items_completed": job.counts.succeeded + job.counts.skipped,
            "items_failed": job.counts.failed,
            "items_cancelled": job.counts.cancelled,
            "average_confidence": round(sum(trust) / len(trust), 3) if trust else 0.0,
            "processing_time_seconds": round(ended - job.started_at, 3) if job.started_at else 0.0,
        },
        "results": [
            {
                "item_id": item_id(item.idx),
                "master_file": item.input["master_file"],
                "dub_file": item.input["dub_file"],
                "description": item.input.get("description", ""),
                "tags": item.input.get("tags", []),
                **detail(job, item, of_item.get(item.idx, ())),
            }
            for item in items
        ],
        "download_links": {
            "json_report": f"/api/v1/reports/{job.id}.json",
            "csv_export": f"/api/v1/reports/{job.id}.csv",
            "html_report": f"/api/v1/reports/{job.id}.html",
        },
        "timestamp": timestamp(),
    }


def as_csv(job: Job, items: Sequence[Item]) -> str:
    """Return the results as CSV, a row for each item; text that a spreadsheet would run is defused."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    rates = [rate.name for rate in FRAME_RATES]
    writer.writerow(
        ["item_id", "master_file", "dub_file", "status", "offset_seconds", "confidence", "method_used",
         "analysis_id", "sync_status", "offset_ms", *(f"frames_{rate}" for rate in rates),
         *(f"timecode_{rate}" for rate in rates), "drift_ppm", "drift_cause", "segments", "description",
         "tags", "error"]
    )  # fmt: skip
    for item in items:
        found = outcome(job, item) if item.state is State.SUCCEEDED and STAGE in item.results else {}
        frames = found.get("offset_frames") or {}
        drift = found.get("drift") or {}
        pieces = " ".join(f"{s['start']}-{s['end']}:{s['offset_seconds']}" for s in found.get("segments", ()))
        given = item.input
        writer.writerow(
            [item_id(item.idx), _plain(given["master_file"]), _plain(given["dub_file"]),
             ITEM_WORDS[item.state],
             *(_cell(found.get(key)) for key in ("offset_seconds", "confidence", "method_used", "analysis_id",
                                                 "status", "offset_ms")),
             *(_cell(frames.get(rate, {}).get("frames")) for rate in rates),
             *(_cell(frames.get(rate, {}).get("timecode")) for rate in rates),
             _cell(drift.get("ppm")), _cell(drift.get("cause")), pieces, _plain(given.get("description", "")),
             _plain(",".join(given.get("tags", []))), _plain((item.error or {}).get("message", ""))]
        )  # fmt: skip
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _plain(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula (OWASP, CSV injection)."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
