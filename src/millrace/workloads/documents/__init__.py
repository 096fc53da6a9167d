"""Documents: how sensitive each one is, and on what evidence."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.engine.model import NewJob
from millrace.engine.workload import Stage, Workload
from millrace.errors import InvalidRequest
from millrace.workloads import Face, Plugin
from millrace.workloads.documents.settings import DocumentSettings

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from millrace.server.services import Services
    from millrace.settings import Settings
    from millrace.workloads import DemoJob, DemoStand

KIND = "documents"
WORDS = {
    "queued": "pending",
    "running": "processing",
    "succeeded": "completed",
    "skipped": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""The contract's words for jobs and documents; ``cancelled`` is ours, the document has none."""
OPTIONS = frozenset({"only", "redact", "highlight"})
_PIPELINE = "millrace.workloads.documents.pipeline:"


def build(settings: DocumentSettings) -> Workload:
    """Return the engine's view: two stages, of which ``options.only`` may leave one out."""

    def part(*names: str) -> Any:
        def enabled(options: Mapping[str, Any]) -> bool:
            return options.get("only", "all") in ("all", *names)

        return enabled

    return Workload(
        kind=KIND,
        stages=(
            Stage("extract", _PIPELINE + "extract", timeout=settings.timeout, memory=settings.memory,
                  max_slots=2, enabled=part("extract")),
            Stage("classify", _PIPELINE + "classify", timeout=settings.timeout, memory=settings.memory,
                  enabled=part("classify")),
        ),
        policy="item_first",
        fails_when="all",
        ttl=settings.ttl,
    )  # fmt: skip


def prepare(job: NewJob, site: Settings) -> NewJob:
    """Give a job that came by ``POST /jobs`` what the contract's own would have.

    InvalidRequest for unknown options and for inputs that name no file.
    """
    if unknown := set(job.options) - OPTIONS:
        raise InvalidRequest(f"options: unknown {sorted(unknown)}; known are {sorted(OPTIONS)}")
    if job.options.get("only", "all") not in ("all", "extract"):
        raise InvalidRequest("options.only: must be all or extract")
    for name in ("redact", "highlight"):
        if not isinstance(job.options.get(name, False), bool):
            raise InvalidRequest(f"options.{name}: must be true or false, not {job.options[name]!r}")
    for item in job.items:
        if item.input.get("kind") not in ("upload", "path", "url"):
            raise InvalidRequest("items: each input must name a file: an upload, a path or a URL")
    items = [replace(item, uid=item.uid or str(uuid.uuid4())) for item in job.items]
    return replace(job, id=str(uuid.uuid4()), items=items)


def render_error(status: int, code: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    """Return the contract's error body."""
    return {"detail": message}


def _router(services: Services, settings: Any) -> APIRouter:
    from millrace.workloads.documents.contract import router

    return router(services, settings)


def _commands() -> typer.Typer:
    from millrace.workloads.documents.commands import commands

    return commands()


def _doctor(settings: Any, models_dir: Path) -> list[tuple[str, bool, str]]:
    from millrace.workloads.documents.commands import doctor

    return doctor(settings)


def _face() -> Face:
    from millrace.workloads.documents.face import FACE

    return FACE


def _demo(stand: DemoStand) -> DemoJob:
    from millrace.workloads.documents.demo import demo

    return demo(stand)


plugin = Plugin(
    kind=KIND,
    build=build,
    settings=DocumentSettings,
    router=_router,
    errors=("/batch/upload", "/status", "/documents", "/upload", "/classify", "/hitl"),
    render_error=render_error,
    words=WORDS,
    prepare=prepare,
    examples=Path(__file__).with_name("examples.yaml"),
    commands=_commands,
    doctor=_doctor,
    demo=_demo,
    face=_face,
)
