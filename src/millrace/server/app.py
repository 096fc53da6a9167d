"""Makes the application: the canonical API, every workload's contract, and what surrounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from millrace import __version__
from millrace.server import (
    bulk,
    dashboard,
    deliveries,
    docs,
    downloads,
    health,
    jobs,
    media,
    notifications,
    presets,
    schedules,
    sound,
    watches,
    workloads,
)
from millrace.server.auth import Auth
from millrace.server.description import describe
from millrace.server.errors import ErrorBodies
from millrace.server.metrics import Metrics
from millrace.server.requests import BodyLimit, RequestContext
from millrace.server.services import Services
from millrace.server.words import Words
from millrace.workloads import Plugin

_DESCRIPTION = """A self-hosted batch server for media and documents: one durable engine, five workloads.

`/jobs` works for jobs of every kind; each workload also answers on the contract its users have."""


def create_app(services: Services, plugins: Mapping[str, Plugin]) -> FastAPI:
    """Return the application for services that are running already.

    ``plugins`` maps each kind to its workload, whose router is mounted at the root.
    """
    bodies = ErrorBodies(plugins.values())
    metrics = Metrics()
    services.engine.loop.outcomes.attempts.append(metrics.stage)
    words = Words(plugins.values())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.closing.set()

    app = FastAPI(
        title="Millrace",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.services = services
    bodies.install(app)
    for router in (
        health.router(services, metrics),
        bulk.router(services, words),
        downloads.router(services),
        jobs.router(services, words),
        media.router(services),
        sound.router(services),
        workloads.router(services),
        presets.router(services),
        schedules.router(services),
        watches.router(services),
        deliveries.router(services),
        notifications.router(services),
        docs.router(),
        dashboard.router(services, words),
    ):
        app.include_router(router)
    for kind, plugin in plugins.items():
        if plugin.router is not None:
            settings = services.settings.workload(kind, plugin.settings)
            app.include_router(plugin.router(services, settings))
    _surround(app, services, plugins, bodies, metrics)
    describe(app, plugins.values(), needs_token=services.settings.require_auth)
    return app


def _surround(
    app: FastAPI, services: Services, plugins: Mapping[str, Plugin], bodies: ErrorBodies, metrics: Metrics
) -> None:
    """Add what every request passes through; the last added is the outermost."""
    settings = services.settings
    app.add_middleware(
        BodyLimit,
        bodies=bodies,
        limit=settings.limits.body_bytes,
        streams=[path for plugin in plugins.values() for path in plugin.streams],
    )
    app.add_middleware(
        Auth,
        bodies=bodies,
        token=settings.token if settings.require_auth else None,
        open_paths=[path for plugin in plugins.values() for path in plugin.health],
    )
    app.add_middleware(RequestContext, bodies=bodies, metrics=metrics)
