"""Log lines for what happens to jobs, with their ids: beginnings and ends, and items that fail.

Called on the engine's thread after each commit, so what succeeds item by item is passed over quickly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from millrace.engine.round import RoundEvent
from millrace.engine.store import JobRow

log = logging.getLogger("millrace.jobs")

_TOLD = frozenset({"job.created", "job.started", "job.cancel_requested", "job.finished", "job.updated"})


def log_events(events: Sequence[RoundEvent]) -> None:
    """Write down those of a round's events that an operator wants to read."""
    for job, _, kind, idx, data in events:
        if kind in _TOLD:
            _tell_job(job, kind)
        elif kind == "item.finished" and data.get("state") == "failed":
            error = data.get("error") or {}
            log.warning(
                "item %d of %s job %s failed at %s: %s",
                idx,
                job.kind,
                job.id,
                error.get("stage"),
                error.get("message"),
                extra={"job": job.id, "item": idx, "kind": job.kind, "code": error.get("code")},
            )


def _tell_job(job: JobRow, kind: str) -> None:
    extra = {"job": job.id, "kind": job.kind, "state": job.state.value}
    what = kind.removeprefix("job.").replace("_", " ")
    if kind != "job.finished":
        log.info("%s job %s: %s", job.kind, job.id, what, extra=extra)
        return
    log.info(
        "%s job %s: %s; %d succeeded, %d skipped, %d failed, %d cancelled",
        job.kind,
        job.id,
        job.state.value,
        job.succeeded,
        job.skipped,
        job.failed,
        job.cancelled,
        extra=extra,
    )
