"""Health for people, for orchestrators and for Prometheus. None of it ever touches a model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from millrace import __version__
from millrace.errors import MillraceError
from millrace.server import examples
from millrace.server.metrics import CONTENT_TYPE, Metrics
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services

log = logging.getLogger(__name__)

_PATIENCE = 5.0


def router(services: Services, metrics: Metrics) -> APIRouter:
    """Return ``/health``, ``/livez``, ``/readyz`` and ``/metrics``."""
    api = APIRouter(tags=["server"])

    @api.head("/health", include_in_schema=False)
    @api.get("/health", summary="Whether jobs are taken, and how busy the server is", **examples.HEALTH)
    async def health() -> Response:
        """Answer 200 as soon as jobs can be taken, 503 while they cannot. Needs no token.

        ``degraded``, with 200: jobs are taken, but what ``off`` names could not be started yet.
        """
        status = services.engine.status()
        ok = status.failure is None and not services.closing.is_set()
        body: dict[str, Any] = {
            "status": "unavailable" if not ok else "degraded" if status.off else "ok",
            "service": "millrace",
            "version": __version__,
            "timestamp": rfc3339(time.time()),
            "started_at": rfc3339(services.started_at),
            "uptime_seconds": round(time.time() - services.started_at, 1),
            "workers": len(status.workers),
            "queue": {"pending": sum(status.waiting.values()), "running": sum(status.running.values())},
            "workloads": {
                kind: {"mode": mode, "queued": status.waiting[kind], "running": status.running[kind]}
                for kind, mode in status.modes.items()
            },
        }
        if status.off:
            # Why is only logged, for no token is needed here.
            body["off"] = sorted(status.off)
        if status.failure is not None:
            body["error"] = "the database cannot be written to; the server's log says why"
        return json_reply(body, 200 if ok else 503)

    @api.head("/livez", include_in_schema=False)
    @api.get("/livez", summary="Whether the process answers at all", **examples.LIVEZ)
    async def livez() -> Response:
        """Answer 200 as long as the event loop turns. Needs no token."""
        return json_reply({"status": "ok"})

    @api.head("/readyz", include_in_schema=False)
    @api.get("/readyz", summary="Whether everything that jobs need is there", **examples.READYZ)
    async def readyz() -> Response:
        """Check the database and the blob store, and tell the age of the queue. Needs no token."""
        checks = {
            "database": await _checked("database", services.engine.ping()),
            "blobs": await _checked("blobs", asyncio.to_thread(services.blobs.check)),
        }
        ready = all(check == "ok" for check in checks.values()) and not services.closing.is_set()
        body: dict[str, Any] = {"status": "ok" if ready else "unavailable", "checks": checks}
        if checks["database"] == "ok":
            body["queue_age_seconds"] = round(await services.engine.queue_age(), 3)
        return json_reply(body, 200 if ready else 503)

    @api.get("/metrics", summary="Metrics for Prometheus", **examples.METRICS)
    async def scrape() -> Response:
        """Write all metrics in Prometheus' text format."""
        return Response(await metrics.scrape(services), media_type=CONTENT_TYPE)

    return api


async def _checked(name: str, check: Awaitable[None]) -> str:
    """Return ``ok`` or ``unavailable``; why is only logged, for no token is needed here."""
    try:
        await asyncio.wait_for(check, _PATIENCE)
    except (MillraceError, TimeoutError) as error:
        log.warning("not ready: %s: %s", name, error or f"no answer within {_PATIENCE:g} s")
        return "unavailable"
    return "ok"
