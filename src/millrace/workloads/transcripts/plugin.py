"""The transcripts plugin: how the workload is put together. Imports quickly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.workload import Retry, Stage, Workload
from millrace.errors import SettingsError
from millrace.workloads import DemoJob, DemoStand, Face, Plugin
from millrace.workloads.transcripts import separators
from millrace.workloads.transcripts.recognisers import RECOGNISERS, RecogniserSpec, check
from millrace.workloads.transcripts.settings import TranscriptsSettings
from millrace.workloads.transcripts.submission import prepare

if TYPE_CHECKING:
    from fastapi import APIRouter

    from millrace.server.services import Services

KIND = "transcripts"

_PIPELINE = "millrace.workloads.transcripts.pipeline"
_TTL = 21_600.0
_MOST_CORES = 64


def build(settings: TranscriptsSettings) -> Workload:
    """Return the engine's view: first every recording is checked, then recognised, then separated."""
    return Workload(
        kind=KIND,
        stages=(
            Stage("validate", f"{_PIPELINE}:validate", "io", timeout=3600.0, retry=Retry(attempts=3)),
            Stage(
                "asr",
                f"{_PIPELINE}:recognise",
                "gpu" if settings.recogniser_on_gpu else "cpu",
                max_slots=1 if settings.recogniser_on_gpu else _MOST_CORES,
                timeout=settings.timeout,
                chunk=1,
                retry=Retry(attempts=2),
                enabled=lambda options: _wants(options, "asr"),
            ),
            Stage(
                "demucs",
                f"{_PIPELINE}:separate",
                "gpu" if settings.separator_on_gpu else "cpu",
                max_slots=1 if settings.separator_on_gpu else _MOST_CORES,
                timeout=settings.timeout,
                chunk=1,
                retry=Retry(attempts=2),
                enabled=lambda options: _wants(options, "demucs"),
            ),
        ),
        policy="stage_first",
        max_queued_jobs=settings.max_queued_jobs,
        fails_when="any",
        on_restart=settings.on_restart,
        ttl=_TTL,
    )


def _wants(options: Any, task: str) -> bool:
    return bool((options.get("tasks") or {}).get(task, True))


def _router(services: Services, settings: Any) -> APIRouter:
    from millrace.workloads.transcripts.contract import router

    return router(services, settings)


def _render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    from millrace.workloads.transcripts.view import error_body

    return error_body(status, code, message, details)


def doctor(settings: TranscriptsSettings, models_dir: Path) -> list[tuple[str, bool, str]]:
    """Return what ``millrace doctor`` says: the recogniser that is set, those that could be, separation."""
    model = models_dir / settings.recogniser_model if settings.recogniser_model else None
    lines = []
    for name, engine in RECOGNISERS.items():
        if name == settings.recogniser:
            try:
                check(RecogniserSpec(name, str(model) if model else None))
                lines.append((f"recogniser {name}", True, engine.about))
            except SettingsError as error:
                lines.append((f"recogniser {name}", False, error.message))
        elif engine.missing():
            hint = f"pip install 'millrace[{engine.extra}]' adds {engine.about}"
            lines.append((f"recogniser {name} (not chosen)", False, hint))
    return lines + separators.doctor(settings.separation, models_dir)


def _face() -> Face:
    from millrace.workloads.transcripts.face import FACE

    return FACE


def _demo(stand: DemoStand) -> DemoJob:
    from millrace.workloads.transcripts.demo import demo

    return demo(stand)


plugin = Plugin(
    kind=KIND,
    build=build,
    settings=TranscriptsSettings,
    router=_router,
    errors=("/v2",),
    render_error=_render_error,
    words={"cancelled": "canceled"},
    prepare=prepare,
    doctor=doctor,
    demo=_demo,
    face=_face,
)
