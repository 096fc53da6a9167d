"""The dashboard: pages for people, rendered here and kept live by the browser's own means.

Everything below ``/ui``, and the first page at ``/``. It asks the engine what the API asks too, and
changes things through the API alone. What a workload shows of its own comes from its ``Face``.
"""

from __future__ import annotations

from fastapi import APIRouter

from millrace.server.dashboard import fragments, pages, signing
from millrace.server.dashboard.files import Files
from millrace.server.dashboard.pulse import Pulse
from millrace.server.dashboard.render import Renderer
from millrace.server.services import Services
from millrace.server.words import Words


def router(services: Services, words: Words) -> APIRouter:
    """Return the pages, their fragments, their files, and the feed that keeps them live."""
    files = Files(services.plugins)
    renderer = Renderer(services, words, files)
    pulse = Pulse(services)
    api = APIRouter(include_in_schema=False)
    api.include_router(files.router())
    api.include_router(signing.router(services, renderer))
    api.include_router(fragments.router(services, renderer, pulse))
    api.include_router(pages.router(services, renderer, pulse))
    return api
