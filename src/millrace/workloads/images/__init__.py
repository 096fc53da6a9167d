"""Images: analysed, tagged, and written back with their metadata, not a pixel changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.workload import Retry, Stage, Workload
from millrace.workloads import DemoJob, DemoStand, Face, Plugin
from millrace.workloads.images.settings import ImagesSettings
from millrace.workloads.images.view import WORDS

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from millrace.engine.model import NewJob
    from millrace.server.services import Services
    from millrace.settings import Settings

KIND = "images"
_HERE = "millrace.workloads.images"


def build(settings: ImagesSettings) -> Workload:
    """Return the engine's view: fetch, analyse, write, each image on its own."""
    return Workload(
        KIND,
        stages=(
            Stage(
                "fetch",
                f"{_HERE}.pipeline:fetch",
                resource="io",
                queue="image_upload",
                timeout=settings.fetch_timeout + 30,
                retry=Retry(attempts=3, delay=1.0),
            ),
            Stage(
                "analyse",
                f"{_HERE}.pipeline:analyse",
                queue="image_analysis",
                timeout=settings.timeout,
                retry=Retry(attempts=2, delay=1.0),
            ),
            Stage(
                "write",
                f"{_HERE}.pipeline:write",
                # It waits for the disk most of the time, and must not keep a core from the next picture.
                resource="io",
                queue="image_writing",
                timeout=120.0,
                retry=Retry(attempts=2, delay=1.0),
            ),
        ),
        policy="item_first",
        max_queued_jobs=settings.max_queued_jobs,
        fails_when="all",
        ttl=settings.retention,
        artifact_key="{uid}/{name}",
    )


def _router(services: Services, settings: ImagesSettings) -> APIRouter:
    from millrace.workloads.images.contract import router

    return router(services, settings)


def _render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    return {"error": message, "status": status}


def _prepare(new: NewJob, site: Settings) -> NewJob:
    from millrace.workloads.images.submission import prepare

    return prepare(new, site.workload(KIND, ImagesSettings).max_images)


def _commands() -> typer.Typer:
    from millrace.workloads.images.commands import app

    return app


def _doctor(settings: ImagesSettings, models_dir: Path) -> list[tuple[str, bool, str]]:
    from millrace.workloads.images.commands import doctor

    return doctor(settings)


def _face() -> Face:
    from millrace.workloads.images.face import FACE

    return FACE


def _demo(stand: DemoStand) -> DemoJob:
    from millrace.workloads.images.demo import demo

    return demo(stand)


plugin = Plugin(
    kind=KIND,
    build=build,
    settings=ImagesSettings,
    router=_router,
    errors=("/api/v1/batch", "/api/v1/files"),
    render_error=_render_error,
    streams=("/api/v1/batch",),
    words={state: word for state, word in WORDS.items() if state != "skipped"},
    prepare=_prepare,
    examples=Path(__file__).with_name("examples.yaml"),
    commands=_commands,
    doctor=_doctor,
    demo=_demo,
    face=_face,
)
