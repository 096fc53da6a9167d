"""Batches and jobs in the words of the transcripts contract. Pure: from stored rows to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millrace.engine.model import Artifact, Item, Job, State
from millrace.server.replies import rfc3339

ARTIFACTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "srt": ("output.srt", ("asr",)),
    "vtt": ("output.vtt", ("asr",)),
    "json": ("output.json", ("asr",)),
    "vocals": ("vocals.mp3", ("demucs",)),
    "no_vocals": ("no_vocals.mp3", ("demucs",)),
    "demucs_zip": ("demucs.zip", ("demucs",)),
    "result_zip": ("result.zip", ("asr", "demucs")),
}
"""Key → file name and the tasks that must be on for it."""

PUBLIC_NAMES = frozenset(name for name, _ in ARTIFACTS.values())

_STATES = {State.CANCELLED: "canceled", State.SKIPPED: "succeeded"}
_PHASES = frozenset(("validate", "asr_convert", "asr", "demucs", "zip_demucs", "zip_result"))
_FIRST_PHASE = {"validate": "validate", "asr": "asr_convert", "demucs": "demucs"}
_CODES = frozenset(
    ("bad_request", "bad_audio", "unauthorized", "forbidden", "not_found", "engine_error", "internal_error")
)
_STATUS_CODES = {401: "unauthorized", 403: "forbidden", 404: "not_found", 503: "engine_error"}
_ENGINE_CODES = frozenset(
    ("interrupted", "timeout", "transient", "worker_lost", "poison", "out_of_memory", "unavailable")
)


@dataclass(frozen=True, slots=True)
class Queue:
    """How much the workload has to do besides: recordings that wait, and that are being worked on."""

    pending: int
    running: int


def state_of(state: State) -> str:
    """Return a state in the contract's spelling."""
    return _STATES.get(state, state.value)


def batch_view(
    job: Job, items: Sequence[Item], artifacts: Sequence[Artifact], queue: Queue
) -> dict[str, Any]:
    """Return ``data`` of ``GET /v2/batches/:id``; what is not set is left out."""
    counts = job.counts
    return _present(
        {
            "id": job.id,
            "state": state_of(job.state),
            "phase": batch_phase(job, items),
            **_times(job),
            "expiresAt": rfc3339(job.expires_at),
            "cancelRequested": job.cancel_requested,
            "options": job.options,
            "queue": {"pending": queue.pending, "running": queue.running},
            "counts": {
                "total": counts.total,
                "queued": counts.queued,
                "running": counts.running,
                "succeeded": counts.succeeded + counts.skipped,
                "failed": counts.failed,
                "canceled": counts.cancelled,
            },
            "items": [
                item_view(
                    job, item, [a for a in artifacts if a.idx == item.idx], artifact_url(job.id, item.idx)
                )
                for item in items
            ],
            "error": batch_error(job, items),
        }
    )


def job_view(job: Job, item: Item, artifacts: Sequence[Artifact], queue: Queue) -> dict[str, Any]:
    """Return ``data`` of ``GET /v2/jobs/:id``: the item's fields, and those of its job."""
    one = item_view(job, item, artifacts, f"/v2/jobs/{job.id}/artifacts")
    return _present(
        {
            "id": job.id,
            "type": job.meta.get("type"),
            "state": state_of(job.state),
            "phase": one["phase"],
            **_times(job),
            "expiresAt": rfc3339(job.expires_at),
            "cancelRequested": job.cancel_requested,
            "options": job.options,
            "queue": {"pending": queue.pending, "running": queue.running},
            "artifacts": one["artifacts"],
            "error": one.get("error") or batch_error(job, [item]),
        }
    )


def item_view(job: Job, item: Item, artifacts: Sequence[Artifact], url: str) -> dict[str, Any]:
    """Return one entry of ``items``; its artifacts are served below ``url``."""
    return _present(
        {
            "idx": item.idx,
            "state": state_of(item.state),
            "phase": item_phase(job, item),
            "createdAt": rfc3339(job.created_at),
            "startedAt": rfc3339(item.started_at),
            "finishedAt": rfc3339(item.finished_at),
            "artifacts": artifacts_view(job, artifacts, url),
            "error": error_view(item.error) if item.error else None,
        }
    )


def artifacts_view(job: Job, artifacts: Sequence[Artifact], url: str) -> dict[str, Any]:
    """Return what the job's tasks make, each with whether it is ready."""
    there = {artifact.name: artifact for artifact in artifacts}
    tasks = {"asr": True, "demucs": True, **(job.options.get("tasks") or {})}
    return {
        key: _present(
            {
                "name": name,
                "ready": name in there,
                "bytes": there[name].bytes if name in there else None,
                "url": f"{url}/{name}",
            }
        )
        for key, (name, needed) in ARTIFACTS.items()
        if all(tasks[task] for task in needed)
    }


def artifact_url(job_id: str, idx: int) -> str:
    """Return the relative URL below which an item's artifacts are served."""
    return f"/v2/batches/{quote(job_id, safe='')}/items/{idx}/artifacts"


def batch_phase(job: Job, items: Sequence[Item]) -> str:
    """Return the stage that the batch is in: that of the item which is furthest behind."""
    if job.state is State.FAILED:
        return "error"
    if job.state.final:
        return "done"
    behind = [item.stage for item in items if not item.state.final]
    return job.stages[min(behind)] if behind else job.stages[-1]


def item_phase(job: Job, item: Item) -> str:
    """Return what is being done with an item; ``queued`` between two stages."""
    if item.state is State.FAILED:
        return "error"
    if item.state.final:
        return "done"
    if item.state is State.QUEUED:
        return "queued"
    return item.phase if item.phase in _PHASES else _FIRST_PHASE.get(job.stages[item.stage], "validate")


def batch_error(job: Job, items: Sequence[Item]) -> dict[str, Any] | None:
    """Return why a batch failed: its own error, else that of its first failed item."""
    if job.state is not State.FAILED:
        return None
    if job.error:
        return error_view(job.error)
    failed = [item for item in items if item.state is State.FAILED and item.error]
    if not failed:
        return None
    first = error_view(failed[0].error or {})
    message = f"{len(failed)} of {len(items)} items failed; the first: {first['message']}"
    return {"code": first["code"], "message": message, "details": {"items": [item.idx for item in failed]}}


def error_view(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's error with one of the contract's codes; another one is kept in ``details``."""
    code = str(error.get("code") or "internal_error")
    details = {key: value for key, value in (error.get("details") or {}).items() if key != "traceback"}
    if code not in _CODES:
        details["cause"] = code
        code = "engine_error" if code in _ENGINE_CODES else "internal_error"
    return {"code": code, "message": str(error.get("message") or "it failed"), "details": details}


def error_body(status: int, code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of an error answer, its code one of the contract's."""
    if code not in _CODES:
        default = "internal_error" if status >= 500 else "bad_request"
        details, code = {"cause": code, **details}, _STATUS_CODES.get(status, default)
    return {"status": "error", "error": {"code": code, "message": message, "details": dict(details)}}


def _times(job: Job) -> dict[str, Any]:
    return {
        "createdAt": rfc3339(job.created_at),
        "startedAt": rfc3339(job.started_at),
        "finishedAt": rfc3339(job.finished_at),
    }


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
