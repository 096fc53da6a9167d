"""Sets the right default audio track of Matroska and MP4 files, in place, for a whole library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.workload import Retry, Stage, Workload
from millrace.workloads import Face, Plugin
from millrace.workloads.tracks.settings import TracksSettings

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from millrace.engine.model import NewJob
    from millrace.server.services import Services
    from millrace.settings import Settings
    from millrace.workloads import DemoJob, DemoStand

_DAY = 86400.0


def build(settings: TracksSettings) -> Workload:
    """Return the engine's view: a scan that finds files, and one quick stage for each."""
    here = "millrace.workloads.tracks.pipeline"
    return Workload(
        kind="tracks",
        stages=(
            Stage(
                "set_default",
                run=f"{here}:set_default",
                resource="io",
                timeout=6 * 3600.0,
                retry=Retry(attempts=7, delay=2.0, factor=2.0, max_delay=60.0),
            ),
        ),
        plan=Stage("scan", run=f"{here}:scan", resource="io", timeout=6 * 3600.0),
        policy="item_first",
        max_queued_jobs=settings.max_queue_size,
        max_running_jobs=settings.max_concurrent,
        fails_when="all",
        on_restart="resume",
        ttl=settings.retention_days * _DAY,
        writes_inputs=True,
    )


def _router(services: Services, settings: Any) -> APIRouter:
    from millrace.workloads.tracks.contract import router

    return router(services, settings)


def _render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    return {"detail": message}


def _prepare(new: NewJob, site: Settings) -> NewJob:
    from millrace.workloads.tracks.contract import prepare

    return prepare(new)


def _check_options(options: Mapping[str, Any]) -> None:
    from millrace.workloads.tracks.contract import batch_request

    # A preset may leave the folder to the job.
    batch_request({"path": "/", **options})


def _commands() -> typer.Typer:
    from millrace.workloads.tracks.commands import app

    return app


def _face() -> Face:
    from millrace.workloads.tracks.face import FACE

    return FACE


def _demo(stand: DemoStand) -> DemoJob:
    from millrace.workloads.tracks.demo import demo

    return demo(stand)


def _doctor(settings: TracksSettings, models_dir: Path) -> list[tuple[str, bool, str]]:
    from millrace.workloads.tracks.propedit import installed

    program = installed()
    key = settings.tmdb.api_key is not None
    return [
        (
            "mkvpropedit",
            program is not None,
            program or "install mkvtoolnix: it changes the few Matroska files without room in place",
        ),
        (
            "TMDB",
            key,
            "set" if key else "set tracks.tmdb.api_key to look up original languages that no webhook tells",
        ),
    ]


_build: Callable[[Any], Workload] = build

plugin = Plugin(
    kind="tracks",
    build=_build,
    settings=TracksSettings,
    router=_router,
    errors=("/batch", "/webhook"),
    render_error=_render_error,
    words={"succeeded": "completed", "skipped": "completed"},
    prepare=_prepare,
    check_options=_check_options,
    examples=Path(__file__).with_name("examples.yaml"),
    commands=_commands,
    doctor=_doctor,
    demo=_demo,
    face=_face,
)
