"""Parts of pages, rendered again whenever something has changed, and the feed that says so."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from millrace.server.dashboard import listing, system, views
from millrace.server.dashboard.pulse import Pulse
from millrace.server.dashboard.render import Renderer
from millrace.server.jobs import Index, JobId
from millrace.server.services import Services


def router(services: Services, renderer: Renderer, pulse: Pulse) -> APIRouter:
    """Return the routes below ``/ui/part`` and the feed ``/ui/live``."""
    api = APIRouter(prefix="/ui")
    engine = services.engine

    @api.get("/live")
    async def live(job: Annotated[str | None, Query(max_length=128)] = None) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(pulse.watch(job), headers=headers, media_type="text/event-stream")

    @api.get("/part/now")
    async def now(request: Request) -> Response:
        return renderer.page(request, "part/now.html", now=await views.now(engine, pulse.pace()))

    @api.get("/part/system/findings")
    async def system_findings(request: Request) -> Response:
        return renderer.page(request, "part/findings.html", findings=await system.findings(services))

    @api.get("/part/jobs")
    async def jobs(request: Request) -> Response:
        found = await listing.find(engine, renderer.contract_words, request.query_params)
        return renderer.page(request, "part/jobs.html", listing=found)

    @api.get("/part/jobs/{job_id}/head")
    async def job_head(request: Request, job_id: JobId) -> Response:
        job = await engine.job(job_id)
        return renderer.page(request, "part/job_head.html", job=job)

    @api.get("/part/jobs/{job_id}/items")
    async def job_items(request: Request, job_id: JobId, show: str = "all", after: str = "") -> Response:
        job = await engine.job(job_id)
        page = await views.item_page(engine, job_id, show, after)
        return renderer.page(
            request,
            "part/job_items.html",
            job=job,
            page=page,
            reasons=await views.reasons(engine, job) if not after else [],
        )

    @api.get("/part/jobs/{job_id}/artifacts")
    async def job_artifacts(request: Request, job_id: JobId) -> Response:
        job = await engine.job(job_id)
        artifacts = views.shown_artifacts(await engine.artifacts(job_id))
        return renderer.page(request, "part/job_artifacts.html", job=job, artifacts=artifacts)

    @api.get("/part/jobs/{job_id}/events")
    async def job_events(request: Request, job_id: JobId) -> Response:
        job = await engine.job(job_id)
        events = await views.last_events(engine, job, 200)
        return renderer.page(request, "part/job_events.html", job=job, events=events)

    @api.get("/part/jobs/{job_id}/items/{idx}/head")
    async def item_head(request: Request, job_id: JobId, idx: Index) -> Response:
        job, item = await engine.job(job_id), await engine.item(job_id, idx)
        runs = await engine.runs(job_id, idx)
        files = views.shown_artifacts(await engine.artifacts(job_id, idx))
        return renderer.page(
            request,
            "part/item_head.html",
            job=job,
            item=item,
            files=len(files),
            timeline=views.timeline(runs),
        )

    return api
