"""Sync: by how much a dub is off its master, whether it drifts, and where it was cut.

``plugin`` is what the entry point names; everything heavy is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import Job, NewJob, Notification
from millrace.engine.workload import Retry, Stage, Workload
from millrace.workloads import DemoJob, DemoStand, Face, Plugin
from millrace.workloads.sync.settings import SyncSettings

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from millrace.server.services import Services
    from millrace.settings import Settings

KIND = "sync"
STAGE = "analyse"

BATCH_WORDS = {
    "held": "uploaded",
    "queued": "processing",
    "running": "processing",
    "succeeded": "completed",
    "skipped": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def _build(settings: SyncSettings) -> Workload:
    return Workload(
        kind=KIND,
        stages=(
            Stage(
                STAGE,
                "millrace.workloads.sync.pipeline:analyse_pair",
                max_slots=2,
                timeout=settings.timeout,
                retry=Retry(attempts=3),
            ),
        ),
        parallelism=2,
        max_queued_jobs=settings.max_queued_jobs,
        fails_when="all",
        ttl=settings.ttl,
        notifications=_notifications,
    )


def _notifications(job: Job) -> Sequence[Notification]:
    status = BATCH_WORDS[job.state.value]
    at = datetime.fromtimestamp(job.finished_at or job.updated_at, UTC)
    body = {
        "event": f"batch.{status}",
        "batch_id": job.id,
        "status": status,
        "items_total": job.counts.total,
        "items_completed": job.counts.succeeded,
        "items_failed": job.counts.failed,
        "timestamp": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    from millrace.engine.webhooks import default_notifications

    own = [Notification(url, f"batch.{status}", body) for url in job.meta.get("webhooks", ())]
    return own + default_notifications(job)


def _router(services: Services, settings: Any) -> APIRouter:
    from millrace.workloads.sync.contract import router

    return router(services, settings)


def _render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"success": False, "error": message, "timestamp": at}


def _prepare(new: NewJob, site: Settings) -> NewJob:
    from millrace.workloads.sync.submission import prepare

    return prepare(new, site)


def _check_options(options: Mapping[str, Any]) -> None:
    from millrace.workloads.sync.submission import check_options

    check_options(options)


def _commands() -> typer.Typer:
    from millrace.workloads.sync.commands import commands

    app: typer.Typer = commands()
    return app


def _doctor(settings: Any, models_dir: Path) -> list[tuple[str, bool, str]]:
    from millrace.workloads.sync.methods import AI_MODELS, ModelPlaces

    places = ModelPlaces.of(settings.model_dump(), models_dir)
    lines = []
    for model in AI_MODELS:
        missing = places.missing(model)
        lines.append((f"AI model {model}", missing is None, missing or ""))
    return lines


def _face() -> Face:
    from millrace.workloads.sync.face import FACE

    return FACE


def _demo(stand: DemoStand) -> DemoJob:
    from millrace.workloads.sync.demo import demo

    return demo(stand)


plugin = Plugin(
    kind=KIND,
    build=_build,
    settings=SyncSettings,
    router=_router,
    errors=("/api/v1/analysis", "/api/v1/reports", "/api/v1/health"),
    render_error=_render_error,
    health=("/api/v1/health",),
    words=BATCH_WORDS,
    prepare=_prepare,
    check_options=_check_options,
    examples=Path(__file__).with_name("examples.yaml"),
    commands=_commands,
    doctor=_doctor,
    demo=_demo,
    face=_face,
)
