"""Jobs, items and artifacts as the canonical API writes them. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from millrace.engine.model import Artifact, Item, Job, StageRun, State
from millrace.engine.store import KindStats
from millrace.server.replies import rfc3339
from millrace.server.words import Words


def job_row(job: Job, words: Words) -> dict[str, Any]:
    """Return a job as one row of ``GET /jobs``: the fields of the contracts that claim it, and ours."""
    counts = job.counts
    path = job.meta.get("path", job.scope)
    return {
        "job_id": job.id,
        "kind": job.kind,
        "status": words.of(job),
        "state": job.state.value,
        "label": job.label,
        "path": path if isinstance(path, str) else None,
        "progress": {"percent": round(job.progress * 100, 1)},
        "priority": job.priority,
        "total_files": counts.total,
        "completed": counts.succeeded + counts.skipped,
        "failed": counts.failed,
        "counts": {
            "total": counts.total,
            **{state.value: getattr(counts, state.value) for state in State},
        },
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "updated_at": rfc3339(job.updated_at),
        "finished_at": rfc3339(job.finished_at),
    }


def detail_row(job: Job, words: Words) -> dict[str, Any]:
    """Return all about a job but its items. What a contract keeps for itself (``meta``) is not shown."""
    here = f"/jobs/{quote(job.id, safe='')}"
    eta = None if job.eta_at is None or job.state.final else max(0.0, round(job.eta_at - time.time(), 1))
    return {
        **job_row(job, words),
        "held": job.held,
        "cancel_requested": job.cancel_requested,
        "parallelism": job.parallelism,
        "stages": list(job.stages),
        "eta_seconds": eta,
        "expires_at": rfc3339(job.expires_at),
        "last_event": job.last_event,
        "options": job.options,
        "error": job.error,
        "links": {
            "self": here,
            "items": f"{here}/items",
            "events": f"{here}/events",
            "artifacts": f"{here}/artifacts",
        },
    }


def item_row(item: Item) -> dict[str, Any]:
    """Return an item; what stages keep among themselves (``_…`` in their results) is not shown."""
    return {
        "idx": item.idx,
        "uid": item.uid,
        "name": item.name,
        "state": item.state.value,
        "stage": item.stage,
        "attempt": item.attempt,
        "progress": item.progress,
        "phase": item.phase,
        "size": item.size,
        "started_at": rfc3339(item.started_at),
        "updated_at": rfc3339(item.updated_at),
        "finished_at": rfc3339(item.finished_at),
        "results": {stage: public(result) for stage, result in item.results.items()},
        "error": item.error,
    }


def public(result: Any) -> Any:
    """Leave out what stages keep among themselves."""
    if not isinstance(result, Mapping):
        return result
    return {key: value for key, value in result.items() if not str(key).startswith("_")}


def artifact_row(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact, and where to download it."""
    job, name = quote(artifact.job, safe=""), quote(artifact.name, safe="")
    return {
        "name": artifact.name,
        "item": artifact.idx,
        "stage": artifact.stage,
        "bytes": artifact.bytes,
        "sha256": artifact.sha256,
        "media_type": artifact.media_type,
        "created_at": rfc3339(artifact.created_at),
        "url": f"/jobs/{job}/items/{artifact.idx}/artifacts/{name}",
    }


def run_row(run: StageRun) -> dict[str, Any]:
    """Return one attempt of an item at a stage."""
    return {
        "stage": run.stage,
        "attempt": run.attempt,
        "outcome": run.outcome,
        "started_at": rfc3339(run.started_at),
        "finished_at": rfc3339(run.finished_at),
        "worker": run.worker,
    }


def stats_row(kinds: Sequence[KindStats]) -> dict[str, Any]:
    """Return the statistics of the tracks contract over all kinds, and the same figures kind by kind.

    ``success_rate`` is of the items that succeeded or failed; null while there are none.
    """
    jobs = {state: sum(kind.jobs.get(state, 0) for kind in kinds) for state in State}
    items = {state: sum(kind.items.get(state, 0) for kind in kinds) for state in State}
    done = items[State.SUCCEEDED] + items[State.SKIPPED]
    judged = done + items[State.FAILED]
    timed = [(kind.mean_seconds, _ended(kind)) for kind in kinds if kind.mean_seconds is not None]
    weight = sum(number for _, number in timed)
    mean = sum(seconds * number for seconds, number in timed) / weight if weight else None
    return {
        "total_jobs": sum(jobs.values()),
        "running": jobs[State.RUNNING],
        "queued": jobs[State.QUEUED],
        "completed": jobs[State.SUCCEEDED] + jobs[State.SKIPPED],
        "failed": jobs[State.FAILED],
        "cancelled": jobs[State.CANCELLED],
        "total_files_processed": judged,
        "success_rate": round(done / judged, 4) if judged else None,
        "average_duration_seconds": round(mean, 3) if mean is not None else None,
        "by_kind": {
            kind.kind: {
                "jobs": {state.value: number for state, number in kind.jobs.items()},
                "items": {state.value: number for state, number in kind.items.items()},
                "average_duration_seconds": kind.mean_seconds,
            }
            for kind in kinds
        },
    }


def _ended(kind: KindStats) -> int:
    return sum(number for state, number in kind.jobs.items() if state.final)
