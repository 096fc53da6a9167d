"""``/workloads``: what kinds of jobs there are, and pausing, draining and resuming them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from starlette.responses import Response

from millrace.errors import NotFound
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services


def router(services: Services) -> APIRouter:
    """Return the routes below ``/workloads``."""
    api = APIRouter(prefix="/workloads", tags=["workloads"])
    engine = services.engine

    def row(kind: str) -> dict[str, Any]:
        workload, status = engine.workloads[kind], engine.status()
        paused = {stage.stage: stage for stage in status.paused if stage.kind == kind}
        return {
            "kind": kind,
            "mode": status.modes[kind],
            "stages": [
                {
                    "name": stage.name,
                    "resource": stage.resource,
                    "paused": {
                        "cause": paused[stage.name].cause,
                        "probe_at": rfc3339(paused[stage.name].probe_at),
                    }
                    if stage.name in paused
                    else None,
                }
                for stage in workload.stages
            ],
            "policy": workload.policy,
            "queued": status.waiting[kind],
            "running": status.running[kind],
        }

    @api.get("", summary="The kinds of jobs, and what state each is in", **examples.WORKLOADS)
    async def workloads() -> Response:
        """List the workloads that are installed."""
        return json_reply({"workloads": [row(kind) for kind in sorted(engine.workloads)]})

    @api.post("/{kind}/{action}", summary="Pause, drain or resume a workload", **examples.MODE)
    async def steer(kind: str, action: Literal["pause", "drain", "resume"]) -> Response:
        """``pause``: nothing more of it starts. ``drain``: it takes no new jobs and finishes what it has.

        ``resume`` lets it work again. What runs goes on in any case; the mode survives a restart.
        """
        if kind not in engine.workloads:
            raise NotFound(f"there is no workload {kind!r}; there are: {', '.join(sorted(engine.workloads))}")
        await {"pause": engine.pause, "drain": engine.drain, "resume": engine.resume}[action](kind)
        return json_reply(row(kind))

    return api
