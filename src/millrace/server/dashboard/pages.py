"""The dashboard's pages: each renders whole, and works as far as it can without scripts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from millrace.errors import InvalidRequest, MillraceError
from millrace.server.dashboard import listing, system, views
from millrace.server.dashboard.pulse import Pulse
from millrace.server.dashboard.render import Renderer
from millrace.server.errors import status_of
from millrace.server.jobs import Index, JobId
from millrace.server.services import Services


def router(services: Services, renderer: Renderer, pulse: Pulse) -> APIRouter:
    """Return the pages."""
    api = APIRouter()
    engine = services.engine

    def told(request: Request, error: MillraceError) -> Response:
        """Say on a page what a person asked for in vain."""
        return renderer.page(request, "error.html", status_of(error), message=error.message)

    @api.get("/")
    async def now(request: Request) -> Response:
        return renderer.page(request, "now.html", now=await views.now(engine, pulse.pace()))

    @api.get("/ui/jobs")
    async def jobs(request: Request) -> Response:
        try:
            found = await listing.find(engine, renderer.contract_words, request.query_params)
        except InvalidRequest as error:
            return told(request, error)
        return renderer.page(request, "jobs.html", listing=found)

    @api.get("/ui/jobs/{job_id}")
    async def job(request: Request, job_id: JobId, show: str = "all", after: str = "") -> Response:
        try:
            found = await engine.job(job_id)
            page = await views.item_page(engine, job_id, show, after)
        except MillraceError as error:
            return told(request, error)
        reasons = await views.reasons(engine, found) if not after else []
        return renderer.page(request, "job.html", job=found, page=page, reasons=reasons)

    @api.get("/ui/jobs/{job_id}/items/{idx}")
    async def item(request: Request, job_id: JobId, idx: Index) -> Response:
        try:
            found, one = await engine.job(job_id), await engine.item(job_id, idx)
        except MillraceError as error:
            return told(request, error)
        artifacts, runs = await asyncio.gather(engine.artifacts(job_id, idx), engine.runs(job_id, idx))
        face = renderer.face(found.kind)
        own: dict[str, Any] = {}
        template = f"{found.kind}/item.html"
        if renderer.has(template) and face.item is not None:
            own = dict(await face.item(services, found, one, artifacts))
        return renderer.page(
            request,
            template if own else "item.html",
            job=found,
            item=one,
            artifacts=(shown := views.shown_artifacts(artifacts)),
            files=len(shown),
            timeline=views.timeline(runs),
            has_own=bool(own),
            own_style=renderer.files.address(f"{found.kind}/item.css") if own else None,
            own_script=renderer.files.address(f"{found.kind}/item.js") if own else None,
            **own,
        )

    @api.get("/ui/new")
    async def new(request: Request, kind: Annotated[str | None, Query(max_length=64)] = None) -> Response:
        if kind is not None and kind not in engine.workloads:
            return told(request, InvalidRequest(f"there is no workload {kind!r}"))
        roots = [str(root) for root in services.settings.media_roots]
        limits = services.settings.limits
        return renderer.page(
            request,
            "new.html",
            kind=kind,
            face=renderer.face(kind) if kind else None,
            faces={name: renderer.face(name) for name in sorted(engine.workloads)},
            roots=roots,
            limits=limits,
            targets=list(services.settings.notify.targets)
            if services.settings.notify.per_job != "off"
            else [],
        )

    @api.get("/ui/system")
    async def system_page(request: Request) -> Response:
        return renderer.page(request, "system.html", **await system.gather(services, renderer))

    return api
